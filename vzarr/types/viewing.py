"""Boxes of voxels for viewers, who turn pages: chunks that are asked for a second time stay in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
)
from vzarr.overlay.chunks.codec import ChunkCodec, codec_of
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.reading import regions
from vzarr.overlay.reading.identity import Chunk, Name, identify_all, lasting_view, name_of
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
_NAME = 200
"""Bytes that a name takes, about."""
_MOST_AT_ONCE = 1 << 20
"""Voxels that are put together by who must not wait."""


class _Array(NamedTuple):
    """An array of a version, and how its chunks are stored."""

    view: View
    entry: ArrayEntry
    codec: ChunkCodec


def read_box(version: Version, path: str, box: Box, *, lent: bool = False) -> NDArray[Any]:
    """Voxels of any box of an array that is there, as `Version.read`.

    Parameters
    ----------
    lent
        Whether they may be what is kept in memory, which nobody may change (numpy refuses it).

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
    for coord, key in zip(coords, _keys(view, entry, coords), strict=True):
        voxels = None if key is None else kept.get(key)
        if voxels is not None:
            found[coord] = voxels
    if len(found) < len(coords):
        will_wait("reading voxels")
        wanted = [coord for coord in coords if coord not in found]
        missing = dict(zip(wanted, identify_all(view, entry, wanted), strict=True))
        again = [chunk is not None and kept.asked_before(chunk.name) for chunk in missing.values()]
        if not any(again):
            return version.read(path, *box)
        found.update(zip(wanted, share(lambda coord: _whole(array, coord, missing[coord]), wanted), strict=True))
    if lent and len(found) == 1:
        ((coord, voxels),) = found.items()
        if voxels is not None and box_of_block(coord, array.codec.shape) == box:
            return voxels
    return _put_together(array, box, found)


def _keys(view: View, entry: ArrayEntry, coords: Sequence[Coord]) -> Sequence[Name | None]:
    """Under which names chunks are kept; those of a sealed version are named once for who turns pages."""
    lasting = lasting_view(view, entry)
    if lasting is None:
        return [None if chunk is None else _key(chunk) for chunk in identify_all(view, entry, coords)]
    spec = entry.spec
    if not coords:
        return ()
    these = (*name_of(lasting), entry.id, spec.prefix, spec.separator, coords[0], coords[-1])
    keys: Sequence[Name | None] | None = kept.get(these)
    if keys is None:
        keys = [None if chunk is None else _key(chunk) for chunk in identify_all(lasting, entry, coords)]
        kept.put(these, keys, _NAME * len(keys))
    return keys


def _key(chunk: Chunk) -> Name:
    """Under which name a chunk is kept."""
    return (*chunk.name, "voxels")


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
    kept.put(_key(chunk), voxels, voxels.nbytes)
    return voxels


def _part(first: int, edge: int, lo: int, hi: int) -> tuple[slice, slice]:
    begin, end = max(first, lo), min(first + edge, hi)
    return slice(begin - lo, end - lo), slice(begin - first, end - first)


def _put_together(array: _Array, box: Box, found: Mapping[Coord, NDArray[Any] | None]) -> NDArray[Any]:
    codec = array.codec
    if math.prod(shape_of(box)) > _MOST_AT_ONCE:
        will_wait("copying so many voxels")
    out = np.empty(shape_of(box), codec.dtype)
    if len(found) < math.prod(shape_of(blocks_of_box(box, codec.shape))):
        out[...] = codec.fill  # some of the box is outside of the array
    # Per axis and chunk coordinate: where its part of the box lies in the result, and where in the chunk.
    parts = [
        {c: _part(c * edge, edge, lo, hi) for c in {coord[axis] for coord in found}}
        for axis, (lo, hi, edge) in enumerate(zip(*box, codec.shape, strict=True))
    ]
    for coord, voxels in found.items():
        within = [part[c] for part, c in zip(parts, coord, strict=True)]
        there = tuple([place for place, _ in within])
        out[there] = codec.fill if voxels is None else voxels[tuple([place for _, place in within])]
    return out
