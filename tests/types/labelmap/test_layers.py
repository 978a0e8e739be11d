"""Runs of blocks drawn as bits, against the runs of one dense mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import layers
from vzarr.types.labelmap.layers import Layer
from vzarr.types.labelmap.runs import Runs, join_runs, no_runs, runs_of_mask

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([8, 16, 24, 64, 128]))
COORDS = st.sets(st.tuples(*[st.integers(-2, 2)] * 3), max_size=12).map(sorted)


def drawn(masks: dict[tuple[int, int, int], np.ndarray], shape: tuple[int, int, int]) -> Runs:
    """Runs of blocks, through their layers."""

    def draw(layer: Layer, block: tuple[int, int, int]) -> None:
        if masks[block].all():
            layer.draw_full(block)
        elif masks[block].any():
            layer.draw(block, masks[block])

    return np.concatenate([no_runs(), *layers.runs_of_blocks(list(masks), shape, draw)])


@given(
    SHAPES,
    COORDS,
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    st.integers(1, 300),
    st.integers(1, 9),
)
def test_runs_of_blocks_are_those_of_their_mask(shape, coords, seed, share, piece, widest):
    rng = np.random.default_rng(seed)
    masks = {c: rng.random(shape) < share for c in coords}
    dense = np.zeros([5 * n for n in shape], np.bool_)
    for at, mask in masks.items():
        dense[tuple(slice((c + 2) * n, (c + 3) * n) for c, n in zip(at, shape, strict=True))] = mask
    expected = runs_of_mask(dense, [-2 * n for n in shape])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "_PIECE", piece)
        patch.setattr(layers, "_GROUP", widest)
        patch.setattr(layers, "_WIDEST", widest)
        found = drawn(masks, shape)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("nx", [16, 64])
def test_runs_do_not_join_across_a_block_that_is_left_out(nx: int):
    shape, full = (2, 3, nx), np.ones((2, 3, nx), np.bool_)
    found = drawn({(0, 0, 0): full, (0, 0, 2): full}, shape)
    assert len(found) == 2 * 2 * 3
    np.testing.assert_array_equal(found, join_runs(found))
    assert len(drawn({(0, 0, 0): full, (0, 0, 1): full}, shape)) == 2 * 3


def test_layers_come_in_groups_that_are_worth_sharing():
    blocks = [(z, 0, x) for z in range(5) for x in range(40)]
    assert [(len(some), cut) for some, cut in layers._groups(blocks, (1, 1, 8))] == [(2, False), (2, False), (1, False)]


def test_a_wide_layer_is_drawn_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layers, "_WIDEST", 5)
    blocks = [(0, 0, 0), *((1, y, x) for y in range(5) for x in range(3)), (2, 0, 0)]
    found = [([len(layer.blocks) for layer in some], cut) for some, cut in layers._groups(blocks, (1, 1, 8))]
    assert found == [([1], False), ([6], True), ([6], True), ([3], False), ([1], False)]


@pytest.mark.parametrize("block", [(0, 0, 2**28), (0, 2**31, 0), (-(2**31) - 1, 0, 0)])
def test_voxels_beyond_32_bits_are_refused(block):
    with pytest.raises(InvalidInputError, match="32-bit"):
        Layer([block], (1, 1, 8))
    Layer([(0, 0, 2**28 - 1)], (1, 1, 8))
