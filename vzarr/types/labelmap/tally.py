"""Counting labels block by block: what the index is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Coord
from vzarr.types.labelmap.index import Difference
from vzarr.types.labelmap.kernels import count_labels
from vzarr.types.labelmap.rows import Labels, pack_blocks


@dataclass(frozen=True)
class Tally:
    """Voxels of each label in each block; background is not counted.

    Parameters
    ----------
    blocks, labels
        uint64, shape (n,): packed block and label of each entry.
    voxels
        int64, shape (n,), each above 0.
    """

    blocks: Labels
    labels: Labels
    voxels: NDArray[np.int64]

    def minus(self, other: Tally) -> Difference:
        """What has to be added to `other` to get this."""
        blocks = np.concatenate([self.blocks, other.blocks])
        labels = np.concatenate([self.labels, other.labels])
        voxels = np.concatenate([self.voxels, -other.voxels])
        if not blocks.size:
            return Difference(blocks, labels, voxels)
        order = np.lexsort((labels, blocks))
        blocks, labels, voxels = blocks[order], labels[order], voxels[order]
        first = np.flatnonzero(np.concatenate(([True], (blocks[1:] != blocks[:-1]) | (labels[1:] != labels[:-1]))))
        sums = np.add.reduceat(voxels, first)
        kept = sums != 0
        return Difference(blocks[first][kept], labels[first][kept], sums[kept])

    @property
    def largest(self) -> int:
        """Largest label; 0 when there is none."""
        return int(self.labels.max(initial=0))


def tally(chunks: Iterable[tuple[Coord, Labels | None]]) -> Tally:
    """Count the labels of blocks.

    Parameters
    ----------
    chunks
        Block coordinates (zyx) and their voxels; None for a block that is not there.
    """
    coords: list[Coord] = []
    labels: list[Labels] = [np.empty(0, np.uint64)]
    counts: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for coord, voxels in chunks:
        if voxels is not None:
            found, n = count_labels(voxels)
            coords.append(coord)
            labels.append(found)
            counts.append(n.astype(np.int64))
    packed = pack_blocks(np.array(coords, np.int64).reshape(-1, 3))
    sizes = [len(part) for part in labels[1:]]
    return Tally(np.repeat(packed, sizes), np.concatenate(labels), np.concatenate(counts))
