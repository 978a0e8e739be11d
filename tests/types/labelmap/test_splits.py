"""Cutting supervoxels and bodies along voxels: what is refused, and what stays to be read of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import orjson
import pytest

from vzarr.errors import InvalidInputError
from vzarr.types import mutations
from vzarr.types.labelmap import splits, verify
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.runs import Runs, no_runs, runs_of_mask
from vzarr.types.labelmap.splits import Choice

LO, HI = (-16, 0, 16), (16, 32, 64)


def part_of(seg: LabelMap, *labels: int, planes: int = 16) -> Runs:
    """Voxels of some supervoxels in the first planes of the volume."""
    dense = seg.read(LO, HI, supervoxels=True)
    return runs_of_mask(np.isin(dense, labels) & (np.arange(32) < planes)[:, None, None], LO)


REFUSED: dict[str, Callable[[LabelMap], object]] = {
    "no voxels": lambda seg: seg.split_supervoxel(1, no_runs()),
    "all voxels": lambda seg: seg.split_supervoxel(1, part_of(seg, 1, planes=32)),
    "others' voxels": lambda seg: seg.split_supervoxel(1, part_of(seg, 1, 2)),
    "a stranger": lambda seg: seg.split_supervoxel(777, part_of(seg, 1)),
    "ids in use": lambda seg: seg.split_supervoxel(1, part_of(seg, 1), choice=Choice(2, 900)),
    "one id twice": lambda seg: seg.split_supervoxel(1, part_of(seg, 1), choice=Choice(900, 900)),
    "its own id": lambda seg: seg.split_supervoxel(1, part_of(seg, 1), choice=Choice(1, 900)),
    "a body's others": lambda seg: seg.split(1, part_of(seg, 1, 2)),
    "a whole body": lambda seg: seg.split(1, part_of(seg, 1, planes=32)),
    "no body": lambda seg: seg.split(777, part_of(seg, 1)),
}


@pytest.mark.parametrize("edit", REFUSED.values(), ids=REFUSED)
def test_a_refused_split_changes_nothing(seg: LabelMap, edit: Callable[[LabelMap], object]):
    before = list(seg.keys.scan()), seg.labelling
    with pytest.raises(InvalidInputError):
        edit(seg)
    assert (list(seg.keys.scan()), seg.labelling) == before


def test_runs_beside_the_supervoxel_are_passed_over(seg: LabelMap):
    runs = np.concatenate([part_of(seg, 1), np.array([[1000, 0, 0, 5]], np.int32)])
    made = seg.split_supervoxel(1, runs)
    record = orjson.loads(list(mutations.read(seg))[-1])
    assert record["SplitSize"] == seg.size(made.split, supervoxel=True)
    assert record["RemainSize"] == seg.size(made.remain, supervoxel=True)
    assert not verify.check_index(seg)


def test_a_body_is_split_by_runs_of_its_own_blocks_alone(seg: LabelMap):
    own, before = part_of(seg, 1), (list(seg.keys.scan()), seg.labelling)
    for stray in ((500, 0, 0, 3), (-5, 500, -500, 10)):
        runs = np.concatenate([own, np.array([stray], np.int32)])
        with pytest.raises(InvalidInputError, match=f"{stray[3]} voxels of the split volume lie in blocks without"):
            seg.split(1, runs)
    assert (list(seg.keys.scan()), seg.labelling) == before


def test_a_body_is_split_through_its_supervoxels(seg: LabelMap):
    seg.merge(1, [2, 3])
    wanted = part_of(seg, 1, 2)
    made = seg.split(1, wanted, user="ann")
    np.testing.assert_array_equal(seg.sparsevol(made.body).runs(), wanted)
    assert 3 in seg.supervoxels_of(1)
    assert seg.header(made.body).user == seg.header(1).user == "ann"
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)
    record = orjson.loads(list(mutations.read(seg))[-1])
    assert (record["Action"], record["Target"], record["NewLabel"]) == ("split-complete", 1, made.body)
    assert set(record["SVSplits"]) == {"1", "2"}


def test_history_goes_back_through_the_ancestors(seg: LabelMap):
    one = seg.split_supervoxel(1, part_of(seg, 1))
    child = seg.version.commit().newversion()["seg"]
    two = child.split_supervoxel(2, part_of(child, 2), choice=Choice(801, 802))
    assert splits.history(child) == [
        (child.version.uuid, [[two.mutation_id, 2, 802, 801]]),
        (seg.version.uuid, [[one.mutation_id, 1, one.remain, one.split]]),
    ]
    assert child.max_label == 802


def test_coarser_scales_stay_when_asked_to(seg: LabelMap):
    before = seg.read((-8, 0, 8), (8, 16, 32), scale=1, supervoxels=True)
    seg.split_supervoxel(1, part_of(seg, 1), downres=False)
    np.testing.assert_array_equal(seg.read((-8, 0, 8), (8, 16, 32), scale=1, supervoxels=True), before)


def test_a_split_body_rewrites_only_the_blocks_of_what_it_cuts(seg: LabelMap):
    seg.merge(1, [2, 3, 4])
    block = np.full((16, 16, 16), 1, np.uint64)
    block[0, 0, :3] = 40
    seg.write((160, 0, 0), block)
    seg.merge(1, [40])
    child = seg.version.commit().newversion()["seg"]
    child.split(1, np.array([[1, 0, 160, 1]], np.int32))
    owners = dict(zip([(10, 0, 0), (0, 0, 1)], child.version.owners("seg/0", [(10, 0, 0), (0, 0, 1)]), strict=True))
    assert (owners[10, 0, 0], owners[0, 0, 1]) == (child.version.uuid, seg.version.uuid)
    assert not verify.check_index(child)


def test_runs_that_reach_far_cost_what_they_meet(seg: LabelMap):
    own = part_of(seg, 1)
    rows = [(16 - 2**31, y, z, 2**31 - 1) for y in range(32) for z in range(-16, 16)]
    far = np.concatenate([own, np.array(rows, np.int32)])
    made = seg.split_supervoxel(1, far)
    assert seg.size(made.split, supervoxel=True) == own[:, 3].sum()
    assert not verify.check_index(seg)
