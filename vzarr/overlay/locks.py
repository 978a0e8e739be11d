"""Keeping others out for a while, and telling whether the process that left something unfinished still runs.

Both rest on advisory locks of the local kernel, which vanish with the process that holds them, however it ends: what
a killed process left behind is taken over at once instead of after a pause.  Where objects are no files, one process
is all there is to keep apart.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary, finalize

from vzarr.errors import StorageError
from vzarr.overlay import layout
from vzarr.overlay.objects import Objects


class _Lock:
    """A lock that can be held in a weak dictionary."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_named: WeakValueDictionary[tuple[str, str], _Lock] = WeakValueDictionary()
_naming = threading.Lock()
_held: set[int] = set()
"""Open files behind the locks that this process holds: a fork must not keep them locked."""


@contextmanager
def alone(objects: Objects, folder: str) -> Iterator[None]:
    """Context that at most one thread of one process is in for the same folder, which is made if it is absent.

    Raises
    ------
    StorageError
        If the folder cannot be locked.
    """
    with _naming:
        held = _named.setdefault((objects.url, folder), _Lock())
    with held.lock:
        objects.make_dir(folder)
        path = objects.path(folder)
        if path is None:
            yield
            return
        fd = _opened(path, os.O_RDONLY)
        pid = os.getpid()
        _held.add(fd)
        try:
            _flock(fd, fcntl.LOCK_EX, path)
            yield
        finally:
            if os.getpid() == pid:
                _held.discard(fd)
                os.close(fd)


class Presence:
    """The process in one repo, under a name that others can ask about.

    Use `Presence.of`: all handles of a process on one repo share it.

    Parameters
    ----------
    objects
        The repo.

    Notes
    -----
    A name is a file below ``keys/processes`` that stays locked while the process runs, or until it has let go of the
    repo.  A fork gets another name.
    """

    _known: ClassVar[WeakValueDictionary[str, Presence]] = WeakValueDictionary()

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._name, self._fd = "", -1
        self._end: finalize[Any, Any] | None = None

    @classmethod
    def of(cls, objects: Objects) -> Presence:
        """The presence of this process in a repo."""
        with _naming:
            return cls._known.setdefault(objects.url, cls(objects))

    @property
    def name(self) -> str:
        """Name of this process; the first call takes one."""
        with self._lock:
            if not self._name:
                name = secrets.token_hex(8)
                path = self._objects.path(layout.process(name))
                if path is not None:
                    self._objects.make_dir(layout.process("").rstrip("/"))
                    self._fd = _opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                    _flock(self._fd, fcntl.LOCK_EX, path)
                    self._end = finalize(self, _leave, path, self._fd)
                self._name = name
            return self._name

    def is_running(self, name: str) -> bool:
        """Whether the process of that name may still run; False only if it certainly does not."""
        path = self._objects.path(layout.process(name)) if name else None
        if path is None:
            return True
        try:
            fd = _opened(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        Path(path).unlink(missing_ok=True)
        return False

    def _forked(self) -> None:
        """Let go of the parent's name, in its child: the parent's lock must end with the parent."""
        self._lock = threading.Lock()
        if self._end is not None:
            self._end.detach()
            os.close(self._fd)
        self._name, self._fd, self._end = "", -1, None


def _leave(path: str, fd: int) -> None:
    Path(path).unlink(missing_ok=True)
    os.close(fd)


def _after_fork() -> None:
    global _naming
    _naming = threading.Lock()
    _named.clear()
    for fd in _held:
        os.close(fd)
    _held.clear()
    for presence in list(Presence._known.values()):
        presence._forked()


os.register_at_fork(after_in_child=_after_fork)


def _opened(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not open {path} for locking: {e.strerror}") from e


def _flock(fd: int, how: int, path: str) -> None:
    try:
        fcntl.flock(fd, how)
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not lock {path}: {e.strerror}") from e
