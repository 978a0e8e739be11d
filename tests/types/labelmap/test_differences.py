"""Changing the index by differences, against sums made one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.types import registry
from vzarr.types.labelmap import index
from vzarr.types.labelmap.differences import Difference, apply_difference
from vzarr.types.labelmap.handle import LabelMap

entry = st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(-9, 9))
changes = st.lists(st.lists(entry, max_size=12), max_size=4)
BODIES = {1: 1, 2: 1, 3: 3, 4: 9, 5: 9}
"""Body 9 has no supervoxel of its number."""


def difference(entries: list[tuple[int, int, int]]) -> Difference:
    columns = np.array(entries, np.int64).reshape(-1, 3).T
    return Difference.summed(columns[0].astype(np.uint64), columns[1].astype(np.uint64), columns[2])


@pytest.fixture(scope="module")
def seg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelMap]:
    repo = vzarr.create(str(tmp_path_factory.mktemp("repo") / "repo"))
    yield registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
    repo.close()


@given(st.lists(entry, max_size=20))
def test_entries_of_one_supervoxel_and_block_are_added(entries: list[tuple[int, int, int]]):
    sums: Counter[tuple[int, int]] = Counter()
    for block, supervoxel, voxels in entries:
        sums[supervoxel, block] += voxels
    found = difference(entries)
    got = zip(found.supervoxels.tolist(), found.blocks.tolist(), found.voxels.tolist(), strict=True)
    assert [((sv, block), n) for sv, block, n in got] == sorted((k, n) for k, n in sums.items() if n)


@settings(max_examples=40, deadline=None)
@given(changes)
def test_the_index_is_the_sum_of_all_changes(seg: LabelMap, made: list[list[tuple[int, int, int]]]):
    for body in set(BODIES.values()):
        seg.transact(lambda tx, body=body: index.put_index(tx, index.LabelIndex(body, index.Header(0), {})))
    there: dict[int, Counter[int]] = defaultdict(Counter)
    for entries in made:
        change = difference(entries)
        seg.transact(lambda tx, change=change: apply_difference(tx, change, BODIES))
        for block, supervoxel, voxels in zip(change.blocks, change.supervoxels, change.voxels, strict=True):
            there[int(supervoxel)][int(block)] += int(voxels)
        there = defaultdict(Counter, {sv: +counts for sv, counts in there.items()})  # none below 0
    for body in set(BODIES.values()):
        own = {sv: counts for sv, counts in there.items() if BODIES[sv] == body and counts}
        found = index.read_index(seg.keys, body)
        assert (0 if found is None else found.header.voxels) == sum(n for c in own.values() for n in c.values())
        stored = index.read_counts(seg.keys, body)
        assert {sv: dict(zip(c.blocks.tolist(), c.voxels.tolist(), strict=True)) for sv, c in stored.items()} == own


def test_a_body_that_grows_keeps_what_is_known_of_its_last_edit(seg: LabelMap):
    header = index.Header(5, 77, "2026-01-01T00:00:00Z", "who", "what")
    seg.transact(lambda tx: index.put_header(tx, 1, header))
    seg.transact(lambda tx: apply_difference(tx, difference([(0, 1, 3)]), BODIES))
    assert index.read_header(seg.keys, 1) == index.Header(8, 77, "2026-01-01T00:00:00Z", "who", "what")
