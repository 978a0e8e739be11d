"""Every access to the object store that holds a repo: atomic puts, exclusive creates, ranged reads, no caches.

Keys are relative to the repo, parts joined by ``/``.  Absent is ``None``; a failure is `StorageError`, so that the
two can never be taken for each other.  Nothing above this module knows which kind it talks to, except through
`Objects.path`, the fast lane for local reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from vzarr.errors import StorageError

LINK = -1
"""In place of a size: a symbolic link, which is no object of the store's own."""


class Objects(ABC):
    """One place that holds objects by key.

    Parameters
    ----------
    url
        Where the objects live; two stores of equal URL hold the same objects.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """Read a range of an object.

        Parameters
        ----------
        offset
            First byte; negative counts from the end.
        length
            Number of bytes; None reads to the end.

        Returns
        -------
        tuple of bytes and int, or None
            The bytes, cut at the end of the object, and the size of the whole object; None when it is absent.

        Raises
        ------
        StorageError
            If the object may be there but could not be read.
        """

    @abstractmethod
    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """Write an object whole, replacing an older one atomically.

        `stage` names the folder for the unfinished file; when it has been removed meanwhile the write fails
        instead of appearing late.
        """

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write an object only if the key is free; exactly one of several racing callers gets True."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when it is absent."""

    @abstractmethod
    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below the folder `prefix` and their sizes, in sorted order; symbolic links are not followed (`LINK`)."""

    def stamped(self, prefix: str = "") -> Iterator[tuple[str, int, str]]:
        """As `walk`, each with a stamp too: while that is the same, so are the object's bytes.

        It is "" where nobody can tell: because the store does not, or because the object is so young that it could
        change without its stamp.
        """
        return ((key, size, "") for key, size in self.walk(prefix))

    @abstractmethod
    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """Names of folders and of objects directly below the folder `prefix`, each sorted."""

    @abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Remove every object below the folder `prefix`."""

    @abstractmethod
    def move(self, source: str, target: str) -> None:
        """Give an object another key, replacing an older one there atomically."""

    def copy(self, source: str, target: str, *, stage: str = "tmp") -> None:
        """Give the bytes of an object to another key, as `put` would, where possible without reading them.

        Raises
        ------
        StorageError
            Also if there is no such object.
        """
        data = self.get(source)
        if data is None:
            raise StorageError(f"could not copy {source}: it is missing")
        self.put(target, data, stage=stage)

    @abstractmethod
    def rename_tree(self, source: str, target: str) -> None:
        """Move every object below the folder `source` to the folder `target`, which must be free."""

    @contextmanager
    def new_folder(self, prefix: str) -> Iterator[Callable[[str, bytes], object]]:
        """Context in which objects are put, by their names below a folder in which there is nothing yet.

        Nobody else may look there before its end.

        Yields
        ------
        callable
            ``put(name, data)``.
        """
        yield lambda name, data: self.put(f"{prefix}/{name}", data)

    concurrency = 2
    """How many requests at a time make reading and writing many objects fast."""
    late_seconds = 0.0
    """How long after its writer has ended, or was taken for dead, an object that was under way may still appear."""

    def check_writable(self) -> None:  # noqa: B027 - most are
        """Refuse a store that can only be read.

        Raises
        ------
        VzarrError
            Saying why.
        """

    def open_stage(self, prefix: str, valid: Callable[[], bool]) -> None:
        """Begin a stage for `put`: a folder, or where there are none, the right to write while `valid` says so."""
        self.make_dir(prefix)

    def close_stage(self, prefix: str) -> None:
        """End a stage under which nobody writes any more."""
        self.delete_tree(prefix)

    def make_dir(self, prefix: str) -> None:  # noqa: B027 - only real folders need making
        """Make a folder where the store has real ones."""

    def may_hold(self, prefix: str) -> bool:
        """Whether an object may lie below the folder `prefix`: where there are real folders, whether there is one."""
        return True

    def path(self, key: str) -> str | None:
        """Local path of a key, or None where objects are no files."""
        return None

    def signed_reads(self, keys: Sequence[str]) -> list[str] | None:
        """URLs by which anybody may read objects for a while; None where the store signs none."""
        return None

    def signed_writes(self, objects: Sequence[tuple[str, str]]) -> list[tuple[str, dict[str, str]]] | None:
        """URLs by which anybody may write objects that are not there for a while, and headers to send along.

        Parameters
        ----------
        objects
            Keys, and SHA-256 of the only bytes that may be written there.

        Returns
        -------
        list of tuple, or None
            None where the store signs none, or takes other bytes too.
        """
        return None

    def known_sha256(self, key: str) -> str | None:
        """SHA-256 of an object as its store computed it when it was written; None where it did not."""
        return None

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes | None:
        """Bytes of an object (see `fetch`), or None when it is absent."""
        found = self.fetch(key, offset, length)
        return None if found is None else found[0]

    def read_into(self, key: str, buffer: bytearray) -> memoryview | None:
        """Read a whole object through a buffer that the caller reuses; it grows where the object needs it.

        Returns
        -------
        memoryview or None
            The bytes, good until the buffer is used again; None when the object is absent.
        """
        found = self.fetch(key)
        return None if found is None else memoryview(found[0])

    def size(self, key: str) -> int | None:
        """Size of an object in bytes, or None when it is absent."""
        found = self.fetch(key, 0, 0)
        return None if found is None else found[1]


class ReadOnly(Objects):
    """The objects of another store, to be read only.

    Parameters
    ----------
    inner
        The other store.
    refuse
        Raises whenever something is to be changed.
    """

    def __init__(self, inner: Objects, refuse: Callable[[], NoReturn]) -> None:
        super().__init__(inner.url)
        self._inner, self._refuse = inner, refuse
        self.concurrency = inner.concurrency

    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """See `Objects.fetch`."""
        return self._inner.fetch(key, offset, length)

    def read_into(self, key: str, buffer: bytearray) -> memoryview | None:
        """See `Objects.read_into`."""
        return self._inner.read_into(key, buffer)

    def may_hold(self, prefix: str) -> bool:
        """See `Objects.may_hold`."""
        return self._inner.may_hold(prefix)

    def path(self, key: str) -> str | None:
        """See `Objects.path`."""
        return self._inner.path(key)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """See `Objects.walk`."""
        return self._inner.walk(prefix)

    def stamped(self, prefix: str = "") -> Iterator[tuple[str, int, str]]:
        """See `Objects.stamped`."""
        return self._inner.stamped(prefix)

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `Objects.list_dir`."""
        return self._inner.list_dir(prefix)

    def check_writable(self) -> None:
        """Refuse."""
        self._refuse()

    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """Refuse."""
        self._refuse()

    def create(self, key: str, data: bytes) -> bool:
        """Refuse."""
        self._refuse()

    def delete(self, key: str) -> None:
        """Refuse."""
        self._refuse()

    def delete_tree(self, prefix: str) -> None:
        """Refuse."""
        self._refuse()

    def move(self, source: str, target: str) -> None:
        """Refuse."""
        self._refuse()

    def rename_tree(self, source: str, target: str) -> None:
        """Refuse."""
        self._refuse()
