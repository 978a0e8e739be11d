"""Every access to the object store that holds a repo: atomic puts, exclusive creates, ranged reads, no caches.

Keys are relative to the repo, parts joined by ``/``.  Absent is ``None``; a failure is `StorageError`, so that the
two can never be taken for each other.  Files and process memory are written here; nothing above this module knows
which of them it talks to, except through `Objects.path`, the fast lane for local reads.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vzarr.errors import InvalidInputError, StorageError, UnsupportedError

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


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
        """Keys below the folder `prefix` and their sizes, in sorted order."""

    @abstractmethod
    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """Names of folders and of objects directly below the folder `prefix`, each sorted."""

    @abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Remove every object below the folder `prefix`."""

    @abstractmethod
    def rename_tree(self, source: str, target: str) -> None:
        """Move every object below the folder `source` to the folder `target`, which must be free."""

    def make_dir(self, prefix: str) -> None:  # noqa: B027 - only real folders need making
        """Make a folder where the store has real ones."""

    def path(self, key: str) -> str | None:
        """Local path of a key, or None where objects are no files."""
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


class FileObjects(Objects):
    """Objects as files below a folder of a local file system."""

    def __init__(self, root: Path) -> None:
        super().__init__(f"file://{root}")
        self.root = str(root)

    def path(self, key: str) -> str:
        """Local path of a key."""
        return f"{self.root}/{key}"

    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """Read a range of a file (see `Objects.fetch`)."""
        try:
            fd = os.open(f"{self.root}/{key}", os.O_RDONLY)
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            raise _failed("read", key, e) from e
        try:
            size = os.fstat(fd).st_size
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            count = size - start if length is None else min(length, size - start)
            data = os.pread(fd, count, start)
            while len(data) < count:
                more = os.pread(fd, count - len(data), start + len(data))
                if not more:
                    raise StorageError(f"{key} shrank while it was read")
                data += more
            return data, size
        except StorageError:
            raise
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            raise _failed("read", key, e) from e
        finally:
            os.close(fd)

    def read_into(self, key: str, buffer: bytearray) -> memoryview | None:
        """Read a whole file into a buffer (see `Objects.read_into`): fresh memory costs more than reading."""
        try:
            fd = os.open(f"{self.root}/{key}", os.O_RDONLY)
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            raise _failed("read", key, e) from e
        try:
            size = os.fstat(fd).st_size
            if len(buffer) < size:
                buffer.extend(bytes(size - len(buffer)))
            view = memoryview(buffer)[:size]
            if os.readv(fd, [view]) != size:
                raise StorageError(errno.EIO, f"{key} could not be read whole")
            return view
        except StorageError:
            raise
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            raise _failed("read", key, e) from e
        finally:
            os.close(fd)

    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """Write a temporary file in `stage` and rename it to the key."""
        staged = self._stage(data, stage)
        target = f"{self.root}/{key}"
        try:
            try:
                os.replace(staged, target)
            except FileNotFoundError:
                if not os.path.exists(staged):
                    raise
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.replace(staged, target)
        except OSError as e:
            _unlink(staged)
            raise _failed("write", key, e) from e

    def create(self, key: str, data: bytes) -> bool:
        """Write a temporary file and hard-link it to the key: only one linker wins."""
        staged = self._stage(data, "tmp")
        target = f"{self.root}/{key}"
        try:
            try:
                os.link(staged, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.link(staged, target)
            return True
        except FileExistsError:
            return False
        except OSError as e:
            raise _failed("create", key, e) from e
        finally:
            _unlink(staged)

    def delete(self, key: str) -> None:
        """Unlink a file; a folder or nothing at the key is left as it is."""
        try:
            os.unlink(f"{self.root}/{key}")
        except OSError as e:
            if e.errno not in (*_ABSENT, errno.EPERM):
                raise _failed("delete", key, e) from e

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Walk a folder in sorted order."""
        for entry in self._scan(prefix):
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self.walk(key)
            else:
                yield key, entry.stat().st_size

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """Names in a folder."""
        dirs: list[str] = []
        files: list[str] = []
        for entry in self._scan(prefix):
            (dirs if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
        return dirs, files

    def delete_tree(self, prefix: str) -> None:
        """Remove a folder and all below it."""
        try:
            shutil.rmtree(f"{self.root}/{prefix}")
        except OSError as e:
            if e.errno not in _ABSENT:
                raise _failed("delete", prefix, e) from e

    def rename_tree(self, source: str, target: str) -> None:
        """Rename a folder."""
        try:
            os.makedirs(os.path.dirname(f"{self.root}/{target}"), exist_ok=True)
            os.rename(f"{self.root}/{source}", f"{self.root}/{target}")
        except OSError as e:
            raise _failed("rename", source, e) from e

    def make_dir(self, prefix: str) -> None:
        """Make a folder and those above it."""
        try:
            os.makedirs(f"{self.root}/{prefix}", exist_ok=True)
        except OSError as e:
            raise _failed("make folder", prefix, e) from e

    def _scan(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self.root}/{prefix}" if prefix else self.root) as entries:
                return sorted(entries, key=lambda e: e.name)
        except OSError as e:
            if e.errno in _ABSENT:
                return []
            raise _failed("list", prefix, e) from e

    def _stage(self, data: bytes, stage: str) -> str:
        staged = f"{self.root}/{stage}/{uuid.uuid4().hex}"
        try:
            try:
                fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileNotFoundError:
                if stage != "tmp":
                    raise
                os.makedirs(os.path.dirname(staged), exist_ok=True)
                fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
        except OSError as e:
            _unlink(staged)
            raise _failed("write", stage, e) from e
        return staged


class MemoryObjects(Objects):
    """Objects in this process's memory; stores of the same name share them."""

    _named: dict[str, tuple[dict[str, bytes], threading.RLock]] = {}  # noqa: RUF012 - shared on purpose
    _naming = threading.Lock()

    def __init__(self, name: str) -> None:
        super().__init__(f"memory://{name}")
        with self._naming:
            self._objects, self._lock = self._named.setdefault(name, ({}, threading.RLock()))

    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """Slice an object (see `Objects.fetch`)."""
        data = self._objects.get(key)
        if data is None:
            return None
        size = len(data)
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        if start == 0 and (length is None or length >= size):
            return data, size
        return data[start : size if length is None else start + length], size

    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """Replace an object."""
        with self._lock:
            self._objects[key] = bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        """Add an object under a free key."""
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = bytes(data)
            return True

    def delete(self, key: str) -> None:
        """Forget an object."""
        with self._lock:
            self._objects.pop(key, None)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below a prefix."""
        folder = f"{prefix}/" if prefix else ""
        with self._lock:
            found = sorted((k, len(v)) for k, v in self._objects.items() if k.startswith(folder))
        yield from found

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """First parts of the keys below a prefix."""
        cut = len(prefix) + 1 if prefix else 0
        dirs: set[str] = set()
        files: set[str] = set()
        for key, _ in self.walk(prefix):
            head, sep, _rest = key[cut:].partition("/")
            (dirs if sep else files).add(head)
        return sorted(dirs), sorted(files)

    def delete_tree(self, prefix: str) -> None:
        """Forget every object below a prefix."""
        with self._lock:
            for key, _ in list(self.walk(prefix)):
                del self._objects[key]

    def rename_tree(self, source: str, target: str) -> None:
        """Rename every object below a prefix."""
        with self._lock:
            for key, _ in list(self.walk(source)):
                self._objects[target + key[len(source) :]] = self._objects.pop(key)


def open_objects(url: str | os.PathLike[str]) -> Objects:
    """Open the object store that a URL names.

    Parameters
    ----------
    url
        A local path, ``file://`` path, or ``memory://name``.

    Raises
    ------
    UnsupportedError
        If the URL names another protocol.
    """
    text = os.fspath(url)
    if not text:
        raise InvalidInputError(f"a repo is named by a path or a URL, not by {url!r}")
    if "://" not in text:
        return FileObjects(Path(text).expanduser().absolute())
    parts = urlsplit(text)
    if parts.scheme == "file":
        return FileObjects(Path(unquote(parts.path)).absolute())
    if parts.scheme == "memory":
        return MemoryObjects((parts.netloc + parts.path).strip("/"))
    raise UnsupportedError(f"cannot open {text!r}: this release keeps repos in file:// and memory:// only")


def _failed(verb: str, key: str, cause: OSError) -> StorageError:
    return StorageError(cause.errno or errno.EIO, f"could not {verb} {key}: {cause.strerror or cause}")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
