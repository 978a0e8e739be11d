"""Bodies that merged versions disagree about: what hangs together is taken from one side as a whole."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

import vzarr
from tests.types.labelmap.test_compose import CONFLICTS, HI, LO, Side, fork, sound, under
from vzarr.overlay.threeway.disputes import Dispute, Held
from vzarr.types.labelmap.bodyconflict import BodyConflict
from vzarr.types.labelmap.handle import LabelMap


@pytest.mark.parametrize("strategy", ["ours", "theirs", "asked"])
@pytest.mark.parametrize(("left", "right"), [c[:2] for c in CONFLICTS.values()], ids=CONFLICTS)
def test_a_strategy_decides_about_bodies_as_wholes(seg: LabelMap, left: Side, right: Side, strategy: str):
    """All of these conflicts leave nothing that hangs together and is not in dispute."""
    seg.merge(8, [9])
    base = seg.version.commit()
    heads = []
    for name, side in (("left", left), ("right", right)):
        branch = base.branch(name)
        side(branch["seg"])
        heads.append(branch.commit())
    asked: list[Dispute] = []

    def second(dispute: Dispute) -> Held:
        asked.append(dispute)
        assert [s.version for s in dispute.sides] == [h.uuid for h in heads]
        assert dispute.changed == (0, 1)
        return dispute.sides[1]

    conflicts = base.repo.merge_conflicts(heads)
    merged = base.repo.merge(heads, second if strategy == "asked" else strategy)["seg"]
    assert not asked or ({d.path for d in asked} == {"seg"} and len(asked) == len(conflicts))
    sound(merged)
    chosen = heads[0 if strategy == "ours" else 1]["seg"]
    assert np.array_equal(merged.read(LO, HI), chosen.read(LO, HI))
    assert dict(merged.list_bodies()).keys() == dict(chosen.list_bodies()).keys()


EXCHANGES: dict[str, tuple[Side, Side]] = {
    "into each other": (lambda s: s.merge(1, [2]), lambda s: s.merge(2, [1])),
    "a chain into each other": (lambda s: s.merge(1, [2, 3]), lambda s: s.merge(3, [2, 1])),
    "cut on both sides": (
        lambda s: s.split_supervoxel(1, under(s, 1)),
        lambda s: s.split_supervoxel(1, under(s, 1)[:5]),
    ),
    "split on both sides": (lambda s: s.split(1, under(s, 1)), lambda s: s.split(1, under(s, 1)[:5])),
    "cut, and cut and undone": (
        lambda s: s.split_supervoxel(1, under(s, 1)),
        lambda s: (s.split_supervoxel(1, under(s, 1)[:5]), s.undo()),
    ),
}


@pytest.mark.parametrize("strategy", ["ours", "theirs", "kept"])
@pytest.mark.parametrize(("left", "right"), EXCHANGES.values(), ids=EXCHANGES)
def test_nothing_is_lost_or_exchanged(seg: LabelMap, left: Side, right: Side, strategy: str):
    base = seg.version.commit()
    heads = []
    for name, side in (("left", left), ("right", right)):
        branch = base.branch(name)
        side(branch["seg"])
        branch["seg"].merge(*((5, [6]) if name == "left" else (7, [8])))
        heads.append(branch.commit())
    conflicts = base.repo.merge_conflicts(heads)
    assert 1 in {c.supervoxel for c in conflicts if isinstance(c, BodyConflict)}
    chosen = heads[1 if strategy == "theirs" else 0]["seg"]
    if strategy == "kept":
        merged = base.repo.merge(heads, keep_conflicts=True)["seg"]
        for conflict in conflicts:
            if not isinstance(conflict, BodyConflict):
                merged.write(conflict.box[0], chosen.read(*conflict.box, supervoxels=True))
    else:
        merged = base.repo.merge(heads, strategy)["seg"]
    found, wanted = sound(merged), sound(chosen)
    assert (found[5], found[7]) == ([5, 6], [7, 8])
    assert {b: s for b, s in found.items() if b < 5 or b > 9} == {b: s for b, s in wanted.items() if b < 5 or b > 9}
    dense = merged.read(LO, HI, supervoxels=True)
    assert (merged.read(LO, HI)[dense > 0] > 0).all()


def test_a_block_that_stays_in_conflict_counts_as_empty(seg: LabelMap):
    """Also for supervoxels that neither side changed."""
    lo, hi = (0, 0, 16), (16, 16, 32)
    old = seg.read(lo, hi, supervoxels=True)
    mine, yours = (np.where(old == old.max(), np.uint64(n), old) for n in (701, 702))
    merged = fork(seg, lambda s: s.write(lo, mine), lambda s: s.write(lo, yours), keep=True)
    merged.write(lo, yours)
    sound(merged)


def test_what_was_posted_after_a_cut_is_counted_where_the_supervoxel_lives_on(seg: LabelMap):
    """On the side that cut it, it is background, and not in the index."""

    def cut(side: LabelMap) -> None:
        side.split_supervoxel(2, under(side, 2))
        side.write((160, 0, 0), np.full((16, 16, 16), 2, np.uint64))

    base = seg.version.commit()
    heads = []
    for name, do in (("left", cut), ("right", lambda s: s.write((320, 0, 0), np.full((16, 16, 16), 2, np.uint64)))):
        branch = base.branch(name)
        do(branch["seg"])
        heads.append(branch.commit())
    for strategy in ("ours", "theirs"):
        merged = base.repo.merge(heads, strategy)["seg"]
        assert 2 in sound(merged)[2]
        assert merged.size(2, supervoxel=True) == 2 * 16**3


def test_a_later_merge_goes_by_what_an_earlier_one_decided(seg: LabelMap):
    """A cut that a merge decided against is none."""
    base = seg.version.commit()
    left, right, third = (base.branch(name) for name in ("left", "right", "third"))
    left["seg"].split_supervoxel(1, under(left["seg"], 1))
    right["seg"].split_supervoxel(1, under(right["seg"], 1)[:5])
    right["seg"].undo()
    third["seg"].merge(4, [1])
    for version in (left, right, third):
        version.commit()
    merged = base.repo.merge([left, right], "theirs")
    assert sound(merged["seg"])[1] == [1]
    last = base.repo.merge([merged.commit(), third])["seg"]
    assert sound(last)[4] == [1, 4]


def test_a_criss_cross_loses_nothing(seg: LabelMap):
    """Two merges that decided differently about the same branches, merged in turn."""
    base = seg.version.commit()
    left, right = (base.branch(name) for name in ("left", "right"))
    for branch, bodies in ((left, (1, [2])), (right, (3, [2]))):
        branch["seg"].split_supervoxel(4, under(branch["seg"], 4)[: bodies[0]])
        branch["seg"].merge(*bodies)
        branch.commit()
    one, two = (base.repo.merge([left, right], strategy).commit() for strategy in ("ours", "theirs"))
    conflicts = [c for c in base.repo.merge_conflicts([one, two]) if isinstance(c, BodyConflict)]
    assert len(conflicts) == 2
    assert 2 in {c.supervoxel for c in conflicts}
    assert 4 in {c.body for c in conflicts}
    for strategy, chosen in (("ours", one), ("theirs", two)):
        merged = base.repo.merge([one, two], strategy)["seg"]
        assert sound(merged) == sound(chosen["seg"])


def test_a_merge_that_was_decided_is_the_same_in_a_clone(seg: LabelMap):
    base = seg.version.commit()
    heads = []
    for name, bodies in (("left", (1, [2])), ("right", (2, [1]))):
        branch = base.branch(name)
        branch["seg"].merge(*bodies)
        heads.append(branch.commit())
    merged = base.repo.merge(heads, "theirs").commit()
    with vzarr.clone(base.repo.url, f"memory://{uuid.uuid4().hex}") as clone:
        assert sound(clone[merged.uuid]["seg"]) == sound(merged["seg"])


def test_who_has_no_part_in_a_dispute_decides_nothing(seg: LabelMap):
    """Also where one side moved something, and the other one tore apart what it was moved to."""
    seg.merge(8, [9])
    base = seg.version.commit()
    sides = (lambda s: s.merge(4, [5]), *CONFLICTS["torn apart"][:2])
    heads = []
    for n, side in enumerate(sides):
        branch = base.branch(f"side{n}")
        side(branch["seg"])
        heads.append(branch.commit())
    (conflict,) = base.repo.merge_conflicts(heads)
    assert conflict.changed == (1, 2)
    for strategy, chosen in (("ours", heads[1]), ("theirs", heads[2])):
        found, wanted = sound(base.repo.merge(heads, strategy)["seg"]), sound(chosen["seg"])
        assert found.pop(4) == [4, 5]
        assert found == {body: svs for body, svs in wanted.items() if body not in (4, 5)}


def test_what_a_side_erased_is_known_to_it(seg: LabelMap):
    block = np.full((16, 16, 16), 40, np.uint64)
    seg.write((160, 0, 0), block)
    base = seg.version.commit()
    left, right = base.branch("left"), base.branch("right")
    left["seg"].write((160, 0, 0), block - 39)
    left["seg"].merge(1, [2])
    right["seg"].merge(2, [40])
    right["seg"].write((320, 0, 0), block)
    right["seg"].merge(3, [2])
    merged = base.repo.merge([left.commit(), right.commit()], "ours")["seg"]
    found = sound(merged)
    assert (found[1], found[3], found[40]) == ([1, 2], [3], [40])
