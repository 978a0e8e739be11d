"""Sparse volumes: the voxels of a body or supervoxel, from its index and a pass over just its blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.geometry import Coord
from vzarr.types.atonce import is_hurried, will_wait
from vzarr.types.labelmap import layers, reads, runs
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.layers import Layer
from vzarr.types.labelmap.palettes import BlockView
from vzarr.types.labelmap.relabel import FEW, contains
from vzarr.types.labelmap.rows import Labels, packed_runs, unpack_blocks
from vzarr.types.labelmap.runs import Bounds, Mask, Runs
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.types.base import Instance

EVERYWHERE: Bounds = ((None, None, None), (None, None, None))
_MOST_KEPT = 64
"""A body of more blocks is read past the cache, which it would empty."""
_MOST_DRAWN = 8
"""Blocks of a body whose voxels are looked through by who must not wait."""
_BEYOND = 1 << 40
"""No voxel lies so far out: blocks have coordinates of 21 bits, and voxels of 32."""
_MOST_AT_ONCE = 10_000
"""Blocks of a body that are looked through by who must not wait."""


@dataclass(frozen=True)
class Extent:
    """How large a body or supervoxel is: its voxels, its blocks, and the voxel box (inclusive) around these."""

    voxels: int
    blocks: int
    min_zyx: Coord
    max_zyx: Coord


def extent_of(instance: Instance, index: LabelIndex) -> Extent:
    """Size and bounding box, as fine as blocks are (DVID HTTP API, ``GET D/sparsevol-size``)."""
    shape = np.array(VoxelGeometry.of(instance.config).block_zyx)
    coords = unpack_blocks(index.blocks[0])
    lo, hi = coords.min(0) * shape, (coords.max(0) + 1) * shape - 1
    return Extent(index.header.voxels, len(coords), tuple(lo.tolist()), tuple(hi.tolist()))


@dataclass(frozen=True)
class SparseVolume:
    """A body or supervoxel at a scale, within bounds; nothing is read before it is asked for.

    Parameters
    ----------
    instance
        The labelmap at its version.
    index
        What the index says about it.
    scale
        Of the voxels that are given.
    bounds
        (lo, hi) in voxels of `scale`, zyx, hi exclusive; None leaves a side open.
    """

    instance: Instance
    index: LabelIndex
    scale: int = 0
    bounds: Bounds = EVERYWHERE

    @property
    def block_zyx(self) -> Coord:
        """Edges of a block."""
        return VoxelGeometry.of(self.instance.config).block_zyx

    def blocks(self) -> list[Coord]:
        """Blocks of `scale` that can hold some of it and touch the bounds, in zyx order."""
        return [tuple(c) for c in self._coords.tolist()]

    @cached_property
    def _coords(self) -> NDArray[np.int64]:
        """`blocks`, shape (n, 3)."""
        coords = unpack_blocks(self.index.blocks[0])
        if self.scale:
            coords = np.unique(coords >> self.scale, axis=0)
        touches = np.ones(len(coords), np.bool_)
        for axis, (lo, hi, edge) in enumerate(zip(*self.bounds, self.block_zyx, strict=True)):
            if lo is not None:
                touches &= coords[:, axis] >= lo // edge
            if hi is not None:
                touches &= coords[:, axis] <= (hi - 1) // edge
        return coords[touches]

    def masks(self) -> Iterator[tuple[Coord, Mask]]:
        """Its blocks and in each the mask of its voxels, not clipped to the bounds."""
        wanted = self._wanted()
        full = self._full_blocks() if self.scale == 0 else set()
        coords = self.blocks()
        some = reads.read_blocks(self.instance, [c for c in coords if c not in full], self.scale)
        for coord in coords:
            if coord in full:
                yield coord, np.ones(self.block_zyx, np.bool_)
        for coord, block in some:
            yield coord, contains(block, wanted(coord))

    def _wanted(self) -> Callable[[Coord], Labels]:
        """Which of its supervoxels to look for in a block: those that the index knows there, where it is exact."""
        every = self.index.supervoxels
        if every.size <= FEW or self.scale:
            return lambda _: every
        counts = self.index.counts
        packed = np.concatenate([c.blocks for c in counts.values()])
        owners = np.repeat(np.fromiter(counts, np.uint64, len(counts)), [c.blocks.size for c in counts.values()])
        order = np.argsort(packed, kind="stable")
        blocks, first = np.unique(packed[order], return_index=True)
        here = np.split(owners[order], first[1:])
        by_block = dict(zip(map(tuple, unpack_blocks(blocks).tolist()), here, strict=True))
        return by_block.__getitem__

    def _full_blocks(self) -> set[Coord]:
        """Blocks that hold nothing else, which need not be read."""
        packed, counts = self.index.blocks
        full = packed[counts == np.prod(self.block_zyx)]
        return {tuple(c) for c in unpack_blocks(full).tolist()}

    def runs(self, *, exact: bool = True) -> Runs:
        """Its voxels as runs along x, sorted by z, y, x; see `parts`."""
        return np.concatenate([runs.no_runs(), *self.parts(exact=exact)])

    def parts(self, *, exact: bool = True) -> Iterator[Runs]:
        """Its voxels as runs along x, sorted by z, y, x, some at a time.

        Parameters
        ----------
        exact
            Whether runs are clipped to the bounds; if not, all of the blocks that touch them are given.
        """
        coords = self.blocks()
        if len(coords) > _MOST_DRAWN:
            will_wait("so large a body")
        draw = self._drawer(keeps=len(coords) <= _MOST_KEPT)
        threads = 1 if is_hurried() else 2  # what is in memory is looked through sooner than a thread wakes up
        for part in layers.runs_of_blocks(coords, self.block_zyx, draw, threads):
            yield runs.clip_runs(part, self.bounds) if exact and self.bounds != EVERYWHERE else part

    def _drawer(self, *, keeps: bool) -> Callable[[Layer, Coord], None]:
        """Draws its voxels in a block."""
        wanted = self._wanted()
        full = self._full_blocks() if self.scale == 0 else set()
        view = BlockView.of(self.instance, self.scale, keeps=keeps)

        def draw(layer: Layer, block: Coord) -> None:
            if block in full:
                layer.draw_full(block)
            else:
                view.visit(block, wanted(block), lambda mask: layer.draw(block, mask))

        return draw

    def clipped_masks(self, *, exact: bool = True) -> Iterator[tuple[Coord, Mask]]:
        """As `masks`, clipped to the bounds."""
        for coord, mask in self.masks():
            yield coord, self._clipped(coord, mask) if exact else mask

    def _clipped(self, coord: Coord, mask: Mask) -> Mask:
        inside = []
        for c, edge, lo, hi in zip(coord, self.block_zyx, *self.bounds, strict=True):
            first = 0 if lo is None else max(0, lo - c * edge)
            last = edge if hi is None else max(0, min(edge, hi - c * edge))
            inside.append(slice(first, last))
        clipped = np.zeros_like(mask)
        clipped[tuple(inside)] = mask[tuple(inside)]
        return clipped

    def any_block(self) -> bool:
        """Whether some block of it touches the bounds."""
        return len(self._coords) > 0


def coarse_runs(instance: Instance, index: LabelIndex, bounds: Bounds = EVERYWHERE) -> Runs:
    """Its blocks as runs along x, in block coordinates.

    Parameters
    ----------
    bounds
        (lo, hi) in voxels, zyx, hi exclusive.  An upper one is cut to blocks toward 0, as DVID does: one of
        -33 with blocks of 32 still takes block -1.
    """
    packed = index.blocks[0]
    if packed.size > _MOST_AT_ONCE:
        will_wait("so large a body")
    if bounds == EVERYWHERE:
        return index.coarse
    coords = unpack_blocks(packed)
    keep = np.ones(len(coords), np.bool_)
    shape = VoxelGeometry.of(instance.config).block_zyx
    for axis, (lo, hi, edge) in enumerate(zip(*bounds, shape, strict=True)):
        if lo is not None:
            keep &= coords[:, axis] >= lo // edge
        if hi is not None:
            keep &= coords[:, axis] <= int((hi - 1) / edge)
    return packed_runs(packed[keep])


def parse_bounds(lo_zyx: tuple[int | None, ...], last_zyx: tuple[int | None, ...]) -> Bounds:
    """Bounds from corners that both belong to the box.

    Raises
    ------
    InvalidInputError
        If they are in the wrong order.
    """
    for lo, last in zip(lo_zyx, last_zyx, strict=True):
        if lo is not None and last is not None and last < lo:
            raise InvalidInputError(f"bounds from {lo} to {last} are in the wrong order")
    lo_zyx, last_zyx = _within_reach(lo_zyx), _within_reach(last_zyx)
    return lo_zyx, tuple(None if v is None else v + 1 for v in last_zyx)


def _within_reach(corner_zyx: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """A corner beyond all voxels as one that 64 bits hold."""
    return tuple(None if v is None else max(-_BEYOND, min(_BEYOND, v)) for v in corner_zyx)
