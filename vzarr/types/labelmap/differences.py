"""How voxel counts change, and what that makes of the label index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vzarr.types.labelmap import rows
from vzarr.types.labelmap.rows import Counts, Header, Labels

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn


@dataclass(frozen=True)
class Difference:
    """How voxel counts change: one entry per supervoxel and block, in this order, none of them 0.

    Parameters
    ----------
    blocks, supervoxels
        uint64, shape (n,).
    voxels
        int64, shape (n,).
    """

    blocks: Labels
    supervoxels: Labels
    voxels: NDArray[np.int64]

    @classmethod
    def summed(cls, blocks: Labels, supervoxels: Labels, voxels: NDArray[np.int64]) -> Difference:
        """Entries in any order, those of equal supervoxel and block added."""
        if not blocks.size:
            return cls(blocks, supervoxels, voxels)
        order = np.lexsort((blocks, supervoxels))
        blocks, supervoxels, voxels = blocks[order], supervoxels[order], voxels[order]
        is_new = (blocks[1:] != blocks[:-1]) | (supervoxels[1:] != supervoxels[:-1])
        first = np.flatnonzero(np.concatenate(([True], is_new)))
        sums = np.add.reduceat(voxels, first)
        return cls(blocks[first], supervoxels[first], sums).where(sums != 0)

    def where(self, kept: NDArray[np.bool_]) -> Difference:
        """Only some entries."""
        return Difference(self.blocks[kept], self.supervoxels[kept], self.voxels[kept])

    def plus(self, other: Difference) -> Difference:
        """Both changes as one."""
        return Difference.summed(
            np.concatenate([self.blocks, other.blocks]),
            np.concatenate([self.supervoxels, other.supervoxels]),
            np.concatenate([self.voxels, other.voxels]),
        )


def apply_difference(tx: InstanceTxn, difference: Difference, bodies: Mapping[int, int]) -> None:
    """Change the index by what happened to voxels.

    What falls to 0 or below is left out; below 0 come counts of voxels that were stored without being indexed and are
    then overwritten.

    Parameters
    ----------
    bodies
        Supervoxel -> its body, for all supervoxels of `difference`.
    """
    supervoxels = np.unique(difference.supervoxels)
    of = [bodies[sv] for sv in supervoxels.tolist()]
    keys = [rows.index_key(body, sv) for body, sv in zip(of, supervoxels.tolist(), strict=True)]
    before = _stored(supervoxels, tx.get_many(keys))
    after = before.plus(difference)
    after = after.where(after.voxels > 0)
    _put_counts(tx, keys, supervoxels, after)
    change = _sizes(supervoxels, after) - _sizes(supervoxels, before)
    _grow(tx, *_added(np.array(of, np.uint64), change))


def _stored(supervoxels: Labels, values: Sequence[bytes | None]) -> Difference:
    """Rows of the index as what was added to nothing."""
    counts = [Counts.decode(value or b"") for value in values]
    blocks = np.concatenate([np.empty(0, np.uint64), *(c.blocks for c in counts)])
    voxels = np.concatenate([np.empty(0, np.int64), *(c.voxels for c in counts)])
    return Difference(blocks, np.repeat(supervoxels, [c.blocks.size for c in counts]), voxels)


def _put_counts(tx: InstanceTxn, keys: Sequence[bytes], supervoxels: Labels, found: Difference) -> None:
    """Write rows of the index; a supervoxel without voxels has none."""
    lows, highs = (np.searchsorted(found.supervoxels, supervoxels, side).tolist() for side in ("left", "right"))
    counts = Counts(found.blocks, found.voxels.astype(np.uint32))
    gone = []
    for key, value in zip(keys, counts.encode_parts(lows, highs), strict=True):
        if value:
            tx.put(key, value)
        else:
            gone.append(key)
    tx.delete_many(gone)


def _sizes(supervoxels: Labels, found: Difference) -> NDArray[np.int64]:
    """Voxels of each supervoxel."""
    sizes = np.zeros(supervoxels.size, np.int64)
    np.add.at(sizes, np.searchsorted(supervoxels, found.supervoxels), found.voxels)
    return sizes


def _added(bodies: Labels, change: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Bodies and how they change, from such changes of their supervoxels."""
    unique, where = np.unique(bodies, return_inverse=True)
    sums = np.zeros(unique.size, np.int64)
    np.add.at(sums, where, change)
    return unique.tolist(), sums.tolist()


def _grow(tx: InstanceTxn, bodies: Sequence[int], changes: Sequence[int]) -> None:
    """Change sizes of bodies; one without voxels has no header."""
    keys = [rows.header_key(body) for body in bodies]
    gone = []
    for key, change, value in zip(keys, changes, tx.get_many(keys), strict=True):
        voxels = rows.voxels_of(value) + change
        if voxels > 0:
            tx.put(key, Header(voxels).encode() if value is None else rows.resized(value, voxels))
        else:
            gone.append(key)
    tx.delete_many(gone)
