"""What happens to voxels: the 2x2x2 vote between scales, counting labels, numbering them. Pure and vectorised."""

from __future__ import annotations

from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError

Labels = NDArray[np.uint64]

# Sorts eight columns in 19 exchanges, the fewest possible (Knuth, The Art of Computer Programming, 5.3.4).
_SORT_8 = [
    *((0, 2), (1, 3), (4, 6), (5, 7)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
    *((0, 1), (2, 3), (4, 5), (6, 7)),
    *((2, 4), (3, 5)),
    *((1, 4), (3, 6)),
    *((1, 2), (3, 4), (5, 6)),
]


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
    corners = _corners(a)
    out = corners[0].copy()
    mixed = np.zeros(out.shape, np.bool_)
    for corner in corners[1:]:
        mixed |= corner != out
    if mixed.any():
        # Most octets of a segmentation are uniform; only the others are gathered and sorted.
        out[mixed] = _vote([corner[mixed] for corner in corners])
    return out


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
    labels, counts = fastremap.unique(flat, return_counts=True)
    first = int(labels[0] == 0)
    return labels[first:].astype(np.uint64), counts[first:].astype(np.uint32)


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
    index, numbers = fastremap.renumber(np.ascontiguousarray(a), start=0, preserve_zero=False, in_place=False)
    labels = np.empty(len(numbers), np.uint64)
    labels[np.fromiter(numbers.values(), np.int64, len(numbers))] = np.fromiter(numbers, np.uint64, len(numbers))
    return index, labels


def _check_even(shape_zyx: tuple[int, ...]) -> None:
    if len(shape_zyx) != 3 or any(n % 2 for n in shape_zyx):
        raise InvalidInputError(f"cannot halve a volume of shape {tuple(shape_zyx)} (zyx): sides must be even")


def _corners(a: Labels) -> list[Labels]:
    """The eight voxels of every octet, as eight views of half the sides."""
    return [a[z::2, y::2, x::2] for z in (0, 1) for y in (0, 1) for x in (0, 1)]


def _vote(columns: list[Labels]) -> Labels:
    """Winner of each row of eight columns, which are used up: most frequent non-zero, then smallest."""
    for i, j in _SORT_8:
        columns[i], columns[j] = np.minimum(columns[i], columns[j]), np.maximum(columns[i], columns[j])
    winner = np.zeros_like(columns[0])
    length = np.zeros(winner.size, np.uint8)
    longest = np.zeros(winner.size, np.uint8)
    previous = winner
    for column in columns:
        # Equal labels stand in a row now. Only a longer run takes over, so the smaller label keeps a tie.
        length = np.where(column == previous, length, 0) + np.uint8(1)
        length[column == 0] = 0
        better = length > longest
        winner = np.where(better, column, winner)
        longest = np.maximum(longest, length)
        previous = column
    return winner


def _sum_octets(a: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
    """Sum of every 2x2x2 voxels in the given type; x last, because only there the stride hurts."""
    planes: NDArray[Any] = np.add(a[::2], a[1::2], dtype=dtype)
    rows: NDArray[Any] = planes[:, ::2] + planes[:, 1::2]
    total: NDArray[Any] = rows[:, :, ::2] + rows[:, :, 1::2]
    return total
