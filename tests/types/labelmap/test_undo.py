"""Undoing edits: what comes back, what is refused, and what histories say of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from tests.types.labelmap.conftest import blobs
from vzarr.errors import ConflictError, InvalidInputError, NotFoundError, SealedError
from vzarr.types import registry
from vzarr.types.labelmap import splits, underway, verify
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.runs import Runs, runs_of_mask

LO, HI = (-16, 0, 16), (16, 32, 64)


def under(seg: LabelMap, *labels: int, planes: int = 16) -> Runs:
    """Voxels of some supervoxels in the first planes of the volume."""
    dense = seg.read(LO, HI, supervoxels=True)
    return runs_of_mask(np.isin(dense, labels) & (np.arange(32) < planes)[:, None, None], LO)


def state(seg: LabelMap) -> tuple[bytes, dict[int, int], dict[int, list[int]]]:
    sizes = dict(seg.list_bodies())
    return seg.read(LO, HI, supervoxels=True).tobytes(), sizes, {b: seg.supervoxels_of(b) for b in sizes}


EDITS: dict[str, Callable[[LabelMap], object]] = {
    "merge": lambda seg: seg.merge(1, [2, 3]),
    "cleave": lambda seg: seg.cleave(4, [5]),
    "renumber": lambda seg: seg.renumber(900, 6),
    "split": lambda seg: seg.split(4, under(seg, 4, 5)),
    "split along supervoxels": lambda seg: seg.split(4, under(seg, 5, planes=32)),
    "split of a supervoxel": lambda seg: seg.split_supervoxel(7, under(seg, 7)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_undo_brings_back_what_was(seg: LabelMap, edit: Callable[[LabelMap], object]):
    seg.merge(4, [5])
    before, given = state(seg), splits.history(seg)
    edit(seg)
    assert state(seg) != before
    done = seg.undo(user="ann")
    assert state(seg) == before
    assert splits.history(seg) == given
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)
    assert done.mutation_id == done.undone + 1
    assert seg.history(4)[-1]["Action"] in ("merge-complete", "undo-complete")


def test_undos_go_back_one_by_one(seg: LabelMap):
    seen = [state(seg)]
    for edit in (lambda: seg.merge(1, [2]), lambda: seg.cleave(1, [2]), lambda: seg.split(3, under(seg, 3))):
        edit()
        seen.append(state(seg))
    for expected in seen[-2::-1]:
        seg.undo()
        assert state(seg) == expected
    with pytest.raises(InvalidInputError, match="posted voxels"):
        seg.undo()


LATER: dict[str, tuple[Callable[[LabelMap], int], Callable[[LabelMap], object]]] = {
    "merged on": (lambda seg: seg.merge(1, [2]), lambda seg: seg.merge(3, [1])),
    "cleaved out": (lambda seg: seg.merge(1, [2]), lambda seg: seg.cleave(1, [2])),
    "cut": (lambda seg: seg.merge(1, [2]), lambda seg: seg.split_supervoxel(2, under(seg, 2))),
    "number taken": (lambda seg: seg.merge(1, [2]), lambda seg: seg.renumber(2, 3)),
    "grown": (lambda seg: seg.cleave(4, [5]).mutation_id, lambda seg: seg.merge(seg.max_label, [6])),
    "origin gone": (lambda seg: seg.cleave(4, [5]).mutation_id, lambda seg: seg.merge(1, [4])),
    "parts apart": (
        lambda seg: seg.split_supervoxel(5, under(seg, 5)).mutation_id,
        lambda seg: seg.cleave(4, [seg.max_label]),
    ),
    "part cut": (
        lambda seg: seg.split_supervoxel(5, under(seg, 5)).mutation_id,
        lambda seg: seg.split_supervoxel(seg.max_label, under(seg, seg.max_label, planes=20)),
    ),
    "whole gone": (
        lambda seg: seg.split(4, under(seg, 5, planes=32)).mutation_id,
        lambda seg: seg.renumber(300, 4),
    ),
    "split grown": (lambda seg: seg.split(4, under(seg, 5)).mutation_id, lambda seg: seg.merge(10, [6])),
}


@pytest.mark.parametrize(("edit", "later"), LATER.values(), ids=LATER)
def test_what_something_depends_on_stays(
    seg: LabelMap, edit: Callable[[LabelMap], int], later: Callable[[LabelMap], object]
):
    seg.merge(4, [5])
    number = edit(seg)
    later(seg)
    before = list(seg.keys.scan()), seg.labelling
    with pytest.raises(ConflictError, match="depends"):
        seg.undo(number)
    assert (list(seg.keys.scan()), seg.labelling) == before
    seg.undo()
    seg.undo(number)
    assert not verify.check_index(seg)


def test_a_split_stays_whose_supervoxel_was_posted_again(seg: LabelMap):
    """The voxels posted under a number that was none any more are background, and would belong to the body again."""
    made = seg.split_supervoxel(5, under(seg, 5))
    seg.write((64, 64, 64), np.full((16, 16, 16), 5, np.uint64))
    assert seg.label_at((64, 64, 64)) == 0
    with pytest.raises(ConflictError, match="supervoxel 5 were posted"):
        seg.undo(made.mutation_id)
    assert not verify.check_index(seg)


def test_what_cannot_be_undone(seg: LabelMap):
    posted = int.from_bytes(seg.keys.get(b"c") or b"", "big")
    for number in (None, posted):
        with pytest.raises(InvalidInputError, match="cannot be undone"):
            seg.undo(number)
    for number in (posted + 1000, -1, 1 << 64):
        with pytest.raises(NotFoundError, match="no mutation"):
            seg.undo(number)
    merged = seg.merge(1, [2])
    undone = seg.undo()
    with pytest.raises(InvalidInputError, match=f"undone already, by mutation {undone.mutation_id}"):
        seg.undo(merged)
    with pytest.raises(InvalidInputError, match="is an undo"):
        seg.undo(undone.mutation_id)
    seg.merge(1, [2])
    seg.version.commit()
    with pytest.raises(SealedError):
        seg.undo()
    with pytest.raises(NotFoundError, match="nothing is left"):
        seg.version.newversion()["seg"].undo()


def test_an_undo_of_a_split_that_died_is_finished(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    before = state(seg)
    seg.split_supervoxel(1, under(seg, 1))
    write = underway.put_chunks

    def die(*args: object, **options: object) -> None:
        write(*args, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(underway, "put_chunks", die)
    with pytest.raises(KeyboardInterrupt):
        seg.undo()
    monkeypatch.undo()
    assert seg.recover()
    assert state(seg) == before
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_mutation_is_undone_exactly_or_not_at_all(data: st.DataObject):
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        seg = registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
        assert isinstance(seg, LabelMap)
        seg.write(LO, blobs(5, (2, 2, 3), 6))
        made: list[int] = []
        for _ in range(data.draw(st.integers(2, 8))):
            made.append(_edit(seg, data))
        for number in data.draw(st.lists(st.sampled_from(made), max_size=5)):
            before = list(seg.keys.scan())
            try:
                seg.undo(number)
            except (ConflictError, InvalidInputError):
                assert list(seg.keys.scan()) == before
            assert not verify.check_index(seg)


def _edit(seg: LabelMap, data: st.DataObject) -> int:
    bodies = [body for body, _ in seg.list_bodies()]
    large = [b for b in bodies if len(seg.supervoxels_of(b)) > 1]
    kind = data.draw(st.sampled_from(["merge", "cleave", "renumber", "cut", "split"]))
    if kind == "cleave" and large:
        body = data.draw(st.sampled_from(large))
        return seg.cleave(body, seg.supervoxels_of(body)[1:]).mutation_id
    if kind == "renumber" or len(bodies) < 2:
        return seg.renumber(seg.labelling.next, data.draw(st.sampled_from(bodies)))
    if kind == "cut":
        body = data.draw(st.sampled_from(bodies))
        return seg.split_supervoxel(*_half(seg, seg.supervoxels_of(body)[0])).mutation_id
    if kind == "split":
        body = data.draw(st.sampled_from(bodies))
        return seg.split(body, _half(seg, seg.supervoxels_of(body)[0])[1]).mutation_id
    a, b = data.draw(st.lists(st.sampled_from(bodies), min_size=2, max_size=2, unique=True))
    return seg.merge(a, [b])


def _half(seg: LabelMap, supervoxel: int) -> tuple[int, Runs]:
    mask = seg.read(LO, HI, supervoxels=True) == supervoxel
    flat = np.flatnonzero(mask)
    part = np.zeros(mask.size, np.bool_)
    part[flat[: max(1, flat.size // 2)]] = True
    return supervoxel, runs_of_mask(part.reshape(mask.shape), LO)


# ---------------------------------------------------------------- histories


def test_a_history_follows_supervoxels_through_bodies(seg: LabelMap):
    seg.merge(1, [2])
    seg.merge(8, [9])
    seg.cleave(1, [2])
    two = seg.max_label
    seg.renumber(500, two)
    child = seg.version.commit().newversion()["seg"]
    cut = child.split_supervoxel(2, under(child, 2))
    child.merge(3, [500])
    child.merge(1, [4])
    child.merge(3, [6])
    child.undo()
    actions = [record["Action"] for record in child.history(3)]
    assert actions == [
        "merge-complete",
        "cleave-complete",
        "renumber-complete",
        "split-supervoxel-complete",
        "merge-complete",
        "merge-complete",
        "undo-complete",
    ]
    numbers = [record["MutationID"] for record in child.history(3)]
    assert numbers == sorted(numbers)
    assert [r["Action"] for r in child.history(3, child.version)] == actions[3:]
    assert [r["Action"] for r in seg.history(500)] == actions[:3]
    assert [r["Action"] for r in child.history(9 if 9 in dict(child.list_bodies()) else 8)] == ["merge-complete"]
    assert child.history(5) == []
    assert cut.split in child.supervoxels_of(3)
    with pytest.raises(InvalidInputError, match="no ancestor"):
        seg.history(500, child.version)
    with pytest.raises(NotFoundError):
        seg.history(777)


def test_a_history_takes_back_body_splits(seg: LabelMap):
    seg.merge(4, [5])
    made = seg.split(4, under(seg, 4, 5))
    seg.undo()
    again = seg.split(4, under(seg, 5))
    for body in (4, again.body):
        actions = [r["Action"] for r in seg.history(body)]
        assert actions == ["merge-complete", "split-complete", "undo-complete", "split-complete"]
    with pytest.raises(NotFoundError):
        seg.history(made.body)
