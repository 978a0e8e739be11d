"""Locks and presence of those who share keys in PostgreSQL: advisory locks of sessions, which end with their process.

A lock is named by a hash of the repo's keys and its own name.  The server takes it back when the session's connection
ends: at once when a process is killed, and after the connection's keep-alive time (25 s) when a machine vanishes.

A session may also end while its process lives, as when the database is started anew.  So nobody is taken for dead whose
session has not been gone for `GRACE_SECONDS`.  Each process looks after its own session all the time, and comes back
under its old name unless it was away for so long; what it was at goes on then.  Later it must take a new name, under
which nothing counts that it began before.  A name that was taken for dead is never seen again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b
from typing import Any
from weakref import finalize, ref

from vzarr.errors import AuthorityUnavailableError, StorageError, VzarrError
from vzarr.overlay.keys.locks import Hold, Locks, _Named
from vzarr.overlay.keys.writers import POLL_SECONDS, clock
from vzarr.overlay.kv.postgres import PostgresKV, inherited
from vzarr.overlay.kv.postgresviews import Connection, driver, text_of

CHECK_SECONDS = 1.0
"""How long a process relies on its own session being there."""
GRACE_SECONDS = 4.0
"""How long a process is not taken for dead whose session has ended: it may not know yet, and may come back."""
_UNSEEN = "cannot find out who else uses these keys"
_IS_FREE = """
SELECT CASE WHEN pg_try_advisory_lock_shared(%(number)s) THEN pg_advisory_unlock_shared(%(number)s) ELSE false END
"""


class PostgresLocks(Locks):
    """Advisory locks in a PostgreSQL database.

    Parameters
    ----------
    kv
        The keys that those have in common who are to keep each other out.
    keys
        Names a repo's part of them.
    """

    def __init__(self, kv: PostgresKV, keys: str) -> None:
        presence = PostgresPresence.of(keys)
        presence.connect = kv.connect
        super().__init__(presence)
        self._kv, self._keys = kv, keys

    @contextmanager
    def taken(self, name: str, *, wait: bool) -> Iterator[Hold | None]:
        """See `Locks.taken`; a lock lasts as long as its session."""
        number = _number(self._keys, name)
        with self._kv.session() as session:
            if wait:
                session.query("SELECT pg_advisory_lock(%s)", number)
            elif not session.query("SELECT pg_try_advisory_lock(%s)", number)[0][0]:
                yield None
                return
            try:
                yield partial(session.run, "SELECT 1")
            finally:
                if not session.query("SELECT pg_advisory_unlock(%s)", number)[0][0]:
                    raise StorageError(f"the lock on {name} was lost while it was held")


class PostgresPresence(_Named):
    """Presence as a session that holds a lock of the process's name."""

    has_ended = False
    connect: Callable[[], Connection]

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._session: Connection | None = None
        self._end: finalize[Any, Any] | None = None
        self._joined = self._checked = self._sure = 0.0
        self._failed, self._failure = 0.0, ""
        self._gone: set[str] = set()

    @property
    def name(self) -> str:
        """Name of this process; another one once it was away for so long that others may take it for dead."""
        asked = clock()
        with self._lock:
            if self._name and (self._session is None or clock() - self._checked > CHECK_SECONDS):
                if self._failed > asked:  # or each who waited here would try in vain for as long as the first
                    raise AuthorityUnavailableError(self._failure)
                self._stay()
        return super().name

    def _stay(self) -> None:
        """Make sure that others see this process; forget its name if they may have missed it."""
        if self._is_seen():
            return
        sure = self._sure
        try:
            self._join(self._name)
        except AuthorityUnavailableError as error:
            if not isinstance(error.__cause__, driver().errors.LockNotAvailable):
                self._failed, self._failure = clock(), str(error)
                raise
            # For the database the old session is not over yet.
        if self._session is None or clock() - sure >= GRACE_SECONDS:
            self._leave()
            self._name = ""
        else:
            self._sure = sure

    def _is_seen(self) -> bool:
        started = clock()
        try:
            if self._session is not None:
                self._session.execute("SELECT 1")
                self._checked = started
                if started - self._joined >= CHECK_SECONDS:
                    self._sure = started  # else others may have looked before it came and after it went
        except driver().Error:
            self._leave()
        return self._session is not None

    def _taken(self, name: str) -> str:
        self._join(name)
        watch = threading.Thread(target=_watch, args=(ref(self), name), name=f"vzarr-presence-{name}", daemon=True)
        watch.start()
        return name

    def _join(self, name: str) -> None:
        """Hold the lock of a name in a session of its own."""
        self._session = session = self.connect()
        self._end = finalize(self, session.close)
        started = clock()
        try:
            session.execute("SET lock_timeout = '1s'")
            session.execute("SELECT pg_advisory_lock(%s)", (self._number(name),))
        except driver().Error as error:
            self._leave()
            raise AuthorityUnavailableError(f"{_UNSEEN}; try again: {text_of(error)}") from error
        self._checked = self._sure = started
        self._joined = clock()

    def _leave(self) -> None:
        if self._end is not None:
            self._end()
        self._session, self._end = None, None

    def is_running(self, name: str) -> bool:
        """Whether some session holds the lock of that name."""
        return not name or not self._is_absent(name)

    def gone(self, names: Iterable[str]) -> set[str]:
        """Those whose lock no session has held for so long that their processes can't come back to it."""
        named = set(names)
        missing = {name for name in named - self._gone if not self.is_running(name)}
        since = looked = clock()
        while missing and looked - since < GRACE_SECONDS:
            time.sleep(POLL_SECONDS)
            before, looked = looked, clock()
            missing = {name for name in missing if self._is_absent(name)}
            if clock() - before >= CHECK_SECONDS:
                missing.clear()  # this process stood still: who came and went meanwhile was not seen
        self._gone |= missing
        return named & self._gone

    def _is_absent(self, name: str) -> bool:
        if name == self.name:
            return False
        with self._lock:
            if self._session is None:
                raise AuthorityUnavailableError(f"{_UNSEEN}: the connection was lost; try again")
            try:
                return bool(self._session.execute(_IS_FREE, {"number": self._number(name)}).fetchone()[0])
            except driver().Error as error:
                self._leave()
                raise AuthorityUnavailableError(f"{_UNSEEN}; try again: {text_of(error)}") from error

    def _number(self, name: str) -> int:
        return _number(self._where, f"process {name}")

    def forked(self) -> None:
        """Let go of the parent's name and session, in its child."""
        super().forked()
        if self._end is not None:
            self._end.detach()
            inherited.append(self._session)
        self._session, self._end = None, None


def _watch(presence: ref[PostgresPresence], name: str) -> None:
    """Keep a process in others' sight, for as long as it goes by a name."""
    while True:
        time.sleep(CHECK_SECONDS / 2)
        here = presence()
        if here is None:
            return
        with suppress(VzarrError):  # the database is away: so long nobody takes anybody for dead
            if here.name != name:
                return
        del here


def _number(keys: str, name: str) -> int:
    return int.from_bytes(blake2b(f"{keys}\0{name}".encode(), digest_size=8).digest(), "big", signed=True)
