"""Messages have DVID's shapes: the table of section 2.10 of its HTTP API, row by row, from real edits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vzarr
from tests.types.labelmap.conftest import blobs
from vzarr.kafka import messages
from vzarr.types import blobs as blobstore
from vzarr.types import mutations, registry
from vzarr.types.labelmap import allocate
from vzarr.types.labelmap.runs import runs_of_mask

GO_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} \+0000 UTC")
WHO = {"user": "ann", "app": "tests"}
COMMON = {"UUID", "MutationID", "Timestamp"}
MERGE = {"Action", "Target", "Labels", *COMMON}
CLEAVE = {"Action", "OrigLabel", "CleavedLabel", "CleavedSupervoxels", *COMMON}
CUT = {"Action", "Supervoxel", "Body", "SplitSupervoxel", "RemainSupervoxel", "Split", *COMMON}
SPLIT = {"Action", "Target", "NewLabel", "Split", "SVSplits", *COMMON}
RENUMBER = {"Action", "NewLabel", "OrigLabel", *COMMON}
KEY = {"Action", "Key", *COMMON}

EDITS: dict[str, tuple[Callable, set[str], set[str] | None]] = {
    "merge": (lambda seg: seg.merge(1, [2]), MERGE, MERGE),
    "cleave": (lambda seg: (seg.merge(1, [2]), seg.cleave(1, [2])), CLEAVE, CLEAVE | {"CleavedSize", "RemainSize"}),
    "split-supervoxel": (lambda seg: seg.split_supervoxel(1, part(seg)), CUT, CUT | {"SplitSize", "RemainSize"}),
    "split": (lambda seg: seg.split(1, part(seg)), SPLIT, SPLIT),
    "renumber": (lambda seg: seg.renumber(99, 1), RENUMBER, RENUMBER),
    "post-maxlabel": (lambda seg: allocate.post_max_label(seg, 500), {"Action", "MaxLabel", *COMMON}, None),
    "post-nextlabel": (lambda seg: seg.reserve_labels(3), {"Action", "Start Label", "End Label", *COMMON}, None),
    "setnextlabel": (lambda seg: allocate.set_next(seg, 7, 9), {"Action", "Next Label", "Ceiling", *COMMON}, None),
}
KEYED: dict[tuple[str, str], tuple[Callable, set[str]]] = {
    ("keyvalue", "postkv"): (lambda kv: kv.put("a", b"123"), KEY | {"Bytes"}),
    ("keyvalue", "delete"): (lambda kv: kv.delete("a"), KEY),
    ("neuronjson", "postneuronjson"): (lambda nj: nj.put(1, {"bodyid": 1}, user="ann"), KEY | {"Bytes", "User"}),
    ("neuronjson", "ingestneuronjson"): (
        lambda nj: nj.put_many([(1, {"bodyid": 1})], user="ann"),
        KEY | {"Bytes", "User"},
    ),
}


def part(seg) -> np.ndarray:
    volume = seg.read((0, 0, 0), (32, 32, 32), supervoxels=True)
    volume[1::2] = 0
    return runs_of_mask(volume == 1, (0, 0, 0))


@pytest.fixture
def seg(repo: vzarr.Repo):
    handle = registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16", "MaxDownresLevel": "0"})
    handle.write((0, 0, 0), blobs(3, (2, 2, 2), 6))
    return handle


def announced(instance) -> list[dict[str, Any]]:
    """Messages of the last change."""
    record = json.loads(list(mutations.read(instance))[-1])
    keep = lambda content: blobstore.put(instance.version.repo.root, content)  # noqa: E731
    return [json.loads(m) for m in messages.of_mutation(record, keep)]


@pytest.mark.parametrize("action", EDITS)
def test_edits_of_labels(seg, action: str):
    edit, begins, ends = EDITS[action]
    edit(seg)
    found = announced(seg)
    assert [m["Action"] for m in found] == ([action] if ends is None else [action, f"{action}-complete"])
    assert [set(m) for m in found] == ([begins] if ends is None else [begins, ends])
    assert {m["UUID"] for m in found} == {seg.version.uuid}
    assert all(GO_TIME.fullmatch(m["Timestamp"]) for m in found)
    assert len({m["MutationID"] for m in found}) == 1


def test_what_edits_say(seg):
    seg.merge(1, [2, 3], **WHO)
    assert all(
        m.items() >= {"Target": 1, "Labels": [2, 3], "User": "ann", "App": "tests"}.items() for m in announced(seg)
    )
    made = seg.cleave(1, [2])
    assert announced(seg)[0]["CleavedLabel"] == made.body
    split = seg.split(1, part(seg))
    (cut,) = announced(seg)[1]["SVSplits"].items()
    assert cut == ("1", {"Split": split.body + 1, "Remain": split.body + 2})


@pytest.mark.parametrize(("typename", "action"), KEYED)
def test_changes_of_keys(repo: vzarr.Repo, typename: str, action: str):
    edit, keys = KEYED[typename, action]
    instance = registry.create(repo.root, "keys", typename)
    edit(instance)
    (message,) = announced(instance)
    assert (message["Action"], set(message)) == (action, keys)


def test_what_is_not_announced(repo: vzarr.Repo, seg):
    assert announced(seg) == []  # posted voxels
    kv = registry.create(repo.root, "kv", "keyvalue")
    kv.transact(lambda tx: mutations.Writer(kv).record(tx, {"Action": "postkv", "Key": "a"}, announced=False))
    assert announced(kv) == []


# ---------------------------------------------------------------- history


def of_log(repo: vzarr.Repo) -> list[dict[str, Any]]:
    return [m for entry in repo.log() for m in messages.of_entry(entry, repo.state)]


def test_history(repo: vzarr.Repo):
    root = repo.root
    root.create_instance("notes", "keyvalue", user="ann", app="tests")
    root.set_note("first")
    root.add_log(["a", "b"])
    root.commit("done", log=["c"])
    child = root.newversion("next")
    side = root.branch("side", "beside")
    root.tag("v1.0")
    child.commit()
    side.commit()
    merged = repo.merge([child, side], note="joined")
    repo.add_log(["of the repo"])
    expected = [
        {"Action": "newinstance", "UUID": root.uuid, "Typename": "keyvalue", "Dataname": "notes"},
        {"Action": "nodenote", "UUID": root.uuid, "Note": "first"},
        {"Action": "nodelog", "UUID": root.uuid, "Log": ["a", "b"]},
        {"Action": "commit", "UUID": root.uuid, "Note": "done", "Log": ["c"]},
        {"Action": "newversion", "Parent": root.uuid, "Child": child.uuid, "Note": "next"},
        {"Action": "branch", "Parent": root.uuid, "Child": side.uuid, "Branch": "side", "Note": "beside"},
        {
            "Action": "tag",
            "Parent": root.uuid,
            "Child": "v1.0",
            "Branch": "tag-v1.0",
            "Tag": "v1.0",
            "Note": f'Tag of version {root.uuid} with "v1.0"',
        },
        {"Action": "commit", "UUID": child.uuid, "Note": "", "Log": []},
        {"Action": "commit", "UUID": side.uuid, "Note": "", "Log": []},
        {"Action": "merge-versions", "Parents": [child.uuid, side.uuid], "Child": merged.uuid, "Note": "joined"},
    ]
    found = of_log(repo)
    times = [m.pop("Timestamp") for m in found]
    assert all(map(GO_TIME.fullmatch, times))
    assert (found[0].pop("User"), found[0].pop("App")) == ("ann", "tests")
    assert found == expected


def test_what_arrived_from_elsewhere_is_not_announced(repo: vzarr.Repo, tmp_path):
    repo.root.create_instance("notes", "keyvalue")
    repo.root.commit("sealed")
    place = str(tmp_path / "clone")
    vzarr.clone(repo.url, place)
    with vzarr.open(place) as clone:
        assert of_log(clone) == []
        clone.root.newversion()
        assert [m["Action"] for m in of_log(clone)] == ["newversion"]


# ---------------------------------------------------------------- size


def test_large_cleaves_refer_to_a_blob(repo: vzarr.Repo):
    many = list(range(10**15, 10**15 + 70_000))
    fields = {"OrigLabel": 1, "CleavedLabel": 2, "CleavedSupervoxels": many, "CleavedSize": 7, "RemainSize": 8}
    common = {"MutationID": 5, "UUID": repo.uuid, "Timestamp": "2026-11-22T16:11:14+00:00"}
    kept: list[bytes] = []

    def keep(content: bytes) -> str:
        kept.append(content)
        return blobstore.put(repo.root, content)

    begun, done = map(json.loads, messages.of_mutation({"Action": "cleave-complete", **fields, **common}, keep))
    assert set(begun) == {"Action", "OrigLabel", "CleavedLabel", "DataRef", *COMMON}
    assert set(done) == set(begun) | {"CleavedSize", "RemainSize"}
    assert begun["DataRef"] == done["DataRef"]
    whole = json.loads(blobstore.get(repo.root, begun["DataRef"]))
    assert whole["CleavedSupervoxels"] == many
    assert len(kept) == 1


@pytest.mark.parametrize("more", [0, 1])
def test_a_message_is_as_large_as_a_broker_takes(more: int):
    empty = len(json.dumps({"Note": "", "UUID": "u"}, separators=(",", ":")))
    message = {"Note": "x" * (messages.LARGEST - empty + more), "UUID": "u"}
    found = messages.fitting(message, lambda content: f"{len(content)}")
    assert len(found) <= messages.LARGEST
    assert set(json.loads(found)) == ({"DataRef", "UUID"} if more else {"Note", "UUID"})
