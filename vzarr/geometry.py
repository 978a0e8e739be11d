"""Boxes, block arithmetic and the one place where xyz and zyx meet: pure numpy, no imports from vzarr.

A *box* is a pair ``(lo, hi)`` of integer tuples, ``hi`` exclusive, in zyx order unless a name says otherwise.
Voxel and block coordinates are signed: there is no origin that a volume cannot grow across.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Coord = tuple[int, ...]
Box = tuple[Coord, Coord]


def reverse(coord: Sequence[int]) -> Coord:
    """Turn xyz into zyx or zyx into xyz.

    Parameters
    ----------
    coord
        Any number of axes.
    """
    return tuple(int(c) for c in reversed(coord))


def block_of(coord: Sequence[int], block: Sequence[int]) -> Coord:
    """Block that holds a voxel; floors, so that voxel -1 lies in block -1."""
    return tuple(c // b for c, b in zip(coord, block, strict=True))


def box_of_block(index: Sequence[int], block: Sequence[int]) -> Box:
    """Voxel box that a block covers."""
    lo = tuple(i * b for i, b in zip(index, block, strict=True))
    return lo, tuple(a + b for a, b in zip(lo, block, strict=True))


def blocks_of_box(box: Box, block: Sequence[int]) -> Box:
    """Box of block coordinates that a voxel box touches; empty in an axis where the voxel box is empty."""
    lo, hi = box
    first = tuple([a // b for a, b in zip(lo, block, strict=True)])
    return first, tuple([-(-z // b) if z > a else f for f, a, z, b in zip(first, lo, hi, block, strict=True)])


def cuts(box: Box, block: Sequence[int]) -> list[dict[int, tuple[int, int, int]]]:
    """How a voxel box is cut up by blocks: per axis, of each block that it touches its first voxel, and the part of it.

    Returns
    -------
    list of dict
        Per axis: block coordinate -> first voxel of the block, first and last (exclusive) voxel of its common part with
        the box; all global.
    """
    return [
        {c: (c * n, max(a, c * n), min(b, c * n + n)) for c in range(a // n, -(-b // n))}
        for a, b, n in zip(*box, block, strict=True)
    ]


def align(box: Box, block: Sequence[int]) -> Box:
    """Smallest block-aligned voxel box around a voxel box."""
    first, last = blocks_of_box(box, block)
    scale = tuple(block)
    return tuple(f * b for f, b in zip(first, scale, strict=True)), tuple(
        e * b for e, b in zip(last, scale, strict=True)
    )


def is_aligned(box: Box, block: Sequence[int]) -> bool:
    """Whether both corners of a voxel box lie on block borders."""
    return all(c % b == 0 for corner in box for c, b in zip(corner, block, strict=True))


def shape_of(box: Box) -> Coord:
    """Extent of a box along each axis, never negative."""
    return tuple(max(0, b - a) for a, b in zip(*box, strict=True))


def is_empty(box: Box) -> bool:
    """Whether a box holds no voxel."""
    return any(b <= a for a, b in zip(*box, strict=True))


def intersect(a: Box, b: Box) -> Box:
    """Common part of two boxes; empty (see `is_empty`) when they do not meet."""
    return tuple(map(max, a[0], b[0])), tuple(map(min, a[1], b[1]))


def union(a: Box | None, b: Box | None) -> Box | None:
    """Smallest box around two boxes; None stands for nothing."""
    if a is None or b is None:
        return a or b
    return tuple(map(min, a[0], b[0])), tuple(map(max, a[1], b[1]))


def slices(box: Box, origin: Sequence[int] | None = None) -> tuple[slice, ...]:
    """Numpy slices of a box inside an array whose first voxel is `origin` (default: all zeros)."""
    lo, hi = box
    base = tuple(origin) if origin is not None else (0,) * len(lo)
    return tuple(slice(a - o, b - o) for a, b, o in zip(lo, hi, base, strict=True))


def iter_coords(box: Box) -> Iterator[Coord]:
    """Every integer coordinate of a box, last axis fastest."""
    return itertools.product(*(range(a, b) for a, b in zip(*box, strict=True)))


def coord_array(box: Box) -> NDArray[np.int64]:
    """Every integer coordinate of a box as an array of shape (n, ndim), last axis fastest."""
    lo, hi = box
    axes = [np.arange(a, b, dtype=np.int64) for a, b in zip(lo, hi, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(lo))
