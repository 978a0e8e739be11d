"""Versions over an ordered key/value store: one visibility rule for everything that isn't voxels.

**The rule.**  Of the writes to a key (values and tombstones) made at a version or its ancestors, those count
that no other of them descends from.  Tombstones among these stand for nothing.  No value left: the key is
absent; one: that is its value; several: it changed on both sides of a merge, which is a
`ConflictError` until somebody writes the key at the merge or below.

**The rows.**  Integers are 4 bytes, big-endian; an instance is the 16 bytes of its data uuid; a flag is
``01`` for a value and ``00`` for a tombstone.

====================================================================  ==============  =================
row key                                                               row value       what for
====================================================================  ==============  =================
``V`` instance version key                                            flag and value  a version's changes
``I`` instance escape(key) ``00 01`` line (``ffffffff`` - version)    flag            visibility
``M``                                                                 8-byte integer  next mutation id
====================================================================  ==============  =================

Escaping writes each ``00`` of a key as ``00 ff``, so that index rows are in the order of keys and no key's
rows lie among another's.  A line (see `Position`) is a chain of versions, so the newest write on it at or
before a version is one seek; a fork or merge goes on at the positions that the line came from.  All other row
keys of the store are free.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import NamedTuple

from vzarr.errors import ConflictError, FormatError, InvalidInputError
from vzarr.overlay.dag import Position
from vzarr.overlay.kv.base import Item, OrderedKV, Reader, Transaction, paged, prefix_end
from vzarr.overlay.kv.instancekeys import InstanceKeys as InstanceKeys

IsAncestor = Callable[[int, int], bool]

VALUE, TOMBSTONE = b"\1", b"\0"
TERMINATOR = b"\0\1"
FIRST_MUTATION_ID = 1_000_000_000

# A key with more index rows than this is looked up by seeks instead of reading them all.
SHORT_HISTORY = 8

_TAIL = struct.Struct(">II")
_LAST = 0xFFFF_FFFF


class Write(NamedTuple):
    """One write to a key: where, and whether it was a value or a tombstone."""

    line: int
    version: int
    flag: bytes


Newest = Callable[[int, int], Write | None]
"""``newest(line, version)``: a key's newest write on a line at or before a version."""


def _value_prefix(instance: bytes, version: int) -> bytes:
    return b"V" + instance + version.to_bytes(4, "big")


def _stem(instance: bytes, key: bytes) -> bytes:
    """What all index rows of a key begin with, and no others."""
    return b"I" + instance + key.replace(b"\0", b"\0\xff") + TERMINATOR


def _stem_key(stem: bytes) -> bytes:
    return stem[17 : -len(TERMINATOR)].replace(b"\0\xff", b"\0")


def _index_row(stem: bytes, line: int, version: int) -> bytes:
    return stem + _TAIL.pack(line, _LAST - version)


def _write(row: bytes, flag: bytes) -> Write:
    line, inverted = _TAIL.unpack(row[-_TAIL.size :])
    return Write(line, _LAST - inverted, flag)


def _seeking(view: Reader, stem: bytes) -> Newest:
    """`Newest` by one seek each."""

    def newest(line: int, version: int) -> Write | None:
        start, end = _index_row(stem, line, version), _index_row(stem, line, 0) + b"\0"
        return next((_write(*item) for item in view.scan(start, end, limit=1)), None)

    return newest


def _picking(history: Sequence[Write]) -> Newest:
    """`Newest` among writes that were read already."""

    def newest(line: int, version: int) -> Write | None:
        return max((w for w in history if w.line == line and w.version <= version), default=None)

    return newest


def _latest(newest: Newest, positions: Iterable[Position], is_ancestor: IsAncestor) -> list[Write]:
    """The writes at or before `positions` that no other of them descends from."""
    found: dict[int, Write] = {}
    seen: set[tuple[int, int]] = set()
    todo = list(positions)
    while todo:
        at = todo.pop()
        if (at.line, at.version) in seen:
            continue
        seen.add((at.line, at.version))
        write = newest(at.line, at.version)
        if write is None:
            todo.extend(at.parents)
        else:
            found[write.version] = write
    if len(found) > 1:
        shadowed = {v for v in found if any(v != later and is_ancestor(v, later) for later in found)}
        found = {version: write for version, write in found.items() if version not in shadowed}
    return list(found.values())


def _histories(
    view: Reader, low: bytes, high: bytes | None, reverse: bool
) -> Iterator[tuple[bytes, list[Write] | None]]:
    """The stems of a range of index rows, each with all its writes, or None for a long history."""
    while True:
        stem, history = b"", list[Write]()
        for row, flag in view.scan(low, high, reverse=reverse):
            if row[: -_TAIL.size] != stem:
                if history:
                    yield stem, history
                stem, history = row[: -_TAIL.size], []
            history.append(_write(row, flag))
            if len(history) > SHORT_HISTORY:
                break
        else:
            if history:
                yield stem, history
            return
        yield stem, None
        if reverse:
            high = stem
        else:
            low = _index_row(stem, _LAST, 0) + b"\0"


class StoredKeys(InstanceKeys):
    """Keys in a key store.

    Each call, and each page of a scan, sees one moment of the store; a scan reads a bounded number of rows per key,
    however often it was rewritten, and sees writes meanwhile as `Reader.scan` says.  Made by `VersionedKV.at`.
    """

    def __init__(
        self,
        open_view: Callable[[], AbstractContextManager[Reader]],
        instance: bytes,
        position: Position,
        is_ancestor: IsAncestor,
    ) -> None:
        if len(instance) != 16:
            raise InvalidInputError(f"an instance is named by 16 bytes, not {len(instance)}")
        self._open = open_view
        self._instance = instance
        self._position = position
        self._is_ancestor = is_ancestor
        self._lenient = False

    def without_conflicts(self) -> InstanceKeys:
        """The same keys, of which those that have several values are absent."""
        found = StoredKeys(self._open, self._instance, self._position, self._is_ancestor)
        found._lenient = True
        return found

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where it is absent or deleted; `ConflictError` where it has several."""
        with self._open() as view:
            return self._get(view, key)

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        with self._open() as view:
            return [self._get(view, key) for key in keys]

    def get_with_version(self, key: bytes) -> tuple[int, bytes] | None:
        """Number of the version that wrote the visible value, and the value; None where the key is absent."""
        with self._open() as view:
            version = self._visible(key, _seeking(view, _stem(self._instance, key)))
            return None if version is None else (version, self._value(view, version, key))

    def scan(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """See `InstanceKeys.scan`."""
        return paged(partial(self._page, True), start, end, limit, reverse)

    def scan_keys(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[bytes]:
        """The keys that `scan` gives, without reading their values."""
        return (key for key, _ in paged(partial(self._page, False), start, end, limit, reverse))

    def _page(self, values: bool, start: bytes, end: bytes | None, count: int, reverse: bool) -> list[Item]:
        with self._open() as view:
            seen = islice(self._walk(view, start, end, reverse), count)
            return [(key, self._value(view, version, key) if values else b"") for key, version in seen]

    def _walk(self, view: Reader, start: bytes, end: bytes | None, reverse: bool) -> Iterator[tuple[bytes, int]]:
        """The visible keys of a range, and the versions that wrote them."""
        low = _stem(self._instance, start)
        high = prefix_end(b"I" + self._instance) if end is None else _stem(self._instance, end)
        for stem, history in _histories(view, low, high, reverse):
            key = _stem_key(stem)
            version = self._visible(key, _seeking(view, stem) if history is None else _picking(history))
            if version is not None:
                yield key, version

    def _visible(self, key: bytes, newest: Newest) -> int | None:
        """The version that wrote what is seen of `key`."""
        latest = _latest(newest, [self._position], self._is_ancestor)
        versions = sorted(write.version for write in latest if write.flag == VALUE)
        if len(versions) > 1 and self._lenient:
            return None
        if len(versions) > 1:
            raise ConflictError(f"key {key!r} was changed on several sides of a merge, at {versions}", [key])
        return versions[0] if versions else None

    def _get(self, view: Reader, key: bytes) -> bytes | None:
        version = self._visible(key, _seeking(view, _stem(self._instance, key)))
        return None if version is None else self._value(view, version, key)

    def _value(self, view: Reader, version: int, key: bytes) -> bytes:
        row = view.get(_value_prefix(self._instance, version) + key)
        if row is None:
            raise FormatError(f"key {key!r} is indexed at version {version}, which holds no value of it")
        return row[1:]


class InstanceTxn(StoredKeys):
    """The keys of one instance within a transaction, to read and to write.  Made by `VersionedKV.within`.

    Parameters
    ----------
    txn
        The transaction, also open to others' rows.
    instance, position, is_ancestor
        As in `VersionedKV`.
    """

    def __init__(self, txn: Transaction, instance: bytes, position: Position, is_ancestor: IsAncestor) -> None:
        super().__init__(lambda: nullcontext(txn), instance, position, is_ancestor)
        self.txn = txn

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value` at this version."""
        self._put(key, VALUE, value)

    def delete(self, key: bytes) -> None:
        """Make `key` absent at this version; nothing happens where it is."""
        if self._value_below(key):
            self._put(key, TOMBSTONE, b"")
            return
        for row in self._rows(key):
            self.txn.delete(row)

    def next_mutation_id(self) -> int:
        """Take the next mutation id of the repo; see `next_mutation_id`."""
        return next_mutation_id(self.txn)

    def peek_mutation_id(self) -> int:
        """The id that the next mutation will get."""
        return peek_mutation_id(self.txn)

    def _put(self, key: bytes, flag: bytes, value: bytes) -> None:
        value_row, index_row = self._rows(key)
        self.txn.put(value_row, flag + value)
        self.txn.put(index_row, flag)

    def _rows(self, key: bytes) -> tuple[bytes, bytes]:
        at = self._position
        index_row = _index_row(_stem(self._instance, key), at.line, at.version)
        return _value_prefix(self._instance, at.version) + key, index_row

    def _value_below(self, key: bytes) -> bool:
        """Whether a value would be seen (or several collide) if this version had not written `key`."""
        at = self._position
        below = [Position(at.line, at.version - 1, at.parents)] if at.version > at.line else at.parents
        latest = _latest(_seeking(self.txn, _stem(self._instance, key)), below, self._is_ancestor)
        return any(write.flag == VALUE for write in latest)


class VersionedKV:
    """Versioned keys of many instances in one store.

    Parameters
    ----------
    kv
        The store.
    is_ancestor
        ``is_ancestor(a, b)``: whether version number `a` is `b` or one of its ancestors.  Asked only where a
        merge brings several writes of one key together.
    """

    def __init__(self, kv: OrderedKV, is_ancestor: IsAncestor) -> None:
        self._kv = kv
        self._is_ancestor = is_ancestor

    def at(self, instance: bytes, position: Position, *, view: Reader | None = None) -> InstanceKeys:
        """The keys of `instance` at `position`, to read.

        Parameters
        ----------
        instance
            The 16 bytes of the instance's data uuid.
        position
            The version's place; ``Position(0, 0)`` for an unversioned instance.
        view
            A snapshot or transaction to read in; by default the store as it is.
        """
        opened = self._kv.snapshot if view is None else lambda: nullcontext(view)
        return StoredKeys(opened, instance, position, self._is_ancestor)

    def within(self, txn: Transaction, instance: bytes, position: Position) -> InstanceTxn:
        """The keys of `instance` at `position` within a transaction of the store."""
        return InstanceTxn(txn, instance, position, self._is_ancestor)

    def latest(self, instance: bytes, key: bytes, positions: Sequence[Position], view: Reader) -> list[Write]:
        """The writes to a key at or before some positions that no other of them descends from."""
        return _latest(_seeking(view, _stem(instance, key)), positions, self._is_ancestor)

    def changes(
        self, instance: bytes, version: int, *, view: Reader | None = None
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """What was written at exactly `version`, in key order; None stands for a deletion.

        Parameters
        ----------
        instance, version
            Whose changes.
        view
            A snapshot or transaction to read in; by default the store as it is.
        """
        prefix = _value_prefix(instance, version)
        for row, value in (view or self._kv).scan(prefix, prefix_end(prefix)):
            yield row[len(prefix) :], value[1:] if value[:1] == VALUE else None

    def instances_changed(self, version: int, *, view: Reader | None = None) -> Iterator[bytes]:
        """The instances that have changes at `version`; costs two seeks per instance of the store."""
        reader = view or self._kv
        start: bytes | None = b"V"
        while start is not None:
            row = next(reader.scan(start, b"W", limit=1), None)
            if row is None:
                return
            instance = row[0][1:17]
            prefix = _value_prefix(instance, version)
            if next(reader.scan(prefix, prefix_end(prefix), limit=1), None) is not None:
                yield instance
            start = prefix_end(b"V" + instance)

    def remove_version(self, txn: Transaction, position: Position) -> None:
        """Forget all that was written at `position`, as if it had never been."""
        for instance in self.instances_changed(position.version, view=txn):
            prefix = _value_prefix(instance, position.version)
            for row, _ in txn.scan(prefix, prefix_end(prefix)):
                txn.delete(row)
                txn.delete(_index_row(_stem(instance, row[len(prefix) :]), position.line, position.version))


def next_mutation_id(txn: Transaction) -> int:
    """Take the repo's next mutation id: 1,000,000,000 first, then one more each time."""
    given = peek_mutation_id(txn)
    txn.put(b"M", (given + 1).to_bytes(8, "big"))
    return given


def peek_mutation_id(view: Reader) -> int:
    """The id that the next mutation will get."""
    row = view.get(b"M")
    return FIRST_MUTATION_ID if row is None else int.from_bytes(row, "big")
