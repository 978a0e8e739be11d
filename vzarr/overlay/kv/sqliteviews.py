"""Looking into one SQLite connection and writing through it: snapshots and transactions of `SqliteKV`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from vzarr.errors import InvalidInputError
from vzarr.overlay.kv.base import Item, Paging, Range
from vzarr.overlay.kv.sqlitefile import failed
from vzarr.overlay.kv.waiting import Delayed

_SCANS = {
    (bounded, reverse): "SELECT k, v FROM kv WHERE k >= ?"
    + (" AND k < ?" if bounded else "")
    + (" ORDER BY k DESC LIMIT ?" if reverse else " ORDER BY k LIMIT ?")
    for bounded in (False, True)
    for reverse in (False, True)
}
_FEW_KEYS = [" UNION ALL ".join(["SELECT k, v FROM kv WHERE k = ?"] * n) for n in range(9)]
"""Statements for so many keys: below nine they take half the time of a list of them."""

# The inner query is one seek per range.
_FIRSTS = (
    "WITH wanted (n, lo, hi) AS (VALUES {}) SELECT n, k, v FROM wanted JOIN kv "
    "ON k = (SELECT k FROM kv WHERE k >= lo AND k < hi ORDER BY k LIMIT 1)"
)
_ALL = (
    "WITH wanted (n, lo, hi) AS (VALUES {}) SELECT n, k, v FROM wanted CROSS JOIN kv "
    "ON k >= lo AND k < hi ORDER BY n, k"
)
MOST_VALUES = 500
"""Values bound to one statement; any SQLite allows 999."""


class View(Paging):
    """Read verbs over one connection, within whatever transaction that is in."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._path = path

    def check(self) -> sqlite3.Connection:
        """The connection; refuses once the view has ended."""
        if self._connection is None:
            raise InvalidInputError("this snapshot or transaction has ended")
        return self._connection

    def _query(self, sql: str, *values: object) -> list[tuple[bytes, ...]]:
        connection = self.check()
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise failed(self._path, error) from error

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        found = self._query("SELECT v FROM kv WHERE k = ?", key)
        return found[0][0] if found else None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), MOST_VALUES):
            some = keys[start : start + MOST_VALUES]
            few = len(some) < len(_FEW_KEYS)
            sql = _FEW_KEYS[len(some)] if few else f"SELECT k, v FROM kv WHERE k IN ({','.join('?' * len(some))})"
            found.update(self._query(sql, *some))  # type: ignore[arg-type]
        return [found.get(key) for key in keys]

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """See `Reader.scan_many`; short ones of which all or the first is wanted by few statements."""
        bounded = [(start, end) for start, end in ranges if end is not None]
        if len(bounded) < 2 or len(bounded) < len(ranges) or reverse or limit not in (1, None):
            return super().scan_many(ranges, limit=limit, reverse=reverse)
        found: list[list[Item]] = [[] for _ in ranges]
        sql, step = _FIRSTS if limit == 1 else _ALL, MOST_VALUES // 3
        for start in range(0, len(bounded), step):
            some = bounded[start : start + step]
            named = (part for n, pair in enumerate(some, start) for part in (n, *pair))
            rows: list[tuple[Any, ...]] = self._query(sql.format(",".join(["(?,?,?)"] * len(some))), *named)
            for n, key, value in rows:
                found[n].append((key, value))
        return found

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        """See `Paging.fetch`."""
        sql = _SCANS[end is not None, reverse]
        bounds = (start,) if end is None else (start, end)
        return self._query(sql, *bounds, -1 if count is None else count)  # type: ignore[return-value]

    def said(self, pragma: str) -> object:
        """First value of what a pragma answers."""
        return self._query(pragma)[0][0]

    def begin(self, how: str) -> None:
        """Begin a transaction."""
        self._query(how)

    def run_many(self, sql: str, rows: Sequence[tuple[bytes, ...]]) -> None:
        """One statement without rows for each of many values; none does nothing."""
        connection = self.check()
        try:
            if rows:
                connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise failed(self._path, error) from error

    def commit(self) -> None:
        """Make the transaction so."""
        self._query("COMMIT")

    def rollback(self) -> None:
        """End the transaction, if there is one, and the view."""
        connection = self._connection
        if connection is not None and connection.in_transaction:
            self._query("ROLLBACK")
        self.end()

    def end(self) -> None:
        """Be of no use from now on."""
        self._connection = None


class Txn(Delayed[View]):
    """A transaction over a view of the writing connection that it is run in."""

    def send(self, put: list[Item], gone: list[bytes]) -> None:
        """See `Delayed.send`."""
        self._stored.run_many("INSERT INTO kv VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v", put)
        self._stored.run_many("DELETE FROM kv WHERE k = ?", [(key,) for key in gone])
