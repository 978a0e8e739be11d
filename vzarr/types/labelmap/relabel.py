"""From supervoxels to bodies in volumes: look-ups per label, not per voxel.

Labels come in runs along a row, a tenth of the voxels on real data, so everything that sorts works on one
voxel per run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.runs import Mask

Lookup = Callable[[Labels], Labels]

_PIECE = 1 << 22
"""Voxels looked at in one go; bounds the memory for runs."""


def relabel(volume: Labels, lookup: Lookup) -> Labels:
    """Labels of a volume replaced.

    Parameters
    ----------
    volume
        uint64, any shape.
    lookup
        Gives the new labels of unique ones, ascending.

    Returns
    -------
    ndarray
        A new array, or `volume` itself when nothing in it changes.
    """
    flat = volume.reshape(-1)
    out: Labels | None = None
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        starts = _run_starts(piece)
        old, inverse = np.unique(piece[starts], return_inverse=True)
        new = lookup(old)
        if not np.array_equal(new, old):
            out = flat.copy() if out is None else out
            out[start : start + _PIECE] = np.repeat(new[inverse], np.diff(starts, append=piece.size))
    return volume if out is None else out.reshape(volume.shape)


def _run_starts(flat: Labels) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    changes = np.empty(flat.size, np.bool_)
    changes[:1] = True
    np.not_equal(flat[1:], flat[:-1], out=changes[1:])
    return np.flatnonzero(changes)


def contains(volume: Labels, wanted: Labels) -> Mask:
    """Mask of the voxels that have one of some labels.

    Parameters
    ----------
    wanted
        uint64, ascending, at least one.
    """
    if wanted.size == 1:
        same: Mask = volume == wanted[0]
        return same
    flat = volume.reshape(-1)
    starts = _run_starts(flat)
    heads = flat[starts]
    at = np.minimum(np.searchsorted(wanted, heads), wanted.size - 1)
    hits = wanted[at] == heads
    mask: Mask = np.repeat(hits, np.diff(starts, append=flat.size)).reshape(volume.shape)
    return mask
