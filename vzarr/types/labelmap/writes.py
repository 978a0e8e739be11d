"""Writing blocks of supervoxels: voxels, coarser scales, index, extents and largest label, exact at return.

An overwrite takes off the index what was there, whether the client says ``mutate`` or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from vzarr import geometry
from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, Coord
from vzarr.types import mutations, voxels
from vzarr.types.labelmap import allocate, reads, underway
from vzarr.types.labelmap.description import is_indexed
from vzarr.types.labelmap.edits import NOBODY, Author
from vzarr.types.labelmap.rows import Labels, pack_blocks
from vzarr.types.labelmap.underway import Blocks, Plan
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.types.base import Instance

BATCH_VOXELS = 1 << 26
"""Voxels written under one intent, which bounds how long it is held and what finishing it costs."""


def ensure_arrays(instance: Instance) -> None:
    """Make the arrays of scales that the version lacks."""
    scales = range(VoxelGeometry.of(instance.config).max_scale + 1)
    if not all(instance.version.has_array(voxels.array_path(instance.folder, s)) for s in scales):
        voxels.make_arrays(instance, np.uint64, codecs="labels")


# ---------------------------------------------------------------- whole writes


def write_blocks(
    instance: Instance,
    blocks: Blocks,
    *,
    indexed: bool = True,
    downres: bool = True,
    author: Author = NOBODY,
) -> None:
    """Store blocks of scale 0 and let everything that depends on them follow.

    Parameters
    ----------
    blocks
        Block coordinates (zyx) and their voxels, each a whole block.
    indexed
        Whether the label index follows; never if the instance has none.
    downres
        Whether the coarser scales follow.
    author
        Who writes.

    Raises
    ------
    InvalidInputError
        If a block has another shape, is too far away, or holds 2^64 - 1; nothing is written then.
    """
    shape = VoxelGeometry.of(instance.config).block_zyx
    _check_blocks(blocks, shape)
    if not blocks:
        return
    ensure_arrays(instance)
    voxels.grow_extents(instance, _box_around(blocks, shape))
    indexed = indexed and is_indexed(instance)
    for batch in _batches(blocks, shape):
        if indexed or downres:
            _write_whole(instance, batch, indexed, downres, author)
        else:
            _write_plain(instance, batch, author)


def store_blocks(instance: Instance, blocks: Blocks, scale: int = 0, author: Author = NOBODY) -> None:
    """Store blocks of any scale and nothing else (DVID HTTP API, ``POST D/ingest-supervoxels``).

    Raises
    ------
    InvalidInputError
        As `write_blocks`, or if the instance has no such scale.
    """
    shape = VoxelGeometry.of(instance.config)
    _check_blocks(blocks, shape.block_zyx)
    if scale > shape.max_scale:
        raise InvalidInputError(f'data "{instance.name}" has scales 0 to {shape.max_scale}, not {scale}')
    ensure_arrays(instance)
    for batch in _batches(blocks, shape.block_zyx):
        underway.put_chunks(instance, batch, scale)
    if blocks:
        instance.transact(lambda tx: _log(tx, instance, blocks, scale, author))


def blocks_at_once(shape: Coord) -> int:
    """How many blocks are in memory at a time, and written under one intent."""
    return max(1, BATCH_VOXELS // int(np.prod(shape)))


def _batches(blocks: Blocks, shape: Coord) -> Iterator[Blocks]:
    coords, size = sorted(blocks), blocks_at_once(shape)
    for start in range(0, len(coords), size):
        yield {c: blocks[c] for c in coords[start : start + size]}


def _check_blocks(blocks: Blocks, shape: Coord) -> None:
    """Refuse what no index can hold, before anything is written."""
    pack_blocks(np.array(list(blocks)))
    for coord, block in blocks.items():
        if block.shape != shape or block.dtype != np.uint64:
            raise InvalidInputError(f"block {coord} (zyx) must be uint64 of shape {shape}, not {block.shape}")
        allocate.check_label(int(block.max()))


def _box_around(coords: Iterable[Coord], shape: Coord) -> Box:
    every = np.array(list(coords))
    lo = every.min(0) * shape
    hi = (every.max(0) + 1) * shape
    return tuple(lo.tolist()), tuple(hi.tolist())


def _write_plain(instance: Instance, blocks: Blocks, author: Author) -> None:
    """Write one batch that nothing follows but the largest label."""
    underway.put_chunks(instance, blocks)
    largest = max(int(b.max()) for b in blocks.values())

    def change(tx: InstanceTxn) -> None:
        allocate.raise_max(tx, instance, largest)
        _log(tx, instance, blocks, 0, author)

    instance.transact(change)


def _log(tx: InstanceTxn, instance: Instance, blocks: Blocks, scale: int, author: Author) -> None:
    said = underway.posted(pack_blocks(np.array(list(blocks))), scale)
    mutations.Writer(instance, author.user, author.app).record(tx, said, announced=False)


def _write_whole(instance: Instance, blocks: Blocks, indexed: bool, downres: bool, author: Author) -> None:
    """Write one batch under an intent: whoever makes coarser blocks anew must be alone, index or not."""
    aside = underway.put_aside(instance, blocks)

    def plan() -> Plan:
        stored = reads.stored_blocks(instance, blocks) if indexed else dict.fromkeys(blocks)
        return Plan(stored, lambda _: blocks, lambda _: None, downres, aside, author, indexed)

    underway.carry_out(instance, plan)


def blocks_of(lo: Coord, array: Labels, shape: Coord) -> dict[Coord, Labels]:
    """Cut a volume into blocks.

    Parameters
    ----------
    lo
        First voxel; a multiple of the block shape, as is the extent of `array`.

    Raises
    ------
    InvalidInputError
        If the volume is not aligned to blocks.
    """
    box = (lo, tuple(a + n for a, n in zip(lo, array.shape, strict=True)))
    if not geometry.is_aligned(box, shape):
        raise InvalidInputError(f"a box of labels to write must be aligned to blocks of {shape} (zyx)")
    return {
        coord: np.ascontiguousarray(array[geometry.slices(geometry.box_of_block(coord, shape), lo)])
        for coord in geometry.iter_coords(geometry.blocks_of_box(box, shape))
    }
