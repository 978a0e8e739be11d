"""Look-ups of bodies, and that what is cached never outlives a change."""

from __future__ import annotations

import numpy as np
import pytest

from vzarr.types.labelmap import caches, index, mapping
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
        mapping.put(tx, [2], 1)
        tx.put(mapping.rows.CHANGE, mapping.rows.number(tx.next_mutation_id()))

    seg.transact(as_another_process)
    assert seg.bodies_of([2, 3]).tolist() == [1, 3]


def test_a_look_up_that_met_a_change_does_not_leave_old_answers_behind(seg: LabelMap):
    cache, mark = caches.of(seg), index.read_change(seg.keys)
    cache.at(mark)
    old = mapping.bodies_within(seg.keys, [2])  # a slow reader looked before
    seg.merge(1, [2])
    cache.keep(mark, old, {})  # and remembers after
    assert seg.bodies_of([2]).tolist() == [1]


@pytest.mark.parametrize("check", [True, False])
def test_what_is_known_and_what_is_found_are_of_one_moment(seg: LabelMap, monkeypatch: pytest.MonkeyPatch, check: bool):
    seg.bodies_of([2], check=check)
    read_change, calls = index.read_change, []

    def changed_by_another_process(keys):
        calls.append(1)
        if len(calls) == 2:  # the first call says as of which change ids are known already
            calls.append(1)
            seg.transact(lambda tx: merge_unheard(tx))
        return read_change(keys)

    def merge_unheard(tx):
        for supervoxel in (2, 3):
            mapping.put(tx, [supervoxel], 1)
        tx.put(mapping.rows.CHANGE, mapping.rows.number(tx.next_mutation_id()))

    monkeypatch.setattr(index, "read_change", changed_by_another_process)
    monkeypatch.setattr(type(seg.version.repo.authority), "stamp", lambda self: None)
    assert seg.bodies_of([2, 3], check=check).tolist() == [1, 1]
    assert len(calls) > 2
    assert seg.bodies_of([2, 3], check=check).tolist() == [1, 1]


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
    monkeypatch.setattr(caches, "_MOST_IDS", 4)
    seg.merge(1, [2])
    for start in range(0, 9, at_once):
        ids = list(range(start, min(start + at_once, 9)))
        assert seg.bodies_of(ids, check=False).tolist() == [1 if i == 2 else i for i in ids]


def test_sizes_and_indices_follow_every_edit(seg: LabelMap):
    def asked() -> tuple[object, ...]:
        found = [None if size == 0 else seg.find(body) for body, size in enumerate(seg.sizes(range(1, 12)), 1)]
        return seg.sizes(range(1, 12)), [f and (f.header, f.supervoxels.tolist(), f.blocks[1].tolist()) for f in found]

    def fresh() -> tuple[object, ...]:
        caches._cache_at.cache_clear()
        return asked()

    edits = [
        lambda: seg.merge(1, [2, 3]),
        lambda: seg.cleave(1, [2]),
        lambda: seg.renumber(11, 4),
        lambda: seg.undo(),
        lambda: seg.write((0, 0, 16), np.full((16, 16, 16), 5, np.uint64)),
        lambda: seg.split_supervoxel(5, np.array([[16, 0, 0, 3]], np.int32)),
        lambda: seg.post_indices([]),
    ]
    asked()
    for edit in edits:
        edit()
        known = asked()
        assert asked() == known == fresh()


def test_a_body_is_looked_up_once_until_it_changes(seg: LabelMap):
    first, other = seg.find(1), seg.find(2)
    assert seg.find(1) is first
    seg.merge(1, [3])
    assert seg.find(1) is not first
    assert seg.find(2) is other


def test_an_index_that_met_a_change_is_not_kept(seg: LabelMap):
    mark, old = index.read_change(seg.keys), seg.find(1)
    sizes = seg.sizes([1, 2])
    seg.merge(1, [2])
    caches.of(seg).keep_index(mark, old)
    caches.of(seg).keep_sizes(mark, {1: sizes[0], 2: sizes[1]})
    assert seg.find(1).header.voxels == sum(sizes)
    assert seg.sizes([1, 2]) == [sum(sizes), 0]


def test_who_reads_beside_busy_editors_waits_for_nobody_and_is_never_refused(seg):
    """Somebody edits during every look, and at last seals the version."""
    looks = []

    def read(keys):
        before = index.read_counts(keys, 1)
        looks.append(len(before))
        if len(looks) <= index._ATTEMPTS:
            seg.merge(1, [1 + len(looks)])
        if len(looks) == index._ATTEMPTS:
            seg.version.commit()
        return before, index.read_counts(keys, 1)

    before, after = index.consistently(seg, read)
    assert sorted(before) == sorted(after) == [1, 2, 3, 4, 5]
    assert looks == [1, 2, 3, 4, 5]


def test_all_versions_together_remember_so_many_ids(seg, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caches, "_FEW_IDS", 10)
    monkeypatch.setattr(caches, "_MOST_IDS", 100)
    monkeypatch.setattr(caches, "_large", {})
    seg.merge(1, [2])
    seg.version.commit()
    versions = [seg.at(seg.version.repo["master"].branch(f"b{n}")) for n in range(5)]
    ids = np.arange(1, 41, dtype=np.uint64)
    wanted = np.where(ids == 2, 1, ids).tolist()
    for _ in range(2):
        for view in versions:
            assert view.lookup(ids).tolist() == wanted
            assert sum(caches.of(v).count for v in versions) <= 100
    assert [caches.of(v).count for v in versions] == [0, 0, 0, 40, 40]
    few = np.arange(1, 10, dtype=np.uint64)
    assert versions[0].lookup(few).tolist() == wanted[:9]
    assert [caches.of(v).count for v in versions] == [9, 0, 0, 40, 40]
