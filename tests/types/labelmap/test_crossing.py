"""Edits of bodies beside a split that is under way: all is as if one had been made after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Unfinished
from contextlib import contextmanager, nullcontext
from threading import Event
from typing import Any

import orjson
import pytest

from tests.types.labelmap.test_splits import part_of
from vzarr.errors import ConflictError, InvalidInputError
from vzarr.overlay.kv.storedkeys import StoredKeys
from vzarr.types import mutations
from vzarr.types.labelmap import rows, underway, verify
from vzarr.types.labelmap.handle import LabelMap

PATIENCE = 20


@contextmanager
def begun(monkeypatch: pytest.MonkeyPatch, edit: Callable[[], Any]) -> Iterator[tuple[Future[Any], Event]]:
    """An edit that has decided what it does and waits with its voxels until it is told to go on."""
    decided, go_on, put = Event(), Event(), underway.put_chunks

    def wait(*given: Any, **options: Any) -> None:
        decided.set()
        assert go_on.wait(PATIENCE)
        put(*given, **options)

    monkeypatch.setattr(underway, "put_chunks", wait)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(edit)
        try:
            assert decided.wait(PATIENCE)
            yield future, go_on
        finally:
            go_on.set()


def actions(seg: LabelMap) -> list[str]:
    return [orjson.loads(record)["Action"] for record in mutations.read(seg)]


CROSSING: dict[str, Callable[[LabelMap], Any]] = {
    "what is cut": lambda seg: seg.cleave(1, [2]),
    "what is left": lambda seg: seg.cleave(1, [3]),
    "by a table": lambda seg: seg.agglomerate([[2, 5]]),
    "by an undo": lambda seg: seg.undo(),
    "by hand": lambda seg: seg.post_mappings([(2, 9)]),
}


@pytest.mark.parametrize("cross", CROSSING.values(), ids=CROSSING)
def test_nothing_is_taken_from_a_body_while_it_is_split(
    seg: LabelMap, monkeypatch: pytest.MonkeyPatch, cross: Callable[[LabelMap], Any]
):
    seg.merge(1, [2, 3])
    runs = part_of(seg, 1, 2)
    with begun(monkeypatch, lambda: seg.split(1, runs)) as (split, go_on), ThreadPoolExecutor(1) as pool:
        crossing = pool.submit(cross, seg)
        with pytest.raises(Unfinished):
            crossing.result(0.3)
        go_on.set()
        made = split.result(PATIENCE)
        error = crossing.exception(PATIENCE)
        # The supervoxel 2 is no more once it was cut; what does not name it comes after the split.
        assert error is None or isinstance(error, InvalidInputError | ConflictError), error
    assert actions(seg)[2] == "split-complete"
    assert seg.size(made.body) == runs[:, 3].sum()
    if cross is not CROSSING["by hand"]:  # a mapping that is posted leaves the index as it is
        assert not verify.check_index(seg)


@pytest.mark.parametrize("change", ["merge", "renumber", "other"])
def test_a_body_may_become_part_of_another_as_a_whole(seg: LabelMap, monkeypatch: pytest.MonkeyPatch, change: str):
    seg.merge(1, [2, 3])
    runs = part_of(seg, 1, 2)
    edits: dict[str, Callable[[], Any]] = {
        "merge": lambda: seg.merge(4, [1]), "renumber": lambda: seg.renumber(700, 1), "other": lambda: seg.merge(5, [6])
    }  # fmt: skip
    with begun(monkeypatch, lambda: seg.split(1, runs)) as (split, go_on):
        edits[change]()
        go_on.set()
        made = split.result(PATIENCE)
    target = {"merge": 4, "renumber": 700, "other": 1}[change]
    assert orjson.loads(list(mutations.read(seg))[-1])["Target"] == target
    assert actions(seg)[-2:] == [f"{change if change == 'renumber' else 'merge'}-complete", "split-complete"]
    assert seg.size(made.body) == runs[:, 3].sum()
    assert 3 in seg.supervoxels_of(target)
    assert not verify.check_index(seg)


def test_a_supervoxel_may_change_bodies_while_it_is_cut(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    seg.merge(1, [2, 3])
    with begun(monkeypatch, lambda: seg.split_supervoxel(2, part_of(seg, 2))) as (split, go_on):
        cleaved = seg.cleave(1, [2])
        go_on.set()
        made = split.result(PATIENCE)
    assert seg.bodies_of([made.split, made.remain]).tolist() == [cleaved.body] * 2
    assert not verify.check_index(seg)


@pytest.mark.parametrize("change", ["merge", "cleave"])
def test_parts_stay_where_they_are_while_they_are_joined(seg: LabelMap, monkeypatch: pytest.MonkeyPatch, change: str):
    seg.merge(1, [2, 3])
    made = seg.split(1, part_of(seg, 1, 2))
    edits: dict[str, Callable[[], Any]] = {
        "merge": lambda: seg.merge(4, [made.body]), "cleave": lambda: seg.cleave(1, [3])
    }  # fmt: skip
    with begun(monkeypatch, lambda: seg.undo()) as (undo, go_on), ThreadPoolExecutor(1) as pool:
        crossing = pool.submit(edits[change])
        with pytest.raises(Unfinished):
            crossing.result(0.3)
        go_on.set()
        undo.result(PATIENCE)
        assert (crossing.exception(PATIENCE) is None) == (change == "cleave")
    assert "undo-complete" in actions(seg)[-2:]
    assert seg.supervoxels_of(1) == ([1, 2] if change == "cleave" else [1, 2, 3])
    assert not verify.check_index(seg)


# ---------------------------------------------------------------- edits between a look at voxels and the write


def planned(monkeypatch: pytest.MonkeyPatch, between: Callable[[int], Any]) -> list[int]:
    """Plans of writes, by number; `between` is called after each was made, and before it is carried out."""
    begin, made = underway._begin, list[int]()

    def begin_late(*given: Any) -> Any:
        made.append(len(made))
        if len(made) < 5:
            between(made[-1])
        return begin(*given)

    monkeypatch.setattr(underway, "_begin", begin_late)
    return made


WRITES: dict[str, Callable[[LabelMap], Any]] = {
    "voxels": lambda seg: seg.write((-16, 0, 16), seg.read((-16, 0, 16), (0, 16, 32), supervoxels=True)),
    "a split": lambda seg: seg.split(5, part_of(seg, 5)),
    "a split of a supervoxel": lambda seg: seg.split_supervoxel(5, part_of(seg, 5)),
    "an undo of a split": lambda seg: seg.undo(seg.changes()[1]["MutationID"]),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_edits_of_other_bodies_keep_nobody_from_writing_voxels(
    seg: LabelMap, monkeypatch: pytest.MonkeyPatch, write: Callable[[LabelMap], Any]
):
    """Many people edit all the time, and blocks take a while to be read."""
    seg.split(7, part_of(seg, 7))
    made = planned(monkeypatch, lambda number: seg.merge(1, [2 + number]))
    write(seg)
    assert made == [0]
    assert not verify.check_index(seg)


def test_a_split_sees_what_became_of_its_body_meanwhile(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    parts = part_of(seg, 5)
    made = planned(monkeypatch, lambda number: seg.merge(5, [1]) if not number else None)
    found = seg.split(5, parts)
    assert made == [0, 1]
    assert seg.header(5).mutation_id == found.mutation_id
    assert seg.supervoxels_of(5)[0] == 1
    assert not verify.check_index(seg)


def test_what_is_posted_by_hand_meanwhile_is_seen_too(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    made = planned(monkeypatch, lambda number: seg.post_mappings([(999, 9)]) if not number else None)
    seg.split(5, part_of(seg, 5))
    assert made == [0, 1]


@pytest.mark.parametrize(
    ("split", "wanted"),
    [
        (lambda seg, part: seg.split(5, part), InvalidInputError),
        (lambda seg, part: seg.split_supervoxel(5, part), None),
    ],
)
def test_a_body_that_goes_away_between_two_looks_at_its_index(
    seg: LabelMap, monkeypatch: pytest.MonkeyPatch, split: Callable[..., Any], wanted: type[Exception] | None
):
    part, looked, get = part_of(seg, 5), list[bytes](), StoredKeys.get

    def get_first(self: StoredKeys, key: bytes) -> bytes | None:
        found = get(self, key)
        if key in (rows.header_key(5), rows.mapping_key(5)) and not looked:
            looked.append(key)
            seg.merge(1, [5])
        return found

    def get_some(self: StoredKeys, keys: Any) -> list[bytes | None]:
        return [get_first(self, key) for key in keys]

    monkeypatch.setattr(StoredKeys, "get", get_first)
    monkeypatch.setattr(StoredKeys, "get_many", get_some)
    with pytest.raises(wanted, match="label 5 does not exist") if wanted else nullcontext():
        split(seg, part)
    assert looked
    monkeypatch.undo()
    assert not verify.check_index(seg)
