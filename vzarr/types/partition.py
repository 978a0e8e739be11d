"""Cutting a ROI into subvolumes for work that is done piece by piece (DVID HTTP API, ``GET D/partition``).

Everything here is in blocks, zyx; boxes have an exclusive upper corner.  Layers of z are cut into strips of y, and
those along x.  Nothing is looked at that holds no span, so that far-flung ROIs cost no more than their spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr import geometry
from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, Coord

MOST = 1_000_000
"""How many subvolumes may lie between the first and last blocks of strips."""

LARGEST = 1 << 14
"""Blocks along the edge of a subvolume, at most; so that those of `MOST` subvolumes are a number of 64 bits."""

_NOTHING: Box = ((2**31 - 1,) * 3, (-(2**31) + 1,) * 3)
"""What an empty ROI lies in, by the numbers with which DVID says so."""

Spans = NDArray[np.int64]


@dataclass(frozen=True)
class Subvolume:
    """A box of blocks.

    Parameters
    ----------
    box
        Its corners.
    total, active
        How many blocks it counts for, and how many of them belong to the ROI.
    widened
        Whether it took over blocks beside the box that it began as.
    """

    box: Box
    total: int
    active: int
    widened: bool = False


def partition_json(spans: Spans, block_zyx: Coord, size: int, *, optimized: bool = False) -> dict[str, Any]:
    """DVID's JSON about subvolumes that cover a ROI.

    Parameters
    ----------
    spans
        Blocks of the ROI, shape (n, 4): z, y, x0, x1, sorted and disjoint.
    block_zyx
        Edges of a block, in voxels.
    size
        Edge of a subvolume, in blocks.
    optimized
        Whether subvolumes may differ in size (see `fitted`) instead of making a `grid`.

    Raises
    ------
    InvalidInputError
        If the size is not from 1 to `LARGEST`, or so small that more than `MOST` subvolumes lie between first and last
        blocks.
    """
    if not 0 < size <= LARGEST:
        raise InvalidInputError(f"batchsize should be from 1 to {LARGEST} blocks, not {size}")
    found = fitted(spans, size) if optimized else grid(spans, size)
    lo, hi = _around(spans)
    return {
        "NumTotalBlocks": sum(s.total for s in found),
        "NumActiveBlocks": sum(s.active for s in found),
        "NumSubvolumes": len(found),
        "ROI": {"MinChunk": _xyz(lo), "MaxChunk": _xyz([c - 1 for c in hi])},
        "Subvolumes": [_subvolume_json(s, block_zyx) for s in found],
    }


def _subvolume_json(subvolume: Subvolume, block_zyx: Coord) -> dict[str, Any]:
    lo, hi = subvolume.box
    # The reference names the last voxel, but of a widened subvolume the first one of the last block.
    last = [(c - 1) * b if subvolume.widened else c * b - 1 for c, b in zip(hi, block_zyx, strict=True)]
    return {
        "MinPoint": _xyz([c * b for c, b in zip(lo, block_zyx, strict=True)]),
        "MaxPoint": _xyz(last),
        "MinChunk": _xyz(lo),
        "MaxChunk": _xyz([c - 1 for c in hi]),
        "TotalBlocks": subvolume.total,
        "ActiveBlocks": subvolume.active,
    }


def _xyz(zyx: Sequence[int]) -> list[int]:
    return list(geometry.reverse(zyx))


def _around(spans: Spans) -> Box:
    if not len(spans):
        return _NOTHING
    lo, hi = spans[:, :3].min(0), spans[:, [0, 1, 3]].max(0) + 1
    return tuple(lo.tolist()), tuple(hi.tolist())


# ---------------------------------------------------------------- subvolumes of one size


def grid(spans: Spans, size: int) -> list[Subvolume]:
    """Cubes that hold a block of the ROI; each layer, and each strip in it, has a grid of its own around its blocks."""
    found: list[Subvolume] = []
    for z, layer in _slabs(spans, 0, size, _centred(spans[:, 0], size)):
        for y, strip in _slabs(layer, 1, size, _centred(layer[:, 1], size)):
            columns = _Columns.of(strip)
            _check_count(len(found) + columns.extent // size)
            edges = np.arange(_centred(strip[:, 2:], size), columns.end + size, size)
            active = np.diff(columns.blocks_before(edges))
            for x, n in zip(edges[:-1][active > 0].tolist(), active[active > 0].tolist(), strict=True):
                found.append(Subvolume(((z, y, x), (z + size, y + size, x + size)), size**3, n))
    return found


def _centred(values: NDArray[np.int64], size: int) -> int:
    """Where steps of `size` begin: half of what whole steps leave over stands out before the first value."""
    if not values.size:
        return 0
    low, high = int(values.min()), int(values.max())
    return low - (high - low + 1) % size // 2


def _slabs(spans: Spans, axis: int, size: int, begin: int) -> Iterator[tuple[int, Spans]]:
    """Slabs of `size` across an axis that hold a span: where they begin, and their spans."""
    for number, inside in _grouped(spans, (spans[:, axis] - begin) // size):
        yield begin + number * size, inside


def _grouped(spans: Spans, numbers: NDArray[np.int64]) -> Iterator[tuple[int, Spans]]:
    order = np.argsort(numbers, kind="stable")
    present, first = np.unique(numbers[order], return_index=True)
    for number, (a, b) in zip(present.tolist(), pairwise([*first.tolist(), len(spans)]), strict=True):
        yield number, spans[order[a:b]]


# ---------------------------------------------------------------- subvolumes that fit


def fitted(spans: Spans, size: int) -> list[Subvolume]:
    """Boxes without empty columns; what whole steps leave over makes the first ones longer by a block.

    Along a strip, a box that would have empty columns ends before the longest stretch of them, and what it holds
    until there goes to the subvolume before it, which becomes a box around both.
    """
    found: list[Subvolume] = []
    for (z, z_end), layer in _long_slabs(spans, 0, size):
        for (y, y_end), strip in _long_slabs(layer, 1, size):
            columns = _Columns.of(strip)
            _check_count(len(found) + columns.extent // size)
            for x, x_end, whole in _steps(columns, size):
                box = ((z, y, x), (z_end, y_end, x_end))
                total = int(np.prod(geometry.shape_of(box), dtype=object))
                piece = Subvolume(box, total, int(np.diff(columns.blocks_before(np.array([x, x_end])))[0]))
                if whole or not found:
                    found.append(piece)
                else:
                    found[-1] = _both(found[-1], piece)
    return found


def _long_slabs(spans: Spans, axis: int, size: int) -> Iterator[tuple[tuple[int, int], Spans]]:
    """Slabs across an axis that hold a span, the first ones longer by one: their ends, and their spans."""
    if not len(spans):
        return
    begin, high = int(spans[:, axis].min()), int(spans[:, axis].max())
    longer = (high - begin + 1) % size
    offset = spans[:, axis] - begin
    behind = offset - longer * (size + 1)
    for n, inside in _grouped(spans, np.where(behind < 0, offset // (size + 1), longer + behind // size)):
        yield (begin + n * size + min(n, longer), begin + (n + 1) * size + min(n + 1, longer)), inside


def _steps(columns: _Columns, size: int) -> Iterator[tuple[int, int, bool]]:
    """Pieces along x: where they begin and end, and whether each is a subvolume or belongs to the one before."""
    at, longer = columns.begin, columns.extent % size
    while at < columns.end:
        end, longer = at + size + (longer > 0), max(0, longer - 1)
        hole = columns.longest_hole(at, end)
        if hole is None:
            yield at, end, True
            at = end
        else:
            if hole[0] > at:
                yield at, hole[0], False
            at = hole[1]


def _both(a: Subvolume, b: Subvolume) -> Subvolume:
    box = geometry.union(a.box, b.box) or a.box
    return replace(a, box=box, total=a.total + b.total, active=a.active + b.active, widened=True)


# ---------------------------------------------------------------- along x


@dataclass(frozen=True)
class _Columns:
    """The blocks of a strip, seen along x.

    Parameters
    ----------
    starts, ends
        Where spans begin and end (exclusive), each sorted by itself.
    runs
        Columns with a block: begins and ends (exclusive) of runs, shape (2, n).
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    runs: NDArray[np.int64]

    @classmethod
    def of(cls, spans: Spans) -> _Columns:
        starts, ends = np.sort(spans[:, 2]), np.sort(spans[:, 3]) + 1
        # The n-th begin and the end before it, both in order, have a hole between them if they don't meet.
        hole = np.flatnonzero(starts[1:] > ends[:-1])
        runs = np.stack([starts[np.append(0, hole + 1)], ends[np.append(hole, len(ends) - 1)]])
        return cls(starts, ends, runs)

    @property
    def begin(self) -> int:
        """First column with a block."""
        return int(self.starts[0])

    @property
    def end(self) -> int:
        """Column behind the last one with a block."""
        return int(self.ends[-1])

    @property
    def extent(self) -> int:
        """Columns from the first to the last."""
        return self.end - self.begin

    def blocks_before(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many blocks lie before each of some columns."""
        return _passed(self.starts, x) - _passed(self.ends, x)

    def longest_hole(self, lo: int, hi: int) -> tuple[int, int] | None:
        """Longest stretch of columns without a block (of equal ones the first) in a range; None without any."""
        met = slice(np.searchsorted(self.runs[1], lo, "right"), np.searchsorted(self.runs[0], hi, "left"))
        begins, ends = np.append(lo, self.runs[1, met]), np.append(self.runs[0, met], hi)
        n = int(np.argmax(ends - begins))
        return (int(begins[n]), int(ends[n])) if ends[n] > begins[n] else None


def _passed(places: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum over all `places` (sorted) before each x of how far they lie before it."""
    count = np.searchsorted(places, x)
    found: NDArray[np.int64] = count * x - np.append(0, np.cumsum(places))[count]
    return found


def _check_count(count: int) -> None:
    if count > MOST:
        raise InvalidInputError(f"such a batchsize cuts what the ROI spans into more than {MOST} subvolumes")
