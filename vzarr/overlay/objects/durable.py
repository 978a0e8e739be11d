"""Files that outlast a power loss: bytes are on the disk before they have a name, the name before its writer goes on.

A file system may write what it holds in memory in any order, or never if the power fails.  POSIX orders two things
only: `fsync` on a file brings its bytes to the disk, and on a folder the names in it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vzarr.errors import StorageError
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.files import FileObjects, unlink


class DurableFiles(FileObjects):
    """Objects as files of a local file system, each change of which is on the disk when it returns."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._is_rooted = False

    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """See `FileObjects.put`."""
        super().put(key, data, stage=stage)
        self._sync_way(key)

    def copy(self, source: str, target: str, *, stage: str = "tmp") -> None:
        """See `FileObjects.copy`."""
        super().copy(source, target, stage=stage)
        self._sync_way(target)

    @contextmanager
    def new_folder(self, prefix: str) -> Iterator[Callable[[str, bytes], object]]:
        """See `Objects.new_folder`: file by file, each with its name."""
        with Objects.new_folder(self, prefix) as put:
            yield put

    def create(self, key: str, data: bytes) -> bool:
        """See `FileObjects.create`; who lost has seen what the winner made, so it must last too."""
        created = super().create(key, data)
        self._sync_way(key)
        return created

    def delete(self, key: str) -> None:
        """See `FileObjects.delete`."""
        super().delete(key)
        self._sync_way(key)

    def delete_tree(self, prefix: str) -> None:
        """See `FileObjects.delete_tree`."""
        super().delete_tree(prefix)
        self._sync_way(prefix)

    def move(self, source: str, target: str) -> None:
        """See `FileObjects.move`: at no moment is the file under neither name."""
        super().move(source, target)
        self._sync_way(target)
        self._sync_way(source)

    def rename_tree(self, source: str, target: str) -> None:
        """See `FileObjects.rename_tree`."""
        super().rename_tree(source, target)
        self._sync_way(target)
        self._sync_way(source)

    def make_dir(self, prefix: str) -> None:
        """See `FileObjects.make_dir`."""
        super().make_dir(prefix)
        self._sync_way(prefix)

    def _stage(self, data: bytes, stage: str) -> str:
        staged = super()._stage(data, stage)
        try:
            _sync(staged)
        except OSError as e:
            unlink(staged)
            raise _failed(staged, e) from e
        return staged

    def _sync_way(self, key: str) -> None:
        """Bring the names on the way to a key to the disk, also those that others made a moment ago."""
        folder = Path(self.path(key)).parent
        while folder.is_relative_to(self.root):
            try:
                _sync(folder)
            except (FileNotFoundError, NotADirectoryError):
                pass  # that it is gone stands in the folder above
            except OSError as e:
                raise _failed(folder, e) from e
            folder = folder.parent
        if not self._is_rooted:
            for above in Path(self.root).parents:  # which may be as new as the repo, or not for us to open
                with suppress(PermissionError):
                    _sync(above)
            self._is_rooted = True


def _sync(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _failed(path: str | Path, cause: OSError) -> StorageError:
    return StorageError(cause.errno or errno.EIO, f"could not bring {path} to the disk: {cause.strerror or cause}")
