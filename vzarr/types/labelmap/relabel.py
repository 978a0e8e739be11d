"""From supervoxels to bodies in volumes: look-ups per label, not per voxel.

Labels are numbered first, in one pass; what follows works on a table of them, and on numbers of a byte or two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vzarr.types.labelmap.kernels import number_labels
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.runs import FEW, Mask

Lookup = Callable[[Labels], Labels]

_PIECE = 1 << 22
"""Voxels looked at in one go; bounds the memory for numbers."""


def relabel(volume: Labels, lookup: Lookup) -> Labels:
    """Labels of a volume replaced.

    Parameters
    ----------
    volume
        uint64, any shape.
    lookup
        Gives the new labels of unique ones, which come in no set order.

    Returns
    -------
    ndarray
        A new array, or `volume` itself when nothing in it changes.
    """
    flat = volume.reshape(-1)
    out: Labels | None = None
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        index, old = number_labels(piece)
        new = lookup(old)
        if not np.array_equal(new, old):
            out = flat.copy() if out is None else out
            # "clip" only spares numpy a buffer: every index is within the table.
            np.take(new, index, out=out[start : start + _PIECE], mode="clip")
    return volume if out is None else out.reshape(volume.shape)


def contains(volume: Labels, wanted: Labels, out: Mask | None = None) -> Mask:
    """Mask of the voxels that have one of some labels.

    Parameters
    ----------
    wanted
        uint64, at least one.
    out
        Where to write the mask; fresh memory by default.
    """
    mask = np.empty(volume.shape, np.bool_) if out is None else out
    if wanted.size <= FEW:
        np.equal(volume, wanted[0], out=mask)
        for label in wanted[1:]:
            mask |= volume == label
    else:
        index, labels = number_labels(volume)
        mask[...] = np.isin(labels, wanted)[index]
    return mask
