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
    found = [no_runs()]
    for some in layers.layers(list(masks), shape):
        for layer in some:
            for block in layer.blocks:
                if masks[block].all():
                    layer.draw_full(block)
                else:
                    layer.draw(block, masks[block])
            found += [layer.runs(planes) for planes in layer.pieces()]
    return np.concatenate(found)


@given(SHAPES, COORDS, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]), st.integers(1, 300))
def test_runs_of_blocks_are_those_of_their_mask(shape, coords, seed, share, piece):
    rng = np.random.default_rng(seed)
    masks = {c: rng.random(shape) < share for c in coords}
    dense = np.zeros([5 * n for n in shape], np.bool_)
    for at, mask in masks.items():
        dense[tuple(slice((c + 2) * n, (c + 3) * n) for c, n in zip(at, shape, strict=True))] = mask
    expected = runs_of_mask(dense, [-2 * n for n in shape])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "_PIECE", piece)
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
    assert [len(some) for some in layers.layers(blocks, (1, 1, 8))] == [2, 2, 1]


@pytest.mark.parametrize("block", [(0, 0, 2**28), (0, 2**31, 0), (-(2**31) - 1, 0, 0)])
def test_voxels_beyond_32_bits_are_refused(block):
    with pytest.raises(InvalidInputError, match="32-bit"):
        Layer([block], (1, 1, 8))
    Layer([(0, 0, 2**28 - 1)], (1, 1, 8))
