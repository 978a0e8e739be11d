"""Any other protocol that fsspec knows, by what all of its file systems have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import aiohttp

from vzarr.errors import StorageError
from vzarr.overlay.objects.drivers import systems
from vzarr.overlay.objects.drivers.driver import Driver, Entry, TransientError

T = TypeVar("T")
EXCLUSIVE = {"gs", "gcs", "az", "abfs", "abfss"}
"""Protocols whose packages make ``mode="create"`` a condition that the server checks."""
HTTP = {"http", "https"}


class Generic(Driver):
    """Requests through a file system of fsspec.

    Parameters
    ----------
    protocol
        Such as ``gs`` or ``https``.
    bucket
        First part of the path.
    """

    claims = False

    def __init__(self, protocol: str, bucket: str) -> None:
        self.exclusive = protocol in EXCLUSIVE
        self._protocol = protocol
        self._base = f"{protocol}://{bucket}/" if protocol in HTTP else f"{bucket}/"
        self._system = systems.open_system(protocol)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> tuple[bytes | memoryview, int] | None:
        """See `Driver.read`; a range costs a second request, for the size."""
        path = self._base + key
        if not start and stop is None:
            data = self._ask(lambda: bytes(self._system.cat_file(path)))
            return None if data is None else (data, len(data))
        size = self.size(key)
        if size is None:
            return None
        first = max(0, size + start) if start < 0 else min(start, size)
        last = size if stop is None else min(stop, size)
        if first >= last:
            return b"", size
        part = self._ask(lambda: bytes(self._system.cat_file(path, start=first, end=last)))
        if part is not None and len(part) == size:
            part = part[first:last]  # a server that knows no ranges
        if part is not None and len(part) != last - first:
            raise TransientError(f"{len(part)} of {last - first} bytes came")
        return None if part is None else (part, size)

    def size(self, key: str) -> int | None:
        """See `Driver.size`."""
        info = self._ask(lambda: dict(self._system.info(self._base + key)))
        if info is None or info["type"] != "file":
            return None
        if info["size"] is None:
            raise StorageError(f"{self._base}{key}: the server does not tell its size")
        return int(info["size"])

    def write(self, key: str, data: bytes, seconds: float, *, claim: str = "") -> bool:
        """See `Driver.write`."""
        mode = "create" if claim else "overwrite"
        try:
            self._system.pipe_file(self._base + key, data, mode=mode)
        except FileExistsError:
            return False
        except (OSError, aiohttp.ClientError) as e:
            raise TransientError(str(e)) from e
        return True

    def remove(self, keys: Sequence[str]) -> None:
        """See `Driver.remove`."""
        for key in keys:
            self._ask(lambda key=key: self._system.rm_file(self._base + key))  # type: ignore[misc]

    def copy(self, source: str, target: str, seconds: float) -> bool:
        """See `Driver.copy`."""
        return self._ask(lambda: self._system.cp_file(self._base + source, self._base + target) or True) is not None

    def list_after(self, prefix: str, after: str) -> list[Entry]:
        """See `Driver.list_after`; the whole listing is asked for each time."""
        folder = self._base + prefix.rpartition("/")[0]
        found = self._ask(lambda: self._system.find(folder, detail=True)) or {}
        cut = len(self._base)
        entries = sorted(Entry(path[cut:], int(info["size"])) for path, info in found.items() if info["type"] == "file")
        return [e for e in entries if e.key.startswith(prefix) and e.key > after]

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `Driver.list_dir`."""
        found = self._ask(lambda: self._system.ls(self._base + prefix.rstrip("/"), detail=True)) or []
        folders: list[str] = []
        names: list[str] = []
        for info in found:
            name = info["name"].rstrip("/").rpartition("/")[2]
            (folders if info["type"] == "directory" else names).append(name)
        return folders, names

    def _ask(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except PermissionError as e:
            raise StorageError(f"{self._protocol}://: access denied: {e}") from e
        except aiohttp.ClientResponseError as e:
            if e.status in (404, 410):
                return None
            if e.status < 500 and e.status != 429:
                raise StorageError(f"{self._base}: {e.status} {e.message}") from e
            raise TransientError(str(e)) from e
        except (OSError, aiohttp.ClientError) as e:
            raise TransientError(str(e) or type(e).__name__) from e
