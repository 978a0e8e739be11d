"""Merging branches: mappings compose, conflicts are named by body, the index is voxels x mapping."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vzarr
from tests.types.labelmap.conftest import blobs
from tests.types.labelmap.labelmodel import Model
from tests.types.labelmap.mergemodel import FIRST, LAST, MergeModel
from vzarr.errors import ConflictError
from vzarr.types import registry
from vzarr.types.labelmap import pages, verify
from vzarr.types.labelmap.bodyconflict import BodyConflict
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.runs import Runs, runs_of_mask
from vzarr.types.labelmap.splits import Choice

LO, HI = (-16, 0, 16), (16, 32, 64)
Side = Callable[[LabelMap], object]


def under(seg: LabelMap, *labels: int) -> Runs:
    dense = seg.read(LO, HI, supervoxels=True)
    return runs_of_mask(np.isin(dense, labels) & (np.arange(32) < 16)[:, None, None], LO)


def fork(seg: LabelMap, *sides: Side, keep: bool = False) -> LabelMap:
    """Do each of `sides` on a branch of its own, and merge the branches."""
    base = seg.version.commit()
    heads = []
    for n, side in enumerate(sides):
        branch = base.branch(f"side{n}")
        side(branch["seg"])
        heads.append(branch.commit())
    merged = seg.version.repo.merge(heads, keep_conflicts=keep)["seg"]
    assert isinstance(merged, LabelMap)
    return merged


def sound(seg: LabelMap) -> dict[int, list[int]]:
    """Bodies and supervoxels, once it is checked that the index is what voxels and mapping make it."""
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)
    return {body: seg.supervoxels_of(body) for body, _ in seg.list_bodies()}


def test_edits_of_different_bodies_are_joined(seg: LabelMap):
    merged = fork(seg, lambda s: s.merge(1, [2]), lambda s: s.merge(3, [4]))
    assert sound(merged) == {1: [1, 2], 3: [3, 4], **{n: [n] for n in range(5, 10)}}


def test_both_sides_may_add_to_a_body_or_do_the_same(seg: LabelMap):
    merged = fork(seg, lambda s: s.merge(1, [2, 4]), lambda s: s.merge(1, [3, 4]))
    assert sound(merged)[1] == [1, 2, 3, 4]
    assert merged.header(1).voxels == sum(merged.size(sv, supervoxel=True) for sv in (1, 2, 3, 4))


def test_what_was_added_to_a_body_goes_on_with_it(seg: LabelMap):
    merged = fork(seg, lambda s: s.merge(1, [2]), lambda s: (s.merge(3, [1]), s.renumber(300, 3)))
    assert sound(merged)[300] == [1, 2, 3]


def test_parts_follow_what_they_were_cut_from(seg: LabelMap):
    def cut(side: LabelMap) -> None:
        side.split_supervoxel(2, under(side, 2), choice=Choice(801, 802))

    merged = fork(seg, cut, lambda s: s.merge(1, [2]))
    assert sound(merged)[1] == [1, 801, 802]
    assert merged.bodies_of([2, 801, 802]).tolist() == [0, 1, 1]


def test_a_split_body_and_voxels_elsewhere(seg: LabelMap):
    wall = np.full((16, 16, 16), 77, np.uint64)
    merged = fork(seg, lambda s: s.write((-16, 0, 16), wall), lambda s: (s.write((32, 0, 16), wall), s.merge(5, [77])))
    assert sound(merged)[5] == [5, 77]
    assert merged.size(77, supervoxel=True) == 2 * 16**3


def test_a_supervoxel_without_voxels_stays_where_its_side_left_it(seg: LabelMap):
    block = np.full((16, 16, 16), 40, np.uint64)
    seg.write((160, 0, 0), block)

    def empty(side: LabelMap) -> None:
        side.merge(1, [40])
        side.write((160, 0, 0), block - 39)
        side.merge(2, [1])

    merged = fork(seg, empty, lambda s: s.merge(3, [4]))
    assert merged.bodies_of([40], check=False).tolist() == [1]
    assert sound(merged)[2] == [1, 2]
    merged.write((160, 0, 0), block)
    assert sound(merged)[1] == [40]


def test_blocks_that_several_wrote_alike_are_no_conflict_and_counted_once(seg: LabelMap):
    block = np.full((16, 16, 16), 77, np.uint64)
    block[4:9, :, 3:] = 3

    def post(side: LabelMap) -> None:
        side.write((0, 16, 32), block)

    merged = fork(seg, lambda s: (post(s), s.merge(1, [2])), lambda s: (s.merge(4, [5]), post(s)))
    found = sound(merged)
    assert (found[1], found[4], found[77]) == ([1, 2], [4, 5], [77])
    assert merged.size(77) == int((block == 77).sum())
    assert np.array_equal(merged.read((0, 16, 32), (16, 32, 48)), block)


def test_three_sides(seg: LabelMap):
    merged = fork(seg, lambda s: s.merge(1, [2]), lambda s: s.merge(2, [3]), lambda s: s.merge(3, [4]))
    assert sound(merged)[1] == [1, 2, 3, 4]


def test_one_scale_block_changed_on_both_sides(seg: LabelMap):
    one, two = (np.full((16, 16, 16), n, np.uint64) for n in (701, 702))
    merged = fork(seg, lambda s: s.write((0, 0, 16), one), lambda s: s.write((0, 0, 48), two))
    found = sound(merged)
    assert found[701] == [701]
    assert found[702] == [702]
    merged.write((0, 0, 16), two)
    sound(merged)
    assert sound(merged.version.commit().newversion()["seg"])[702] == [702]


CONFLICTS: dict[str, tuple[Side, Side, int, int]] = {
    "two targets": (lambda s: s.merge(1, [2]), lambda s: s.merge(3, [2]), 2, 2),
    "cleaved and merged": (lambda s: s.cleave(8, [9]), lambda s: s.merge(1, [8]), 8, 9),
    "into each other": (lambda s: s.merge(1, [2]), lambda s: s.merge(2, [1]), 1, 1),
    "split and merged": (lambda s: s.split(8, under(s, 9)), lambda s: s.merge(1, [8]), 8, 0),
    "one number": (lambda s: s.renumber(900, 4), lambda s: s.renumber(900, 5), 5, 5),
    "torn apart": (lambda s: s.merge(8, [1]), lambda s: (s.merge(3, [s.cleave(8, [9]).body]), s.merge(2, [8])), 1, 1),
    "cut and painted": (
        lambda s: s.split_supervoxel(2, under(s, 2)),
        lambda s: s.write((160, 0, 0), np.full((16, 16, 16), 2, np.uint64)),
        2,
        2,
    ),
}


@pytest.mark.parametrize(("left", "right", "body", "supervoxel"), CONFLICTS.values(), ids=CONFLICTS)
def test_a_conflict_names_the_body_and_nothing_is_made(
    seg: LabelMap, left: Side, right: Side, body: int, supervoxel: int
):
    seg.merge(8, [9])

    with pytest.raises(ConflictError) as caught:
        fork(seg, left, right)
    versions = seg.version.repo.versions()
    assert len(versions) == 3
    found = caught.value.conflicts
    assert all(isinstance(c, BodyConflict) and c.instance == "seg" for c in found)
    assert body in {c.body for c in found}
    assert not supervoxel or supervoxel in {c.supervoxel for c in found}
    assert f"of body {body} went to" in str(caught.value)


def test_where_conflicts_are_kept_the_first_version_wins(seg: LabelMap):
    merged = fork(seg, lambda s: s.merge(1, [2]), lambda s: (s.merge(3, [2]), s.merge(4, [5])), keep=True)
    found = sound(merged)
    assert (found[1], found[3], found[4]) == ([1, 2], [3], [4, 5])


def test_blocks_in_conflict_are_resolved_by_writing(seg: LabelMap):
    one, two = (np.full((16, 16, 16), n, np.uint64) for n in (701, 702))
    merged = fork(seg, lambda s: s.write((0, 0, 16), one), lambda s: s.write((0, 0, 16), two), keep=True)
    with pytest.raises(ConflictError):
        merged.read(LO, HI)
    merged.write((0, 0, 16), two)
    assert sound(merged)[702] == [702]


@pytest.mark.parametrize("how", ["open", "commit"])
def test_a_merge_that_died_is_composed_by_who_comes_next(seg: LabelMap, how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "join", lambda _version: None)
    monkeypatch.setattr(
        registry, "open_instance", lambda version, name: registry.open_info(version, version.instance_info(name))
    )
    raw = fork(seg, lambda s: s.merge(1, [2]), lambda s: s.merge(1, [3]))
    monkeypatch.undo()
    with pytest.raises(ConflictError):
        raw.header(1)
    if how == "commit":
        raw.version.commit()
    assert sound(raw.version["seg"])[1] == [1, 2, 3]
    marks = [raw.version["seg"].keys.get_with_version(b"c") for _ in range(2)]
    assert marks[0] == marks[1]


def test_later_edits_and_merges_build_on_a_merge(seg: LabelMap):
    merged = fork(seg, lambda s: s.merge(1, [2]), lambda s: s.merge(1, [3]))
    merged.cleave(1, [3])
    left = merged.version.commit().branch("left")
    right = merged.version.branch("right")
    left["seg"].merge(4, [1])
    right["seg"].split_supervoxel(5, under(right["seg"], 5))
    again = seg.version.repo.merge([left.commit(), right.commit()])["seg"]
    found = sound(again)
    assert found[4] == [1, 2, 4]
    assert len(found[5]) == 2


# ---------------------------------------------------------------- anything on two branches


def _edit(seg: LabelMap, data: st.DataObject, column: int) -> None:
    sizes = dict(seg.list_bodies())
    bodies = sorted(sizes)
    kind = data.draw(
        st.sampled_from(["merge", "merge", "cleave", "renumber", "cut", "split", "write", "undo", "table"])
    )
    body = data.draw(st.sampled_from(bodies))
    svs = seg.supervoxels_of(body)
    if kind == "cleave" and len(svs) > 1:
        seg.cleave(body, svs[1:])
    elif kind == "renumber":
        seg.renumber(data.draw(st.sampled_from([seg.labelling.next, 500])) if 500 not in sizes else 501 + body, body)
    elif kind in ("cut", "split") and sizes[body] > 1:
        runs = seg.sparsevol(svs[0], supervoxel=True).runs()[:1].copy()
        runs[0, 3] = 1
        if kind == "split":
            seg.split(body, runs)
        elif seg.size(svs[0], supervoxel=True) > 1:
            seg.split_supervoxel(svs[0], runs)
    elif kind == "write":
        label = data.draw(st.sampled_from([1, 2, 600 + column]))
        seg.write((0, 16 * data.draw(st.integers(0, 1)), 16 * column), np.full((16, 16, 16), label, np.uint64))
    elif kind == "table":
        known = sorted(sv for b in bodies for sv in seg.supervoxels_of(b))
        table = data.draw(st.dictionaries(st.sampled_from(known), st.sampled_from([*bodies, 700 + column]), max_size=5))
        seg.agglomerate(np.array(list(table.items()), np.uint64).reshape(-1, 2))
    elif kind == "undo":
        try:
            seg.undo()
        except vzarr.errors.VzarrError:
            return
    else:
        other = data.draw(st.sampled_from(bodies))
        if other != body:
            seg.merge(body, [other])


@pytest.mark.parametrize("bulk", [1, pages.BULK])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_two_branches(data: st.DataObject, bulk: int, monkeypatch: pytest.MonkeyPatch):
    """Tables leave pages of the mapping, or rows."""
    monkeypatch.setattr(pages, "BULK", bulk)
    monkeypatch.setattr(pages, "PAGE", 2)
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        config = {"BlockSize": "16,16,16", "MaxDownresLevel": "1"}
        seg = registry.create(repo.root, "seg", "labelmap", config=config)
        assert isinstance(seg, LabelMap)
        seg.write((0, 0, 0), blobs(data.draw(st.integers(0, 9)), (1, 2, 4), 7))
        seg.merge(1, [2])
        base = repo.root.commit()
        heads = []
        for n in (0, 1):
            side = base.branch(f"side{n}")["seg"]
            for _ in range(data.draw(st.integers(0, 4))):
                _edit(side, data, column=3 * n)
            heads.append(side.version.commit()["seg"])
        conflicts = repo.merge_conflicts([h.version for h in heads])
        bodies = [c for c in conflicts if isinstance(c, BodyConflict)]
        models, before = [_model(head) for head in heads], _model(base["seg"])
        for strategy, place in (("ours", FIRST), ("theirs", LAST)) if conflicts else (("fail", FIRST),):
            merged = repo.merge([h.version for h in heads], strategy)["seg"]
            MergeModel(merged, heads, models, [base["seg"]], [before], (0, 0, 0)).check(place, bodies)
        if conflicts:
            kept = repo.merge([h.version for h in heads], keep_conflicts=True)["seg"]
            if len(bodies) == len(conflicts):
                MergeModel(kept, heads, models, [base["seg"]], [before], (0, 0, 0)).check(FIRST, bodies)


def _model(seg: LabelMap) -> Model:
    """What a version holds, as it says itself; that of heads is not what is tested here."""
    return Model(seg.read((0, 0, 0), (16, 32, 64), supervoxels=True), dict(seg.mappings()))
