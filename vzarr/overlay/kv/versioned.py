"""Versions over an ordered key/value store: one visibility rule for everything that isn't voxels.

**The rule.**  Of the writes to a key (values and tombstones) made at a version or its ancestors, those count
that no other of them descends from.  Tombstones among these stand for nothing.  No value left: the key is
absent; one: that is its value; several: it changed on both sides of a merge, which is a
`ConflictError` until somebody writes the key at the merge or below.

**The rows.**  Integers are 4 bytes, big-endian; an instance is the 16 bytes of its data uuid.  An *own row* is ``00``
for a deletion, ``01`` and a value, or ``02`` and the size of a value of more than 800 bytes, which has a row apart.

===================================================================  ==================  ===========================
row key                                                              row value           what for
===================================================================  ==================  ===========================
``V`` instance version key                                           own row             a version's changes
``B`` instance version key                                           value               large values of changes
``H`` instance line key                                              version first own   newest write on a line
``P`` instance escape(key) ``00 01`` line (``ffffffff`` - version)   ``00`` or ``01``    older writes on a line
``M``                                                                8-byte integer      next mutation id
``U`` instance                                                       any                 see `changed_outside`
===================================================================  ==================  ===========================

Escaping writes each ``00`` of a key as ``00 ff``, so that no key's past rows lie among another's.  A line (see
`Position`) is a chain of versions; ``first`` is the version of a key's first write on it.

**Open and folded.**  A write at an open version is one row, its own.  Once the version is sealed its changes are folded
into the *heads* of its line, and the writes that were newest before become *past*.  So what a version sees of a key is
its own row, or else the head of its line unless that is newer than the version, and then one seek; a fork or merge goes
on at the positions that the line came from.  A scan reads own rows and heads side by side, values included, and nothing
else.  Before a version is looked at, its ancestors must be folded; whether it is itself does not matter.

All other row keys of the store are free.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from vzarr.overlay import layout
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv import folding
from vzarr.overlay.kv.base import OrderedKV, Reader, Transaction, prefix_end
from vzarr.overlay.kv.heads import Folded, stored_heads
from vzarr.overlay.kv.instancekeys import InstanceKeys as InstanceKeys
from vzarr.overlay.kv.instancetxn import InstanceTxn as InstanceTxn
from vzarr.overlay.kv.rows import PREFIX, TOMBSTONE, own_prefix
from vzarr.overlay.kv.rule import IsAncestor, Write
from vzarr.overlay.kv.seen import Seen, damaged
from vzarr.overlay.kv.spans import spans
from vzarr.overlay.kv.storedkeys import StoredKeys


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

    def at(
        self, instance: bytes, position: Position, *, view: Reader | None = None, folded: bool = False
    ) -> StoredKeys:
        """The keys of `instance` at `position`, to read.

        Parameters
        ----------
        instance
            The 16 bytes of the instance's data uuid.
        position
            The version's place; ``Position(0, 0)`` for an unversioned instance.
        view
            A snapshot or transaction to read in; by default the store as it is.
        folded
            Whether the version is known to be folded itself: its own rows are not asked then.
        """
        snapshot = self._kv.snapshot if view is None else None
        return StoredKeys(view or self._kv, snapshot, instance, position, self._is_ancestor, folded=folded)

    def within(self, txn: Transaction, instance: bytes, position: Position) -> InstanceTxn:
        """The keys of `instance` at `position` within a transaction of the store."""
        return InstanceTxn(txn, instance, position, self._is_ancestor)

    def latest(self, instance: bytes, key: bytes, position: Position, view: Reader) -> list[Write]:
        """The writes to a key at a version or before it that no other of them descends from."""
        own = view.get(own_prefix(instance, position.version) + key)
        if own is not None:
            return [Write(position.version, own)]
        folded = Folded(instance, position, self._is_ancestor)
        return folded.latest(view, key, stored_heads(view, instance, {}))

    def fold(self, instance: bytes, position: Position) -> None:
        """Fold what a sealed version wrote to an instance's keys; see `folding`."""
        folding.fold(self._kv, instance, position)

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
        reader = view or self._kv
        again = partial(self._again, instance) if view is None else damaged
        for rows in self._own(reader, instance, version):
            seen = Seen(instance, again)
            for key, own in rows.items():
                seen.note(key, Write(version, own))
            yield from seen.in_order(reader, rows)

    def _again(self, instance: bytes, key: bytes, version: int) -> bytes | None:
        """What a version says of a key that was written while it was looked up; one that it unwrote hid nothing."""
        with self._kv.snapshot() as view:
            own = view.get(own_prefix(instance, version) + key)
            seen = Seen(instance)
            seen.note(key, Write(version, own or TOMBSTONE))
            return seen.read(view)[key]

    def changed_keys(self, instance: bytes, version: int, *, view: Reader | None = None) -> Iterator[bytes]:
        """The keys that `changes` gives; large values are not read."""
        for rows in self._own(view or self._kv, instance, version):
            yield from rows

    def _own(self, reader: Reader, instance: bytes, version: int) -> Iterator[dict[bytes, bytes]]:
        for [rows] in spans(reader, [own_prefix(instance, version)], b"", None, limit=None, reverse=False):
            yield {name[PREFIX:]: own for name, own in rows}

    def instances_changed(self, version: int, *, view: Reader | None = None) -> Iterator[bytes]:
        """The instances that have changes at `version`; costs two seeks per instance of the store."""
        reader = view or self._kv
        start: bytes | None = b"V"
        while start is not None:
            row = next(reader.scan(start, b"W", limit=1), None)
            if row is None:
                return
            instance = row[0][1:17]
            prefix = own_prefix(instance, version)
            if next(reader.scan(prefix, prefix_end(prefix), limit=1), None) is not None:
                yield instance
            start = prefix_end(b"V" + instance)

    def changed_outside(self, view: Reader) -> list[bytes]:
        """Instances whose keys outside of versions changed since somebody removed their rows ``U``."""
        start = layout.row_changed(b"")
        return [row[len(start) :] for row, _ in view.scan(start, prefix_end(start))]
