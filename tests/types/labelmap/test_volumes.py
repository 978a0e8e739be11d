"""Sparse volumes against dense masks: scales, bounds, supervoxels, negative coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types.labelmap import volumes
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.runs import clip_runs, runs_of_mask, runs_to_mask

LO, HI = (-16, 0, 16), (16, 32, 64)


def scaled(corner: tuple[int, ...], scale: int) -> tuple[int, ...]:
    return tuple(c >> scale for c in corner)


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_voxels_of_a_body_at_each_scale(seg: LabelMap, scale: int):
    seg.merge(1, [2, 3])
    dense = seg.read(scaled(LO, scale), scaled(HI, scale), scale=scale)
    for body in (1, 4, 9):
        expected = runs_of_mask(dense == body, scaled(LO, scale))
        np.testing.assert_array_equal(seg.sparsevol(body, scale=scale).runs(), expected)


SIDE = st.none() | st.integers(-40, 80)


@given(lo=st.tuples(SIDE, SIDE, SIDE), last=st.tuples(SIDE, SIDE, SIDE), body=st.sampled_from([1, 4]))
def test_bounds_clip_runs_and_masks_alike(lo, last, body):
    seg = _SEG[0]
    try:
        bounds = volumes.parse_bounds(lo, last)
    except InvalidInputError:
        assert any(a is not None and b is not None and b < a for a, b in zip(lo, last, strict=True))
        return
    volume = seg.sparsevol(body, bounds=bounds)
    expected = clip_runs(runs_of_mask(seg.read(LO, HI) == body, LO), bounds)
    np.testing.assert_array_equal(volume.runs(), expected)
    masks = [runs_of_mask(m, [c * n for c, n in zip(at, m.shape, strict=True)]) for at, m in volume.clipped_masks()]
    drawn = np.concatenate([np.empty((0, 4), np.int32), *masks])
    box = ((-48, -48, -48), (96, 96, 96))
    np.testing.assert_array_equal(runs_to_mask(drawn, box), runs_to_mask(expected, box))
    assert volume.any_block() == bool(volume.blocks())


@pytest.mark.parametrize(("first", "blocks"), [(-17, [-1, 0]), (-16, [-1, 0]), (-1, [-1, 0]), (0, [0]), (15, [0])])
def test_coarse_bounds_below_voxel_0(make: Callable[..., LabelMap], first: int, blocks: list[int]):
    seg = make("row")
    seg.write((0, 0, -16), np.full((16, 16, 32), 7, np.uint64))
    bounds = volumes.parse_bounds((None, None, first), (None, None, None))
    (run,) = volumes.coarse_runs(seg, seg.find(7), bounds).tolist()
    assert list(range(run[0], run[0] + run[3])) == blocks


@pytest.mark.parametrize("far", [1 << 63, 1 << 70])
def test_bounds_beyond_all_numbers_leave_a_side_open(seg: LabelMap, far: int):
    whole = seg.sparsevol(1).runs()
    bounds = volumes.parse_bounds((-far, -far, -far), (far, far, far))
    np.testing.assert_array_equal(seg.sparsevol(1, bounds=bounds).runs(), whole)
    assert not seg.sparsevol(1, bounds=volumes.parse_bounds((far, None, None), (None, None, None))).any_block()


_SEG: list[LabelMap] = []


@pytest.fixture(autouse=True)
def _shared(seg: LabelMap) -> None:
    """Keep one labelmap for all examples of a property."""
    _SEG[:] = [seg]


def test_without_clipping_whole_blocks_are_given(seg: LabelMap):
    volume = seg.sparsevol(1, bounds=volumes.parse_bounds((0, 0, 20), (3, 3, 22)))
    loose = volume.runs(exact=False)
    dense = seg.read((0, 0, 16), (16, 16, 32)) == 1
    np.testing.assert_array_equal(loose, runs_of_mask(dense, (0, 0, 16)))


def test_a_block_that_is_all_one_body_needs_no_voxels(seg: LabelMap):
    seg.write((64, 0, 0), np.full((16, 16, 16), 70, np.uint64))
    seg.version.delete_chunks("seg/0", [(4, 0, 0)])
    assert seg.sparsevol(70).runs()[:, 3].sum() == 16**3


def test_a_supervoxel_and_its_extent(seg: LabelMap):
    dense = seg.read(LO, HI)
    seg.merge(1, [2])
    part = seg.find(2, supervoxel=True)
    np.testing.assert_array_equal(seg.sparsevol(2, supervoxel=True).runs(), runs_of_mask(dense == 2, LO))
    extent = volumes.extent_of(seg, part)
    at = np.argwhere(dense == 2) // 16 + np.array(LO) // 16
    assert extent.voxels == int((dense == 2).sum())
    assert extent.blocks == len(np.unique(at, axis=0))
    assert extent.min_zyx == tuple((at.min(0) * 16).tolist())
    assert extent.max_zyx == tuple((at.max(0) * 16 + 15).tolist())
    assert len(volumes.coarse_runs(seg, part)) >= 1


def test_what_is_not_there(seg: LabelMap):
    seg.merge(1, [2])
    seg.post_mappings([(9, 0)])
    with pytest.raises(NotFoundError):
        seg.sparsevol(2)
    with pytest.raises(NotFoundError):
        seg.sparsevol(777, supervoxel=True)
    with pytest.raises(InvalidInputError, match="split"):
        seg.sparsevol(9, supervoxel=True)
    with pytest.raises(InvalidInputError, match="background"):
        seg.sparsevol(0)
