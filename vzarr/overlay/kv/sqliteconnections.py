"""Connections of a process to the file of a key store in SQLite: shared by all who opened it, not across a fork.

A file is known by its inode, whatever path led to it.  Opening a connection costs as much as reading a chunk, so a repo
that is opened again while another handle on it is there finds them open.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import weakref
from collections.abc import Hashable
from itertools import count
from threading import Condition, Lock, RLock
from urllib.parse import quote

from vzarr.errors import AuthorityUnavailableError, StorageError
from vzarr.overlay.kv.sqlitefile import DAMAGED, failed

BUSY_SECONDS = 30.0
FORK_SECONDS = 1.0
CHECKPOINT_PAGES = 4000
"""Pages of the log after which it is brought into the file, by whoever commits then: it waits for the disk, about as
long for many pages as for few, for most are changed again and again."""
SYNCHRONOUS = {"process": "NORMAL", "fsync": "FULL"}

FileId = tuple[int, int]
"""Device and inode of a file."""

_live: weakref.WeakValueDictionary[tuple[FileId, str], Connections] = weakref.WeakValueDictionary()
_writer_locks: weakref.WeakValueDictionary[FileId, RLock] = weakref.WeakValueDictionary()
_finding = Lock()
_forking: list[Connections] = []
_forked_in_use: set[FileId] = set()
_watch_numbers = count(1)
"""Connections count commits each for itself."""


class Connections:
    """One connection that writes, behind a lock, one that watches, and as many that read as there are reads at a time.

    Parameters
    ----------
    path, number
        The file.
    durability
        One of `SYNCHRONOUS`.
    writing
        The lock behind which all writers of this process to one file queue, which waits without naps.
    """

    def __init__(self, path: str, number: FileId, durability: str, writing: RLock) -> None:
        self.path, self._number, self._synchronous = path, number, SYNCHRONOUS[durability]
        self.writing = writing
        self.writer: sqlite3.Connection | None = None
        self.idle: list[sqlite3.Connection] = []
        self._busy: set[sqlite3.Connection] = set()
        self._pool = Condition(Lock())
        self._watching = Lock()
        self._watch: sqlite3.Connection | None = None
        self._watches = 0
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._fork_waited = False

    @classmethod
    def to(cls, path: str, number: FileId, durability: str, user: object) -> Connections:
        """The connections to a file, which stay open at least until the user leaves."""
        with _finding:
            found = _live.get((number, durability))
            if found is None:
                writing = _writer_locks.setdefault(number, RLock())
                found = _live[number, durability] = cls(path, number, durability, writing)
        with found._pool:
            found._users.add(user)
            found.path = path  # it may have been moved since others opened it
        return found

    def leave(self, user: object) -> None:
        """Let go of what only this user needed; calls under way go on to their end."""
        if self._number in _forked_in_use:
            return  # a thread that fork left behind may hold the locks for ever
        with self.writing, self._pool, self._watching:
            self._users.discard(user)
            if not self._users:
                self._drop_readers()
                self._drop_writer()
                self._drop_watch()

    def check(self) -> None:
        """Refuse what a fork has left unusable.

        Raises
        ------
        StorageError
            If the file was in use when this process was forked from another.
        """
        if self._number in _forked_in_use:
            raise StorageError(f"key store {self.path} was in use when this process was forked from another")

    def take(self) -> sqlite3.Connection:
        """A connection with which nobody else reads until it is given back.

        Raises
        ------
        AuthorityUnavailableError
            If a new one is needed, and cannot be had.
        """
        with self._pool:
            self.check()
            connection = self.idle.pop() if self.idle else self.connect()
            self._busy.add(connection)
            return connection

    def give(self, connection: sqlite3.Connection) -> None:
        """Give a connection back."""
        with self._pool:
            self._busy.discard(connection)
            self._pool.notify_all()
            if self._number in _forked_in_use:
                _never_close(connection)
            elif self._users:
                self.idle.append(connection)
            else:
                connection.close()

    def stamp(self) -> Hashable:
        """What stays equal until somebody commits.

        ``PRAGMA data_version`` tells one connection what others committed, so it is asked on one that never does.
        """
        with self._watching:
            self.check()
            if self._watch is None:
                self._watch, self._watches = self.connect(), next(_watch_numbers)
            try:
                return self._watches, self._watch.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error as error:
                raise failed(self.path, error) from error

    def connect(self) -> sqlite3.Connection:
        """A new connection.

        Raises
        ------
        AuthorityUnavailableError
            If the file is gone, replaced by another, or no key store.
        """
        url = f"file:{quote(os.fsencode(self.path))}?mode=rw"
        connection = None
        try:
            connection = sqlite3.connect(
                url, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Droppable
            )
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute("SELECT k, v FROM kv LIMIT 1")
            if file_id(os.stat(self.path)) != self._number:  # noqa: PTH116 - quicker
                raise sqlite3.OperationalError("it was replaced since it was opened")
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise AuthorityUnavailableError(f"cannot open key store {self.path}: {error}; {DAMAGED}") from error
        return connection

    def _drop_readers(self) -> None:
        for connection in self.idle:
            connection.close()
        self.idle.clear()

    def _drop_writer(self) -> None:
        if self.writer is not None and not self.writer.in_transaction:
            self.writer.close()
            self.writer = None

    def _drop_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def before_fork(self) -> None:
        """Wait for calls under way, and close what waits for the next."""
        self._fork_waited = self.writing.acquire(timeout=FORK_SECONDS)
        self._pool.acquire()
        self._pool.wait_for(lambda: not self._busy, timeout=FORK_SECONDS)
        self._watching.acquire()
        self._drop_watch()
        self._drop_readers()
        if self._fork_waited:
            self._drop_writer()

    def after_fork(self) -> None:
        """Go on."""
        self._watching.release()
        self._pool.release()
        if self._fork_waited:
            self.writing.release()

    def after_fork_in_child(self) -> None:
        """Go on with connections of one's own, or not at all where some were in use."""
        for connection in (*self._busy, self.writer):
            if connection is not None:
                _forked_in_use.add(self._number)
                _never_close(connection)
        self.after_fork()


class _Droppable(sqlite3.Connection):
    """A connection that is closed when nobody has it any more; of others Python 3.13 warns then."""

    def __del__(self) -> None:
        self.close()


def file_id(found: os.stat_result) -> FileId:
    """What makes two paths lead to one file."""
    return found.st_dev, found.st_ino


def _never_close(connection: sqlite3.Connection) -> None:
    """Keep a connection inherited through fork from being closed, even at the interpreter's end.

    SQLite forbids a child to use or to close it: the locks are the parent's.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _before_fork() -> None:
    _finding.acquire()
    _forking[:] = _live.values()
    for connections in _forking:
        connections.before_fork()


def _after_fork() -> None:
    for connections in _forking:
        connections.after_fork()
    _forking.clear()
    _finding.release()


def _after_fork_in_child() -> None:
    for connections in _forking:
        connections.after_fork_in_child()
    _forking.clear()
    _finding.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
