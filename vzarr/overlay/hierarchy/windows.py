"""Which voxels an array covers: its window, and how a window is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import orjson

from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, Coord
from vzarr.overlay.hierarchy.tree import FARTHEST, V3_DOC, ArrayEntry


def with_window(entry: ArrayEntry, box: Box, step: int = 1, *, exact: bool = False) -> ArrayEntry:
    """An array whose window also covers a box of voxels (global coordinates), or with `exact` is that box.

    Parameters
    ----------
    box
        The box, upper corner exclusive.
    step
        The window's first voxel stays a multiple of chunk shape times `step`, so that the scales of a pyramid
        keep meeting as they grow.  It only moves for voxels below it: space from 0 on needs no origin.

    Raises
    ------
    InvalidInputError
        If the window would have to start elsewhere, and the chunk grid is not regular; or, with `exact`, if no chunk
        begins where the box does.
    """
    spec = entry.spec
    origin, end = box if exact else entry.window
    if exact and any(o % c if c else o for o, c in zip(origin, spec.chunks or (0,) * spec.ndim, strict=True)):
        raise InvalidInputError(f"no chunk of {entry.id.path!r} begins at {origin}; chunks are {spec.chunks}")
    if exact and any(b < a for a, b in zip(*box, strict=True)):
        raise InvalidInputError(f"a box that begins at {box[0]} cannot end at {box[1]}")
    if any(abs(n) > FARTHEST for corner in box for n in corner):
        raise InvalidInputError(f"array {entry.id.path!r} cannot reach {box}: that is farther from 0 than 10^17")
    if any(a < o for a, o in zip(box[0], origin, strict=True)):
        if spec.chunks is None:
            raise InvalidInputError("an array with an irregular chunk grid cannot grow below its first voxel")
        grain = [c * step for c in spec.chunks]
        origin = tuple(min(o, a // g * g) for a, o, g in zip(box[0], origin, grain, strict=True))
    shape = tuple(max(e, b) - o for o, e, b in zip(origin, end, box[1], strict=True))
    if shape == spec.shape and origin == entry.window[0]:
        return entry
    return replace(entry, docs=_reshaped(entry.docs, shape), origin=origin if any(origin) else ())


def seen_from(entry: ArrayEntry, origin: Coord) -> ArrayEntry:
    """An array as who took `origin` for its first voxel sees it: what lies before is out of sight."""
    if origin == entry.origin:
        return entry
    end = entry.window[1]
    lo = origin or (0,) * entry.spec.ndim
    shape = tuple(max(0, b - a) for a, b in zip(lo, end, strict=True))
    return replace(entry, docs=_reshaped(entry.docs, shape), origin=origin)


def with_shape(data: bytes, shape: Coord) -> bytes:
    """An array's document with another shape."""
    return orjson.dumps({**orjson.loads(data), "shape": list(shape)}, option=orjson.OPT_INDENT_2)


def _reshaped(docs: Mapping[str, bytes], shape: Coord) -> dict[str, bytes]:
    name = V3_DOC if V3_DOC in docs else ".zarray"
    return {**docs, name: with_shape(docs[name], shape)}
