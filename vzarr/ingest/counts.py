"""Counting labels per block while a volume streams by: what a label index is built from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Coord
from vzarr.types.labelmap.kernels import count_labels


class BlockCounts:
    """Voxels of every label in every block.

    Parameters
    ----------
    block
        Voxels of a block (z, y, x).
    """

    def __init__(self, block: Sequence[int]) -> None:
        self._block = tuple(block)
        self._coords: list[Coord] = []
        self._labels: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
        self._voxels: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]

    def add(self, z0: int, slab: NDArray[np.uint64]) -> None:
        """Count one layer of blocks.

        Parameters
        ----------
        z0
            Its first plane, a multiple of the block's side.
        slab
            Labels (z, y, x), from y = 0 and x = 0 on.
        """
        depth, height, width = self._block
        for y in range(0, slab.shape[1], height):
            for x in range(0, slab.shape[2], width):
                labels, voxels = count_labels(slab[:, y : y + height, x : x + width])
                self._coords.append((z0 // depth, y // height, x // width))
                self._labels.append(labels)
                self._voxels.append(voxels)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint32]]:
        """All counts, one row per block and label other than 0.

        Returns
        -------
        coords, labels, voxels
            Block coordinates (n, 3) zyx, labels (n,), and how many voxels of the label the block holds (n,).
        """
        rows = [len(labels) for labels in self._labels[1:]]
        coords = np.repeat(np.array(self._coords, np.int64).reshape(-1, 3), rows, axis=0)
        return coords, np.concatenate(self._labels), np.concatenate(self._voxels)
