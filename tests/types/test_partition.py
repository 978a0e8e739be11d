"""Partitions of ROIs: every block once, boxes that count right, and the reference's recorded cut."""

from __future__ import annotations

from itertools import product

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types import partition, roi

COORDINATE = st.integers(-9, 9)
SPANS = st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE, st.integers(0, 5)), max_size=12).map(
    lambda found: roi.normalised(np.array([[z, y, x, x + n] for z, y, x, n in found], np.int64).reshape(-1, 4))
)
SIZES = st.integers(1, 7)


def _blocks(spans) -> set[tuple[int, ...]]:
    return {(z, y, x) for z, y, x0, x1 in spans.tolist() for x in range(x0, x1 + 1)}


def _inside(subvolume) -> set[tuple[int, ...]]:
    return set(product(*(range(a, b) for a, b in zip(*subvolume.box, strict=True))))


@given(SPANS, SIZES)
def test_a_grid_holds_every_block_in_one_cube_and_no_empty_cube(spans, size: int):
    blocks, seen = _blocks(spans), set()
    for cube in partition.grid(spans, size):
        inside = _inside(cube)
        assert {b - a for a, b in zip(*cube.box, strict=True)} == {size}
        assert (cube.total, cube.active) == (size**3, len(inside & blocks))
        assert cube.active > 0
        assert not inside & seen
        seen |= inside
    assert blocks <= seen


@given(SPANS, SIZES)
def test_fitted_boxes_count_every_block_once(spans, size: int):
    blocks, found = _blocks(spans), partition.fitted(spans, size)
    assert sum(s.active for s in found) == len(blocks)
    assert blocks <= set().union(*map(_inside, found))
    for box in found:
        if not box.widened:
            inside = _inside(box)
            assert (box.total, box.active) == (len(inside), len(inside & blocks))
            assert all(b - a <= size + 1 for a, b in zip(*box.box, strict=True))


def test_what_is_left_before_a_hole_goes_to_the_subvolume_before():
    spans = np.array([[0, 0, 0, 3], [0, 1, 0, 2], [0, 0, 9, 9], [0, 1, 9, 9]])
    assert partition.fitted(spans, 2) == [
        partition.Subvolume(((0, 0, 0), (3, 2, 2)), 12, 4),
        partition.Subvolume(((0, 0, 2), (3, 2, 10)), 12 + 6, 3 + 2, widened=True),
    ]


def test_a_first_piece_with_none_before_it_is_a_subvolume():
    assert partition.fitted(np.array([[4, 4, 4, 4], [4, 4, 6, 6]]), 3) == [
        partition.Subvolume(((4, 4, 4), (8, 8, 7)), 16 + 16, 2, widened=True)
    ]


def test_a_far_flung_roi_costs_no_more_than_its_spans():
    far = 1 << 30
    spans = np.array([[-far, -far, -far, -far], [far, -far, 0, 0], [far, far, far - 5, far]])
    for cut in (partition.grid, partition.fitted):
        assert sum(s.active for s in cut(spans, 8)) == 8


def test_sizes_that_cannot_be():
    spans = np.array([[0, 0, 0, 1 << 30]])
    for size in (0, -2, 1):
        with pytest.raises(InvalidInputError, match="batchsize"):
            partition.partition_json(spans, (32, 32, 32), size)
        with pytest.raises(InvalidInputError, match="batchsize"):
            partition.partition_json(spans, (32, 32, 32), size, optimized=True)


@pytest.mark.parametrize("optimized", [False, True])
def test_counts_fit_into_64_bits(optimized: bool):
    far = 1 << 30
    spans = np.array([[z, y, x, x] for z in (-far, far) for y in (-far, far) for x in (-far, far)])
    assert orjson.dumps(partition.partition_json(spans, (32, 32, 32), partition.LARGEST, optimized=optimized))
    for size in (partition.LARGEST + 1, 3_000_000, 1 << 62, 10**30):
        with pytest.raises(InvalidInputError, match="batchsize should be from 1 to 16384 blocks"):
            partition.partition_json(spans, (32, 32, 32), size, optimized=optimized)


def test_nothing_is_cut_into_nothing():
    found = partition.partition_json(np.zeros((0, 4), np.int64), (32, 32, 32), 4)
    assert (found["NumSubvolumes"], found["NumTotalBlocks"], found["Subvolumes"]) == (0, 0, [])
    assert found["ROI"] == {"MinChunk": [2**31 - 1] * 3, "MaxChunk": [-(2**31)] * 3}


def test_corners_are_given_in_blocks_and_in_voxels():
    found = partition.partition_json(np.array([[-1, 2, 3, 3]]), (2, 3, 5), 1)
    assert found["ROI"] == {"MinChunk": [3, 2, -1], "MaxChunk": [3, 2, -1]}
    assert found["Subvolumes"] == [
        {
            "MinPoint": [15, 6, -2],
            "MaxPoint": [19, 8, -1],
            "MinChunk": [3, 2, -1],
            "MaxChunk": [3, 2, -1],
            "TotalBlocks": 1,
            "ActiveBlocks": 1,
        }
    ]
