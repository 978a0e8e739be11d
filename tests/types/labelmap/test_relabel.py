"""Relabelling volumes run by run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vzarr.types.labelmap import relabel as module
from vzarr.types.labelmap.relabel import contains, relabel

VOLUMES = npst.arrays(np.uint64, st.tuples(*[st.integers(0, 6)] * 3), elements=st.integers(0, 5))


@given(VOLUMES, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_each_label_becomes_its_own(volume, table):
    new = np.array(table, np.uint64)
    seen = []

    def lookup(labels):
        seen.extend(labels.tolist())
        return new[labels.astype(np.int64)]

    before = volume.copy()
    np.testing.assert_array_equal(relabel(volume, lookup), new[volume.astype(np.int64)])
    np.testing.assert_array_equal(volume, before)
    assert len(seen) == len(set(seen))


def test_nothing_is_copied_when_nothing_changes():
    volume = np.arange(8, dtype=np.uint64).reshape(2, 2, 2)
    assert relabel(volume, lambda labels: labels) is volume


def test_pieces_join(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PIECE", 5)
    volume = np.random.default_rng(0).integers(0, 4, (3, 4, 5)).astype(np.uint64)
    np.testing.assert_array_equal(relabel(volume, lambda labels: labels + np.uint64(1)), volume + 1)


@given(VOLUMES, st.sets(st.integers(0, 9), min_size=1))
def test_masks_of_several_labels(volume, wanted):
    labels = np.array(sorted(wanted), np.uint64)
    np.testing.assert_array_equal(contains(volume, labels), np.isin(volume, labels))
