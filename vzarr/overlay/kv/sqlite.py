"""An ordered key/value store in one SQLite file: safe for threads, processes and fork.

One table ``kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID`` in WAL mode.  No statement stays open between two calls.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vzarr.errors import AuthorityUnavailableError, InvalidInputError, StorageError
from vzarr.overlay.kv.base import Item, Paging, Range, Reader, Transaction
from vzarr.overlay.kv.sqliteconnections import SYNCHRONOUS, Connections, file_id
from vzarr.overlay.kv.sqlitefile import DAMAGED, check_place, create_file, is_promising
from vzarr.overlay.kv.sqliteviews import MOST_VALUES, Txn, View

T = TypeVar("T")


class SqliteKV(Paging):
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
        self._path = os.path.abspath(path)  # noqa: PTH100 - a tenth of the time of pathlib's
        self._closed = False
        found = self._found(create=create)
        self._shared = Connections.to(self._path, file_id(found), durability, self)
        self._check()
        # Opening a connection costs as much as reading a chunk, and readers of sealed versions need none.
        if not is_promising(self._path, found.st_size):
            with self._reader():
                pass

    def _found(self, *, create: bool) -> os.stat_result:
        """The file, which is made if there is none and `create` says so."""
        try:
            try:
                found = os.stat(self._path)  # noqa: PTH116 - likewise
            except FileNotFoundError:
                if not create:
                    raise
                check_place(self._path, Path(self._path).parent.stat().st_dev)
                create_file(os.path.realpath(self._path))
                return Path(self._path).stat()
        except OSError as error:
            raise AuthorityUnavailableError(f"cannot open key store {self._path}: {error.strerror}") from error
        check_place(self._path, found.st_dev)
        return found

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        connection = self._take()
        try:
            return View(connection, self._path).get(key)
        finally:
            self._shared.give(connection)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order, all as of one moment."""
        if len(keys) > MOST_VALUES:
            with self.snapshot() as view:
                return view.get_many(keys)
        connection = self._take()
        try:
            return View(connection, self._path).get_many(keys)
        finally:
            self._shared.give(connection)

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """Pairs of each of many ranges, as `Reader.scan_many` defines."""
        connection = self._take()
        try:
            return View(connection, self._path).scan_many(ranges, limit=limit, reverse=reverse)
        finally:
            self._shared.give(connection)

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        """See `Paging.fetch`."""
        connection = self._take()
        try:
            return View(connection, self._path).fetch(start, end, count, reverse)
        finally:
            self._shared.give(connection)

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
        with self._shared.writing:
            self._check()
            if self._shared.writer is None:
                self._shared.writer = self._shared.connect()
            if self._shared.writer.in_transaction:
                raise InvalidInputError("transactions don't nest")
            view = View(self._shared.writer, self._path)
            try:
                view.begin("BEGIN IMMEDIATE")
                txn = Txn(view)
                result = fn(txn)
                txn.flush()
                view.commit()
            finally:
                view.rollback()
            return result

    def stamp(self) -> Hashable:
        """What stays equal until somebody commits (see `stamp_of`)."""
        self._check()
        return self._shared.stamp()

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
        """Let go of the file; calls under way go on to their end."""
        self._closed = True
        self._shared.leave(self)

    def _check(self) -> None:
        if self._closed:
            raise StorageError(f"key store {self._path} is closed")
        self._shared.check()

    def _take(self) -> sqlite3.Connection:
        if self._closed:
            raise StorageError(f"key store {self._path} is closed")
        return self._shared.take()

    @contextmanager
    def _reader(self) -> Iterator[View]:
        """A view over a connection that nobody else reads with meanwhile."""
        connection = self._take()
        view = View(connection, self._path)
        try:
            yield view
        finally:
            view.end()
            self._shared.give(connection)
