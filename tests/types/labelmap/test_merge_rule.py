"""Merges of labelmaps of any history, under every strategy, against dense arrays."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vzarr
from tests.types.labelmap.labelmodel import Model
from tests.types.labelmap.mergemodel import FIRST, LAST, MergeModel
from tests.types.labelmap.test_model import BLOCK, CORNERS, EDITS, LO, MANY, SHAPE, Act
from vzarr.errors import ConflictError
from vzarr.overlay.threeway.disputes import Conflict, Dispute, Held
from vzarr.types.labelmap.bodyconflict import BodyConflict
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.voxels import array_path

CLAIMED = 900


def claim(seg: LabelMap, model: Model, data: st.DataObject) -> Act | None:
    """Give a body a number that others may give to another one."""
    if not model.parts or CLAIMED in {*model.parts, *model.where, *model.body}:
        return None
    old, after = data.draw(st.sampled_from(sorted(model.parts))), model.copy()
    after.move(model.parts[old], CLAIMED, retired=[CLAIMED])
    return Act(lambda seg: seg.renumber(CLAIMED, old), after)


def paint(seg: LabelMap, model: Model, data: st.DataObject) -> Act:
    """Fill a block with a label that others may use too."""
    z, x = data.draw(st.sampled_from(CORNERS))
    label, low, after = data.draw(st.sampled_from([1, 2, CLAIMED])), (z * BLOCK, 0, x * BLOCK), model.copy()
    block = np.full((BLOCK,) * 3, label, np.uint64)
    after.post(tuple(slice(a, a + BLOCK) for a in low), block)
    return Act(lambda seg: seg.write([a + o for a, o in zip(low, LO, strict=True)], block), after)


def edited(seg: LabelMap, model: Model, data: st.DataObject, most: int) -> Model:
    """Do up to so many edits, seal the version, and give its model."""
    for _ in range(data.draw(st.integers(0, most))):
        act = data.draw(st.sampled_from([*EDITS, *EDITS, claim, paint]))(seg, model, data)
        if act is not None:
            act.do(seg)
            model = act.after
    seg.version.commit()
    return model


def of(version: vzarr.Version) -> LabelMap:
    found = version["seg"]
    assert isinstance(found, LabelMap)
    return found


Sealed = tuple[vzarr.Version, Model]


def merged_in_all_ways(repo: vzarr.Repo, base: Sealed, sides: Sequence[Sealed], data: st.DataObject) -> list[Sealed]:
    """Merge sealed versions by all strategies, look at what comes of it, and give the open versions."""
    versions = [version for version, _ in sides]

    def look(merged: vzarr.Version) -> MergeModel:
        heads, models = [of(version) for version in versions], [model for _, model in sides]
        return MergeModel(of(merged), heads, models, [of(base[0])], [base[1]], LO)

    found = repo.merge_conflicts(versions)
    bodies = [c for c in found if isinstance(c, BodyConflict)]
    if found:
        with pytest.raises(ConflictError) as caught:
            repo.merge(versions)
        assert set(caught.value.conflicts) == set(found)
    made: list[Sealed] = []
    for strategy, place in (("ours", FIRST), ("theirs", LAST)) if found else (("fail", FIRST),):
        merged = repo.merge(versions, strategy)
        made.append((merged, look(merged).check(place, bodies)))
    if found:

        def any_side(dispute: Dispute) -> Held:
            return dispute.sides[data.draw(st.sampled_from(dispute.changed))]

        look(repo.merge(versions, any_side)).check_loosely()
        kept = repo.merge(versions, keep_conflicts=True)
        for conflict in found:
            if isinstance(conflict, Conflict) and conflict.box is not None:
                lo, hi = conflict.box
                path, at = array_path("seg"), [[a // BLOCK for a in lo]]
                before = base[0].owners(path, at)
                # What others have there is older than the conflict, and may hold what a side has cut since.
                changed = [version for version in versions if version.owners(path, at) != before]
                side = of(data.draw(st.sampled_from(changed)))
                of(kept).write(lo, side.read(lo, hi, supervoxels=True))
        look(kept).check_loosely()
    return made


@settings(max_examples=400 if MANY else 60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_merge(data: st.DataObject):
    """Two or three branches, or two of which one is a merge of others already."""
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        config = {"BlockSize": "16,16,16", "MaxDownresLevel": "1"}
        seg = repo.root.create_instance("seg", "labelmap", config=config)
        first = np.kron(np.arange(8).reshape(2, 2, 2), np.ones([n // 2 for n in SHAPE])).astype(np.uint64)
        seg.write(LO, first)
        base = (repo.root, edited(seg, Model(first), data, 3))
        sides: list[Sealed] = []
        for name in "abc"[: data.draw(st.integers(2, 3))]:
            branch = repo.root.branch(name)
            sides.append((branch, edited(of(branch), base[1].child(), data, 3)))
        if len(sides) == 3 and data.draw(st.booleans()):
            merged, model = merged_in_all_ways(repo, base, sides[:2], data)[-1]
            sides[:2] = [(merged, edited(of(merged), model.child(), data, 2))]
        merged_in_all_ways(repo, base, sides, data)
