"""The cascade of scales: complete, in order, and of bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.ingest.pyramid import Cascade, scales_of, shape_at


def halve(a: np.ndarray) -> np.ndarray:
    return np.pad(a, [(0, n % 2) for n in a.shape])[::2, ::2, ::2]


@given(planes=st.integers(1, 70), depth=st.sampled_from([2, 4, 8]), scales=st.integers(0, 5))
def test_every_scale_is_whole_and_in_order(planes: int, depth: int, scales: int):
    volume = np.arange(planes * 3 * 2).reshape(planes, 3, 2)
    found: list[list[np.ndarray]] = [[] for _ in range(scales + 1)]

    def sink(scale: int, z0: int, slab: np.ndarray) -> None:
        assert z0 == sum(map(len, found[scale]))
        assert z0 % depth == 0
        assert len(slab) <= depth
        found[scale].append(slab)

    cascade = Cascade(depth, scales, halve, sink)
    for z in range(0, planes, depth):
        cascade.push(volume[z : z + depth])
    cascade.finish()
    for scale, slabs in enumerate(found):
        assert np.array_equal(np.concatenate(slabs), volume)
        assert np.concatenate(slabs).shape == shape_at((planes, 3, 2), scale)
        volume = halve(volume)


@pytest.mark.parametrize(
    ("shape", "scales"), [((250, 250, 250), 2), ((64, 64, 64), 0), ((65, 1, 1), 1), ((1, 1, 129), 2)]
)
def test_the_coarsest_scale_fits_one_block(shape: tuple[int, ...], scales: int):
    assert scales_of(shape, (64, 64, 64)) == scales
