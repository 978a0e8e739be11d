"""The coarser scales of a labelmap, kept up block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vzarr.errors import ConflictError
from vzarr.geometry import Coord
from vzarr.overlay.reading.regions import share
from vzarr.types import voxels
from vzarr.types.labelmap.kernels import downsample_labels
from vzarr.types.labelmap.rows import Labels
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.types.base import Instance

Blocks = Mapping[Coord, Labels]


def write_coarser(instance: Instance, changed: Blocks, scale: int = 0) -> None:
    """Bring all scales above one up to date with blocks of it that have changed.

    An octant of a coarser block is made anew only if the block below it is among `changed`; the others stay
    as they are, as DVID has it (DVID HTTP API, section 5.4).

    Parameters
    ----------
    changed
        Block coordinates (zyx) at `scale` and their whole voxels.
    """
    geometry = VoxelGeometry.of(instance.config)
    for above in range(scale + 1, geometry.max_scale + 1):
        path = voxels.array_path(instance.folder, above)
        children: dict[Coord, list[Coord]] = {}
        for coord in changed:
            children.setdefault(tuple(c >> 1 for c in coord), []).append(coord)
        try:
            stored = list(instance.version.read_chunks(path, children))
        except ConflictError:
            mend(instance)
            stuck = set(instance.version.conflicts(path))
            stored = list(instance.version.read_chunks(path, [c for c in children if c not in stuck]))
        made = share(partial(_made, changed, children), stored)
        coarser = {parent: block for (parent, _), block in zip(stored, made, strict=True) if block is not None}
        instance.version.write_chunks(path, coarser, step=grain(geometry, above))
        changed = coarser


def _made(
    changed: Blocks, children: Mapping[Coord, Sequence[Coord]], stored: tuple[Coord, Labels | None]
) -> Labels | None:
    """A coarser block as it has to be; None where it was not stored, and need not be."""
    parent, old = stored
    block = _merged(old, {c: changed[c] for c in children[parent]})
    return block if old is not None or block.any() else None


def mend(instance: Instance) -> None:
    """Make coarser blocks anew that are in conflict, as merged versions changed blocks below them differently.

    Those above a block that is in conflict itself stay so.
    """
    geometry = VoxelGeometry.of(instance.config)
    for scale in range(1, geometry.max_scale + 1):
        path, below = (voxels.array_path(instance.folder, s) for s in (scale, scale - 1))
        if not instance.version.has_array(path):
            return
        stuck = set(instance.version.conflicts(below))
        made = {}
        for coord in instance.version.conflicts(path):
            children = _children(coord)
            if stuck.isdisjoint(children):
                found = instance.version.read_chunks(below, children)
                zeros = np.zeros(geometry.block_zyx, np.uint64)
                made[coord] = _merged(None, {c: zeros if b is None else b for c, b in found})
        instance.version.write_chunks(path, made, step=grain(geometry, scale))


def _children(coord: Coord) -> list[Coord]:
    """The eight blocks of the next finer scale that a block covers."""
    return [tuple(2 * c + o for c, o in zip(coord, offset, strict=True)) for offset in np.ndindex(2, 2, 2)]


def grain(geometry: VoxelGeometry, scale: int) -> int:
    """Chunks by which an array grows below its first voxel, so that the origins of all scales agree."""
    return 1 << (geometry.max_scale - scale)


def _merged(old: Labels | None, octants: Blocks) -> Labels:
    """A coarse block with some octants made anew from the blocks below."""
    shape = next(iter(octants.values())).shape
    block = np.zeros(shape, np.uint64) if old is None else old.copy()
    half = [n // 2 for n in shape]
    for coord, fine in octants.items():
        corner = tuple(slice((c & 1) * n, (c & 1) * n + n) for c, n in zip(coord, half, strict=True))
        block[corner] = downsample_labels(fine)
    return block
