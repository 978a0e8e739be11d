"""An ordered key/value store in one SQLite file: safe for threads, processes and fork.

One table ``kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID`` in WAL mode.  A store has one connection that
writes, behind a lock, and as many that read as there are reads at a time.  No statement stays open between
two calls.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Condition, Lock, RLock
from typing import TypeVar

from vzarr.errors import AuthorityUnavailableError, InvalidInputError, StorageError
from vzarr.overlay.kv.base import Item, Reader, Transaction, paged
from vzarr.overlay.kv.sqlitefile import DAMAGED, check_place, create_file, failed, is_promising
from vzarr.overlay.kv.sqliteviews import Txn, View

T = TypeVar("T")

BUSY_SECONDS = 30.0
FORK_SECONDS = 1.0
SYNCHRONOUS = {"process": "NORMAL", "fsync": "FULL"}


_live: weakref.WeakSet[SqliteKV] = weakref.WeakSet()
_forking: list[SqliteKV] = []
_writer_locks: weakref.WeakValueDictionary[str, RLock] = weakref.WeakValueDictionary()
_writer_locks_lock = Lock()
_forked_in_use: set[str] = set()
_watch_numbers = count(1)
"""Connections count commits each for itself."""


def _writer_lock(path: str) -> RLock:
    """The lock behind which all writers of this process to one file queue, which waits without naps."""
    with _writer_locks_lock:
        return _writer_locks.setdefault(path, RLock())


def _never_close(connection: sqlite3.Connection) -> None:
    """Keep a connection inherited through fork from being closed, even at the interpreter's end.

    SQLite forbids a child to use or to close it: the locks are the parent's.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


class SqliteKV:
    """An `OrderedKV` in the file `path`.

    Forking waits for calls under way and lets the child open connections of its own.  SQLite cannot do that
    for a child forked within a transaction or snapshot (or while one of another thread lasts longer than a
    second): there the store raises `StorageError` in the child.

    Parameters
    ----------
    path
        The file; SQLite keeps ``-wal`` and ``-shm`` files beside it.
    create
        Whether to make the file if it does not exist.
    durability
        ``"process"``: a commit survives the end of any process; ``"fsync"``: it survives power loss too.

    Raises
    ------
    AuthorityUnavailableError
        `path` cannot be opened, or is no key store; also at the first use of a file that only looked like one.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True, durability: str = "process") -> None:
        if durability not in SYNCHRONOUS:
            raise InvalidInputError(f"durability is one of {', '.join(SYNCHRONOUS)}, not {durability!r}")
        self._path = os.path.realpath(path)
        self._synchronous = SYNCHRONOUS[durability]
        self._writing = _writer_lock(self._path)
        self._writer: sqlite3.Connection | None = None
        self._idle: list[sqlite3.Connection] = []
        self._busy: set[sqlite3.Connection] = set()
        self._pool = Condition(Lock())
        self._watching = Lock()
        self._watch: sqlite3.Connection | None = None
        self._watches = 0
        self._closed = False
        self._fork_waited = False
        check_place(self._path)
        if create and not Path(self._path).exists():
            create_file(self._path)
        self._check()
        # Opening a connection costs a quarter of opening a repo, and readers of sealed versions need none.
        if not is_promising(self._path):
            with self._reader():
                pass
        _live.add(self)

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        connection = self._take()
        try:
            return View(connection, self._path).get(key)
        finally:
            self._give(connection)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order, all as of one moment."""
        with self.snapshot() as view:
            return view.get_many(keys)

    def scan(
        self, start: bytes, end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """Pairs of a range in key order, as `Reader.scan` defines."""
        return paged(self._fetch, start, end, limit, reverse)

    def _fetch(self, start: bytes, end: bytes | None, count: int, reverse: bool) -> list[Item]:
        connection = self._take()
        try:
            return View(connection, self._path).fetch(start, end, count, reverse)
        finally:
            self._give(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """A view of this moment, for as long as the context lasts."""
        with self._reader() as view:
            view.begin("BEGIN")
            try:
                # SQLite's moment is the first read.
                view.get(b"")
                yield view
            finally:
                view.rollback()

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        """Run ``fn(txn)`` as one serialisable transaction, as `OrderedKV.transact` defines."""
        self._check()
        with self._writing:
            self._check()
            if self._writer is None:
                self._writer = self._connect()
            if self._writer.in_transaction:
                raise InvalidInputError("transactions don't nest")
            txn = Txn(self._writer, self._path)
            try:
                txn.begin("BEGIN IMMEDIATE")
                result = fn(txn)
                txn.commit()
            finally:
                txn.rollback()
            return result

    def stamp(self) -> Hashable:
        """What stays equal until somebody commits (see `stamp_of`).

        ``PRAGMA data_version`` tells one connection what others committed, so it is asked on one that never does.
        """
        with self._watching:
            self._check()
            if self._watch is None:
                self._watch, self._watches = self._connect(), next(_watch_numbers)
            try:
                return self._watches, self._watch.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error as error:
                raise failed(self._path, error) from error

    def check(self) -> None:
        """Read all of the file, and see that it is sound.

        Raises
        ------
        AuthorityUnavailableError
            If it is damaged.
        """
        try:
            with self._reader() as view:
                found = view.said("PRAGMA quick_check(1)")
        except StorageError as error:
            raise AuthorityUnavailableError(str(error)) from error
        if found != "ok":
            raise AuthorityUnavailableError(f"key store {self._path} is damaged: {found}; {DAMAGED}")

    def close(self) -> None:
        """Close the connections; calls under way go on to their end."""
        if self._path in _forked_in_use:
            # A thread that fork left behind may hold the locks for ever.
            self._closed = True
            return
        with self._writing, self._pool, self._watching:
            self._closed = True
            self._drop_readers()
            self._drop_writer()
            self._drop_watch()

    def _check(self) -> None:
        if self._closed:
            raise StorageError(f"key store {self._path} is closed")
        if self._path in _forked_in_use:
            raise StorageError(f"key store {self._path} was in use when this process was forked from another")

    def _connect(self) -> sqlite3.Connection:
        url = f"{Path(self._path).as_uri()}?mode=rw"
        connection = None
        try:
            connection = sqlite3.connect(
                url, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("SELECT k, v FROM kv LIMIT 1")
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise AuthorityUnavailableError(f"cannot open key store {self._path}: {error}; {DAMAGED}") from error
        return connection

    @contextmanager
    def _reader(self) -> Iterator[View]:
        """A view over a connection that nobody else reads with meanwhile."""
        connection = self._take()
        view = View(connection, self._path)
        try:
            yield view
        finally:
            view.end()
            self._give(connection)

    def _take(self) -> sqlite3.Connection:
        with self._pool:
            self._check()
            connection = self._idle.pop() if self._idle else self._connect()
            self._busy.add(connection)
            return connection

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._pool:
            self._busy.discard(connection)
            self._pool.notify_all()
            if self._path in _forked_in_use:
                _never_close(connection)
            elif self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _drop_readers(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _drop_writer(self) -> None:
        if self._writer is not None and not self._writer.in_transaction:
            self._writer.close()
            self._writer = None

    def _drop_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _before_fork(self) -> None:
        self._fork_waited = self._writing.acquire(timeout=FORK_SECONDS)
        self._pool.acquire()
        self._pool.wait_for(lambda: not self._busy, timeout=FORK_SECONDS)
        self._watching.acquire()
        self._drop_watch()
        self._drop_readers()
        if self._fork_waited:
            self._drop_writer()

    def _after_fork(self) -> None:
        self._watching.release()
        self._pool.release()
        if self._fork_waited:
            self._writing.release()

    def _after_fork_in_child(self) -> None:
        for connection in (*self._busy, self._writer):
            if connection is not None:
                _forked_in_use.add(self._path)
                _never_close(connection)
        self._after_fork()


def _before_fork() -> None:
    _forking[:] = _live
    for store in _forking:
        store._before_fork()


def _after_fork() -> None:
    for store in _forking:
        store._after_fork()


def _after_fork_in_child() -> None:
    for store in _forking:
        store._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
