"""Objects as files below a folder of a local file system, one system call a line.

The folder itself may be a symbolic link.  Below it none is listed as a folder or written through, for what it leads to
is somebody else's; a link to a file can be read, and replaced.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vzarr.errors import StorageError
from vzarr.overlay.objects.base import LINK, Objects
from vzarr.overlay.objects.localpaths import CANNOT_LINK

SETTLED_NS = 1_000_000_000
"""A file younger than this could change unnoticed: clocks of file systems are coarse."""

# A name that is too long for the file system cannot be there.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


class FileObjects(Objects):
    """Objects as files below a folder of a local file system."""

    def __init__(self, root: Path) -> None:
        super().__init__(f"file://{root}")
        self.root = str(root)
        self._own: set[str] = set()

    def path(self, key: str) -> str:
        """Local path of a key."""
        return f"{self.root}/{key}"

    def may_hold(self, prefix: str) -> bool:
        """Whether there is a folder; what cannot be told may be there (see `Objects.may_hold`)."""
        try:
            os.stat(f"{self.root}/{prefix}")
        except OSError as e:
            return e.errno not in _ABSENT
        return True

    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """Read a range of a file (see `Objects.fetch`)."""
        fd = self._open(key)
        if fd is None:
            return None
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

    def _open(self, key: str) -> int | None:
        try:
            return os.open(f"{self.root}/{key}", os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            if e.errno == errno.ELOOP:
                return self._open_link(key)
            raise _failed("read", key, e) from e

    def _open_link(self, key: str) -> int:
        """What a symbolic link leads to; where that is no file, something is wrong, and not absent."""
        path = f"{self.root}/{key}"
        try:
            if os.path.isdir(path):
                raise StorageError(errno.EISDIR, f"could not read {key}: it is a symbolic link to a folder")
            return os.open(path, os.O_RDONLY)
        except OSError as e:
            raise e if isinstance(e, StorageError) else _failed("read", key, e, "a symbolic link: ") from e

    def read_into(self, key: str, buffer: bytearray) -> memoryview | None:
        """Read a whole file into a buffer (see `Objects.read_into`): fresh memory costs more than reading."""
        fd = self._open(key)
        if fd is None:
            return None
        try:
            size = os.fstat(fd).st_size
            if len(buffer) < size:
                buffer.extend(bytes(size - len(buffer)))
            view = memoryview(buffer)[:size]
            at = 0
            while at < size:  # one call reads less than 2 GiB
                count = os.readv(fd, [view[at:]])
                if not count:
                    raise StorageError(errno.EIO, f"{key} could not be read whole")
                at += count
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
        self._check_way(key)
        self._place(self._stage(data, stage), key)

    def copy(self, source: str, target: str, *, stage: str = "tmp") -> None:
        """Give a file a second name, for files are only ever replaced; where that cannot be, copy it."""
        self._check_way(target)
        staged = f"{self.root}/{stage}/{secrets.token_hex(16)}"
        try:
            if os.path.islink(f"{self.root}/{source}"):
                raise OSError(errno.EPERM, "a symbolic link is not the file")
            os.link(f"{self.root}/{source}", staged)
        except OSError as e:
            if e.errno not in CANNOT_LINK:
                raise _failed("copy", source, e) from e
            super().copy(source, target, stage=stage)
            return
        self._place(staged, target)
        unlink(staged)  # which is still there if the target was this file already

    def _place(self, staged: str, key: str) -> None:
        """Rename a staged file to a key."""
        target = f"{self.root}/{key}"
        try:
            try:
                os.replace(staged, target)
            except FileNotFoundError:
                if not os.path.exists(staged):
                    raise
                _make_above(target)
                os.replace(staged, target)
        except OSError as e:
            unlink(staged)
            raise _failed("write", key, e) from e

    @contextmanager
    def new_folder(self, prefix: str) -> Iterator[Callable[[str, bytes], object]]:
        """Make the folder in ``tmp``, and rename it once it is whole (see `Objects.new_folder`)."""
        staged = f"tmp/{secrets.token_hex(16)}"
        self._check_way(f"{prefix}/")
        try:
            os.makedirs(f"{self.root}/{staged}")
            yield lambda name, data: _write_new(f"{self.root}/{staged}/{name}", data)
            _make_above(f"{self.root}/{prefix}")
            os.rename(f"{self.root}/{staged}", f"{self.root}/{prefix}")
        except BaseException as e:
            shutil.rmtree(f"{self.root}/{staged}", ignore_errors=True)
            if isinstance(e, OSError) and not isinstance(e, StorageError):
                raise _failed("write", prefix, e) from e
            raise

    def create(self, key: str, data: bytes) -> bool:
        """Write a temporary file and hard-link it to the key: only one linker wins."""
        self._check_way(key)
        staged = self._stage(data, "tmp")
        target = f"{self.root}/{key}"
        try:
            try:
                os.link(staged, target)
            except FileNotFoundError:
                _make_above(target)
                os.link(staged, target)
            return True
        except FileExistsError:
            return False
        except OSError as e:
            raise _failed("create", key, e) from e
        finally:
            unlink(staged)

    def delete(self, key: str) -> None:
        """Unlink a file; a folder or nothing at the key is left as it is."""
        self._check_way(key)
        try:
            os.unlink(f"{self.root}/{key}")
        except OSError as e:
            if e.errno not in (*_ABSENT, errno.EPERM):
                raise _failed("delete", key, e) from e

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Walk a folder in the order of whole keys, as object stores list them: "a.b" comes before "a/b"."""
        return ((key, LINK if about is None else about.st_size) for key, about in self._files(prefix))

    def stamped(self, prefix: str = "") -> Iterator[tuple[str, int, str]]:
        """Walk a folder; a file's stamp is its number and times (see `Objects.stamped`)."""
        for key, about in self._files(prefix):
            if about is None:
                yield key, LINK, ""
            else:
                young = time.time_ns() - about.st_ctime_ns < SETTLED_NS
                stamp = "" if young else f"{about.st_ino}-{about.st_ctime_ns}-{about.st_mtime_ns}"
                yield key, about.st_size, stamp

    def _files(self, prefix: str) -> Iterator[tuple[str, os.stat_result | None]]:
        """Files below a folder, and what the system says of each; nothing of a symbolic link."""
        todo = [(prefix, e) for e in reversed(self._scan(prefix))]
        while todo:
            above, entry = todo.pop()
            key = f"{above}/{entry.name}" if above else entry.name
            if entry.is_dir(follow_symlinks=False):
                todo += [(key, e) for e in reversed(self._scan(key))]
            elif entry.is_symlink():
                yield key, None
            else:
                about = _about(entry)
                if about is not None:
                    yield key, about

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """Names in a folder."""
        dirs: list[str] = []
        files: list[str] = []
        for entry in self._scan(prefix):
            (dirs if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
        return sorted(dirs), files

    def delete_tree(self, prefix: str) -> None:
        """Remove a folder and all below it; none of it is seen from the moment on at which it is renamed."""
        folder, gone = f"{self.root}/{prefix}", f"{self.root}/tmp/{secrets.token_hex(16)}"
        self._check_way(prefix)
        try:
            if os.path.islink(folder):
                os.unlink(folder)
                return
            try:
                os.rename(f"{folder}/", gone)
            except FileNotFoundError:
                if not os.path.isdir(folder):
                    return
                os.makedirs(os.path.dirname(gone), exist_ok=True)
                os.rename(f"{folder}/", gone)
            shutil.rmtree(gone)
        except OSError as e:
            if e.errno not in _ABSENT:
                raise _failed("delete", prefix, e) from e

    def move(self, source: str, target: str) -> None:
        """Rename a file."""
        self._check_way(source)
        self._check_way(target)
        old, new = f"{self.root}/{source}", f"{self.root}/{target}"
        try:
            try:
                os.replace(old, new)
            except FileNotFoundError:
                _make_above(new)
                os.replace(old, new)
        except OSError as e:
            raise _failed("move", source, e) from e

    def rename_tree(self, source: str, target: str) -> None:
        """Rename a folder."""
        self._check_way(source)
        self._check_way(target)
        try:
            os.makedirs(os.path.dirname(f"{self.root}/{target}"), exist_ok=True)
            if next(self.walk(target), None) is None:
                self.delete_tree(target)  # folders without a file in them
            os.rename(f"{self.root}/{source}", f"{self.root}/{target}")
        except OSError as e:
            raise _failed("rename", source, e) from e

    def make_dir(self, prefix: str) -> None:
        """Make a folder and those above it."""
        try:
            os.makedirs(f"{self.root}/{prefix}", exist_ok=True)
        except OSError as e:
            raise _failed("make folder", prefix, e) from e

    def _check_way(self, key: str) -> None:
        """Refuse a key whose folders are not all the store's own."""
        if "/../" in f"/{key}/":
            raise StorageError(errno.EINVAL, f"could not change {key}: it leads out of {self.root}")
        folder = key.rpartition("/")[0]
        if folder in self._own or not folder:
            return
        if len(self._own) > 1 << 16:
            self._own.clear()
        new = []
        while folder and folder not in self._own:
            new.append(folder)
            folder = folder.rpartition("/")[0]
        for folder in reversed(new):
            if os.path.islink(f"{self.root}/{folder}"):
                raise StorageError(
                    errno.ELOOP, f"could not change {key}: {folder} is a symbolic link, and leads elsewhere"
                )
            self._own.add(folder)

    def _scan(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self.root}/{prefix}" if prefix else self.root) as entries:
                return sorted(entries, key=_in_keys)
        except OSError as e:
            if e.errno in _ABSENT:
                return []
            raise _failed("list", prefix, e) from e

    def _stage(self, data: bytes, stage: str) -> str:
        staged = f"{self.root}/{stage}/{secrets.token_hex(16)}"
        try:
            try:
                fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileNotFoundError:
                if stage != "tmp":
                    raise
                os.makedirs(os.path.dirname(staged), exist_ok=True)
                fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            _write(fd, data)
        except OSError as e:
            unlink(staged)
            raise _failed("write", stage, e) from e
        return staged


def _write(fd: int, data: bytes) -> None:
    """Write a whole file, and close it."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _write_new(path: str, data: bytes) -> None:
    """Write a file that nobody sees yet."""
    _make_above(path)
    _write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), data)


def _in_keys(entry: os.DirEntry[str]) -> str:
    """What a name adds to the keys that begin with it, by which whole keys are sorted."""
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _about(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What the system says of a file that was listed; None where it is gone since."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise _failed("list", entry.name, e) from e


def _make_above(path: str) -> None:
    """Make the folder of a file; mostly the one above it is there."""
    folder = os.path.dirname(path)
    try:
        os.mkdir(folder)
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)


def _failed(verb: str, key: str, cause: OSError, what: str = "") -> StorageError:
    return StorageError(cause.errno or errno.EIO, f"could not {verb} {key}: {what}{cause.strerror or cause}")


def unlink(path: str) -> None:
    """Remove a file that may be gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
