"""The mutation log: every kind of change leaves a record with id, user, app and time, and DVID's form of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

import vzarr
from tests.types.labelmap.conftest import blobs
from vzarr.types import mutations, registry
from vzarr.types.labelmap import allocate
from vzarr.types.labelmap.edits import Author
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.rows import Header
from vzarr.types.labelmap.runs import runs_of_mask
from vzarr.types.labelmap.sparsevol import decode_rles

WHO = {"user": "ann", "app": "tests"}
AUTHOR = Author("ann", "tests")
FULL = np.full((16, 16, 16), 9, np.uint64)


def part(seg, supervoxel: int) -> np.ndarray:
    """Runs of the voxels of a supervoxel in planes with even z."""
    volume = seg.read((0, 0, 0), (32, 32, 32), supervoxels=True)
    volume[1::2] = 0
    return runs_of_mask(volume == supervoxel, (0, 0, 0))


LABEL_EDITS: dict[str, Callable] = {
    "merge-complete": lambda seg: seg.merge(1, [2], **WHO),
    "cleave-complete": lambda seg: (seg.merge(1, [2]), seg.cleave(1, [2], **WHO)),
    "renumber-complete": lambda seg: seg.renumber(99, 1, **WHO),
    "split-complete": lambda seg: seg.split(1, part(seg, 1), **WHO),
    "split-supervoxel-complete": lambda seg: seg.split_supervoxel(1, part(seg, 1), **WHO),
    "agglomerate-complete": lambda seg: seg.agglomerate([[2, 1]], **WHO),
    "undo-complete": lambda seg: (seg.merge(1, [2]), seg.undo(**WHO)),
    "post-maxlabel": lambda seg: allocate.post_max_label(seg, 500, AUTHOR),
    "post-nextlabel": lambda seg: seg.reserve_labels(3, **WHO),
    "setnextlabel": lambda seg: allocate.set_next(seg, 700, 800, AUTHOR),
    "post-voxels": lambda seg: seg.write((0, 0, 0), FULL, **WHO),
    "post-mappings": lambda seg: seg.post_mappings([(1, 2)], **WHO),
    "post-indices": lambda seg: seg.post_indices([LabelIndex(3, Header(0), {})], **WHO),
}


@pytest.fixture
def seg(repo: vzarr.Repo):
    config = {"BlockSize": "16,16,16", "MaxDownresLevel": "1"}
    handle = registry.create(repo.root, "seg", "labelmap", config=config)
    handle.write((0, 0, 0), blobs(3, (2, 2, 2), 6))
    return handle


def last(instance) -> dict:
    return json.loads(list(mutations.read(instance))[-1])


def check(record: dict, action: str, uuid: str) -> None:
    said = {k: record[k] for k in ("Action", "UUID", "User", "App")}
    assert said == {"Action": action, "UUID": uuid, "User": "ann", "App": "tests"}
    assert type(record["MutationID"]) is int
    age = datetime.now(UTC) - datetime.fromisoformat(record["Timestamp"])
    assert 0 <= age.total_seconds() < 60


@pytest.mark.parametrize("action", LABEL_EDITS)
def test_every_change_of_labels_is_logged(seg, action: str):
    LABEL_EDITS[action](seg)
    check(last(seg), action, seg.version.uuid)


def test_unindexed_and_coarse_voxels_are_logged(seg):
    seg.write_blocks({(5, 0, 1): FULL}, indexed=False, **WHO)
    check(last(seg), "post-voxels", seg.version.uuid)
    seg.store_blocks({(5, 0, 1): FULL, (6, 2, 0): FULL}, 1, **WHO)
    record = last(seg)
    check(record, "post-voxels", seg.version.uuid)
    shape = {k: record[k] for k in ("Scale", "Blocks", "MinBlock", "MaxBlock")}
    assert shape == {"Scale": 1, "Blocks": 2, "MinBlock": [0, 0, 5], "MaxBlock": [1, 2, 6]}


def test_a_largest_label_that_is_none_is_no_change(seg):
    before = len(list(mutations.read(seg)))
    allocate.post_max_label(seg, 1, AUTHOR)
    assert len(list(mutations.read(seg))) == before


KEYED: dict[tuple[str, str], Callable] = {
    ("keyvalue", "postkv"): lambda kv: kv.put("a", b"x", **WHO),
    ("keyvalue", "delete"): lambda kv: kv.delete("a", **WHO),
    ("neuronjson", "postneuronjson"): lambda nj: nj.put(1, {"bodyid": 1, "a": 1}, **WHO),
    ("neuronjson", "ingestneuronjson"): lambda nj: nj.put_many([(1, {"bodyid": 1, "a": 1})], **WHO),
    ("neuronjson", "delete"): lambda nj: nj.delete(1, **WHO),
}


@pytest.mark.parametrize(("typename", "action"), KEYED)
@pytest.mark.parametrize("versioned", [True, False])
def test_every_change_of_keys_is_logged(repo: vzarr.Repo, typename: str, action: str, versioned: bool):
    instance = registry.create(repo.root, "keys", typename, versioned=versioned)
    KEYED[typename, action](instance)
    check(last(instance), action, repo.root.uuid)


def test_mutation_ids_rise_over_all_instances(repo: vzarr.Repo, seg):
    kv = registry.create(repo.root, "kv", "keyvalue")
    numbers = []
    for edit in (lambda: seg.merge(1, [2]), lambda: kv.put("a", b""), lambda: seg.reserve_labels(1)):
        edit()
        found = [json.loads(r)["MutationID"] for i in (seg, kv) for r in mutations.read(i)]
        numbers.append(max(found))
    assert numbers == list(range(numbers[0], numbers[0] + 3))


@pytest.mark.parametrize("kind", ["split", "split-supervoxel"])
def test_the_runs_of_a_split_are_kept(seg, kind: str):
    runs = part(seg, 1)
    LABEL_EDITS[f"{kind}-complete"](seg)
    record = last(seg)
    content = mutations.attached(seg, record["Split"])
    np.testing.assert_array_equal(decode_rles(content), runs)
    child = seg.version.commit().newversion()["seg"]
    assert mutations.attached(child, record["Split"]) == content
    assert mutations.attached(seg, "AAAA") is mutations.attached(seg, "no reference") is None


def test_runs_of_splits_on_two_branches_are_no_conflict(repo: vzarr.Repo):
    config = {"BlockSize": "16,16,16", "MaxDownresLevel": "0"}
    seg = registry.create(repo.root, "seg", "labelmap", config=config)
    seg.write((0, 0, 0), np.concatenate([np.full((16, 16, 16), label, np.uint64) for label in (1, 2)], 2))
    runs = {label: part(seg, label) for label in (1, 2)}
    base = repo.root.commit()
    sides = [base.branch("one"), base.branch("two")]
    for side, label in zip(sides, (1, 2), strict=True):
        side["seg"].split_supervoxel(label, runs[label])
        side.commit()
    merged = repo.merge(sides)["seg"]
    for side, label in zip(sides, (1, 2), strict=True):
        (record,) = map(json.loads, mutations.read(merged, side.uuid))
        np.testing.assert_array_equal(decode_rles(mutations.attached(merged, record["Split"])), runs[label])


def test_shown_as_the_reference_does(repo: vzarr.Repo):
    kv = registry.create(repo.root, "kv", "keyvalue")
    kv.put("a", b"")
    kv.transact(lambda tx: mutations.Writer(kv).record(tx, {"Action": "delete", "Key": "a"}, announced=False))
    assert [mutations.is_announced(json.loads(r)) for r in mutations.read(kv)] == [True, False]
    stored, shown = (list(map(json.loads, f(mutations.read(kv)))) for f in (list, mutations.shown))
    assert [set(s) for s in shown] == [set(stored[0]), set(stored[0]) - {"Bytes"}]
    assert shown[0]["Timestamp"] == mutations.go_time(stored[0]["Timestamp"])
    wanted = mutations.shown(mutations.read(kv), lambda action: action == "delete")
    assert [json.loads(r)["Action"] for r in wanted] == ["delete"]


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("2026-11-22T16:11:14.438889+00:00", "2026-11-22 16:11:14.438889 +0000 UTC"),
        ("2026-11-22T16:11:14+00:00", "2026-11-22 16:11:14.000000 +0000 UTC"),
        ("2026-11-22T17:11:14.5+01:00", "2026-11-22 16:11:14.500000 +0000 UTC"),
        ("2026-11-22T16:11:14.000001Z", "2026-11-22 16:11:14.000001 +0000 UTC"),
    ],
)
def test_times_as_go_prints_them(stored: str, shown: str):
    assert mutations.go_time(stored) == shown
