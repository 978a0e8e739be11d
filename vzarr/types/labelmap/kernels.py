"""What happens to voxels: the 2x2x2 vote between scales, counting labels, numbering them. Pure and vectorised."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError

Labels = NDArray[np.uint64]


def downsample_labels(a: Labels) -> Labels:
    """Halve a label volume along every axis by vote, as DVID does.

    Of each 2x2x2 voxels the most frequent label other than 0 wins, the smallest of several; 0 wins only where
    all eight are 0.

    Parameters
    ----------
    a
        uint64 (or any unsigned integer) zyx array with even sides.

    Returns
    -------
    ndarray
        Same dtype, half of each side.

    Raises
    ------
    InvalidInputError
        Not three axes, or an odd side.
    """
    _check_even(a.shape)
    z, y, x = (n // 2 for n in a.shape)
    # One strided pass over the volume; all that follows is on memory in one piece.
    corners = np.ascontiguousarray(a.reshape(z, 2, y, 2, x, 2).transpose(1, 3, 5, 0, 2, 4)).reshape(8, -1)
    out: Labels = corners[0].copy()
    mixed = np.flatnonzero((corners[1:] != out).any(0))
    if mixed.size:
        # Most octets of a segmentation are uniform; only the others vote.
        out[mixed] = _vote(corners[:, mixed])
    return out.reshape(z, y, x)


def downsample_gray(a: NDArray[Any]) -> NDArray[Any]:
    """Halve an image along its first three axes by the mean of 2x2x2 voxels.

    Integers of every width are averaged exactly and rounded to the nearest, halves up; floats are averaged in
    float64 and stay what they are.

    Parameters
    ----------
    a
        zyx array with even sides, maybe with channels as further axes.

    Raises
    ------
    InvalidInputError
        Fewer than three axes, an odd side, or neither integers nor floats.
    """
    _check_even(a.shape[:3])
    if a.dtype.kind == "f":
        return (_sum_octets(a, np.float64) / 8).astype(a.dtype)
    if a.dtype.kind not in "iu":
        raise InvalidInputError(f"cannot average voxels of type {a.dtype}")
    if a.dtype.itemsize < 8:
        wide = np.uint16 if a.dtype == np.uint8 else np.int64
        total: NDArray[Any] = _sum_octets(a, wide)
        total += wide(4)
        total >>= wide(3)
        return total.astype(a.dtype)
    # Eight 64-bit values overflow their sum, eight of their eighths do not.
    kind = a.dtype.type
    rest = (_sum_octets(a & kind(7), kind) + kind(4)) >> kind(3)
    mean: NDArray[Any] = _sum_octets(a >> kind(3), kind) + rest
    return mean


def count_labels(block: Labels) -> tuple[Labels, NDArray[np.uint32]]:
    """Voxels of each label other than 0.

    Parameters
    ----------
    block
        uint64 array of any shape, less than 2^32 voxels.

    Returns
    -------
    labels, counts
        uint64 in ascending order, and uint32.
    """
    flat = block.reshape(-1)
    if not flat.size:
        return np.empty(0, np.uint64), np.empty(0, np.uint32)
    # Runs along x are a tenth of the voxels or less, and finding them leaves the interpreter to other threads.
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    index, labels = _numbered(flat[starts])
    counts = np.bincount(index, np.diff(starts, append=flat.size))
    order = np.argsort(labels)
    first = int(labels[order[0]] == 0)
    return labels[order[first:]], counts[order[first:]].astype(np.uint32)


def number_labels(a: Labels) -> tuple[NDArray[Any], Labels]:
    """Small numbers in place of labels, and the label of each number, in no set order; one pass without sorting.

    Parameters
    ----------
    a
        uint64, any shape, at least one voxel.

    Returns
    -------
    index, labels
        The smallest unsigned type that fits, shape of `a`; and uint64.
    """
    flat = a.reshape(-1)
    if flat.size and flat[0] == flat[-1] and (flat == flat[0]).all():
        # Where a body is thick, whole blocks are; and comparing costs a fraction of numbering.
        return np.zeros(a.shape, np.uint8), np.array([flat[0]], np.uint64)
    return _numbered(a)


def _numbered(a: Labels) -> tuple[NDArray[Any], Labels]:
    """See `number_labels`."""
    index, numbers = fastremap.renumber(np.ascontiguousarray(a), start=0, preserve_zero=False, in_place=False)
    labels = np.empty(len(numbers), np.uint64)
    labels[np.fromiter(numbers.values(), np.int64, len(numbers))] = np.fromiter(numbers, np.uint64, len(numbers))
    return index, labels


def _check_even(shape_zyx: tuple[int, ...]) -> None:
    if len(shape_zyx) != 3 or any(n % 2 for n in shape_zyx):
        raise InvalidInputError(f"cannot halve a volume of shape {tuple(shape_zyx)} (zyx): sides must be even")


def _vote(columns: Labels) -> Labels:
    """Winner of each of n octets, given as shape (8, n): most frequent non-zero, then smallest."""
    votes = np.ones(columns.shape, np.uint8)
    for i, j in combinations(range(8), 2):
        same = (columns[i] == columns[j]).view(np.uint8)
        votes[i] += same
        votes[j] += same
    votes[columns == 0] = 0
    winner: Labels = columns[0].copy()
    most = votes[0].copy()
    for column, given in zip(columns[1:], votes[1:], strict=True):
        better = (given > most) | ((given == most) & (column < winner))
        np.copyto(winner, column, where=better)
        np.maximum(most, given, out=most)
    return winner


def _sum_octets(a: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
    """Sum of every 2x2x2 voxels in the given type; x last, because only there the stride hurts."""
    planes: NDArray[Any] = np.add(a[::2], a[1::2], dtype=dtype)
    rows: NDArray[Any] = planes[:, ::2] + planes[:, 1::2]
    total: NDArray[Any] = rows[:, :, ::2] + rows[:, :, 1::2]
    return total
