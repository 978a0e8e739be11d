"""Repos, versions and their history over HTTP, beyond what the recordings of the reference server hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.api.conftest import TOKEN
from vzarr.api.hub import Hub


def make(client: TestClient, body: object = None) -> object:
    return client.post(f"/api/repos?admintoken={TOKEN}", json=body)


def test_a_repo_may_be_made_without_words(client: TestClient):
    root = client.post(f"/api/repos?admintoken={TOKEN}").json()["root"]
    info = client.get("/api/repos/info").json()[root]
    assert (info["Root"], info["Alias"], info["Description"]) == (root, "", "")


def test_what_changes_nothing_is_not_logged(client: TestClient, root: str, hub: Hub):
    entries = len(hub.repos()[0].log())
    assert client.post(f"/api/repo/{root}/info", json={}).status_code == 200
    assert len(hub.repos()[0].log()) == entries
    assert client.post(f"/api/repo/{root}/info", json={"alias": "b"}).status_code == 200
    assert len(hub.repos()[0].log()) == entries + 1


def test_a_repo_with_a_root_of_ones_own(client: TestClient):
    assert make(client, {"root": "short", "Alias": "a"}).json() == {"root": "short"}
    assert client.get("/api/repo/short/info").json()["Alias"] == "a"
    assert "UUID already exists in datastore" in make(client, {"root": "short"}).text
    for bad in ("a/b", "..", "x" * 200):
        assert make(client, {"root": bad}).status_code == 400


@pytest.mark.parametrize("body", [{"alias": 1}, {"passcode": 7}, []])
def test_a_repo_that_cannot_be(client: TestClient, body: object):
    assert make(client, body).status_code == 400
    assert client.get("/api/repos/info").json() == {}


def test_info_of_the_graph(client: TestClient, sealed: str):
    child = client.post(f"/api/node/{sealed}/newversion", json={"note": "next"}).json()["child"]
    dag = client.get(f"/api/repo/{child}/info").json()["DAG"]
    assert dag["Root"] == sealed
    first, second = dag["Nodes"][sealed], dag["Nodes"][child]
    assert (first["VersionID"], first["Parents"], first["Children"], first["Locked"]) == (1, [], [2], True)
    assert (second["VersionID"], second["Parents"], second["Children"], second["Locked"]) == (2, [1], [], False)
    assert second["Note"] == "next"
    assert first["Created"] <= first["Updated"]


def test_mutation_ids_begin_where_dvids_do(client: TestClient, root: str):
    info = client.get(f"/api/repo/{root}/info").json()
    assert info["MutationID"] == 1_000_000_000
    assert info["SavedMutationID"] >= info["MutationID"]


def test_instances_show_the_newest_version_of_the_default_branch(client: TestClient, root: str):
    body = {"typename": "uint8blk", "dataname": "gray", "BlockSize": "8,8,8"}
    client.post(f"/api/repo/{root}/instance", json=body)
    client.post(f"/api/node/{root}/gray/raw/0_1_2/8_8_8/0_0_0", content=bytes(512))
    client.post(f"/api/node/{root}/commit", json={})
    child = client.post(f"/api/node/{root}/newversion").json()["child"]
    client.post(f"/api/node/{child}/gray/raw/0_1_2/8_8_8/8_0_0", content=bytes(512))
    shown = client.get(f"/api/repo/{root}/info").json()["DataInstances"]["gray"]
    assert shown["Extended"]["MaxPoint"] == [15, 7, 7]
    assert shown["Base"]["RepoUUID"] == root


@pytest.mark.parametrize(
    "body",
    [
        {"typename": "keyvalue", "dataname": "log"},
        {"typename": "nosuch", "dataname": "x"},
        {"typename": "keyvalue"},
        {"dataname": "x"},
        {"typename": "uint8blk", "dataname": "x", "Background": 7},
        [],
    ],
)
def test_an_instance_that_cannot_be(client: TestClient, root: str, body: object):
    assert client.post(f"/api/repo/{root}/instance", json=body).status_code == 400
    assert client.get(f"/api/repo/{root}/info").json()["DataInstances"] == {}


def test_user_and_program_are_recorded(client: TestClient, root: str, hub: Hub):
    client.post(f"/api/node/{root}/commit?u=ada&app=engine", json={})
    entry = hub.find(root)[0].log()[-1]
    assert (entry.user, entry.app) == ("ada", "engine")


def test_log_and_note_without_their_key_change_nothing(client: TestClient, root: str):
    client.post(f"/api/node/{root}/note", json={"note": "kept"})
    for path in (f"/api/node/{root}/note", f"/api/node/{root}/log", f"/api/repo/{root}/log"):
        assert client.post(path, json={}).status_code == 400
        assert client.post(path, json={"note": 1, "log": ["a", 2]}).status_code == 400
    assert client.get(f"/api/node/{root}/note").json() == {"note": "kept"}
    assert client.get(f"/api/node/{root}/log").json() == {"log": []}


def test_a_commit_needs_a_body(client: TestClient, root: str):
    assert client.post(f"/api/node/{root}/commit").status_code == 400
    assert client.get(f"/api/node/{root}/status").json() == {"Locked": False}


@pytest.mark.parametrize("body", [{}, {"tag": ""}, {"tag": "a/b"}, {"tag": 1}])
def test_a_tag_needs_a_name(client: TestClient, sealed: str, body: object):
    assert client.post(f"/api/node/{sealed}/tag", json=body).status_code == 400
    assert len(client.get(f"/api/repo/{sealed}/info").json()["DAG"]["Nodes"]) == 1


def fork(client: TestClient, root: str) -> tuple[str, str]:
    """Seal the root and make two open children."""
    client.post(f"/api/node/{root}/commit", json={})
    left = client.post(f"/api/node/{root}/newversion").json()["child"]
    right = client.post(f"/api/node/{root}/branch", json={"branch": "right"}).json()["child"]
    return left, right


def test_a_merged_branch_is_found_by_name_at_once(client: TestClient, root: str):
    left, right = fork(client, root)
    for node in (left, right):
        client.post(f"/api/node/{node}/commit", json={})
    body = {"mergeType": "conflict-free", "parents": [left, right], "note": "joined"}
    child = client.post(f"/api/repo/{root}/merge", json=body).json()["child"]
    assert client.get(f"/api/node/{root}:master/note").json() == {"note": "joined"}
    assert client.get(f"/api/repo/{root}/branch-versions/master").json()[0] == child


def test_merges_that_cannot_be(client: TestClient, root: str):
    left, right = fork(client, root)
    other = make(client, {}).json()["root"]
    client.post(f"/api/node/{other}/commit", json={})
    client.post(f"/api/node/{right}/commit", json={})
    for parents in ([left, right], [right], [right, right], [right, "zzzz"], [right, other], "text", [1, 2]):
        body = {"mergeType": "conflict-free", "parents": parents}
        assert client.post(f"/api/repo/{root}/merge", json=body).status_code == 400, parents
    assert len(client.get(f"/api/repo/{root}/info").json()["DAG"]["Nodes"]) == 3


def test_resolve_decides_only_what_is_in_conflict(client: TestClient, root: str):
    client.post(f"/api/repo/{root}/instance", json={"typename": "keyvalue", "dataname": "kv"})

    def put(node: str, key: str, value: bytes) -> None:
        assert client.post(f"/api/node/{node}/kv/key/{key}", content=value).status_code == 200

    for key in ("same", "left", "right", "both", "gone"):
        put(root, key, b"root")
    left, right = fork(client, root)
    put(left, "left", b"L")
    put(left, "both", b"L")
    put(right, "right", b"R")
    put(right, "both", b"R")
    client.delete(f"/api/node/{right}/kv/key/gone")
    for node in (left, right):
        client.post(f"/api/node/{node}/commit", json={})
    for first, second, winner in ((left, right, b"L"), (right, left, b"R")):
        body = {"data": ["kv"], "parents": [first, second]}
        child = client.post(f"/api/repo/{root}/resolve", json=body).json()["child"]
        found = {k: client.get(f"/api/node/{child}/kv/key/{k}").content for k in ("same", "left", "right", "both")}
        assert found == {"same": b"root", "left": b"L", "right": b"R", "both": winner}
        assert client.get(f"/api/node/{child}/kv/key/gone").status_code == 404


def joined(client: TestClient, verb: str, parents: Sequence[str], **fields: object) -> tuple[int, str]:
    """Status of a merge, and the new version or what is said."""
    body = {"mergeType": "conflict-free", "parents": parents, **fields}
    answer = client.post(f"/api/repo/{parents[0]}/{verb}", json=body)
    return answer.status_code, answer.json()["child"] if answer.status_code == 200 else answer.text


def test_a_merge_names_bodies_that_were_changed_differently(client: TestClient, root: str):
    client.post(f"/api/repo/{root}/instance", json={"typename": "labelmap", "dataname": "seg"})
    volume = np.repeat(np.arange(1, 5, dtype=np.uint64), 64**3 // 4)
    assert client.post(f"/api/node/{root}/seg/raw/0_1_2/64_64_64/0_0_0", content=volume.tobytes()).status_code == 200
    left, right = fork(client, root)
    for node, bodies in ((left, [1, 2]), (right, [3, 2])):
        assert client.post(f"/api/node/{node}/seg/merge", json=bodies).status_code == 200
    spared = client.post(f"/api/node/{right}/seg/split-supervoxel/4", content=runs_of_one_line()).json()
    for node in (left, right):
        client.post(f"/api/node/{node}/commit", json={})

    status, said = joined(client, "merge", [left, right])
    assert status == 409
    assert "supervoxel 2 of body 2 went to body 1 and body 3" in said
    assert "resolve" in said
    assert len(client.get(f"/api/repo/{root}/info").json()["DAG"]["Nodes"]) == 3

    for parents, there, gone in (([left, right], 1, 0), ([right, left], 3, 0)):
        status, child = joined(client, "resolve", parents, data=["seg"])
        assert status == 200, child
        sizes = client.request("GET", f"/api/node/{child}/seg/sizes", json=[1, 2, 3, 4]).json()
        assert sizes == [n * 64**3 // 4 for n in (2 if there == 1 else 1, gone, 2 if there == 3 else 1, 1)]
        parts = client.get(f"/api/node/{child}/seg/supervoxels/4").json()
        assert sorted(parts) == sorted([spared["SplitSupervoxel"], spared["RemainSupervoxel"]])


def runs_of_one_line() -> bytes:
    """DVID's RLEs of one line of 64 voxels at the end of a block."""
    return bytes([0, 3, 0, 0]) + np.array([0, 1, 0, 63, 63, 64], "<i4").tobytes()


def test_resolve_decides_about_blocks(client: TestClient, root: str):
    client.post(f"/api/repo/{root}/instance", json={"typename": "uint8blk", "dataname": "gray"})
    client.post(f"/api/repo/{root}/instance", json={"typename": "uint8blk", "dataname": "other"})
    left, right = fork(client, root)
    raw = "gray/raw/0_1_2/32_32_32/0_0_0"
    for node, value in ((left, b"L"), (right, b"R")):
        assert client.post(f"/api/node/{node}/{raw}", content=value * 32**3).status_code == 200
        client.post(f"/api/node/{node}/commit", json={})
    for parents, value in (([left, right], b"L"), ([right, left], b"R")):
        status, child = joined(client, "resolve", parents, data=["gray"])
        assert status == 200, child
        assert client.get(f"/api/node/{child}/{raw}").content == value * 32**3
    status, said = joined(client, "resolve", [left, right], data=["other"])
    assert status == 409
    assert "gray" in said
