"""The whole index made anew from counted voxels and the mapping: one edit, one transaction, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vzarr.errors import ConflictError
from vzarr.types.labelmap import allocate, index, mapping, rows
from vzarr.types.labelmap.edits import NOBODY, Author, Edit
from vzarr.types.labelmap.rows import Counts, Header, Labels
from vzarr.types.labelmap.tally import Tally

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.types.base import Instance


class Indexed(NamedTuple):
    """What an index was made of: the edit's mutation id, supervoxels, bodies, and rows that were not so before."""

    mutation_id: int
    supervoxels: int
    bodies: int
    changed: int


def mark_of(instance: Instance) -> bytes:
    """Mark of the last edit, which counts belong to.

    Raises
    ------
    ConflictError
        If voxels are being written.
    """
    keys = instance.keys
    if keys.get(rows.INTENT) is not None:
        raise ConflictError(f'voxels of "{instance.name}" are being written; index it when that is done')
    return index.read_change(keys)


def replace_index(
    instance: Instance, mark: bytes, parts: Callable[[], Iterable[Tally]], author: Author = NOBODY
) -> Indexed:
    """Make the index say what voxels and mapping say; rows that say so already are left alone.

    Parameters
    ----------
    mark
        As `mark_of` gave it before the voxels were counted.
    parts
        Gives the counts of all voxels of scale 0, in parts of any order; all entries of a label are in one part.
        May be called again.

    Raises
    ------
    ConflictError
        If somebody edited meanwhile; nothing has changed then.
    """

    def change(tx: InstanceTxn) -> Indexed:
        edit = Edit(instance, tx, author)
        if edit.before != mark or tx.get(rows.INTENT) is not None:
            raise ConflictError(f'"{instance.name}" was edited while its voxels were counted; index it again')
        found = _Writer(tx).write(parts())
        allocate.raise_max(tx, instance, found.largest)
        edit.finish()
        return Indexed(edit.number, found.supervoxels, len(found.sizes), found.changed)

    # No cache follows: it is made for few changes, and forgets everything when it meets a mark that it does not know.
    return instance.transact(change)


class _Writer:
    """Writes rows within a transaction and keeps what they add up to."""

    def __init__(self, tx: InstanceTxn) -> None:
        self.tx = tx
        self.sizes: dict[int, int] = {}
        self.supervoxels = self.changed = self.largest = 0
        self._stale = {key for kind in (rows.INDEX, rows.HEADER) for key in tx.scan_keys(*rows.class_range(kind))}
        self._mapped = next(mapping.list_mappings(tx), None) is not None

    def write(self, parts: Iterable[Tally]) -> _Writer:
        """Write all rows; those that were there and are not written go away."""
        for part in parts:
            self._write_part(part)
        for body, size in self.sizes.items():
            self._put_header(body, size)
        for key in self._stale:
            self.tx.delete(key)
        self.changed += len(self._stale)
        return self

    def _write_part(self, part: Tally) -> None:
        # Other tools mark voxels by 2^64 - 1: a number that nobody can be given, and behind which there is none.
        known = part.labels[part.labels <= allocate.LARGEST]
        self.largest = max(self.largest, int(known.max(initial=0)))
        supervoxels = np.unique(part.labels)
        bodies = self._bodies(supervoxels)
        for supervoxel, counts in _by_supervoxel(part):
            body = bodies.get(supervoxel, supervoxel)
            if body:  # else an id that was cut up and came back by a write of plain Zarr: nobody's
                self.sizes[body] = self.sizes.get(body, 0) + counts.total
                self._put(rows.index_key(body, supervoxel), counts.encode())
                self.supervoxels += 1

    def _bodies(self, supervoxels: Labels) -> dict[int, int]:
        return mapping.bodies_within(self.tx, supervoxels.tolist()) if self._mapped else {}

    def _put_header(self, body: int, size: int) -> None:
        key = rows.header_key(body)
        old = self.tx.get(key) if key in self._stale else None
        self._put(key, replace(Header(size) if old is None else Header.decode(old), voxels=size).encode())

    def _put(self, key: bytes, value: bytes) -> None:
        if key in self._stale:
            self._stale.discard(key)
            if self.tx.get(key) == value:
                return
        self.tx.put(key, value)
        self.changed += 1


def _by_supervoxel(part: Tally) -> Iterator[tuple[int, Counts]]:
    order = np.lexsort((part.blocks, part.labels))
    blocks, labels, voxels = part.blocks[order], part.labels[order], part.voxels[order].astype(np.uint32)
    supervoxels, first = np.unique(labels, return_index=True)
    ends = [*first.tolist(), len(labels)][1:]
    for supervoxel, start, end in zip(supervoxels.tolist(), first.tolist(), ends, strict=True):
        yield supervoxel, Counts(blocks[start:end], voxels[start:end])
