"""What one sees of a PostgreSQL database through one connection, and the transaction that writes to it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from vzarr.errors import AuthorityUnavailableError, InvalidInputError, StorageError, UnsupportedError, VzarrError
from vzarr.overlay.kv.base import Item, Paging, Range, prefix_end
from vzarr.overlay.kv.longkeys import LongKeys, Row
from vzarr.overlay.kv.waiting import Delayed

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
Connection = Any
"""A ``psycopg.Connection`` of bytes rows."""

_KEYS = LongKeys(2601)
"""An index row of PostgreSQL must fit a third of a page."""
_COLLISIONS = ("40001", "40P01")
_GONE = ("57P", "08")
"""How states begin of a server that ends or has ended a connection."""
TABLES = {False: "vzarr_kv", True: "vzarr_kv_long"}
"""Of the main space, and of what lies apart."""
_SCANS = {
    (apart, bounded, reverse): f"SELECT k, v FROM {table} WHERE k >= %s"
    + (" AND k < %s" if bounded else "")
    + (" ORDER BY k DESC LIMIT %s" if reverse else " ORDER BY k LIMIT %s")
    for apart, table in TABLES.items()
    for bounded in (False, True)
    for reverse in (False, True)
}
_SCAN_MANY = {
    reverse: "SELECT n, k, v FROM unnest(%s::bytea[], %s::bytea[]) WITH ORDINALITY AS wanted (lo, hi, n), LATERAL"
    " (SELECT k, v FROM vzarr_kv WHERE k >= lo AND k < hi"
    f" ORDER BY k {'DESC' if reverse else 'ASC'} LIMIT %s) AS found ORDER BY n, k {'DESC' if reverse else 'ASC'}"
    for reverse in (False, True)
}
_GET = {apart: f"SELECT v FROM {table} WHERE k = %s" for apart, table in TABLES.items()}
_GET_MANY = "SELECT k, v FROM vzarr_kv WHERE k = ANY(%s)"
_GET_BOTH = (
    "SELECT false, k, v FROM vzarr_kv WHERE k = ANY(%s)"
    " UNION ALL SELECT true, k, v FROM vzarr_kv_long WHERE k = ANY(%s)"
)
_LOOK = "SELECT 1 FROM vzarr_kv WHERE k = '' UNION ALL SELECT 1 FROM vzarr_kv_long WHERE k = ''"
_UPSERT = {
    apart: f"INSERT INTO {table} SELECT k, v FROM unnest(%b::bytea[], %b::bytea[]) AS given (k, v)"
    " ON CONFLICT (k) DO UPDATE SET v = excluded.v"
    for apart, table in TABLES.items()
}
_DELETE = {apart: f"DELETE FROM {table} WHERE k = ANY(%s)" for apart, table in TABLES.items()}


class CollisionError(StorageError):
    """The database could not put this transaction in an order with others."""


def driver() -> Any:
    """The module that speaks to PostgreSQL, an extra."""
    try:
        import psycopg
    except ImportError as e:
        raise UnsupportedError("keys in PostgreSQL need psycopg: pip install 'vzarr[postgres]'") from e
    return psycopg


class View(Paging):
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

    def look(self) -> None:
        """Fail if the tables are not there."""
        self.query(_LOOK)

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
            raise failed(self._name, error, lost=connection.closed) from error

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        row = _KEYS.row_of(key)
        found = self.query(_GET[row.apart], row.name)
        return found[0][0] if found else None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order, all as of one moment."""
        if all(len(key) <= _KEYS.plain for key in keys):
            plain = dict(self.query(_GET_MANY, list(keys))) if keys else {}
            return [plain.get(key) for key in keys]
        rows = [_KEYS.row_of(key) for key in keys]
        names = ([row.name for row in rows if row.apart == apart] for apart in (False, True))
        found = {(apart, name): value for apart, name, value in self.query(_GET_BOTH, *names)}
        return [found.get(row) for row in rows]

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """Pairs of each of many ranges, as `Reader.scan_many` defines."""
        plain = [n for n, bounds in enumerate(ranges) if all(b is not None and len(b) <= _KEYS.plain for b in bounds)]
        found: list[list[Item]] = [[] for _ in ranges]
        others = set(range(len(ranges)))
        if len(plain) > 1:
            starts, ends = zip(*(ranges[n] for n in plain), strict=True)
            others -= set(plain)
            for n, key, value in self.query(_SCAN_MANY[reverse], list(starts), list(ends), limit):
                found[plain[n - 1]].append((key, value))
                if _KEYS.is_sign(key):
                    others.add(plain[n - 1])
        with self.steady() if others else nullcontext():
            for n in others:
                found[n] = self.fetch(*ranges[n], limit, reverse)
        return found

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        """See `Paging.fetch`."""
        return list(islice(_KEYS.scan(partial(self._rows, count), start, end, reverse), count))

    def _rows(self, count: int | None, apart: bool, start: bytes, end: bytes | None, reverse: bool) -> Iterator[Item]:
        """What a table holds of a range, by pages of so many rows."""
        while True:
            bounds = (start,) if end is None else (start, end)
            page = self.query(_SCANS[apart, end is not None, reverse], *bounds, count)
            yield from page
            if not page or len(page) != count:
                return
            if reverse:
                end = page[-1][0]
            else:
                start = page[-1][0] + b"\0"

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Several statements that see one moment, if they are not part of a transaction already."""
        if self.check().info.transaction_status != driver().pq.TransactionStatus.IDLE:
            yield
            return
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            self.run("ROLLBACK")

    def end(self) -> None:
        """Let nobody look any more."""
        self._connection = None


class Txn(Delayed[View]):
    """A transaction over the view that it is run in."""

    def send(self, put: list[Item], gone: list[bytes]) -> None:
        """See `Delayed.send`."""
        signs = {sign: b"" for key, _ in put for sign in _KEYS.signs_to(key)}
        rows = {**signs, **{_KEYS.row_of(key): value for key, value in put}}
        for apart, sql in _UPSERT.items():
            # Names in order, so that two who write the same ones wait for each other instead of colliding.
            names = sorted(row.name for row in rows if row.apart == apart)
            if names:
                self._stored.run(sql, names, [rows[Row(apart, name)] for name in names])
        for apart, sql in _DELETE.items():
            names = [row.name for row in map(_KEYS.row_of, gone) if row.apart == apart]
            if names:
                self._stored.run(sql, names)
        for key in gone:
            self._forget(key)

    def _forget(self, key: bytes) -> None:
        """Remove the signs that lead to nothing any more."""
        for sign, space in zip(_KEYS.signs_to(key)[::-1], _KEYS.spaces_of(key)[::-1], strict=True):
            if self._stored.query(_SCANS[True, True, False], space, prefix_end(space), 1):
                return
            self._stored.run(_DELETE[sign.apart], [sign.name])


def make_tables(view: View) -> None:
    """Make the tables that are not there."""
    for attempt in (1, 2):
        try:
            for table in TABLES.values():
                view.run(f"CREATE TABLE IF NOT EXISTS {table} (k bytea PRIMARY KEY, v bytea NOT NULL)")
        except StorageError:
            # Two who make them at once may see half of each other's; the second time they are there.
            if attempt == 2:
                raise
        else:
            return


def failed(name: str, error: psycopg.Error, *, lost: bool) -> VzarrError:
    """What an error of the database is for us; `lost` if there is no connection any more."""
    if lost or (error.sqlstate or "").startswith(_GONE):
        why = f"lost the connection to key store {name}; try again (what was under way may be done or not)"
        return AuthorityUnavailableError(f"{why}: {text_of(error)}")
    text = f"key store {name}: {text_of(error)}"
    if error.sqlstate in _COLLISIONS:
        return CollisionError(errno.EAGAIN, text)
    return StorageError(errno.ENOSPC if error.sqlstate == "53100" else errno.EIO, text)


def text_of(error: Exception) -> str:
    """What an error of the database says, on one line."""
    return " ".join(str(error).split())
