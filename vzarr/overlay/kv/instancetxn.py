"""Keys of one instance at an open version within a transaction, to read and to write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vzarr.overlay import layout
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.kv.heads import stored_heads
from vzarr.overlay.kv.mutationids import next_mutation_id, peek_mutation_id
from vzarr.overlay.kv.rows import APART, TOMBSTONE, apart_prefix, own_row, past_row, stem_of
from vzarr.overlay.kv.rule import IsAncestor
from vzarr.overlay.kv.seen import Seen
from vzarr.overlay.kv.storedkeys import StoredKeys

CHANGED = b"1"
MOST_NOTED = 10_000
"""Keys that a transaction remembers to have written."""
LONG = 128
"""Bytes of the longest key all of whose rows any store takes."""


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
        super().__init__(txn, None, instance, position, is_ancestor)
        self.txn = txn
        self._apart = apart_prefix(instance, position.version)
        self.written: set[bytes] | None = set()
        """Keys that were set or deleted; None once there are more than `MOST_NOTED`."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value` at this version.

        Raises
        ------
        InvalidInputError
            If the store does not take so long a key.
        """
        if len(key) > LONG:
            # The longest name that it will have: better refused now than when it is folded.
            name = past_row(stem_of(self._instance, key), self._position.line, self._position.version)
            self.txn.put(name, b"")
            self.txn.delete(name)
        own = own_row(value)
        self.txn.put(self._own + key, own)
        if own[:1] == APART:
            self.txn.put(self._apart + key, value)
        elif not self._position.version:
            # What folding does for versions: no large value from before may stay behind.
            self.txn.delete(self._apart + key)
        self._note(key)

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """`put` of many keys."""
        for key, value in values.items():
            self.put(key, value)

    def delete(self, key: bytes) -> None:
        """Make `key` absent at this version; nothing happens where it is."""
        self.delete_many([key])

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """`delete` of many keys, looked up together."""
        wanted = list(dict.fromkeys(keys))
        below = self._visible_below(wanted)
        for key in wanted:
            if key in below:
                self.txn.put(self._own + key, TOMBSTONE)  # folding takes a large value away
            else:
                self.txn.delete(self._own + key)
                self.txn.delete(self._apart + key)
            self._note(key)

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Write a change as it was made in another repo; None stands for a deletion, whatever it hid."""
        if value is not None:
            self.put(key, value)
            return
        self.txn.put(self._own + key, TOMBSTONE)
        self._note(key)

    def next_mutation_id(self) -> int:
        """Take the next mutation id of the repo; see `next_mutation_id`."""
        return next_mutation_id(self.txn)

    def peek_mutation_id(self) -> int:
        """The id that the next mutation will get."""
        return peek_mutation_id(self.txn)

    def _visible_below(self, keys: Sequence[bytes]) -> set[bytes]:
        """Keys of which a value would be seen (or several collide) if this version had not written them."""
        if not self._lines:
            return set()
        visible: list[bytes] = []
        seen, heads = Seen(self._instance), stored_heads(self.txn, self._instance, {})
        self._folded.add(self.txn, keys, heads, lambda key, _versions: visible.append(key), seen)
        return {key for key in (*seen.values, *seen.unread) if not seen.gone(key)}.union(visible)

    def _note(self, key: bytes) -> None:
        """Say of keys outside of versions that they changed; no row is written that is there, for others write too."""
        if self.written is not None:
            self.written.add(key)
            if len(self.written) > MOST_NOTED:
                self.written = None
        if self._position.version:
            return
        mark = layout.row_changed(self._instance)
        if self.txn.get(mark) != CHANGED:
            self.txn.put(mark, CHANGED)
