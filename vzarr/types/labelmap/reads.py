"""Reading voxels of a labelmap: regions, streams of blocks, single points; as supervoxels or as bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError, InvalidInputError
from vzarr.geometry import Box, Coord, blocks_of_box, intersect, is_empty, iter_coords, shape_of
from vzarr.types import voxels
from vzarr.types.bytecodecs import gzip_raw, lz4_raw
from vzarr.types.labelmap.blocks import encode_block, relabel_block
from vzarr.types.labelmap.relabel import Lookup, relabel
from vzarr.types.labelmap.rows import Labels
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.types.base import Instance


def read_region(instance: Instance, box: Box, scale: int = 0) -> Labels:
    """Supervoxels of any box of a scale; 0 where nothing was written, and at a scale that there is not."""
    path = voxels.array_path(instance.name, scale)
    if not instance.version.has_array(path):
        return np.zeros(shape_of(box), np.uint64)
    return instance.version.read(path, *box)


def isotropic_steps(instance: Instance, shape: Sequence[int]) -> list[NDArray[np.int64]]:
    """Along each axis the voxels nearest to the middles of cubes as fine as the finest edge of a voxel."""
    edges = VoxelGeometry.of(instance.config).voxel_zyx
    finest = min(edges)
    return [(np.arange(n) * (finest / edge)).astype(np.int64) for n, edge in zip(shape, edges, strict=True)]


def blocks_in_box(instance: Instance, box: Box, scale: int = 0) -> Iterator[Coord]:
    """Blocks of a box, as far as the scale has any, so that a huge box around little data is soon done."""
    path = voxels.array_path(instance.name, scale)
    covered = instance.version.bounds(path) if instance.version.has_array(path) else None
    inside = None if covered is None else intersect(box, covered)
    if inside is None or is_empty(inside):
        return iter(())
    return iter_coords(blocks_of_box(inside, VoxelGeometry.of(instance.config).block_zyx))


def read_blocks(instance: Instance, coords: Iterable[Coord], scale: int = 0) -> Iterator[tuple[Coord, Labels]]:
    """Blocks that were written, of those asked for, as supervoxels."""
    path = voxels.array_path(instance.name, scale)
    if not instance.version.has_array(path):
        return
    for coord, block in instance.version.read_chunks(path, coords):
        if block is not None:
            yield coord, block


def stored_blocks(instance: Instance, coords: Iterable[Coord], scale: int = 0) -> dict[Coord, Labels | None]:
    """Blocks that are about to be overwritten; None for those that are not there, or in conflict after a merge."""
    path, wanted = voxels.array_path(instance.name, scale), list(coords)
    try:
        return dict(instance.version.read_chunks(path, wanted))
    except ConflictError:
        stuck = set(instance.version.conflicts(path))
        whole = instance.version.read_chunks(path, [c for c in wanted if c not in stuck])
        return {**dict.fromkeys(wanted), **dict(whole)}


def read_points(instance: Instance, points_zyx: NDArray[np.int64], scale: int = 0) -> Labels:
    """Supervoxels at points; each block is read once.

    Parameters
    ----------
    points_zyx
        Shape (n, 3), voxels of `scale`.

    Returns
    -------
    ndarray
        uint64, shape (n,); 0 where nothing was written.
    """
    shape = np.array(VoxelGeometry.of(instance.config).block_zyx)
    blocks, where = np.unique(points_zyx // shape, axis=0, return_inverse=True)
    where = where.reshape(-1)
    labels = np.zeros(len(points_zyx), np.uint64)
    order = np.argsort(where, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(where[order])) + 1) if order.size else []
    members = {tuple(b): g for b, g in zip(blocks.tolist(), groups, strict=True)}
    for coord, block in read_blocks(instance, members, scale):
        inside = points_zyx[members[coord]] - np.array(coord) * shape
        labels[members[coord]] = block[tuple(inside.T)]
    return labels


# ---------------------------------------------------------------- blocks on the wire


def encoder(compression: str, lookup: Lookup | None) -> Callable[[Labels], bytes]:
    """How blocks are sent.

    Parameters
    ----------
    compression
        ``blocks``: gzip of DVID's label block; ``lz4`` or ``gzip`` of the voxels; ``uncompressed``.
    lookup
        From supervoxels to bodies; None sends supervoxels.

    Raises
    ------
    InvalidInputError
        If the compression is none of these.
    """
    if compression == "blocks":
        return partial(_label_block, lookup=lookup)
    pack = _PACKERS.get(compression)
    if pack is None:
        raise InvalidInputError(f'compression must be blocks, lz4, gzip or uncompressed, not "{compression}"')
    return partial(_voxels, lookup=lookup, pack=pack)


def _label_block(block: Labels, lookup: Lookup | None) -> bytes:
    encoded = encode_block(block)
    return gzip_raw(encoded if lookup is None else relabel_block(encoded, lookup))


def _voxels(block: Labels, lookup: Lookup | None, pack: Callable[[Labels], bytes]) -> bytes:
    named = block if lookup is None else relabel(block, lookup)
    return pack(np.ascontiguousarray(named, "<u8"))


def _plain(block: Labels) -> bytes:
    return block.tobytes()


_PACKERS: dict[str, Callable[[Labels], bytes]] = {"lz4": lz4_raw, "gzip": gzip_raw, "uncompressed": _plain}
