"""Counting labels block by block: what the index is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Coord
from vzarr.overlay.reading.regions import share
from vzarr.types.labelmap.differences import Difference
from vzarr.types.labelmap.kernels import count_labels
from vzarr.types.labelmap.rows import Labels, pack_blocks

_BATCH = 64


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
        return Difference.summed(blocks, labels, voxels)

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
    left = ((coord, voxels) for coord, voxels in chunks if voxels is not None)
    coords: list[Coord] = []
    found: list[tuple[Labels, NDArray[np.uint32]]] = []
    while some := list(islice(left, _BATCH)):  # a few at a time: all of them need not fit into memory
        coords += [coord for coord, _ in some]
        found += share(count_labels, [voxels for _, voxels in some])
    packed = pack_blocks(np.array(coords, np.int64).reshape(-1, 3))
    labels = [np.empty(0, np.uint64), *(part for part, _ in found)]
    counts = [np.empty(0, np.int64), *(n.astype(np.int64) for _, n in found)]
    sizes = [len(part) for part, _ in found]
    return Tally(np.repeat(packed, sizes), np.concatenate(labels), np.concatenate(counts))
