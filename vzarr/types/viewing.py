"""Boxes of voxels for viewers, who turn pages: chunks that are asked for a second time stay in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import (
    Box,
    Coord,
    align,
    blocks_of_box,
    box_of_block,
    intersect,
    is_empty,
    iter_coords,
    shape_of,
    slices,
)
from vzarr.overlay.chunks.codec import ChunkCodec, codec_of
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.reading import regions
from vzarr.overlay.reading.identity import Chunk, identify
from vzarr.overlay.reading.regions import share
from vzarr.overlay.views.base import View
from vzarr.types import kept
from vzarr.types.atonce import will_wait

if TYPE_CHECKING:
    from vzarr.overlay.version import Version

MOST_CHUNKS = 64
"""A box of more chunks is read past what is kept, which it would push out."""
_LARGEST = 1 << 23
"""Voxels of a chunk that is kept, at most."""
_MOST_AT_ONCE = 1 << 20
"""Voxels that are put together by who must not wait."""


class _Array(NamedTuple):
    """An array of a version, and how its chunks are stored."""

    view: View
    entry: ArrayEntry
    codec: ChunkCodec


def read_box(version: Version, path: str, box: Box) -> NDArray[Any]:
    """Voxels of any box of an array that is there, as `Version.read`.

    Raises
    ------
    WouldWaitError
        Within `atonce.at_once`, if not everything is in memory.
    """
    view = version.view
    entry = view.array(path)
    coords = None if entry is None else _few_chunks(entry, box)
    if entry is None or coords is None:
        will_wait("reading voxels")
        return version.read(path, *box)
    array = _Array(view, entry, codec_of(entry))
    found: dict[Coord, NDArray[Any] | None] = {}
    missing: dict[Coord, Chunk | None] = {}
    for coord in coords:
        chunk = identify(view, entry, coord)
        voxels = None if chunk is None else kept.get((*chunk.name, "voxels"))
        if voxels is None:
            missing[coord] = chunk
        else:
            found[coord] = voxels
    if missing:
        will_wait("reading voxels")
        again = [chunk is not None and kept.asked_before(chunk.name) for chunk in missing.values()]
        if not any(again):
            return version.read(path, *box)
        wanted = list(missing)
        found.update(zip(wanted, share(lambda coord: _whole(array, coord, missing[coord]), wanted), strict=True))
    return _put_together(array, box, found)


def _few_chunks(entry: ArrayEntry, box: Box) -> list[Coord] | None:
    """Chunks of a box; None for too many or too large ones."""
    shape = entry.spec.chunks
    if shape is None or len(box[0]) != len(shape) or is_empty(box):
        return None
    within = blocks_of_box(intersect(box, align(entry.window, shape)), shape)
    if math.prod(shape_of(within)) > MOST_CHUNKS or math.prod(shape) > _LARGEST:
        return None
    return list(iter_coords(within))


def _whole(array: _Array, coord: Coord, chunk: Chunk | None) -> NDArray[Any] | None:
    """Voxels of a chunk, kept if its bytes have a name; None where there is none."""
    voxels = None if chunk is None else chunk.visit(np.copy)
    if chunk is None or voxels is None:
        return regions.visit_chunks(array.view, array.entry, [coord], lambda _, v: None if v is None else v.copy())[0]
    voxels.flags.writeable = False
    kept.put((*chunk.name, "voxels"), voxels, voxels.nbytes)
    return voxels


def _put_together(array: _Array, box: Box, found: Mapping[Coord, NDArray[Any] | None]) -> NDArray[Any]:
    codec = array.codec
    if math.prod(shape_of(box)) > _MOST_AT_ONCE:
        will_wait("copying so many voxels")
    out = np.empty(shape_of(box), codec.dtype)
    if math.prod(shape_of(blocks_of_box(box, codec.shape))) > len(found):
        out[...] = codec.fill  # some of the box is outside of the array
    for coord, voxels in found.items():
        place = box_of_block(coord, codec.shape)
        part = intersect(box, place)
        out[slices(part, box[0])] = codec.fill if voxels is None else voxels[slices(part, place[0])]
    return out
