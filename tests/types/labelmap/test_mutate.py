"""Edits of bodies: what they refuse without changing anything, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import vzarr
from vzarr.errors import InvalidInputError, NotFoundError, SealedError
from vzarr.overlay.kv.sqliteviews import View
from vzarr.types import mutations, registry
from vzarr.types.labelmap import verify
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.rows import Header


def everything(seg: LabelMap) -> tuple[Any, ...]:
    """All that an edit could change."""
    return list(seg.keys.scan()), seg.labelling, seg.transact(lambda tx: tx.peek_mutation_id())


REFUSED: dict[str, Callable[[LabelMap], object]] = {
    "merge of nothing": lambda seg: seg.merge(1, []),
    "merge into itself": lambda seg: seg.merge(1, [2, 1]),
    "merge of background": lambda seg: seg.merge(1, [0]),
    "merge into background": lambda seg: seg.merge(0, [1]),
    "merge of a stranger": lambda seg: seg.merge(1, [2, 777]),
    "merge into a stranger": lambda seg: seg.merge(777, [2]),
    "cleave of nothing": lambda seg: seg.cleave(1, []),
    "cleave of everything": lambda seg: seg.cleave(1, [1]),
    "cleave of another's": lambda seg: seg.cleave(1, [2]),
    "cleave from a stranger": lambda seg: seg.cleave(777, [1]),
    "renumber to background": lambda seg: seg.renumber(0, 1),
    "renumber to a body": lambda seg: seg.renumber(2, 1),
    "renumber of a stranger": lambda seg: seg.renumber(900, 777),
    "mapping of background": lambda seg: seg.post_mappings([(0, 1)]),
    "index of background": lambda seg: seg.post_indices([LabelIndex(0, Header(1), {})]),
}


@pytest.mark.parametrize("edit", REFUSED.values(), ids=REFUSED)
def test_a_refused_edit_changes_nothing_and_takes_no_number(seg: LabelMap, edit: Callable[[LabelMap], object]):
    before = everything(seg)
    with pytest.raises(InvalidInputError):
        edit(seg)
    assert everything(seg) == before


def test_a_sealed_version_takes_no_edit(seg: LabelMap):
    seg.version.commit()
    with pytest.raises(SealedError):
        seg.merge(1, [2])


def test_a_merge_costs_what_is_merged_and_not_its_target(seg: LabelMap):
    target = list(range(2, 9))
    seg.merge(1, target)
    rows = dict(seg.keys.scan(b"i", b"j"))
    seg.merge(1, [9])
    changed = {k for k, v in seg.keys.scan(b"i", b"j") if rows.get(k) != v}
    assert len(changed) == 1


def test_an_edit_names_its_author_in_header_and_log(seg: LabelMap):
    number = seg.merge(1, [2, 3], user="ann", app="tester")
    header = seg.header(1)
    assert (header.mutation_id, header.user, header.app) == (number, "ann", "tester")
    *_, record = map(orjson.loads, mutations.read(seg))
    said = {k: record[k] for k in ("Action", "Target", "Labels", "User", "App", "MutationID", "UUID")}
    assert said == {
        "Action": "merge-complete",
        "Target": 1,
        "Labels": [2, 3],
        "User": "ann",
        "App": "tester",
        "MutationID": number,
        "UUID": seg.version.uuid,
    }


def test_writing_voxels_is_no_edit_of_a_body(seg: LabelMap):
    assert seg.header(1).mutation_id == 0
    seg.merge(1, [2], user="ann")
    before = seg.header(1)
    seg.write((64, 0, 0), seg.read((0, 0, 16), (16, 16, 32), supervoxels=True))
    after = seg.header(1)
    assert (after.mutation_id, after.user) == (before.mutation_id, "ann")
    assert after.voxels > before.voxels


def test_supervoxels_without_voxels_are_passed_over_by_a_cleave(seg: LabelMap):
    seg.merge(1, [2, 3])
    seg.post_mappings([(500, 1)])
    made = seg.cleave(1, [2, 500])
    assert seg.supervoxels_of(made.body) == [2]
    with pytest.raises(InvalidInputError, match="has a voxel"):
        seg.cleave(1, [500])


def test_a_body_can_be_cleaved_of_the_supervoxel_that_has_its_number(seg: LabelMap):
    seg.merge(1, [2])
    made = seg.cleave(1, [1]).body
    assert seg.supervoxels_of(1) == [2]
    assert seg.bodies_of([1, 2, made]).tolist() == [made, 1, 0]
    assert not verify.check_index(seg)


def test_a_number_that_was_given_back_makes_a_body_of_its_own_again(seg: LabelMap):
    seg.renumber(100, 2)
    seg.renumber(2, 100)
    assert dict(seg.mappings()) == {100: 0}
    assert seg.supervoxels_of(2) == [2]
    assert not verify.check_index(seg)


def test_indices_by_hand_replace_and_remove_bodies(seg: LabelMap):
    mine = seg.find(1)
    seg.post_indices([LabelIndex(1000, Header(mine.header.voxels), mine.counts), LabelIndex(1, Header(0), {})])
    assert seg.size(1000) == mine.header.voxels
    assert seg.max_label == 1000
    with pytest.raises(NotFoundError):
        seg.size(1)


def test_records_say_what_a_cleave_left(seg: LabelMap):
    seg.merge(1, [2])
    sizes = seg.sizes([1, 2], supervoxels=True)
    made = seg.cleave(1, [2])
    record = orjson.loads(list(mutations.read(seg))[-1])
    assert record["CleavedLabel"] == made.body
    assert (record["RemainSize"], record["CleavedSize"]) == tuple(sizes)


def test_an_edit_costs_a_few_statements_however_many_bodies_it_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = vzarr.create(str(tmp_path / "repo")).root
    seg = registry.create(root, "seg", "labelmap", config={"BlockSize": "16,16,16", "MaxDownresLevel": "0"})
    seg.write((0, 0, 0), np.arange(1, 4097, dtype=np.uint64).reshape(16, 16, 16))
    said: list[str] = []
    query, many = View._query, View.run_many
    monkeypatch.setattr(View, "_query", lambda self, sql, *values: said.append(sql) or query(self, sql, *values))
    monkeypatch.setattr(View, "run_many", lambda self, sql, rows: said.append(sql) or many(self, sql, rows))
    seg.merge(1, [2])
    costs = []
    for bodies in ([3], list(range(10, 110)), list(range(110, 240))):
        del said[:]
        seg.merge(1, bodies)
        costs.append(len(said))
    assert costs[0] <= 18
    assert max(costs) <= costs[0] + 4
    del said[:]
    made = seg.cleave(1, list(range(10, 110)))
    assert len(said) <= 20
    assert seg.size(made.body) == 100
    assert not verify.check(seg)
