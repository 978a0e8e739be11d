"""Indexing what is there: as a dense count says, in any batches, by any scheduler, after any crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.errors import ConflictError, InvalidInputError, SealedError, UnsupportedError
from vzarr.ingest.index import index_volume
from vzarr.types import registry
from vzarr.types.labelmap import counting, recount, verify
from vzarr.types.labelmap.handle import LabelMap


@pytest.fixture
def seg(tmp_path: Path) -> LabelMap:
    """A labelmap of 5 x 3 x 2 blocks whose voxels plain Zarr wrote; nothing is indexed."""
    repo = vzarr.create(str(tmp_path / "repo"))
    handle = registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
    assert isinstance(handle, LabelMap)
    cells = np.random.default_rng(3).integers(0, 40, (20, 12, 8)).astype(np.uint64)
    handle.array().resize((80, 48, 32))
    handle.array()[...] = np.kron(cells, np.ones((4, 4, 4), np.uint64))
    yield handle
    repo.close()


def _left(seg: LabelMap) -> list[str]:
    return [key for key, _ in seg.version.repo.objects.walk("nodes") if "index-" in key]


@pytest.mark.parametrize("scheduler", [None, "synchronous", "threads"])
def test_index_from_voxels(seg: LabelMap, scheduler: str | None):
    assert verify.check_index(seg)
    told = []
    found = index_volume(seg, scheduler=scheduler, batch=7, progress=lambda *said: told.append(said))
    assert not verify.check_index(seg)
    assert found.supervoxels == found.bodies == len(list(seg.list_bodies()))
    assert (seg.max_label, told[-1]) == (39, ("seg batches", 5, 5))
    assert not _left(seg)
    again = index_volume(seg)
    assert (again.changed, again.mutation_id) == (0, found.mutation_id + 1)


def test_what_other_tools_mark_by_the_largest_number_leaves_labels_to_give(seg: LabelMap):
    seg.array()[0, 0, :5] = 2**64 - 1
    index_volume(seg)
    assert not verify.check_index(seg)
    assert seg.size(2**64 - 1) == 5
    assert (seg.max_label, seg.labelling.next) == (39, 40)


@pytest.mark.slow
def test_other_processes_count(seg: LabelMap):
    index_volume(seg, scheduler="processes", batch=15)
    assert not verify.check_index(seg)


def test_parts_that_fit_into_memory(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counting, "PART_ENTRIES", 50)
    index_volume(seg, batch=4)
    assert not verify.check_index(seg)


def test_the_mapping_counts_and_what_was_wrong_goes_away(seg: LabelMap):
    index_volume(seg)
    seg.merge(1, [2, 3])
    seg.array()[:16] = 77
    assert verify.check_index(seg)
    index_volume(seg)
    assert not verify.check_index(seg)
    assert seg.supervoxels_of(1) == [1, 2, 3]
    assert seg.header(1).mutation_id == seg.changes()[0]["MutationID"]
    seg.array()[...] = 0
    index_volume(seg)
    assert list(seg.list_bodies()) == []


def test_run_again_after_a_crash(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    counted = []
    original = counting.counted

    def count(version, path, coords):
        counted.append(len(coords))
        if len(counted) == 4:
            raise KeyboardInterrupt
        return original(version, path, coords)

    monkeypatch.setattr(counting, "counted", count)
    with pytest.raises(KeyboardInterrupt):
        index_volume(seg, batch=5)
    assert list(seg.list_bodies()) == []
    index_volume(seg, batch=5)
    assert len(counted) == 4 + 3
    assert not verify.check_index(seg)


def test_a_crash_while_the_index_is_written(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    put = recount._Writer._put

    def fail(self, key, value):
        if self.changed == 20:
            raise KeyboardInterrupt
        put(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(recount._Writer, "_put", fail)
        with pytest.raises(KeyboardInterrupt):
            index_volume(seg)
    assert list(seg.keys.scan()) == [] or list(seg.list_bodies()) == []
    index_volume(seg)
    assert not verify.check_index(seg)


def test_edits_meanwhile(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    index_volume(seg)
    original = counting.counted

    def count(*what):
        seg.merge(1, [2])
        monkeypatch.setattr(counting, "counted", original)
        return original(*what)

    monkeypatch.setattr(counting, "counted", count)
    with pytest.raises(ConflictError, match="was edited while"):
        index_volume(seg)
    index_volume(seg)
    assert not verify.check_index(seg)
    assert seg.supervoxels_of(1) == [1, 2]


def test_counts_of_another_state_are_not_taken(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(recount, "replace_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index_volume(seg)
    assert _left(seg)
    seg.write((0, 0, 0), np.full((16, 16, 16), 500, np.uint64))
    index_volume(seg)
    assert not verify.check_index(seg)


def test_blocks_that_plain_zarr_wrote_after_they_were_counted_are_counted_again(
    seg: LabelMap, monkeypatch: pytest.MonkeyPatch
):
    counted, original = [], counting.counted
    monkeypatch.setattr(counting, "counted", lambda *what: (counted.append(what), original(*what))[1])
    with monkeypatch.context() as patch:
        patch.setattr(recount, "replace_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index_volume(seg, batch=5)
    seg.array()[:16, :16, :16] = 500
    index_volume(seg, batch=5)
    assert len(counted) == 6 + 1
    assert not verify.check_index(seg)


def test_what_cannot_be_indexed(seg: LabelMap):
    with pytest.raises(InvalidInputError, match="scheduler"):
        index_volume(seg, scheduler="slurm")
    bare = registry.create(seg.version, "bare", "labelmap", config={"IndexedLabels": "false"})
    with pytest.raises(UnsupportedError):
        index_volume(bare)
    seg.version.commit()
    with pytest.raises(SealedError):
        index_volume(seg)


def test_a_commit_takes_the_counts_away(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recount, "replace_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        index_volume(seg)
    seg.version.commit()
    assert not _left(seg)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60)), max_size=5), st.integers(1, 40))
def test_any_voxels_any_batches(seg: LabelMap, writes, batch: int):
    for place, label in writes:
        seg.array()[place * 13 : place * 13 + 20, 5:30, 2:9] = label
    index_volume(seg, batch=batch)
    assert not verify.check_index(seg)
