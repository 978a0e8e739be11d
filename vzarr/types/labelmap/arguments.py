"""What Python callers may hand in as labels, runs and volumes, and what the labelmap then works with.

Labels come out of arrays as numpy integers, which are no ints; floats and negative numbers become other labels
without a word when they are cast.  So both are settled here, once, before anything is looked up or written.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.runs import Runs
from vzarr.types.labelmap.tables import as_array

_LARGEST = (1 << 64) - 1


def any_label(value: SupportsIndex) -> int:
    """A label, or the background, as an int.

    Raises
    ------
    InvalidInputError
        If it is no integer of 64 bits without sign.
    """
    try:
        label = operator.index(value)
    except TypeError as e:
        raise InvalidInputError(f"a label is an integer, not {value!r}") from e
    if not 0 <= label <= _LARGEST:
        raise InvalidInputError(f"a label lies between 1 and {_LARGEST}; {label} is none")
    return label


def check_label(value: SupportsIndex) -> int:
    """A label as an int.

    Raises
    ------
    InvalidInputError
        If it is the background, or no integer of 64 bits without sign.
    """
    label = any_label(value)
    if label == 0:
        raise InvalidInputError("Label 0 is protected background value and cannot be used as a label")
    return label


def some_labels(values: Iterable[SupportsIndex]) -> list[int]:
    """Labels, the background among them perhaps, as ints; raises as `any_label`."""
    try:
        labels = list(map(operator.index, values))
    except TypeError as e:
        raise InvalidInputError(f"labels are integers; {e}") from e
    for label in (min(labels), max(labels)) if labels else ():
        any_label(label)
    return labels


def label_array(values: ArrayLike) -> Labels:
    """Labels, the background among them perhaps, in an array of any shape.

    Raises
    ------
    InvalidInputError
        If they are no integers of 64 bits without sign.
    """
    found = as_array(values)
    if not found.size:
        return np.empty(found.shape, np.uint64)
    found = _integers(found, "labels")
    if found.dtype.kind == "i" and found.min() < 0:
        raise InvalidInputError(f"{found.min()} is negative, so it is no label")
    return np.asarray(found, np.uint64)


def some_points(points: ArrayLike) -> NDArray[np.int64]:
    """Voxels.

    Parameters
    ----------
    points
        Integers, shape (n, 3), or (3,) for one.

    Returns
    -------
    ndarray
        int64, shape (n, 3).

    Raises
    ------
    InvalidInputError
        If they have another shape, or are no integers of 64 bits.
    """
    found = _integers(points, "points") if np.size(points) else np.empty((0, 3), np.int64)
    if found.ndim not in (1, 2) or found.shape[-1] != 3:
        raise InvalidInputError(f"points have 3 coordinates (z, y, x), these have shape {found.shape}")
    if found.dtype == np.uint64 and found.max() > np.iinfo(np.int64).max:
        raise InvalidInputError(f"{found.max()} is no coordinate of a voxel")
    return found.astype(np.int64, copy=False).reshape(-1, 3)


def label_volume(array: ArrayLike) -> Labels:
    """Labels of voxels.

    Parameters
    ----------
    array
        Integers or booleans, three-dimensional.

    Returns
    -------
    ndarray
        uint64; `array` itself when it is so already.

    Raises
    ------
    InvalidInputError
        If it has other dimensions, or holds other than integers, or negative ones.
    """
    found = _integers(array, "a volume of labels")
    if found.ndim != 3:
        raise InvalidInputError(f"a volume of labels has 3 dimensions (zyx), not {found.ndim}")
    if found.dtype.kind == "i" and found.size and found.min() < 0:
        raise InvalidInputError(f"{found.min()} is negative, so it is no label")
    return np.asarray(found, np.uint64)


def some_runs(runs: ArrayLike) -> Runs:
    """Runs of voxels along x.

    Parameters
    ----------
    runs
        Integers, shape (n, 4): x, y, z of the first voxel, length.

    Raises
    ------
    InvalidInputError
        If they have another shape, are no integers, or do not fit in 32 bits.
    """
    found = _integers(runs, "runs") if np.size(runs) else np.empty((0, 4), np.int32)
    if found.ndim != 2 or found.shape[1] != 4:
        raise InvalidInputError(f"runs have 4 columns (x, y, z, length), these have shape {found.shape}")
    if not np.can_cast(found.dtype, np.int32) and found.size:
        limits = np.iinfo(np.int32)
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise InvalidInputError("coordinates and lengths of runs are numbers of 32 bits")
    return np.asarray(found, np.int32)


def _integers(array: ArrayLike, what: str) -> NDArray[Any]:
    found = np.asarray(array)
    if found.dtype.kind not in "iub":
        raise InvalidInputError(f"{what} must be integers, not {found.dtype}")
    return found
