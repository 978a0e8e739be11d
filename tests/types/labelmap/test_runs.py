"""Runs against sets of voxels, the plainest twin there is."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import runs as r

LAST = 2**31 - 1
masks = hnp.arrays(np.bool_, st.tuples(*[st.integers(0, 6)] * 3))
origins = st.tuples(*[st.integers(-1000, 1000)] * 3)
small = st.integers(-8, 8)
some_runs = st.lists(st.tuples(small, small, small, st.integers(1, 20)), max_size=12).map(
    lambda rows: np.array(rows, np.int32).reshape(-1, 4)
)
boxes = st.tuples(st.tuples(small, small, small), st.tuples(*[st.integers(0, 9)] * 3)).map(
    lambda b: (b[0], tuple(lo + n for lo, n in zip(*b, strict=True)))
)


def voxels(runs: np.ndarray) -> set[tuple[int, int, int]]:
    """(z, y, x) of every voxel."""
    return {(z, y, x + i) for x, y, z, length in runs.tolist() for i in range(length)}


def in_box(points: set[tuple[int, int, int]], box) -> set[tuple[int, int, int]]:
    return {p for p in points if all(a <= v < b for v, a, b in zip(p, *box, strict=True))}


def is_joined(runs: np.ndarray) -> bool:
    """Sorted by z, y, x with a gap between runs of a row, and typed as promised."""
    rows = [(z, y, x, length) for x, y, z, length in runs.tolist()]
    gaps = all(a[:2] != b[:2] or a[2] + a[3] < b[2] for a, b in pairwise(rows))
    return rows == sorted(rows) and gaps and runs.dtype == np.int32 and runs.shape == (len(rows), 4)


@given(masks, origins)
def test_runs_of_a_mask(mask: np.ndarray, origin: tuple[int, int, int]):
    runs = r.runs_of_mask(mask, origin)
    assert is_joined(runs)
    expected = {tuple(int(v) + o for v, o in zip(at, origin, strict=True)) for at in np.argwhere(mask)}
    assert voxels(runs) == expected
    assert r.count_voxels(runs) == len(expected)
    box = (origin, tuple(o + n for o, n in zip(origin, mask.shape, strict=True)))
    assert (r.runs_to_mask(runs, box) == mask).all()


def test_printed_example():
    a = np.zeros((16, 16, 16), np.bool_)
    a[0, 0, 0:5] = True
    assert r.runs_of_mask(a).tolist() == [[0, 0, 0, 5]]


@given(some_runs)
def test_joining_makes_the_union(runs: np.ndarray):
    before = runs.copy()
    joined = r.join_runs(runs)
    assert is_joined(joined)
    assert voxels(joined) == voxels(runs)
    assert (runs == before).all()


def test_joining_at_the_ends_of_the_world():
    """Rows so far apart that no single number can hold a plain (z, y, x) key."""
    rows = [[x, y, z, 3] for x, y, z in product((-LAST - 1, 0, LAST - 2), (-LAST - 1, LAST), (-LAST - 1, LAST))]
    rows += [[-LAST + 2, -LAST - 1, -LAST - 1, 2]]
    runs = np.array(rows, np.int32)
    joined = r.join_runs(runs[::-1])
    assert is_joined(joined)
    assert voxels(joined) == voxels(runs)
    assert joined[0].tolist() == [-LAST - 1, -LAST - 1, -LAST - 1, 5]


def test_a_joined_run_too_long_for_int32():
    with pytest.raises(InvalidInputError):
        r.join_runs(np.array([[-LAST - 1, 0, 0, LAST], [-1, 0, 0, LAST]], np.int32))


@given(masks, st.tuples(*[st.integers(-3, 3)] * 3))
def test_runs_do_not_show_where_blocks_meet(mask: np.ndarray, corner: tuple[int, int, int]):
    """A mask cut into blocks of 2 x 3 x 2 gives the runs of the whole."""
    block = (2, 3, 2)
    whole = np.zeros([-(-n // b) * b for n, b in zip(mask.shape, block, strict=True)], np.bool_)
    whole[tuple(slice(n) for n in mask.shape)] = mask
    parts = []
    for at in product(*(range(n // b) for n, b in zip(whole.shape, block, strict=True))):
        cut = whole[tuple(slice(i * b, i * b + b) for i, b in zip(at, block, strict=True))]
        parts.append((tuple(i + c for i, c in zip(at, corner, strict=True)), cut))
    origin = [c * b for c, b in zip(corner, block, strict=True)]
    assert r.runs_of_blocks(parts[::-1]).tolist() == r.runs_of_mask(mask, origin).tolist()


def test_no_blocks_no_runs():
    assert r.runs_of_blocks([]).tolist() == []
    assert list(r.runs_by_block(r.no_runs(), (8, 8, 8))) == []


@given(hnp.arrays(np.int64, st.tuples(st.integers(0, 20), st.just(3)), elements=st.integers(-3, 3)))
def test_runs_of_coords(coords: np.ndarray):
    runs = r.runs_of_coords(coords)
    assert is_joined(runs)
    assert voxels(runs) == {tuple(c) for c in coords.tolist()}


def test_printed_coarse_example():
    assert r.runs_of_coords(np.array([[2, 1, -1]])).tolist() == [[-1, 1, 2, 1]]


@given(some_runs, boxes, st.tuples(*[st.booleans()] * 6))
def test_clipping(runs: np.ndarray, box, is_open: tuple[bool, ...]):
    lo, hi = box
    bounds = (
        tuple(None if o else v for v, o in zip(lo, is_open[:3], strict=True)),
        tuple(None if o else v for v, o in zip(hi, is_open[3:], strict=True)),
    )
    closed = (
        tuple(-1000 if v is None else v for v in bounds[0]),
        tuple(1000 if v is None else v for v in bounds[1]),
    )
    clipped = r.clip_runs(runs, bounds)
    assert clipped.dtype == np.int32
    assert (clipped[:, 3] > 0).all()
    assert voxels(clipped) == in_box(voxels(runs), closed)


@given(some_runs, boxes)
def test_masks_of_overlapping_runs(runs: np.ndarray, box):
    mask = r.runs_to_mask(runs, box)
    assert mask.shape == tuple(b - a for a, b in zip(*box, strict=True))
    found = {tuple(int(v) + lo for v, lo in zip(at, box[0], strict=True)) for at in np.argwhere(mask)}
    assert found == in_box(voxels(runs), box)


@given(some_runs, st.tuples(*[st.integers(1, 9)] * 3))
def test_runs_by_block(runs: np.ndarray, block: tuple[int, int, int]):
    groups = list(r.runs_by_block(runs, block))
    coords = [coord for coord, _ in groups]
    assert coords == sorted(set(coords))
    for coord, part in groups:
        lo = tuple(c * b for c, b in zip(coord, block, strict=True))
        box = (lo, tuple(v + b for v, b in zip(lo, block, strict=True)))
        assert len(part)
        assert voxels(part) == in_box(voxels(runs), box)
    assert sum(r.count_voxels(part) for _, part in groups) == r.count_voxels(runs)
