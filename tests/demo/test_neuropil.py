"""The synthetic neuropil: the same for one seed, consistent in itself, and worth looking at."""

from __future__ import annotations

import numpy as np
import pytest

from vzarr.demo.neuropil import Neuropil, synthesise


@pytest.fixture(scope="module")
def tissue() -> Neuropil:
    return synthesise(96, seed=3)


def test_one_seed_gives_one_volume(tissue: Neuropil):
    again, other = synthesise(96, seed=3), synthesise(96, seed=4)
    for name in ("grayscale", "supervoxels", "truth", "mapping"):
        assert np.array_equal(getattr(tissue, name), getattr(again, name))
    assert not np.array_equal(tissue.grayscale, other.grayscale)


def test_shapes_types_and_odd_sizes(tissue: Neuropil):
    assert (tissue.grayscale.shape, tissue.grayscale.dtype) == ((96,) * 3, np.uint8)
    assert (tissue.supervoxels.shape, tissue.supervoxels.dtype) == ((96,) * 3, np.uint64)
    assert synthesise(33).grayscale.shape == (33,) * 3


def test_tables_name_every_supervoxel_once(tissue: Neuropil):
    supervoxels = np.unique(tissue.supervoxels)
    assert supervoxels[0] > 0
    for table in (tissue.truth, tissue.mapping):
        assert np.array_equal(table[:, 0], supervoxels)
        assert np.isin(table[:, 1], supervoxels).all()


def test_the_agglomeration_leaves_work_of_both_kinds(tissue: Neuropil):
    truth, mapped = tissue.truth[:, 1], tissue.mapping[:, 1]
    false_merges = [b for b in np.unique(mapped) if len(np.unique(truth[mapped == b])) > 1]
    false_splits = [b for b in np.unique(truth) if len(np.unique(mapped[truth == b])) > 1]
    assert false_merges
    assert len(false_splits) > 10


def test_membranes_are_darker_than_cytoplasm(tissue: Neuropil):
    body = tissue.truth[np.searchsorted(tissue.truth[:, 0], tissue.supervoxels), 1]
    border = np.zeros(body.shape, bool)
    for axis in range(3):
        border |= body != np.roll(body, 1, axis)
    assert tissue.grayscale[border].mean() + 25 < tissue.grayscale[~border].mean()


def test_neurites_go_on_through_the_volume(tissue: Neuropil):
    body = tissue.truth[np.searchsorted(tissue.truth[:, 0], tissue.supervoxels), 1]
    assert (body[1:] == body[:-1]).mean() > 0.85
    counts = np.unique(body, return_counts=True)[1]
    assert np.median(counts) > 500
