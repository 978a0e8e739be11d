"""Windows: what an array covers after growth, and what an older handle sees of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.overlay.hierarchy.test_tree import docs
from vzarr.errors import InvalidInputError
from vzarr.overlay.hierarchy.tree import FARTHEST, ORIGIN, ArrayEntry, ArrayId
from vzarr.overlay.hierarchy.windows import seen_from, with_window

ID = ArrayId("0" * 32, "a")

boxes = st.tuples(*[st.tuples(st.integers(-50, 50), st.integers(1, 30))] * 2)


@given(st.lists(boxes, min_size=1, max_size=4), st.integers(1, 4))
def test_a_window_covers_what_was_written_and_stays_on_its_grain(sizes: Any, step: int):
    entry = ArrayEntry(docs(shape=(0, 0)), ID)
    covered = np.zeros((0, 2), int)
    for box in sizes:
        lo, hi = [a for a, _ in box], [a + n for a, n in box]
        before = entry.window
        entry = with_window(entry, (tuple(lo), tuple(hi)), step)
        covered = np.concatenate([covered, [lo, hi], list(before)])
        first, end = entry.window
        assert (np.array(first) <= covered.min(0)).all()
        assert tuple(end) == tuple(np.maximum(covered.max(0), 0))
        assert all(o % (4 * step) == 0 for o in first)
        assert all(-4 * step < o - min(c, 0) <= 0 for o, c in zip(first, covered.min(0), strict=True))
        assert entry.shift == tuple(o // 4 for o in first)
        assert with_window(entry, (tuple(lo), tuple(hi)), step) is entry
        shown = orjson.loads(entry.shown_docs()["zarr.json"])["attributes"]
        assert shown.get(ORIGIN, [0, 0]) == list(first)


def test_a_window_seen_from_an_older_origin():
    entry = ArrayEntry(docs(shape=(12, 8)), ID, (-4, 0))
    seen = seen_from(entry, ())
    assert (seen.window, seen.shift) == (((0, 0), (8, 8)), (0, 0))
    assert seen_from(entry, (-4, 0)) is entry
    assert seen_from(entry, (40, 0)).spec.shape == (0, 8)


@pytest.mark.parametrize(
    "box",
    [((0, 0), (FARTHEST + 1, 4)), ((-FARTHEST - 4, 0), (4, 4)), ((0, 0), (1 << 64, 1)), ((1 << 80, 0), (1 << 81, 4))],
)
@pytest.mark.parametrize("exact", [False, True])
def test_windows_that_64_bits_cannot_count(box: Any, exact: bool):
    entry = ArrayEntry(docs(shape=(12, 8)), ID)
    with pytest.raises(InvalidInputError, match=r"cannot reach|no chunk"):
        with_window(entry, box, exact=exact)
    near = ((-FARTHEST + 3 & ~3, 0), (FARTHEST, 4))
    assert with_window(entry, near, exact=exact).window[1][0] == FARTHEST
