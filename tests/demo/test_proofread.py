"""What the tour's checks rest on: tables, overlaps and runs, each against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vzarr.demo.proofread import body_volume, complete, largest_overlap, promise, voxels_of
from vzarr.errors import VzarrError

volumes = hnp.arrays(np.uint64, (3, 4, 5), elements=st.integers(0, 6))


def test_a_broken_promise_stops_the_tour():
    promise(True, "fine")
    with pytest.raises(VzarrError, match="does not hold: water is wet"):
        promise(False, "water is wet")


def test_a_complete_table_has_every_supervoxel_and_no_other():
    mapping = np.array([[2, 9], [5, 9], [7, 7]], np.uint64)
    assert complete(mapping, np.array([2, 3, 7], np.uint64)).tolist() == [[2, 9], [3, 3], [7, 7]]


@given(supervoxels=volumes, truth=volumes)
def test_the_largest_overlap_is_the_largest(supervoxels: np.ndarray, truth: np.ndarray):
    table = largest_overlap(supervoxels, truth)
    for supervoxel in np.unique(supervoxels[(supervoxels != 0) & (truth != 0)]):
        inside = truth[(supervoxels == supervoxel) & (truth != 0)]
        counts = np.bincount(inside.astype(int))
        assert dict(table.tolist())[supervoxel] == counts.argmax()


def test_bodies_of_a_volume():
    table = np.array([[1, 4], [3, 4], [4, 9]], np.uint64)
    assert body_volume(np.array([0, 1, 3, 4], np.uint64), table).tolist() == [0, 4, 4, 9]


@given(mask=hnp.arrays(bool, (3, 4, 5)))
def test_runs_name_the_voxels_of_a_mask(mask: np.ndarray):
    runs = [(x, y, z, 1) for z, y, x in np.argwhere(mask)]
    found = voxels_of(np.array(runs, np.int32).reshape(-1, 4), mask.shape)
    assert np.array_equal(found, np.flatnonzero(mask))


def test_long_runs():
    assert voxels_of(np.array([[1, 0, 0, 3], [0, 2, 1, 2]], np.int32), (2, 3, 5)).tolist() == [1, 2, 3, 25, 26]
