"""Looking into one SQLite connection and writing through it: snapshots and transactions of `SqliteKV`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from vzarr.errors import InvalidInputError
from vzarr.overlay.kv.base import Item, paged
from vzarr.overlay.kv.sqlitefile import failed

_SCANS = {
    (bounded, reverse): "SELECT k, v FROM kv WHERE k >= ?"
    + (" AND k < ?" if bounded else "")
    + (" ORDER BY k DESC LIMIT ?" if reverse else " ORDER BY k LIMIT ?")
    for bounded in (False, True)
    for reverse in (False, True)
}

# The inner query is one seek per range.
_FIRSTS = (
    "WITH wanted (lo, hi) AS (VALUES {}) SELECT lo, k, v FROM wanted JOIN kv "
    "ON k = (SELECT k FROM kv WHERE k >= lo AND k < hi ORDER BY k LIMIT 1)"
)
_ALL = (
    "WITH wanted (n, lo, hi) AS (VALUES {}) SELECT n, k, v FROM wanted CROSS JOIN kv "
    "ON k >= lo AND k < hi ORDER BY n, k"
)
MOST_WAITING = 1 << 22
"""Bytes that a transaction holds back."""
_FEW = 32
"""So many keys that wait are compared with what is looked at; more are sent."""
MOST_VALUES = 500
"""Values bound to one statement; any SQLite allows 999."""


class View:
    """Read verbs over one connection, within whatever transaction that is in."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._path = path

    def _query(self, sql: str, *values: object) -> list[tuple[bytes, ...]]:
        if self._connection is None:
            raise InvalidInputError("this snapshot or transaction has ended")
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise failed(self._path, error) from error

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        found = self._query("SELECT v FROM kv WHERE k = ?", key)
        return found[0][0] if found else None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        if len(keys) < 3:
            return [self.get(key) for key in keys]
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), MOST_VALUES):
            some = keys[start : start + MOST_VALUES]
            found.update(self._query(f"SELECT k, v FROM kv WHERE k IN ({','.join('?' * len(some))})", *some))  # type: ignore[arg-type]
        return [found.get(key) for key in keys]

    def firsts(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[Item | None]:
        """First pair of each range, None for an empty one (see `indexrows.firsts`)."""
        found: list[Item | None] = []
        for start in range(0, len(ranges), MOST_VALUES // 2):
            some = ranges[start : start + MOST_VALUES // 2]
            rows = self._query(
                _FIRSTS.format(",".join(["(?,?)"] * len(some))), *(part for pair in some for part in pair)
            )
            by_start = {lo: (key, value) for lo, key, value in rows}
            found += [by_start.get(lo) for lo, _ in some]
        return found

    def all_of(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[list[Item]]:
        """All pairs of each range (see `indexrows.all_of`)."""
        found: list[list[Item]] = [[] for _ in ranges]
        step = MOST_VALUES // 3
        for start in range(0, len(ranges), step):
            some = ranges[start : start + step]
            named = (part for n, pair in enumerate(some, start) for part in (n, *pair))
            rows: list[tuple[Any, ...]] = self._query(_ALL.format(",".join(["(?,?,?)"] * len(some))), *named)
            for n, key, value in rows:
                found[n].append((key, value))
        return found

    def scan(
        self, start: bytes, end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """See `Reader.scan`."""
        return paged(self.fetch, start, end, limit, reverse)

    def fetch(self, start: bytes, end: bytes | None, count: int, reverse: bool) -> list[Item]:
        """The first pairs of a range, or the last ones if `reverse`."""
        sql = _SCANS[end is not None, reverse]
        bounds = (start,) if end is None else (start, end)
        return self._query(sql, *bounds, count)  # type: ignore[return-value]

    def said(self, pragma: str) -> object:
        """First value of what a pragma answers."""
        return self._query(pragma)[0][0]

    def begin(self, how: str) -> None:
        """Begin a transaction."""
        self._query(how)

    def rollback(self) -> None:
        """End the transaction, if there is one, and the view."""
        connection = self._connection
        if connection is not None and connection.in_transaction:
            self._query("ROLLBACK")
        self.end()

    def end(self) -> None:
        """Be of no use from now on."""
        self._connection = None


class Txn(View):
    """A view of the writing connection, with the write verbs.

    What is written waits here until the end, or until somebody looks where it would be: a few statements instead of
    one for each row.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        super().__init__(connection, path)
        self._written: dict[bytes, bytes | None] = {}
        self._waiting = 0

    def commit(self) -> None:
        """Make it so."""
        self.flush()
        self._query("COMMIT")

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        return self._written[key] if key in self._written else super().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        if not self._written:
            return super().get_many(keys)
        stored = iter(super().get_many([key for key in keys if key not in self._written]))
        return [self._written[key] if key in self._written else next(stored) for key in keys]

    def firsts(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[Item | None]:
        """See `View.firsts`."""
        self._show(ranges)
        return super().firsts(ranges)

    def all_of(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[list[Item]]:
        """See `View.all_of`."""
        self._show(ranges)
        return super().all_of(ranges)

    def fetch(self, start: bytes, end: bytes | None, count: int, reverse: bool) -> list[Item]:
        """See `View.fetch`."""
        self._show([(start, end)])
        return super().fetch(start, end, count, reverse)

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""
        self._write(key, bytes(value))

    def delete(self, key: bytes) -> None:
        """Remove `key`; nothing happens where it is absent."""
        self._write(key, None)

    def _write(self, key: bytes, value: bytes | None) -> None:
        if self._connection is None:
            raise InvalidInputError("this snapshot or transaction has ended")
        self._written[key] = value
        self._waiting += len(key) + len(value or b"")
        if self._waiting > MOST_WAITING:
            self.flush()

    def _show(self, ranges: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Send what waits, if some of it is in a range."""
        waiting = self._written
        if len(waiting) > _FEW or any(
            start <= key and (end is None or key < end) for start, end in ranges for key in waiting
        ):
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        put = sorted((k, v) for k, v in self._written.items() if v is not None)
        gone = sorted((k,) for k, v in self._written.items() if v is None)
        self._written, self._waiting = {}, 0
        self._run_many("INSERT INTO kv VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v", put)
        self._run_many("DELETE FROM kv WHERE k = ?", gone)

    def _run_many(self, sql: str, rows: Sequence[tuple[bytes, ...]]) -> None:
        if self._connection is None:
            raise InvalidInputError("this snapshot or transaction has ended")
        try:
            if rows:
                self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise failed(self._path, error) from error
