"""An ordered key/value store in PostgreSQL, for repos that many machines write to.

One table ``vzarr_kv(k bytea PRIMARY KEY, v bytea)`` and plain SQL, so that databases which speak PostgreSQL's protocol
(CockroachDB, YugabyteDB) should do as well.  A transaction is serialisable: writes are gathered and sent at its end,
and what the database finds to collide is run again, alone: the second time it waits until nobody else's transaction is
under way, and those that begin meanwhile wait for it.  Else a long one would collide for ever with short ones.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from threading import Lock, local
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from vzarr.errors import AuthorityUnavailableError, InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.kv.base import ByViews, Item, Paging, Range, Reader, Transaction
from vzarr.overlay.kv.waiting import Delayed

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
Connection = Any
"""A ``psycopg.Connection`` of bytes rows."""

LONGEST_KEY = 2600
"""Bytes: an index row of PostgreSQL must fit a third of a page."""
RETRY_SECONDS = 30.0
CONNECT_SECONDS = 10
_GATE = 0x767A617272
"""Advisory lock: every transaction shares it, and one that collided before has it alone."""
_BEGIN = f"BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT pg_advisory_xact_lock_shared({_GATE})"
# Others wait for it: a process that stands still in the middle must not keep them for ever.
_BEGIN_ALONE = "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL idle_in_transaction_session_timeout = '30s'"
_COLLISIONS = ("40001", "40P01")
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}

inherited: list[Connection] = []
"""Connections that came with a fork: the parent's, and not even to be closed here."""

_SCANS = {
    (bounded, reverse): "SELECT k, v FROM vzarr_kv WHERE k >= %s"
    + (" AND k < %s" if bounded else "")
    + (" ORDER BY k DESC LIMIT %s" if reverse else " ORDER BY k LIMIT %s")
    for bounded in (False, True)
    for reverse in (False, True)
}
_SCAN_MANY = {
    reverse: "SELECT n, k, v FROM unnest(%s::bytea[], %s::bytea[]) WITH ORDINALITY AS wanted (lo, hi, n), LATERAL"
    " (SELECT k, v FROM vzarr_kv WHERE k >= lo AND k < hi"
    f" ORDER BY k {'DESC' if reverse else 'ASC'} LIMIT %s) AS found ORDER BY n, k {'DESC' if reverse else 'ASC'}"
    for reverse in (False, True)
}

_UPSERT = (
    "INSERT INTO vzarr_kv SELECT k, v FROM unnest(%b::bytea[], %b::bytea[]) AS given (k, v)"
    " ON CONFLICT (k) DO UPDATE SET v = excluded.v"
)


class _CollisionError(StorageError):
    """The database could not put this transaction in an order with others."""


def driver() -> Any:
    """The module that speaks to PostgreSQL, an extra."""
    try:
        import psycopg
    except ImportError as e:
        raise UnsupportedError("keys in PostgreSQL need psycopg: pip install 'vzarr[postgres]'") from e
    return psycopg


class _View(Paging):
    """Read verbs over one connection, within whatever transaction that is in."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection: Connection | None = connection
        self._name = name

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a statement."""
        return self._run(lambda cursor: cursor.execute(sql, values, binary=True).fetchall())

    def run(self, sql: str, *values: object) -> None:
        """A statement without rows."""
        self._run(lambda cursor: cursor.execute(sql, values))

    def script(self, sql: str) -> None:
        """Several statements without rows, sent together."""
        self._run(lambda cursor: cursor.execute(sql))

    def check(self) -> Connection:
        """The connection; refuses once the view has ended."""
        if self._connection is None:
            raise InvalidInputError("this snapshot or transaction has ended")
        return self._connection

    def _run(self, what: Callable[[Any], T]) -> T:
        connection, psycopg = self.check(), driver()
        try:
            with connection.cursor() as cursor:
                return what(cursor)
        except psycopg.Error as error:
            raise _failed(self._name, error) from error

    def get(self, key: bytes) -> bytes | None:
        found = self.query("SELECT v FROM vzarr_kv WHERE k = %s", key)
        return found[0][0] if found else None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found = dict(self.query("SELECT k, v FROM vzarr_kv WHERE k = ANY(%s)", list(keys))) if keys else {}
        return [found.get(key) for key in keys]

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
        if len(ranges) < 2 or None in ends:
            return super().scan_many(ranges, limit=limit, reverse=reverse)
        found: list[list[Item]] = [[] for _ in ranges]
        for n, key, value in self.query(_SCAN_MANY[reverse], starts, ends, limit):
            found[n - 1].append((key, value))
        return found

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        bounds = (start,) if end is None else (start, end)
        return self.query(_SCANS[end is not None, reverse], *bounds, count)

    def end(self) -> None:
        self._connection = None


class _Txn(Delayed):
    """A transaction over the view that it is run in."""

    def __init__(self, view: _View) -> None:
        super().__init__(view)
        self._view = view

    def check_key(self, key: bytes) -> None:
        self._view.check()
        if len(key) > LONGEST_KEY:
            raise InvalidInputError(f"this key store takes keys of up to {LONGEST_KEY} bytes, not {len(key)}")

    def send(self, put: list[Item], gone: list[bytes]) -> None:
        if put:
            self._view.run(_UPSERT, *map(list, zip(*put, strict=True)))
        if gone:
            self._view.run("DELETE FROM vzarr_kv WHERE k = ANY(%s)", gone)


class PostgresKV(ByViews):
    """An `OrderedKV` in a PostgreSQL database.

    A fork opens connections of its own.

    Parameters
    ----------
    url
        ``postgresql://[USER@]HOST[:PORT]/DATABASE``.  Passwords are for libpq to find (``~/.pgpass``).
    create
        Whether to make the table if there is none.

    Raises
    ------
    AuthorityUnavailableError
        The database cannot be reached, or has no table and `create` is false.
    UnsupportedError
        The extra ``postgres`` is not installed.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        parts = urlsplit(url)
        self._url, self._name = url, f"postgresql://{parts.hostname or ''}{parts.path}"
        self._reset()
        self._closed = False
        try:
            with self.session() as view:
                if create:
                    _make_table(view)
                view.get(b"")
        except StorageError as e:
            self.close()
            raise AuthorityUnavailableError(f"{self._name} holds no keys: {e}") from e

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Connection] = []
        self._lock = Lock()
        self._local = local()

    @contextmanager
    def session(self) -> Iterator[_View]:
        """A connection of one's own, with each statement a transaction."""
        connection = self._take()
        view = _View(connection, self._name)
        try:
            yield view
        finally:
            view.end()
            self._give(connection)

    def reading(self) -> AbstractContextManager[_View]:
        """See `session`."""
        return self.session()

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """A view of this moment, for as long as the context lasts."""
        with self.session() as view:
            view.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                view.get(b"")  # the moment is that of the first read
                yield view
            finally:
                view.run("ROLLBACK")

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        """Run ``fn(txn)`` as one serialisable transaction, as `OrderedKV.transact` defines."""
        self._check()
        if getattr(self._local, "within", False):
            raise InvalidInputError("transactions don't nest")
        self._local.within = True
        try:
            return self._retried(fn)
        finally:
            self._local.within = False

    def _retried(self, fn: Callable[[Transaction], T]) -> T:
        end = time.monotonic() + RETRY_SECONDS
        for attempt in count():
            try:
                return self._attempt(fn, alone=attempt > 0)
            except _CollisionError:
                if time.monotonic() > end:
                    raise
            time.sleep(random.random() * min(0.001 * 2**attempt, 0.1))
        raise AssertionError

    def _attempt(self, fn: Callable[[Transaction], T], *, alone: bool) -> T:
        connection = self._take()
        view = _View(connection, self._name)
        try:
            if alone:
                # Before the transaction, whose moment is that of its first look: what happens while it waits counts.
                view.run("SELECT pg_advisory_lock(%s)", _GATE)
            view.script(_BEGIN_ALONE if alone else _BEGIN)
            txn = _Txn(view)
            result = fn(txn)
            txn.flush()
            view.run("COMMIT")
            return result
        finally:
            view.end()
            self._give(connection, locked=alone)

    def close(self) -> None:
        """Close the connections; calls under way go on to their end."""
        self._closed = True
        if self._pid != os.getpid():
            return
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _check(self) -> None:
        if self._closed:
            raise StorageError(f"key store {self._name} is closed")
        if self._pid != os.getpid():
            inherited.extend(self._idle)
            self._reset()

    def _take(self) -> Connection:
        self._check()
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
        return self.connect()

    def connect(self) -> Connection:
        """A new connection.

        Raises
        ------
        AuthorityUnavailableError
            If the database cannot be reached.
        """
        psycopg = driver()
        try:
            return psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_SECONDS, **_KEEPALIVE)
        except psycopg.Error as error:
            raise AuthorityUnavailableError(f"cannot open key store {self._name}: {_text(error)}") from error

    def _give(self, connection: Connection, *, locked: bool = False) -> None:
        """Take a connection back for the next caller, unless it is broken; `locked` if it may hold the gate."""
        psycopg = driver()
        try:
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
            if locked:
                connection.execute("SELECT pg_advisory_unlock(%s)", (_GATE,))
        except psycopg.Error:
            connection.close()
        with self._lock:
            if not self._closed and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()


def _make_table(view: _View) -> None:
    for attempt in (1, 2):
        try:
            view.run("CREATE TABLE IF NOT EXISTS vzarr_kv (k bytea PRIMARY KEY, v bytea NOT NULL)")
        except StorageError:
            # Two who make it at once may see half of each other's; the second time it is there.
            if attempt == 2:
                raise
        else:
            return


def _failed(name: str, error: psycopg.Error) -> StorageError:
    text = f"key store {name}: {_text(error)}"
    if error.sqlstate in _COLLISIONS:
        return _CollisionError(errno.EAGAIN, text)
    return StorageError(errno.ENOSPC if error.sqlstate == "53100" else errno.EIO, text)


def _text(error: Exception) -> str:
    return " ".join(str(error).split())
