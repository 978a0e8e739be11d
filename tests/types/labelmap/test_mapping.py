"""Look-ups of bodies, and that what is cached never outlives a change."""

from __future__ import annotations

import numpy as np
import pytest

from vzarr.types.labelmap import mapping
from vzarr.types.labelmap.handle import LabelMap

IDS = np.arange(14, dtype=np.uint64)


def test_ids_that_are_no_supervoxels_are_told_apart_when_asked(seg: LabelMap):
    seg.merge(1, [2])
    assert seg.bodies_of([0, 1, 2, 3, 777, 2]).tolist() == [0, 1, 1, 3, 0, 1]
    assert seg.bodies_of([0, 2, 777], check=False).tolist() == [0, 1, 777]


def test_a_cache_follows_the_edits_of_its_own_process(seg: LabelMap):
    for edit in (
        lambda: seg.merge(1, [2, 3]),
        lambda: seg.cleave(1, [3]),
        lambda: seg.renumber(500, 1),
        lambda: seg.post_mappings([(5, 6), (7, 0)]),
        lambda: seg.write((-16, 0, 16), np.full((16, 16, 16), 13, np.uint64)),
    ):
        seg.bodies_of(IDS)
        edit()
        fresh = mapping.bodies_within(seg.keys, IDS.tolist())
        assert seg.bodies_of(IDS, check=False).tolist() == [fresh[i] for i in IDS.tolist()]
    assert seg.bodies_of([13]).tolist() == [13]


def test_a_cache_sees_what_another_process_wrote(seg: LabelMap):
    assert seg.bodies_of([2, 3]).tolist() == [2, 3]

    def as_another_process(tx):  # without a word to this process's cache
        mapping.put(tx, 2, 1)
        tx.put(mapping.rows.CHANGE, mapping.rows.number(tx.next_mutation_id()))

    seg.transact(as_another_process)
    assert seg.bodies_of([2, 3]).tolist() == [1, 3]


def test_a_look_up_that_met_a_change_does_not_leave_old_answers_behind(seg: LabelMap):
    cache, mark = mapping._cache_of(seg), mapping.read_change(seg.keys)
    cache.at(mark)
    old = mapping.bodies_within(seg.keys, [2])  # a slow reader looked before
    seg.merge(1, [2])
    cache.keep(mark, old, {})  # and remembers after
    assert seg.bodies_of([2]).tolist() == [1]


def test_each_version_has_its_own_answers(seg: LabelMap):
    seg.merge(1, [2])
    child = seg.version.commit().newversion()["seg"]
    child.cleave(1, [2])
    assert seg.bodies_of([2]).tolist() == [1]
    assert child.bodies_of([2]).tolist() != [1]


def test_many_ids_at_once(make):
    seg = make("many")
    table = np.stack([np.arange(1, 5001), np.arange(1, 5001) // 2 + 1], 1).astype(np.uint64)
    seg.post_mappings(map(tuple, table.tolist()))
    for _ in range(2):
        np.testing.assert_array_equal(seg.bodies_of(table[:, 0], check=False), table[:, 1])


@pytest.mark.parametrize("at_once", [3, 100])
def test_a_cache_that_grew_too_large_starts_anew(seg: LabelMap, monkeypatch: pytest.MonkeyPatch, at_once: int):
    monkeypatch.setattr(mapping, "_MOST_IDS", 4)
    seg.merge(1, [2])
    for start in range(0, 9, at_once):
        ids = list(range(start, min(start + at_once, 9)))
        assert seg.bodies_of(ids, check=False).tolist() == [1 if i == 2 else i for i in ids]
