"""``keyvalue``: named blobs of bytes in byte order of their names, versioned or shared by all versions.

Keys are UTF-8; an empty value is a value.  Rows: ``k`` + key for a value, the parts of large values
(`vzarr.types.largevalues`), and the mutation log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types import conflicts, largevalues, messages, mutations
from vzarr.types.base import Datatype
from vzarr.types.conflicts import LenientInstance
from vzarr.types.largevalues import Part, Stored, Upload, ValueWriter

if TYPE_CHECKING:
    import pandas as pd

    from vzarr.overlay.kv.versioned import InstanceTxn

_VALUE = b"k"
_BATCH_KEYS, _BATCH_BYTES = 64, 4 << 20
"""Of so many keys the rows are read at once at most, and of fewer where those before were larger in all."""


@dataclass(frozen=True)
class Wanted:
    """A key that a batch asks for, perhaps only bytes `first` to `last` (both included) of its value."""

    key: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, repr=False)
class KeyValue(LenientInstance):
    """Named blobs at a version."""

    def get(self, key: str) -> bytes:
        """Value of a key.

        Raises
        ------
        NotFoundError
            If it has none at this version.
        ConflictError
            If merged versions changed it differently; writing or deleting it resolves that.
        StorageError
            If it is large, and was replaced each time that it was being read.
        """
        return largevalues.again(lambda: self.find(key).whole())

    def find(self, key: str) -> Stored:
        """Value of a key, to be read as a whole or in pieces; raises as `get`."""
        found = self._find(key)
        if found is None:
            raise NotFoundError(f'Key "{key}" not found')
        return found

    def put(self, key: str, value: bytes, *, user: str = "", app: str = "") -> None:
        """Set the value of a key.

        Raises
        ------
        InvalidInputError
            If the key is empty or not UTF-8, or the value no bytes.
        SealedError
            If the version is not open.
        """
        self.put_many([(key, value)], user=user, app=app)

    def put_many(self, pairs: Sequence[tuple[str, bytes]], *, user: str = "", app: str = "") -> None:
        """Set the values of many keys as one change, with one record in the mutation log for each.

        Of pairs of one key the last counts.

        Raises
        ------
        InvalidInputError
            If a key is empty or not UTF-8; nothing is changed then.
        SealedError
            If the version is not open.
        """
        rows: list[tuple[bytes, str, bytes | Upload]] = [(_row(key), key, _content(key, value)) for key, value in pairs]
        uploads: list[Upload] = []
        try:
            for at, (row, key, value) in enumerate(rows):
                if isinstance(value, bytes) and not largevalues.fits(value):
                    uploads.append(largevalues.store(self, value))
                    rows[at] = (row, key, uploads[-1])
            self._put(rows, user, app)
        except BaseException:
            for upload in uploads:
                upload.abandon()
            raise

    def _put(self, rows: Sequence[tuple[bytes, str, bytes | Upload]], user: str, app: str) -> None:
        log = mutations.Writer(self, user, app)

        def change(tx: InstanceTxn) -> None:
            largevalues.drop(tx, self, [row for row, _, _ in rows])
            written = set[bytes]()
            for row, key, value in rows:
                if row in written:
                    largevalues.drop(tx, self, [row])
                written.add(row)
                size = value.size if isinstance(value, Upload) else len(value)
                tx.put(row, value.finish(tx) if isinstance(value, Upload) else value)
                log.record(tx, {"Action": "postkv", "Key": key, "Bytes": size})

        self.transact(change)

    def writer(self, key: str, *, user: str = "", app: str = "") -> ValueWriter:
        """Where the value of a key is written piece by piece, of any size; the key has it once that is closed.

        Use in a ``with`` statement.

        Raises
        ------
        InvalidInputError
            If the key is empty or not UTF-8.
        """
        row = _row(key)
        return ValueWriter(self, lambda value: self._put([(row, key, value)], user, app))

    def delete(self, key: str, *, user: str = "", app: str = "") -> None:
        """Remove a key; nothing happens to one that is absent.

        Raises
        ------
        SealedError
            If the version is not open.
        """
        row, log = _row(key), mutations.Writer(self, user, app)

        def change(tx: InstanceTxn) -> None:
            largevalues.drop(tx, self, [row])
            tx.delete(row)
            log.record(tx, {"Action": "delete", "Key": key})

        self.transact(change)

    def list_keys(self, first: str | None = None, last: str | None = None) -> list[str]:
        """Keys from `first` to `last`, both included, in byte order; all of them by default."""
        with self._named():
            return [row[1:].decode() for row in self.keys.scan_keys(*_span(first, last))]

    def items(self, first: str, last: str) -> Iterator[tuple[str, bytes]]:
        """Keys from `first` to `last`, both included, with their values, in byte order."""
        return self._items(*_span(first, last))

    def _items(self, start: bytes, end: bytes) -> Iterator[tuple[str, bytes]]:
        return ((key, part.whole()) for key, part in self._find_range(start, end))

    def to_frame(self, what: str = "values", *, since: str | None = None) -> pd.DataFrame:
        """Values or changes as a table.

        Parameters
        ----------
        what
            ``values``: one row for each key, with its ``value`` as bytes; ``mutations``: one row for each change,
            oldest first (`vzarr.types.mutations.frame`).
        since
            Ref of a version whose own changes are left out.

        Raises
        ------
        InvalidInputError
            If `what` is neither.
        """
        if what == "mutations":
            return mutations.frame(self, since)
        if what != "values":
            raise InvalidInputError(f"there are frames of values and of mutations, not of {what!r}")
        found = list(self._items(*_span(None, None)))
        import pandas as pd  # it costs a third of a second, and comes with xarray

        index = pd.Index([key for key, _ in found], name="key", dtype=object)
        return pd.DataFrame({"value": pd.Series([value for _, value in found], index, dtype=object)})

    def select(self, wanted: Iterable[Wanted]) -> Iterator[tuple[str, bytes | None]]:
        """Values of many keys in the order in which they are asked for, None for one that has none.

        Raises
        ------
        InvalidInputError
            If a range lies outside of its value, or a key is none; raised before the first pair is given.
        """
        return ((key, None if part is None else part.whole()) for key, part in self.find_many(wanted))

    def find_many(self, wanted: Iterable[Wanted]) -> Iterator[tuple[str, Part | None]]:
        """As `select`, values to be read as a whole or in pieces."""
        asked = list(wanted)
        for want in asked:
            _row(want.key)
        for _ in self._find_many([want for want in asked if want.first is not None]):
            pass  # only looked at: all parts that one request may ask for are more than memory holds
        return self._find_many(asked)

    def _find_many(self, asked: Sequence[Wanted]) -> Iterator[tuple[str, Part | None]]:
        """`find_many`, by few reads: each costs a round trip where keys are far away."""
        at, count = 0, 16
        while some := asked[at : at + count]:
            at += len(some)
            with self._named():
                values = self.keys.get_many(_row(want.key) for want in some)
            for want, value in zip(some, values, strict=True):
                yield want.key, None if value is None else _part(Stored(self.keys, value), want)
            size = sum(len(value or b"") for value in values)
            count = max(1, count // 2) if size > _BATCH_BYTES else min(2 * count, _BATCH_KEYS)

    def find_range(self, first: str, last: str) -> Iterator[tuple[str, Part]]:
        """As `items`, values to be read as a whole or in pieces."""
        return self._find_range(*_span(first, last))

    def _find_range(self, start: bytes, end: bytes) -> Iterator[tuple[str, Part]]:
        with self._named():
            for row, value in self.keys.scan(start, end):
                found = Stored(self.keys, value)
                yield row[1:].decode(), Part(found, 0, found.size)

    def _find(self, key: str) -> Stored | None:
        with self._named():
            raw = self.keys.get(_row(key))
        return None if raw is None else Stored(self.keys, raw)

    def _named(self) -> AbstractContextManager[None]:
        """Context in which a key in conflict is called by its name."""
        return conflicts.named(self.name, _name)


def _part(found: Stored, wanted: Wanted) -> Part:
    if wanted.first is None:
        return Part(found, 0, found.size)
    first, last = wanted.first, wanted.last or 0
    check_range(found, first, last)
    return Part(found, first, last + 1)


def _name(row: bytes) -> str | None:
    """Key of a row; None for a row of the mutation log, of which no two versions write the same."""
    return row[1:].decode() if row[:1] == _VALUE else None


KEYVALUE = Datatype(
    name="keyvalue",
    handle=KeyValue,
    summary="Named blobs of bytes, versioned or not: keys are UTF-8 text, values are opaque.",
    url="github.com/janelia-flyem/dvid/datatype/keyvalue",
    type_version="0.2",
    settle=largevalues.settle,
    key_name=_name,
    tags=True,
)


def _row(key: str) -> bytes:
    if not isinstance(key, str):
        raise InvalidInputError(f"a key should be a string, not {key!r:.100}")
    try:
        encoded = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError("a key must be UTF-8 text") from error
    if not encoded:
        raise InvalidInputError("a key must not be empty")
    return _VALUE + encoded


def _content(key: str, value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise InvalidInputError(f"the value of key {key!r:.100} should be bytes, not {type(value).__name__}")
    return bytes(value)


def _span(first: str | None, last: str | None) -> tuple[bytes, bytes]:
    """Half-open range of rows; the least key above `last` is `last` and a zero byte."""
    start = _VALUE if first is None else _row(first)
    return start, bytes([_VALUE[0] + 1]) if last is None else _row(last) + b"\0"


def check_range(value: Stored, first: int, last: int) -> None:
    """Refuse bytes `first` to `last`, both included, that don't lie inside of a value.

    Raises
    ------
    InvalidInputError
        If they don't.
    """
    if not 0 <= first <= last < value.size:
        raise InvalidInputError(f"bytes {first} to {last} do not lie inside of a value of {value.size} bytes")


# ---------------------------------------------------------------- batches on the wire


def wanted_from_json(value: Any) -> list[Wanted]:
    """Keys that a JSON list asks for: strings, or objects ``{"key", "byte_start", "byte_end"}``.

    Raises
    ------
    InvalidInputError
        If it is no such list.
    """
    if not isinstance(value, list):
        raise InvalidInputError("expected a JSON list of keys")
    return [_wanted(item) for item in value]


def _wanted(item: Any) -> Wanted:
    if isinstance(item, str):
        return Wanted(item)
    if not isinstance(item, dict) or not isinstance(item.get("key"), str):
        raise InvalidInputError('each of the keys should be a string or {"key", "byte_start", "byte_end"}')
    first, last = item.get("byte_start"), item.get("byte_end")
    if (first is None) != (last is None):
        raise InvalidInputError("byte_start and byte_end belong together")
    if first is not None and (type(first) is not int or type(last) is not int):
        raise InvalidInputError("byte_start and byte_end should be integers")
    return Wanted(item["key"], first, last)


def wanted_from_protobuf(content: bytes) -> list[Wanted]:
    """Keys that a protobuf message ``Keys`` asks for: its keys, then its ranges.

    Raises
    ------
    InvalidInputError
        If it is no such message.
    """
    asked = messages.parse(messages.Keys, content)
    return [Wanted(k) for k in asked.keys] + [Wanted(r.key, r.byte_start, r.byte_end) for r in asked.key_ranges]


def pairs_from_protobuf(content: bytes) -> list[tuple[str, bytes]]:
    """Pairs of a protobuf message ``KeyValues``.

    Raises
    ------
    InvalidInputError
        If it is no such message.
    """
    return [(pair.key, pair.value) for pair in messages.parse(messages.KeyValues, content).kvs]
