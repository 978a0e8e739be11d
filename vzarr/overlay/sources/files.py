"""Objects of a source that vzarr reads but never writes: by key below a URL, each with a stamp that tells a change.

Absent is ``None``, a failure is `StorageError`.  Nothing is cached, and nothing is listed unless somebody asks for a
list.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vzarr.errors import StorageError

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Answer:
    """What an object said.

    Parameters
    ----------
    data
        The bytes asked for.
    size
        Bytes of the whole object.
    stamp
        Changes when the object does, as far as its store can tell: its time of change in nanoseconds or its ETag;
        empty where the store says neither.
    """

    data: bytes
    size: int
    stamp: str


class Files(ABC):
    """Objects below a URL.

    Parameters
    ----------
    url
        Where they lie, without a slash at its end and without credentials.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def read(self, key: str, offset: int = 0, length: int | None = None) -> Answer | None:
        """Read a range of an object; None when it is absent.

        Parameters
        ----------
        offset
            First byte; negative counts from the end.
        length
            Number of bytes; None reads to the end, 0 asks for size and stamp alone.

        Raises
        ------
        StorageError
            If the object may be there but could not be read.
        """

    @abstractmethod
    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below the folder `prefix`, with their sizes.

        Raises
        ------
        UnsupportedError
            If the store cannot list, as plain HTTP servers cannot.
        """

    def path(self, key: str) -> str | None:
        """Local path of a key, or None where objects are no files."""
        return None

    def get(self, key: str) -> bytes | None:
        """Bytes of a whole object, or None when it is absent."""
        found = self.read(key)
        return None if found is None else found.data

    def place(self, key: str) -> str:
        """URL of a key."""
        return f"{self.url}/{key}" if key else self.url


class LocalFiles(Files):
    """Files below a local folder."""

    def __init__(self, root: Path) -> None:
        super().__init__(f"file://{root}")
        self._root = str(root)

    def path(self, key: str) -> str:
        """Local path of a key."""
        return f"{self._root}/{key}" if key else self._root

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Answer | None:
        """Read a range of a file (see `Files.read`)."""
        try:
            with Path(self.path(key)).open("rb", buffering=0) as file:
                about = os.fstat(file.fileno())
                start = max(0, about.st_size + offset) if offset < 0 else min(offset, about.st_size)
                count = about.st_size - start if length is None else max(0, min(length, about.st_size - start))
                data = os.pread(file.fileno(), count, start)
                while len(data) < count:
                    more = os.pread(file.fileno(), count - len(data), start + len(data))
                    if not more:
                        raise StorageError(errno.EIO, f"{self.place(key)} shrank while it was read")
                    data += more
                return Answer(data, about.st_size, f"mtime:{about.st_mtime_ns}")
        except StorageError:
            raise
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            raise StorageError(e.errno or errno.EIO, f"could not read {self.place(key)}: {e.strerror or e}") from e

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Walk a folder in sorted order; links are followed, as readers of a Zarr folder follow them."""
        try:
            with os.scandir(self.path(prefix)) as entries:
                found = sorted(entries, key=lambda e: e.name)
        except OSError as e:
            if e.errno in _ABSENT:
                return
            raise StorageError(e.errno or errno.EIO, f"could not list {self.place(prefix)}: {e.strerror or e}") from e
        for entry in found:
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir():
                yield from self.walk(key)
            else:
                yield key, entry.stat().st_size
