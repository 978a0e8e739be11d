"""Locks and presence of those who share keys in PostgreSQL: advisory locks of sessions, which end with their process.

A lock is named by a hash of the repo's keys and its own name.  The server takes it back when the session's connection
ends: at once when a process is killed, and after the connection's keep-alive time (25 s) when a machine vanishes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any
from weakref import finalize

from vzarr.errors import StorageError
from vzarr.overlay.keys.locks import Locks, _Named
from vzarr.overlay.kv.postgres import PostgresKV, inherited
from vzarr.overlay.kv.postgresviews import driver

CHECK_SECONDS = 2.0
"""How long a process relies on its own session being there."""


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
        presence.kv = kv
        super().__init__(presence)
        self._kv, self._keys = kv, keys

    @contextmanager
    def taken(self, name: str, *, wait: bool) -> Iterator[bool]:
        """See `Locks.taken`."""
        number = _number(self._keys, name)
        with self._kv.session() as session:
            if wait:
                session.query("SELECT pg_advisory_lock(%s)", number)
            elif not session.query("SELECT pg_try_advisory_lock(%s)", number)[0][0]:
                yield False
                return
            try:
                yield True
            finally:
                if not session.query("SELECT pg_advisory_unlock(%s)", number)[0][0]:
                    raise StorageError(f"the lock on {name} was lost while it was held")


class PostgresPresence(_Named):
    """Presence as a session that holds a lock of the process's name."""

    kv: PostgresKV

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._session: Any = None
        self._end: finalize[Any, Any] | None = None
        self._checked = 0.0

    @property
    def name(self) -> str:
        """Name of this process; another one once its session was lost, since others take it for dead then."""
        with self._lock:
            if self._session is not None and time.monotonic() - self._checked > CHECK_SECONDS:
                self._look()
        return super().name

    def _look(self) -> None:
        try:
            self._session.execute("SELECT 1")
            self._checked = time.monotonic()
        except driver().Error:
            self._session.close()
            self._session, self._name = None, ""

    def _taken(self, name: str) -> str:
        self._session = self.kv.connect()
        self._end = finalize(self, self._session.close)
        self._session.execute("SELECT pg_advisory_lock(%s)", (_number(self._where, f"process {name}"),))
        self._checked = time.monotonic()
        return name

    def is_running(self, name: str) -> bool:
        """Whether some session holds the lock of that name."""
        if not name:
            return True
        number = _number(self._where, f"process {name}")
        with self.kv.session() as session:
            if not session.query("SELECT pg_try_advisory_lock(%s)", number)[0][0]:
                return True
            session.query("SELECT pg_advisory_unlock(%s)", number)
            return False

    def forked(self) -> None:
        """Let go of the parent's name and session, in its child."""
        super().forked()
        if self._end is not None:
            self._end.detach()
            inherited.append(self._session)
        self._session, self._end = None, None


def _number(keys: str, name: str) -> int:
    return int.from_bytes(blake2b(f"{keys}\0{name}".encode(), digest_size=8).digest(), "big", signed=True)
