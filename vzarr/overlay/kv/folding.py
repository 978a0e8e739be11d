"""Folding: what a sealed version wrote becomes the newest on its line, and what was so becomes its past.

Heads and past rows say nothing that own rows don't, and a fold changes all rows of a key in one transaction.  So it may
be cut off between any two and be done again, and the order in which versions are folded does not matter.
"""

from __future__ import annotations

from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv.base import OrderedKV, Transaction, prefix_end
from vzarr.overlay.kv.rows import (
    APART,
    OWN,
    PREFIX,
    VALUE,
    apart_prefix,
    head,
    head_places,
    head_prefix,
    own_prefix,
    own_row,
    past_flag,
    past_row,
    stem_of,
)

BATCH = 2048
"""Keys that one transaction folds."""


def fold(kv: OrderedKV, instance: bytes, position: Position) -> None:
    """Fold all that a version wrote to an instance's keys.  Nobody may write to it any more."""
    start: bytes | None = b""
    while start is not None:
        start = kv.transact(lambda txn, start=start: _fold_some(txn, instance, position, start))  # type: ignore[misc]


def _fold_some(txn: Transaction, instance: bytes, position: Position, start: bytes) -> bytes | None:
    """Fold a version's next keys, and give the first that may be left."""
    version, line = position.version, position.line
    prefix, heads = own_prefix(instance, version), head_prefix(instance, line)
    [rows] = txn.scan_many([(prefix + start, prefix_end(prefix))], limit=BATCH)
    keys = [row[PREFIX:] for row, _ in rows]
    tidy = _Tidy(txn, instance, version)
    for key, (_, own), known in zip(keys, rows, txn.get_many([heads + key for key in keys]), strict=True):
        row = tidy(key, own)
        if known is None:
            txn.put(heads + key, head(version, version, row))
            continue
        newest, first = head_places(known)
        if newest < version:
            txn.put(heads + key, head(version, first, row))
            txn.put(past_row(stem_of(instance, key), line, newest), past_flag(known[OWN:]))
        elif newest > version:
            # It came from elsewhere after those that come from it.
            txn.put(heads + key, head(newest, min(first, version), known[OWN:]))
            txn.put(past_row(stem_of(instance, key), line, version), past_flag(row))
    return keys[-1] + b"\0" if len(keys) == BATCH else None


class _Tidy:
    """Puts the rows of large values in order: releases of old kept them in own rows, and overwritten ones are left."""

    def __init__(self, txn: Transaction, instance: bytes, version: int) -> None:
        self._txn = txn
        self._own, self._apart = own_prefix(instance, version), apart_prefix(instance, version)
        [found] = txn.scan_many([(self._apart, prefix_end(self._apart))], limit=1)
        self._any = bool(found)

    def __call__(self, key: bytes, own: bytes) -> bytes:
        """The own row of a key as it shall be."""
        tidy = own_row(own[1:]) if own[:1] == VALUE else own
        if tidy != own:
            self._txn.put(self._own + key, tidy)
            self._txn.put(self._apart + key, own[1:])
        elif self._any and own[:1] != APART:
            self._txn.delete(self._apart + key)
        return tidy
