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
``U`` instance                                                        any             see `changed_outside`
====================================================================  ==============  =================

Escaping writes each ``00`` of a key as ``00 ff``, so that index rows are in the order of keys and no key's
rows lie among another's.  A line (see `Position`) is a chain of versions, so the newest write on it at or
before a version is one seek; a fork or merge goes on at the positions that the line came from.  All other row
keys of the store are free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import groupby, islice

from vzarr.errors import ConflictError, FormatError, InvalidInputError
from vzarr.overlay import layout
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv.base import Item, OrderedKV, Reader, Transaction, paged, prefix_end
from vzarr.overlay.kv.indexrows import (
    TAIL,
    TOMBSTONE,
    VALUE,
    IsAncestor,
    Newest,
    Write,
    all_of,
    histories,
    index_row,
    newest_of,
    picking,
    seeking,
    stem_key,
    stem_of,
    undescended,
    value_prefix,
    write_of,
)
from vzarr.overlay.kv.instancekeys import InstanceKeys as InstanceKeys
from vzarr.overlay.kv.mutationids import next_mutation_id, peek_mutation_id

CHANGED = b"1"
MOST_NOTED = 10_000
"""Keys that a transaction remembers to have written."""
_MANY = 4
"""From so many keys on one statement is cheaper than one for each."""


class StoredKeys(InstanceKeys):
    """Keys in a key store.

    Each call, and each page of a scan, sees one moment of the store; a scan reads a bounded number of rows per key,
    however often it was rewritten, and sees writes meanwhile as `Reader.scan` says.  Made by `VersionedKV.at`.
    """

    def __init__(
        self,
        direct: Reader,
        open_view: Callable[[], AbstractContextManager[Reader]],
        instance: bytes,
        position: Position,
        is_ancestor: IsAncestor,
    ) -> None:
        if len(instance) != 16:
            raise InvalidInputError(f"an instance is named by 16 bytes, not {len(instance)}")
        self._direct = direct
        self._open = open_view
        self._instance = instance
        self._position = position
        self._is_ancestor = is_ancestor
        self._lenient = False

    def without_conflicts(self) -> InstanceKeys:
        """The same keys, of which those that have several values are absent."""
        found = StoredKeys(self._direct, self._open, self._instance, self._position, self._is_ancestor)
        found._lenient = True
        return found

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where it is absent or deleted; `ConflictError` where it has several."""
        version = self._visible(key, seeking(self._direct, stem_of(self._instance, key)))
        if version is None:
            return None
        row = self._direct.get(value_prefix(self._instance, version) + key)
        if row is not None:
            # Only at this version itself another write may have come between, and then that is what is seen.
            return row[1:] if row[:1] == VALUE else None
        with self._open() as view:
            return self._get(view, key)

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        with self._open() as view:
            wanted = list(keys)
            if len(wanted) < _MANY:
                return [self._get(view, key) for key in wanted]
            seen = zip(wanted, self._visible_many(view, wanted), strict=True)
            values = self._values(view, [(key, version) for key, version in seen if version is not None])
            return [values.get(key) for key in wanted]

    def get_with_version(self, key: bytes) -> tuple[int, bytes] | None:
        """Number of the version that wrote the visible value, and the value; None where the key is absent."""
        with self._open() as view:
            version = self._visible(key, seeking(view, stem_of(self._instance, key)))
            return None if version is None else (version, self._value(view, version, key))

    def scan(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """See `InstanceKeys.scan`."""
        return paged(partial(self._page, True), start, end, limit, reverse)

    def scan_many(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[list[Item]]:
        """What `scan` gives of each of many short ranges, looked up together and in memory."""
        bounds = [(stem_of(self._instance, start), stem_of(self._instance, end)) for start, end in ranges]
        with self._open() as view:
            seen: list[list[tuple[bytes, int]]] = []
            for rows in all_of(view, bounds):
                seen.append([])
                for stem, writes in groupby(rows, key=lambda row: row[0][: -TAIL.size]):
                    key = stem_key(stem)
                    version = self._visible(key, picking([write_of(*row) for row in writes]))
                    if version is not None:
                        seen[-1].append((key, version))
            values = self._values(view, [each for part in seen for each in part])
            return [[(key, values[key]) for key, _ in part] for part in seen]

    def scan_keys(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[bytes]:
        """The keys that `scan` gives, without reading their values."""
        return (key for key, _ in paged(partial(self._page, False), start, end, limit, reverse))

    def _page(self, values: bool, start: bytes, end: bytes | None, count: int, reverse: bool) -> list[Item]:
        with self._open() as view:
            seen = list(islice(self._walk(view, start, end, reverse), count))
            found = self._values(view, seen) if values else {}
            return [(key, found.get(key, b"")) for key, _ in seen]

    def _walk(self, view: Reader, start: bytes, end: bytes | None, reverse: bool) -> Iterator[tuple[bytes, int]]:
        """The visible keys of a range, and the versions that wrote them."""
        low = stem_of(self._instance, start)
        high = prefix_end(b"I" + self._instance) if end is None else stem_of(self._instance, end)
        for stem, history in histories(view, low, high, reverse):
            key = stem_key(stem)
            version = self._visible(key, seeking(view, stem) if history is None else picking(history))
            if version is not None:
                yield key, version

    def _visible(self, key: bytes, newest: Newest) -> int | None:
        """The version that wrote what is seen of `key`."""
        found = undescended(newest, [self._position], self._is_ancestor)
        versions = sorted(write.version for write in found if write.flag == VALUE)
        if len(versions) > 1 and self._lenient:
            return None
        if len(versions) > 1:
            raise ConflictError(f"key {key!r} was changed on several sides of a merge, at {versions}", [key])
        return versions[0] if versions else None

    def _get(self, view: Reader, key: bytes) -> bytes | None:
        version = self._visible(key, seeking(view, stem_of(self._instance, key)))
        return None if version is None else self._value(view, version, key)

    def _visible_many(self, view: Reader, keys: Sequence[bytes]) -> list[int | None]:
        """`_visible` of many keys."""
        writes, left = self._newest_many(view, keys, self._position)
        found = {key: write.version if write.flag == VALUE else None for key, write in writes.items()}
        for key in left:
            found[key] = self._visible(key, seeking(view, stem_of(self._instance, key)))
        return [found.get(key) for key in keys]

    def _newest_many(self, view: Reader, keys: Sequence[bytes], at: Position) -> tuple[dict[bytes, Write], list[bytes]]:
        """Newest writes to keys along a line and those that it came from, and keys about which a merge decides."""
        found: dict[bytes, Write] = {}
        todo = list(dict.fromkeys(keys))
        while True:
            writes = newest_of(view, [stem_of(self._instance, key) for key in todo], at.line, at.version)
            found.update((key, write) for key, write in zip(todo, writes, strict=True) if write is not None)
            todo = [key for key in todo if key not in found]
            if not todo or len(at.parents) != 1:
                return found, todo if at.parents else []
            at = at.parents[0]

    def _value(self, view: Reader, version: int, key: bytes) -> bytes:
        return self._values(view, [(key, version)])[key]

    def _values(self, view: Reader, seen: Sequence[tuple[bytes, int]]) -> dict[bytes, bytes]:
        """Values of keys as some versions wrote them."""
        rows = view.get_many([value_prefix(self._instance, version) + key for key, version in seen])
        for (key, version), row in zip(seen, rows, strict=True):
            if row is None:
                raise FormatError(f"key {key!r} is indexed at version {version}, which holds no value of it")
        return {key: row[1:] for (key, _), row in zip(seen, rows, strict=True) if row is not None}


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
        super().__init__(txn, lambda: nullcontext(txn), instance, position, is_ancestor)
        self.txn = txn
        self.written: set[bytes] | None = set()
        """Keys that were set or deleted; None once there are more than `MOST_NOTED`."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value` at this version."""
        self._put(key, VALUE, value)

    def delete(self, key: bytes) -> None:
        """Make `key` absent at this version; nothing happens where it is."""
        if self._value_below(key):
            self._put(key, TOMBSTONE, b"")
            return
        self._unwrite(key)

    def _unwrite(self, key: bytes) -> None:
        for row in self._rows(key):
            self.txn.delete(row)
        self._note()

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """`delete` of many keys, looked up together."""
        wanted, at = list(keys), self._position
        below = Position(at.line, at.version - 1, at.parents) if at.version > at.line else next(iter(at.parents), None)
        if len(wanted) < _MANY or below is None or (at.version == at.line and len(at.parents) > 1):
            for key in wanted:
                self.delete(key)
            return
        found, left = self._newest_many(self.txn, wanted, below)
        undecided = set(left)
        for key in wanted:
            if key in undecided:
                self.delete(key)
            elif key in found and found[key].flag == VALUE:
                self._put(key, TOMBSTONE, b"")
            else:
                self._unwrite(key)

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Write a change as it was made in another repo; None stands for a deletion, whatever it hid."""
        self._put(key, TOMBSTONE if value is None else VALUE, value or b"")

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
        self._note()

    def _note(self) -> None:
        """Say of keys outside of versions that they changed; no row is written that is there, for others write too."""
        mark = layout.row_changed(self._instance)
        if self._position.version == 0 and self.txn.get(mark) != CHANGED:
            self.txn.put(mark, CHANGED)

    def _rows(self, key: bytes) -> tuple[bytes, bytes]:
        """The rows of a key that is about to change."""
        at = self._position
        if self.written is not None:
            self.written.add(key)
            if len(self.written) > MOST_NOTED:
                self.written = None
        stem = stem_of(self._instance, key)
        return value_prefix(self._instance, at.version) + key, index_row(stem, at.line, at.version)

    def _value_below(self, key: bytes) -> bool:
        """Whether a value would be seen (or several collide) if this version had not written `key`."""
        at = self._position
        below = [Position(at.line, at.version - 1, at.parents)] if at.version > at.line else at.parents
        found = undescended(seeking(self.txn, stem_of(self._instance, key)), below, self._is_ancestor)
        return any(write.flag == VALUE for write in found)


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
        return StoredKeys(self._kv if view is None else view, opened, instance, position, self._is_ancestor)

    def within(self, txn: Transaction, instance: bytes, position: Position) -> InstanceTxn:
        """The keys of `instance` at `position` within a transaction of the store."""
        return InstanceTxn(txn, instance, position, self._is_ancestor)

    def latest(self, instance: bytes, key: bytes, positions: Sequence[Position], view: Reader) -> list[Write]:
        """The writes to a key at or before some positions that no other of them descends from."""
        return undescended(seeking(view, stem_of(instance, key)), positions, self._is_ancestor)

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
        prefix = value_prefix(instance, version)
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
            prefix = value_prefix(instance, version)
            if next(reader.scan(prefix, prefix_end(prefix), limit=1), None) is not None:
                yield instance
            start = prefix_end(b"V" + instance)

    def changed_outside(self, view: Reader) -> list[bytes]:
        """Instances whose keys outside of versions changed since somebody removed their rows ``U``."""
        start = layout.row_changed(b"")
        return [row[len(start) :] for row, _ in view.scan(start, prefix_end(start))]

    def remove_version(self, txn: Transaction, position: Position) -> None:
        """Forget all that was written at `position`, as if it had never been."""
        for instance in self.instances_changed(position.version, view=txn):
            prefix = value_prefix(instance, position.version)
            for row, _ in txn.scan(prefix, prefix_end(prefix)):
                txn.delete(row)
                txn.delete(index_row(stem_of(instance, row[len(prefix) :]), position.line, position.version))
