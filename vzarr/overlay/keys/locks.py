"""Keeping others out for a while, and telling whether the process that left something unfinished still runs.

Locks belong to a key authority: whoever shares its keys shares its locks, wherever the objects lie.  Those of this
module rest on advisory locks of the local kernel, which vanish with the process that holds them, however it ends: what
a killed process left behind is taken over at once instead of after a pause.  An authority that serves many machines
implements `Locks` and `Presence` by its own means.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from weakref import WeakValueDictionary, finalize

from vzarr.errors import StorageError
from vzarr.overlay import layout

P = TypeVar("P", bound="_Named")
Hold = Callable[[], object]
"""Raises if a lock is not held any more; some can be lost while their holder goes on."""


class Presence(ABC):
    """A process among those that use the same keys, under a name that others can ask about."""

    has_ended = True
    """Whether a process that is `gone` has ended, and is not only cut off: what it has sent may still arrive then."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of this process, the same in all its handles on these keys; a fork gets another."""

    @abstractmethod
    def is_running(self, name: str) -> bool:
        """Whether the process of that name runs, as far as can be told at once."""

    def gone(self, names: Iterable[str]) -> set[str]:
        """Those of some processes, by name, that certainly run no more: what they began may be taken over.

        May take some seconds where a process can go out of sight and come back, for many as for one; so not within a
        transaction.
        """
        return {name for name in names if not self.is_running(name)}

    def is_gone(self, name: str) -> bool:
        """Whether a process is `gone`."""
        return bool(self.gone([name]))


class Locks(ABC):
    """What keeps apart those who use the same keys.

    Parameters
    ----------
    presence
        This process among them.
    """

    def __init__(self, presence: Presence) -> None:
        self.presence = presence

    @contextmanager
    def alone(self, name: str) -> Iterator[Hold]:
        """Context that at most one thread of one process is in for the same name.

        Parameters
        ----------
        name
            A folder of the repo, relative to it, such as ``nodes/ID``.

        Yields
        ------
        Hold
            For who is about to do what must not be done by two.

        Raises
        ------
        StorageError, AuthorityUnavailableError
            If the lock cannot be had, or was lost.
        """
        with self.taken(name, wait=True) as hold:
            assert hold is not None
            yield hold

    def attempt(self, name: str) -> AbstractContextManager[Hold | None]:
        """`alone` for who does not wait: gives None if somebody else is in it."""
        return self.taken(name, wait=False)

    @abstractmethod
    def taken(self, name: str, *, wait: bool) -> AbstractContextManager[Hold | None]:
        """`alone` or `attempt`; gives None if the lock was not had."""


class _Thread:
    """A lock that can be held in a weak dictionary."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_named: WeakValueDictionary[tuple[str, str], _Thread] = WeakValueDictionary()
_naming = threading.Lock()
_held: set[int] = set()
"""Open files behind the locks that this process holds: a fork must not keep them locked."""


class ProcessLocks(Locks):
    """Locks within one process, for keys that only it can reach.

    Parameters
    ----------
    keys
        Names the keys; handles on the same ones keep each other out.
    presence
        This process among those that use them; by default alone.
    """

    def __init__(self, keys: str, presence: Presence | None = None) -> None:
        super().__init__(presence or _OnlyProcess.of(keys))
        self._keys = keys

    @contextmanager
    def taken(self, name: str, *, wait: bool) -> Iterator[Hold | None]:
        """See `Locks.taken`."""
        with _naming:
            held = _named.setdefault((self._keys, name), _Thread())
        if not held.lock.acquire(blocking=wait):
            yield None
            return
        try:
            yield _kept
        finally:
            held.lock.release()


def _kept() -> None:
    """The kernel takes a lock from nobody who lives."""


class FileLocks(ProcessLocks):
    """Locks on files of a local file system.

    Parameters
    ----------
    home
        Folder of the locks, made if absent: the repo itself, or one beside its keys.
    keep
        Lock folders of the repo, which stay; else files of the same names, which are removed after use.
    """

    def __init__(self, home: str, *, keep: bool) -> None:
        super().__init__(home, _FilePresence.of(f"{home}/{layout.process('').rstrip('/')}"))
        self._keep = keep

    @contextmanager
    def taken(self, name: str, *, wait: bool) -> Iterator[Hold | None]:
        """See `Locks.taken`."""
        path = f"{self._keys}/{name}" if self._keep else f"{self._keys}/{name.replace('/', '-')}.lock"
        with super().taken(name, wait=wait) as mine:
            fd, pid = self._locked(path, wait) if mine else None, os.getpid()
            if fd is None:
                yield None
                return
            try:
                yield _kept
            finally:
                if os.getpid() == pid:
                    if not self._keep:
                        Path(path).unlink(missing_ok=True)
                    _held.discard(fd)
                    os.close(fd)

    def _locked(self, path: str, wait: bool) -> int | None:
        """The file, locked; None if another process has it and nobody waits."""
        _make_dir(path if self._keep else self._keys)
        while True:
            fd = _opened(path, os.O_RDONLY if self._keep else os.O_RDWR | os.O_CREAT)
            _held.add(fd)
            try:
                got = _flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), path)
                if got and (self._keep or _is_at(fd, path)):
                    return fd
            except BaseException:
                _held.discard(fd)
                os.close(fd)
                raise
            # Whoever had it before has removed it: others may have a new one by now.
            _held.discard(fd)
            os.close(fd)
            if not got:
                return None


class _Named(Presence):
    """A presence that all handles of a process share."""

    _known: ClassVar[WeakValueDictionary[tuple[type, str], _Named]] = WeakValueDictionary()

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._name = ""

    @classmethod
    def of(cls: type[P], where: str) -> P:
        """The presence of this process among those who use the same folder or keys."""
        with _naming:
            found = cls._known.get((cls, where))
            if found is None:
                found = cls._known[cls, where] = cls(where)
        assert isinstance(found, cls)
        return found

    @property
    def name(self) -> str:
        """Name of this process; the first call takes one."""
        with self._lock:
            if not self._name:
                self._name = self._taken(secrets.token_hex(8))
            return self._name

    def _taken(self, name: str) -> str:
        return name

    def forked(self) -> None:
        """Let go of the parent's name, in its child."""
        self._lock = threading.Lock()
        self._name = ""


class _OnlyProcess(_Named):
    """Presence where nobody else can be."""

    def is_running(self, name: str) -> bool:
        """Nothing is known of others."""
        return True


class _FilePresence(_Named):
    """Presence as a file that stays locked while the process runs, or until it has let go of the repo."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._fd = -1
        self._end: finalize[Any, Any] | None = None

    def _taken(self, name: str) -> str:
        _make_dir(self._where)
        path = f"{self._where}/{name}"
        self._fd = _opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        _flock(self._fd, fcntl.LOCK_EX, path)
        self._end = finalize(self, _leave, path, self._fd)
        return name

    def is_running(self, name: str) -> bool:
        """Whether the file of that name is there and locked."""
        if not name:
            return True
        path = f"{self._where}/{name}"
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

    def forked(self) -> None:
        """Let go of the parent's name: its lock must end with the parent."""
        super().forked()
        if self._end is not None:
            self._end.detach()
            os.close(self._fd)
        self._fd, self._end = -1, None


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
    for presence in list(_Named._known.values()):
        presence.forked()


os.register_at_fork(after_in_child=_after_fork)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))  # noqa: PTH116 - compared with an open file
    except FileNotFoundError:
        return False


def _make_dir(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not make folder {path}: {e.strerror}") from e


def _opened(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not open {path} for locking: {e.strerror}") from e


def _flock(fd: int, how: int, path: str) -> bool:
    """Lock an open file; False if another has it and ``LOCK_NB`` says not to wait."""
    try:
        fcntl.flock(fd, how)
        return True
    except BlockingIOError:
        return False
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not lock {path}: {e.strerror}") from e
