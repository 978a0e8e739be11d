"""From supervoxels to bodies in volumes: look-ups per label, not per voxel.

Labels are numbered first, in one pass; what follows works on a table of them, and on numbers of a byte or two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.types.labelmap.kernels import number_labels
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.runs import Mask

Lookup = Callable[[Labels], Labels]

_PIECE = 1 << 22
"""Voxels looked at in one go; bounds the memory for numbers."""
FEW = 20
"""So many labels are searched one by one."""


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


def contains(
    volume: NDArray[np.unsignedinteger[Any]], wanted: NDArray[np.unsignedinteger[Any]], out: Mask | None = None
) -> Mask:
    """Mask of the voxels that have one of some labels.

    Parameters
    ----------
    volume
        Unsigned integers, C-contiguous.
    wanted
        Of the same type, at least one.
    out
        Where to write the mask; fresh memory by default.
    """
    mask = np.empty(volume.shape, np.bool_) if out is None else out
    if wanted.size <= FEW or not volume.size:
        np.equal(volume, wanted[0], out=mask)
        for label in wanted[1:]:
            mask |= volume == label
        return mask
    # Whatever is not a comparison works on one voxel per run of equal labels, a tenth of them on real data.
    flat = volume.reshape(-1)
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    number, labels = number_labels(flat[starts])
    hits = np.isin(labels, wanted)[number]
    mask[...] = np.repeat(hits, np.diff(starts, append=flat.size)).reshape(volume.shape)
    return mask
