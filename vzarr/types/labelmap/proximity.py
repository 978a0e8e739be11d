"""How near two bodies come to each other: exact, from the nearest pairs of blocks on.

The nearest voxels of two bodies are found level by level: pairs of blocks, pairs of cells of 8^3 voxels in them,
pairs of voxels in these.  On each level the boxes around what the pairs hold bound the distance from below, and a
pair that cannot beat the best one found is never looked into.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.geometry import Coord
from vzarr.types.labelmap import index, reads
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.relabel import contains
from vzarr.types.labelmap.rows import unpack_blocks
from vzarr.types.labelmap.runs import Mask
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.types.base import Instance

Points = NDArray[np.int64]

_CELL = 8
_TOUCHING = 1
"""The least squared distance that two bodies can have: they share no voxel."""
_KEPT_BLOCKS = 512
_FAR = 1 << 62


class Nearest(NamedTuple):
    """A pair of voxels of two bodies than which no other is nearer.

    Parameters
    ----------
    distance
        Euclidean, in voxels of scale 0 whatever their size: 1.0 for bodies that touch.
    a, b
        The voxels, zyx; one such pair of perhaps several.
    """

    distance: float
    a: Coord
    b: Coord


def nearest(instance: Instance, a: int, b: int) -> Nearest:
    """The nearest voxels of two bodies.

    Raises
    ------
    InvalidInputError
        If both are one body.
    NotFoundError
        If there is no such body.
    """
    if a == b:
        raise InvalidInputError(f"the distance of label {a} from itself is none")
    found = None
    while found is None:
        mark = index.read_change(instance.keys)
        sides = [_Side(instance, _indexed(instance, body)) for body in (a, b)]
        found = _search(*sides)
        # An edit meanwhile may have taken away voxels that the index spoke of.
        if found is None and index.read_change(instance.keys) == mark:
            raise NotFoundError(f"the index of labels {a} and {b} names no voxel that is there")
    return found


def _indexed(instance: Instance, body: int) -> LabelIndex:
    found = index.consistently(instance, lambda keys: index.read_index(keys, body))
    if found is None:
        raise NotFoundError(f'no label {body} in data "{instance.name}"')
    return found


@dataclass(frozen=True)
class _Cells:
    """Surface voxels of a body in one block, cell by cell.

    Parameters
    ----------
    points
        Shape (n, 3), those of a cell in a row.
    starts
        Shape (m,): where each cell's begin.
    lo, hi
        Shape (m, 3): the box around each cell's points, both corners included.
    """

    points: Points
    starts: NDArray[np.int64]
    lo: Points
    hi: Points

    @classmethod
    def of(cls, mask: Mask, origin: Coord) -> _Cells:
        """Cells of the voxels of a mask that have a neighbour outside it, or lie at its border."""
        points = np.argwhere(_surface(mask))
        cells = points // _CELL
        order = np.lexsort(cells.T[::-1])
        points, cells = points[order] + np.array(origin), cells[order]
        changes = np.flatnonzero(np.any(cells[1:] != cells[:-1], axis=1)) + 1
        starts = np.concatenate([np.zeros(min(1, len(points)), np.int64), changes])
        if not len(points):
            return cls(points, starts, points, points)
        return cls(points, starts, np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts))

    def cell(self, at: int) -> Points:
        """Points of one cell."""
        end = self.starts[at + 1] if at + 1 < len(self.starts) else len(self.points)
        return self.points[self.starts[at] : end]


def _surface(mask: Mask) -> Mask:
    """Only these can be nearest to something outside: a step towards it would leave the body."""
    inner = np.zeros_like(mask)
    core = mask[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for shift in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(shift, mask.shape[axis] - 2 + shift)
            core &= mask[tuple(window)]
    inner[1:-1, 1:-1, 1:-1] = core
    surface: Mask = mask & ~inner
    return surface


class _Side:
    """One of the two bodies, its blocks read when they are asked for."""

    def __init__(self, instance: Instance, found: LabelIndex) -> None:
        self._instance, self._wanted = instance, found.supervoxels
        self.shape = VoxelGeometry.of(instance.config).block_zyx
        self.blocks = unpack_blocks(found.blocks[0])
        self.cells = lru_cache(_KEPT_BLOCKS)(self._cells)

    def _cells(self, coord: Coord) -> _Cells:
        origin = tuple(c * n for c, n in zip(coord, self.shape, strict=True))
        for _, block in reads.read_blocks(self._instance, [coord]):
            return _Cells.of(contains(block, self._wanted), origin)
        return _Cells.of(np.zeros((0, 0, 0), np.bool_), origin)


def _search(a: _Side, b: _Side) -> Nearest | None:
    best: tuple[int, Points, Points] | None = None
    for bound, i, j in _block_pairs(a.blocks, b.blocks, a.shape):
        if best is not None and bound >= best[0]:
            break
        cells = a.cells(tuple(a.blocks[i].tolist())), b.cells(tuple(b.blocks[j].tolist()))
        best = _nearest_in(*cells, best)
        if best is not None and best[0] == _TOUCHING:
            break
    if best is None:
        return None
    squared, p, q = best
    return Nearest(float(np.sqrt(squared)), tuple(p.tolist()), tuple(q.tolist()))


def _gap(lo_a: Points, hi_a: Points, lo_b: Points, hi_b: Points) -> NDArray[np.int64]:
    """Squared distance of boxes of voxels, both corners included, along the last axis of the arguments."""
    apart = np.maximum(np.maximum(lo_b - hi_a, lo_a - hi_b), 0)
    squared: NDArray[np.int64] = (apart * apart).sum(-1)
    return squared


def _span(lo_a: Points, hi_a: Points, lo_b: Points, hi_b: Points) -> NDArray[np.int64]:
    """The most that the squared distance of two voxels in boxes can be."""
    across = np.maximum(hi_b - lo_a, hi_a - lo_b)
    squared: NDArray[np.int64] = (across * across).sum(-1)
    return squared


def _block_pairs(a: Points, b: Points, shape: Coord) -> Iterator[tuple[int, int, int]]:
    """Pairs of blocks that may hold the nearest voxels, in order of their least squared distance, which comes first.

    Cubes of ever fewer blocks are opened in that order, so that most blocks of two large bodies are never paired.
    """
    top = max(int(np.ptp(axis)) for axis in np.concatenate([a, b]).T).bit_length()
    trees = _Tree.of(a, top), _Tree.of(b, top)
    edges = np.array(shape)
    roots = np.indices((len(trees[0].cubes[top]), len(trees[1].cubes[top]))).reshape(2, -1)
    waiting: list[tuple[int, int, int, int, int]] = []
    limit = _open_pairs(waiting, trees, top, roots, edges, _FAR)
    while waiting:
        bound, _, level, i, j = heappop(waiting)
        if level == 0:
            yield bound, i, j
        elif bound <= limit:
            left, right = trees[0].members(level, i), trees[1].members(level, j)
            below = np.stack([np.repeat(left, len(right)), np.tile(right, len(left))])
            limit = _open_pairs(waiting, trees, level - 1, below, edges, limit)


def _open_pairs(
    waiting: list[tuple[int, int, int, int, int]],
    trees: tuple[_Tree, _Tree],
    level: int,
    pairs: NDArray[np.int64],
    edges: Points,
    limit: int,
) -> int:
    """Put pairs of cubes in line by least distance, then by greatest; returns what no nearest voxels exceed."""
    first = [tree.cubes[level][places] * (edges << level) for tree, places in zip(trees, pairs, strict=True)]
    last = [corner + (edges << level) - 1 for corner in first]
    bounds = _gap(first[0], last[0], first[1], last[1])
    most = _span(first[0], last[0], first[1], last[1])
    limit = min(limit, int(most.min()))
    kept = bounds <= limit
    columns = (bounds[kept].tolist(), most[kept].tolist(), *pairs[:, kept].tolist())
    for bound, far, i, j in zip(*columns, strict=True):
        heappush(waiting, (bound, far, level, i, j))
    return limit


@dataclass(frozen=True)
class _Tree:
    """Blocks of a body, and the cubes of 2^3, 4^3, ... blocks around them.

    Parameters
    ----------
    cubes
        Per level, blocks first, their coordinates: shape (n, 3).
    order, ends
        Per level above the blocks: the next finer cubes sorted by the cube that they are in, and where those of
        each end.
    """

    cubes: list[Points]
    order: list[NDArray[np.int64]]
    ends: list[NDArray[np.int64]]

    @classmethod
    def of(cls, blocks: Points, top: int) -> _Tree:
        """The tree up to level `top`."""
        tree = cls([blocks], [], [])
        for _ in range(top):
            coarse, where = np.unique(tree.cubes[-1] >> 1, axis=0, return_inverse=True)
            tree.order.append(np.argsort(where.reshape(-1), kind="stable"))
            tree.ends.append(np.cumsum(np.bincount(where.reshape(-1))))
            tree.cubes.append(coarse)
        return tree

    def members(self, level: int, cube: int) -> NDArray[np.int64]:
        """Places of the next finer cubes in a cube."""
        ends = self.ends[level - 1]
        return self.order[level - 1][ends[cube - 1] if cube else 0 : ends[cube]]


def _nearest_in(a: _Cells, b: _Cells, best: tuple[int, Points, Points] | None) -> tuple[int, Points, Points] | None:
    """The nearest voxels of two blocks if they beat `best`."""
    bounds = _gap(a.lo[:, None], a.hi[:, None], b.lo[None], b.hi[None])
    # The farthest corners of the best pair of boxes say which pairs need not be sorted at all.
    most = _span(a.lo[:, None], a.hi[:, None], b.lo[None], b.hi[None])
    if not bounds.size:
        return best
    limit = int(most.min()) + 1 if best is None else min(best[0], int(most.min()) + 1)
    left, right = np.nonzero(bounds < limit)
    order = np.argsort(bounds[left, right], kind="stable")
    for i, j in zip(left[order].tolist(), right[order].tolist(), strict=True):
        if best is not None and int(bounds[i, j]) >= best[0]:
            break
        p, q = a.cell(i), b.cell(j)
        apart = p[:, None] - q[None]
        squared = (apart * apart).sum(-1)
        at = int(squared.argmin())
        if best is None or int(squared.flat[at]) < best[0]:
            best = int(squared.flat[at]), p[at // len(q)], q[at % len(q)]
    return best
