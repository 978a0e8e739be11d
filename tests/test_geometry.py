"""Boxes and blocks: parts of a box add up to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vzarr.geometry import blocks_of_box, cuts, iter_coords

AXIS = st.tuples(st.integers(-30, 30), st.integers(1, 40), st.integers(1, 9))
"""First voxel, length, and side of a block."""


@given(st.lists(AXIS, max_size=3))
def test_a_box_is_cut_up_at_the_borders_of_blocks(axes: list[tuple[int, int, int]]):
    box = tuple(a for a, _, _ in axes), tuple(a + n for a, n, _ in axes)
    block = tuple(b for _, _, b in axes)
    parts = cuts(box, block)
    assert [list(part) for part in parts] == [
        sorted({c[i] for c in iter_coords(blocks_of_box(box, block))}) for i in range(len(axes))
    ]
    for part, (a, n, b) in zip(parts, axes, strict=True):
        assert [v for _, lo, hi in part.values() for v in range(lo, hi)] == list(range(a, a + n))
        assert all(first == c * b and first <= lo < hi <= first + b for c, (first, lo, hi) in part.items())
