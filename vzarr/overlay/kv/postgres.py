"""An ordered key/value store in PostgreSQL, for repos that many machines write to.

A table ``vzarr_kv(k bytea PRIMARY KEY, v bytea)``, a second for what `longkeys` stores apart, and plain SQL, so that
databases which speak PostgreSQL's protocol (CockroachDB, YugabyteDB) should do as well.  A transaction is serialisable:
writes are gathered and sent at its end, and what the database finds to collide is run again, alone: the second time it
waits until nobody else's transaction is under way, and those that begin meanwhile wait for it.  Else a long one would
collide for ever with short ones.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from threading import Lock, local
from typing import TypeVar
from urllib.parse import urlsplit

from vzarr.errors import AuthorityUnavailableError, InvalidInputError, StorageError
from vzarr.overlay.kv.base import ByViews, Reader, Transaction
from vzarr.overlay.kv.postgresviews import CollisionError, Connection, Txn, View, driver, make_tables, text_of

T = TypeVar("T")

RETRY_SECONDS = 30.0
CONNECT_SECONDS = 10
TRUSTED_SECONDS = 5.0
"""How long a connection that nobody uses is taken to be there still."""
_GATE = 0x767A617272
"""Advisory lock: every transaction shares it, and one that collided before has it alone."""
_BEGIN = f"BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT pg_advisory_xact_lock_shared({_GATE})"
# Others wait for it: a process that stands still in the middle must not keep them for ever.
_BEGIN_ALONE = "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL idle_in_transaction_session_timeout = '30s'"
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
# Those are for who only listens; what was sent to a machine that vanished would be sent again for a quarter of an hour.
_KEEPALIVE |= {"tcp_user_timeout": 25_000}

inherited: list[Connection] = []
"""Connections that came with a fork: the parent's, and not even to be closed here."""


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
                    make_tables(view)
                view.look()
        except StorageError as e:
            self.close()
            raise AuthorityUnavailableError(f"{self._name} holds no keys: {e}") from e

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._idle: list[tuple[Connection, float]] = []
        self._lock = Lock()
        self._local = local()

    @contextmanager
    def session(self) -> Iterator[View]:
        """A connection of one's own, with each statement a transaction."""
        connection = self._take()
        view = View(connection, self._name)
        try:
            yield view
        finally:
            view.end()
            self._give(connection)

    def reading(self) -> AbstractContextManager[View]:
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
            except CollisionError:
                if time.monotonic() > end:
                    raise
            time.sleep(random.random() * min(0.001 * 2**attempt, 0.1))
        raise AssertionError

    def _attempt(self, fn: Callable[[Transaction], T], *, alone: bool) -> T:
        connection = self._take()
        view = View(connection, self._name)
        try:
            if alone:
                # Before the transaction, whose moment is that of its first look: what happens while it waits counts.
                view.run("SELECT pg_advisory_lock(%s)", _GATE)
            view.script(_BEGIN_ALONE if alone else _BEGIN)
            txn = Txn(view)
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
        for connection, _since in idle:
            connection.close()

    def _check(self) -> None:
        if self._closed:
            raise StorageError(f"key store {self._name} is closed")
        if self._pid != os.getpid():
            inherited.extend(connection for connection, _since in self._idle)
            self._reset()

    def _take(self) -> Connection:
        self._check()
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection, since = self._idle.pop()
            if time.monotonic() - since < TRUSTED_SECONDS or _answers(connection):
                return connection
            connection.close()
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
            raise AuthorityUnavailableError(f"cannot open key store {self._name}: {text_of(error)}") from error

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
            if connection.closed:
                # The others may have ended with it: each is looked at before it is used.
                self._idle = [(other, -math.inf) for other, _since in self._idle]
            elif not self._closed:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()


def _answers(connection: Connection) -> bool:
    """Whether the database still knows a connection: it may have been started anew since."""
    try:
        connection.execute("SELECT 1")
    except driver().Error:
        return False
    return True
