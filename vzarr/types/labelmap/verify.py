"""Whether the index of a labelmap says what its voxels and its mapping say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from vzarr.types import voxels
from vzarr.types.labelmap import bulk, index, mapping, rows
from vzarr.types.labelmap.description import is_indexed
from vzarr.types.labelmap.kernels import downsample_labels
from vzarr.types.labelmap.rows import Counts, Labels
from vzarr.types.labelmap.tally import tally
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.geometry import Coord
    from vzarr.types.base import Instance


def check_index(instance: Instance) -> list[str]:
    """What is wrong with an index: one line each, none when index = voxels x mapping.

    Reads all voxels of scale 0; holds the whole index in memory.  A write that was begun and not finished is
    named too; `vzarr.types.labelmap.underway.recover` finishes it.
    """
    return list(_problems(instance, _expected(instance)))


def check(instance: Instance) -> list[str]:
    """As `check_index`, for a labelmap that has one; `check_scales` is apart, as blocks may be posted without."""
    return check_index(instance) if is_indexed(instance) else []


def _expected(instance: Instance) -> dict[int, dict[int, Counts]]:
    """Index that the voxels make: body -> supervoxel -> counts."""
    path = voxels.array_path(instance.folder)
    if not instance.version.has_array(path):
        return {}
    coords = [tuple(c) for c in instance.version.chunk_coords(path).tolist()]
    stored = instance.version.read_chunks(path, coords)
    counted = tally(stored)
    found: dict[int, dict[int, Counts]] = {}
    moved = dict(mapping.list_mappings(instance.keys))
    for body, supervoxel, counts in bulk.parts(counted.blocks, counted.labels, counted.voxels, moved):
        if body:
            found.setdefault(body, {})[supervoxel] = counts
    return found


def _problems(instance: Instance, expected: dict[int, dict[int, Counts]]) -> Iterator[str]:
    keys = instance.keys
    if keys.get(rows.INTENT) is not None:
        yield "a write of voxels was begun and not finished"
    headers = dict(index.list_bodies(keys))
    for body in sorted(expected.keys() | headers.keys()):
        there = index.read_counts(keys, body)
        wanted = expected.get(body, {})
        size = sum(c.total for c in wanted.values())
        if headers.get(body, 0) != size:
            yield f"body {body} has {size} voxels, its header says {headers.get(body, 0)}"
        for supervoxel in sorted(wanted.keys() | there.keys()):
            if not _equal(wanted.get(supervoxel), there.get(supervoxel)):
                yield f"supervoxel {supervoxel} of body {body} is indexed wrongly"
    known = expected.keys() | headers.keys()
    stray = {int.from_bytes(k[1:9], "big") for k in keys.scan_keys(*rows.class_range(rows.INDEX))} - known
    yield from (f"body {body} has an index and no header" for body in sorted(stray))


def _equal(a: Counts | None, b: Counts | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a.blocks, b.blocks) and np.array_equal(a.voxels, b.voxels)


def check_scales(instance: Instance) -> list[str]:
    """Blocks of coarser scales that are not what the scale below makes them: one line each."""
    return [
        f"block {coord} (zyx) of scale {scale} is not made from scale {scale - 1}"
        for scale in range(1, VoxelGeometry.of(instance.config).max_scale + 1)
        for coord in _wrong_blocks(instance, scale)
    ]


def _wrong_blocks(instance: Instance, scale: int) -> Iterator[Coord]:
    path, below = (voxels.array_path(instance.folder, s) for s in (scale, scale - 1))
    version, block = instance.version, VoxelGeometry.of(instance.config).block_zyx
    coords = {tuple(c) for c in version.chunk_coords(path).tolist()}
    coords |= {tuple(n >> 1 for n in c) for c in version.chunk_coords(below).tolist()}
    for coord in sorted(coords):
        lo = tuple(c * n for c, n in zip(coord, block, strict=True))
        hi = tuple(a + n for a, n in zip(lo, block, strict=True))
        fine: Labels = version.read(below, tuple(2 * c for c in lo), tuple(2 * c for c in hi))
        if not np.array_equal(version.read(path, lo, hi), downsample_labels(fine)):
            yield coord
