"""Reading voxels of a labelmap: regions, streams of blocks, single points; as supervoxels or as bodies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError, InvalidInputError
from vzarr.geometry import Box, Coord, blocks_of_box, box_of_block, intersect, is_empty, iter_coords, shape_of, slices
from vzarr.overlay.reading.regions import share
from vzarr.types import blockstreams, voxels
from vzarr.types.atonce import will_wait
from vzarr.types.bytecodecs import gzip_raw, lz4_raw
from vzarr.types.labelmap.blocks import encode_indexed, relabel_block
from vzarr.types.labelmap.palettes import Palette, encoded, palette_at, palette_batches, palettes
from vzarr.types.labelmap.relabel import Lookup, relabel
from vzarr.types.labelmap.rows import Labels
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.types.base import Instance

_MOST_BY_PALETTE = 64
"""A box of more blocks is read past the cache, which it would empty."""
_MOST_TRIED = 1 << 16
"""Blocks of a box that are looked for one by one; of a larger one all that were written are listed."""
_MOST_AT_ONCE = 4
"""So many blocks are sent by who must not wait."""


def read_region(instance: Instance, box: Box, scale: int = 0) -> Labels:
    """Supervoxels of any box of a scale; 0 where nothing was written, and at a scale that there is not."""
    path = voxels.array_path(instance.folder, scale)
    if not instance.version.has_array(path):
        return np.zeros(shape_of(box), np.uint64)
    return instance.version.read(path, *box)


def read_bodies(instance: Instance, box: Box, lookup: Lookup, scale: int = 0) -> Labels:
    """As `read_region`, bodies in place of supervoxels; a box of a few blocks comes through their palettes."""
    covered = _covered(instance, box, scale)
    if covered is None:
        return np.zeros(shape_of(box), np.uint64)
    shape = VoxelGeometry.of(instance.config).block_zyx
    coords = list(islice(iter_coords(blocks_of_box(covered, shape)), _MOST_BY_PALETTE + 1))
    if len(coords) > _MOST_BY_PALETTE:
        return relabel(read_region(instance, box, scale), lookup)
    out = np.zeros(shape_of(box), np.uint64)
    for batch in palette_batches(instance, coords, scale):
        for (coord, palette), labels in zip(batch, _mapped(batch, lookup), strict=True):
            place = box_of_block(coord, shape)
            part = intersect(box, place)
            index = palette.index[slices(part, place[0])]
            if shape_of(part) == shape_of(box):
                # "clip" only spares numpy a buffer: every index is within the table.
                np.take(labels, index, out=out, mode="clip")
            else:
                out[slices(part, box[0])] = labels[index]
    return out


def _mapped(batch: Sequence[tuple[Coord, Palette]], lookup: Lookup | None) -> list[Labels]:
    """What is sent in place of each palette's labels; one look-up for all of them."""
    tables = [palette.labels for _, palette in batch]
    if lookup is None or not tables:
        return tables
    if len(tables) == 1:
        return [lookup(tables[0])]
    every, where = np.unique(np.concatenate(tables), return_inverse=True)
    return np.split(lookup(every)[where], np.cumsum([t.size for t in tables])[:-1])


def isotropic_steps(instance: Instance, shape: Sequence[int]) -> list[NDArray[np.int64]]:
    """Along each axis the voxels nearest to the middles of cubes as fine as the finest edge of a voxel."""
    edges = VoxelGeometry.of(instance.config).voxel_zyx
    finest = min(edges)
    return [(np.arange(n) * (finest / edge)).astype(np.int64) for n, edge in zip(shape, edges, strict=True)]


def blocks_in_box(instance: Instance, box: Box, scale: int = 0) -> Iterator[Coord]:
    """Blocks of a box that may have been written, in zyx order: a huge box costs what is in it, however far apart."""
    inside = _covered(instance, box, scale)
    if inside is None:
        return iter(())
    blocks = blocks_of_box(inside, VoxelGeometry.of(instance.config).block_zyx)
    if math.prod(shape_of(blocks)) <= _MOST_TRIED:
        return iter_coords(blocks)
    will_wait("so large a box")
    return map(tuple, instance.version.chunk_coords(voxels.array_path(instance.folder, scale), *blocks).tolist())


def _covered(instance: Instance, box: Box, scale: int) -> Box | None:
    """Part of a box that the array of a scale covers; None for nothing."""
    path = voxels.array_path(instance.folder, scale)
    covered = instance.version.bounds(path) if instance.version.has_array(path) else None
    inside = None if covered is None else intersect(box, covered)
    return None if inside is None or is_empty(inside) else inside


def read_blocks(instance: Instance, coords: Iterable[Coord], scale: int = 0) -> Iterator[tuple[Coord, Labels]]:
    """Blocks that were written, of those asked for, as supervoxels."""
    path = voxels.array_path(instance.folder, scale)
    if not instance.version.has_array(path):
        return
    for coord, block in instance.version.read_chunks(path, coords):
        if block is not None:
            yield coord, block


def stored_blocks(instance: Instance, coords: Iterable[Coord], scale: int = 0) -> dict[Coord, Labels | None]:
    """Blocks that are about to be overwritten; None for those that are not there, or in conflict after a merge."""
    path, wanted = voxels.array_path(instance.folder, scale), list(coords)
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
    nz, ny, nx = VoxelGeometry.of(instance.config).block_zyx
    blocks, (z, y, x) = points_zyx // (nz, ny, nx), (points_zyx % (nz, ny, nx)).T
    inside = (z * ny + y) * nx + x
    members: dict[Coord, list[int]] = {}
    for n, block in enumerate(blocks.tolist()):
        members.setdefault(tuple(block), []).append(n)
    labels = np.zeros(len(points_zyx), np.uint64)
    for coord, palette in palettes(instance, members, scale):
        here = members[coord]
        labels[here] = palette.labels[palette.index.reshape(-1)[inside[here]]]
    return labels


def read_point(instance: Instance, point_zyx: Coord, scale: int = 0) -> int:
    """Supervoxel at one point; 0 where nothing was written."""
    shape = VoxelGeometry.of(instance.config).block_zyx
    block = tuple(p // n for p, n in zip(point_zyx, shape, strict=True))
    palette = palette_at(instance, block, scale)
    if palette is None:
        return 0
    inside = tuple(p % n for p, n in zip(point_zyx, shape, strict=True))
    return int(palette.labels[palette.index[inside]])


# ---------------------------------------------------------------- blocks on the wire


Encode = Callable[[Palette, Labels], bytes]


def encoder(compression: str) -> Encode:
    """How blocks are sent.

    Parameters
    ----------
    compression
        ``blocks``: gzip of DVID's label block; ``lz4`` or ``gzip`` of the voxels; ``uncompressed``.

    Returns
    -------
    callable
        Makes the bytes of a palette with other labels in place of its own.

    Raises
    ------
    InvalidInputError
        If the compression is none of these.
    """
    if compression == "blocks":
        return _label_block
    pack = _PACKERS.get(compression)
    if pack is None:
        raise InvalidInputError(f'compression must be blocks, lz4, gzip or uncompressed, not "{compression}"')
    return partial(_voxels, pack=pack)


def framed_blocks(
    instance: Instance, coords: Iterable[Coord], compression: str, lookup: Lookup | None, scale: int = 0
) -> Iterator[bytes]:
    """Written blocks among those named, as they are sent in a stream; see `encoder`.

    Parameters
    ----------
    lookup
        From supervoxels to bodies; None sends supervoxels.
    """
    encode, todo = encoder(compression), iter(coords)
    wanted = list(islice(todo, _MOST_AT_ONCE + 1))
    if len(wanted) > _MOST_AT_ONCE:
        will_wait("sending so many blocks")
        wanted.extend(todo)

    def framed(one: tuple[tuple[Coord, Palette], Labels]) -> bytes:
        ((z, y, x), palette), labels = one
        make: Encode = lambda *given: blockstreams.framed((x, y, z), encode(*given))  # noqa: E731
        return encoded(palette, f"{compression} in a stream", labels, make)

    def found() -> Iterator[bytes]:
        for batch in palette_batches(instance, wanted, scale):
            yield from share(framed, list(zip(batch, _mapped(batch, lookup), strict=True)))

    return found()


def _label_block(palette: Palette, labels: Labels) -> bytes:
    # Two supervoxels may have one body: the block is made of supervoxels, then its table is replaced.
    block = encode_indexed(palette.index, palette.labels)
    order = np.argsort(palette.labels)
    return gzip_raw(relabel_block(block, lambda _: labels[order]))


def _voxels(palette: Palette, labels: Labels, pack: Callable[[Labels], bytes]) -> bytes:
    return pack(np.ascontiguousarray(palette.voxels(labels), "<u8"))


def _plain(block: Labels) -> bytes:
    return block.tobytes()


_PACKERS: dict[str, Callable[[Labels], bytes]] = {"lz4": lz4_raw, "gzip": gzip_raw, "uncompressed": _plain}
