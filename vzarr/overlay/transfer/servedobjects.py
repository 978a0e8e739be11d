"""Objects of a repo that a server serves, as those of a store: its side of ``/api/transfer/{ref}/mirror``.

Administrators alone see them, and only what a mirror is made of (see `mirrored`).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import NoReturn
from urllib.parse import quote

from vzarr.errors import FormatError, UnsupportedError
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.transfer.client import Client


class ServedObjects(Objects):
    """Objects of one repo of a server.

    Parameters
    ----------
    client
        The server.
    path
        Beginning of the repo's paths there, as `Client.ask` takes them.
    url
        URL of the repo.
    """

    concurrency = 16

    def __init__(self, client: Client, path: str, url: str) -> None:
        super().__init__(url)
        self._client, self._path = client, f"{path}/mirror"

    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """Bytes of an object, which comes whole, and so with its checksum (see `Objects.fetch`)."""
        if (offset, length) == (0, 0):
            size = self._client.size(self._object(key))
            return None if size is None else (b"", size)
        data = self._client.get(self._object(key))
        if data is None:
            return None
        start = max(0, len(data) + offset) if offset < 0 else offset
        return data[start : None if length is None else start + length], len(data)

    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """Send an object with its checksum; the server puts it in place whole."""
        self._client.ask("PUT", f"{self._object(key)}?sha256={sha256(data).hexdigest()}", data)

    def create(self, key: str, data: bytes) -> bool:
        """Send an object that is to be new; one that was, while the answer was lost, is no longer."""
        asked = f"{self._object(key)}?sha256={sha256(data).hexdigest()}&new=true"
        return self._client.item(bool, "new", "PUT", asked, data)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._client.ask("DELETE", self._object(key))

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Walk a folder."""
        return ((key, size) for key, size, _stamp in self.stamped(prefix))

    def stamped(self, prefix: str = "") -> Iterator[tuple[str, int, str]]:
        """Walk a folder; stamps are those of the server's store (see `Objects.stamped`)."""
        found = self._client.item(list, "objects", "GET", f"{self._path}/objects?under={quote(prefix, safe='')}")
        for row in found:
            if not isinstance(row, list) or [type(value) for value in row] != [str, int, str]:
                raise FormatError(f"{self.url} lists {str(row)[:80]!r}, which is no key, size and stamp")
            if not row[0].startswith(f"{prefix}/"):
                raise FormatError(f"{self.url} lists {row[0]!r} below {prefix!r}")
            yield row[0], row[1], row[2]

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """Names in a folder."""
        found = self._client.json("GET", f"{self._path}/folder?under={quote(prefix, safe='')}")
        listed: list[list[str]] = []
        for kind in ("folders", "objects"):
            names = found.get(kind) if isinstance(found, dict) else None
            if not isinstance(names, list) or not all(isinstance(name, str) and "/" not in name for name in names):
                raise FormatError(f"{self.url} lists names in {prefix!r} that are none")
            listed.append(names)
        return listed[0], listed[1]

    def delete_tree(self, prefix: str) -> None:
        """Remove every object below a folder."""
        share(self.delete, [key for key, _size in self.walk(prefix)], self.concurrency)

    def move(self, source: str, target: str) -> None:
        """Refuse."""
        self._refuse()

    def rename_tree(self, source: str, target: str) -> None:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(f"nothing in {self.url} can be moved by who mirrors it")

    def _object(self, key: str) -> str:
        return f"{self._path}/objects/{quote(key)}"
