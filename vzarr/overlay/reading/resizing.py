"""Changing which voxels an array covers: growth on any side, and cutting it to a box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, blocks_of_box
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.reading.regions import Editable, point


def cover(view: Editable, path: str, entry: ArrayEntry, box: Box, step: int = 1) -> None:
    """Make an array's window cover a box of voxels, unless it does."""
    lo, hi = entry.window
    empty = any(n == 0 for n in entry.spec.shape)
    if empty or not all(c <= a and b <= d for a, b, c, d in zip(*box, lo, hi, strict=True)):
        view.grow(path, box, step)


def grow(
    view: Editable, path: str, entry: ArrayEntry, before: Sequence[int], after: Sequence[int], step: int = 1
) -> None:
    """Make an array cover more voxels before its first and after its last, per axis.

    Raises
    ------
    InvalidInputError
        If a number is negative or no integer, or there are not as many as axes.
    """
    before, after = point(entry, before), point(entry, after)
    if any(n < 0 for n in (*before, *after)):
        raise InvalidInputError(f"an array grows by 0 or more voxels, not by {(*before, *after)}; to cut it, resize it")
    lo, hi = entry.window
    start = tuple(a - b for a, b in zip(lo, before, strict=True))
    view.grow(path, (start, tuple(a + b for a, b in zip(hi, after, strict=True))), step)


def resize(view: Editable, path: str, entry: ArrayEntry, box: Box) -> None:
    """Make an array's window a box of voxels, and delete the chunks that lie wholly outside.

    Raises
    ------
    InvalidInputError
        If the box ends before it begins, or begins where no chunk does.
    """
    if entry.spec.chunks is None:
        raise InvalidInputError(f"the chunk grid of {path!r} is not regular: only zarr can resize it")
    # The window first: readers see the new box at once, and who dies meanwhile may do it again.
    view.grow(path, box, exact=True)
    if entry.spec.ndim:
        lo, hi = (np.array(corner, np.int64) for corner in blocks_of_box(box, entry.spec.chunks))
        coords = view.chunk_coords(entry)
        for coord in coords[np.any((coords < lo) | (coords >= hi), axis=1)].tolist():
            view.delete_chunk(entry, tuple(coord))
