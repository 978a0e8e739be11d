"""What a server makes of hostile or mistaken requests under /api/transfer: refused, with nothing changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import vzarr
from tests.api.conftest import TOKEN
from vzarr.api.errors import error_response
from vzarr.api.hub import Hub
from vzarr.errors import AuthorityUnavailableError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.keys import unversioned
from vzarr.overlay.keys.brought import Brought
from vzarr.overlay.transfer import exchange, outside
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.transfer.plans import Arrival
from vzarr.types.registry import create

ADMIN = {"Authorization": f"Bearer {TOKEN}"}
SUM = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def other(tmp_path: Path, client: TestClient, sealed: str) -> vzarr.Repo:
    """A clone of the served repo with one more version."""
    with vzarr.clone(str(tmp_path / "repos" / sealed), str(tmp_path / "other")) as repo:
        repo["master"].newversion().commit()
        yield repo


def send(client: TestClient, repo: vzarr.Repo, leave: str = "") -> None:
    """Bring the objects of the newest version, but for one."""
    tip = repo["master"].uuid
    for key, _ in repo.objects.walk(layout.node(tip)):
        if not key.endswith(leave or "\0"):
            data = repo.objects.get(key)
            where = f"/api/transfer/{repo.uuid}/objects/{key}?sha256={hashlib.sha256(data).hexdigest()}"
            assert client.put(where, content=data, headers=ADMIN).status_code == 200


def arrival(repo: vzarr.Repo, **changed: Any) -> dict[str, Any]:
    plain = exchange.arrival_to_json(Arrival(repo.state, [repo["master"].uuid]))
    return {**plain, **changed}


def test_objects_of_sealed_versions_alone_are_given(client: TestClient, root: str, hub: Hub):
    key = f"/api/transfer/{root}/objects/nodes/{root}/zarr/zarr.json"
    assert client.get(key).status_code == 404
    client.post(f"/api/node/{root}/commit", json={"note": ""})
    whole = client.get(key)
    assert whole.status_code == 200
    assert "immutable" in whole.headers["cache-control"]
    assert client.get(key, headers={"Range": "bytes=2-5"}).content == whole.content[2:6]
    assert client.get(key, headers={"Range": "bytes=99999-"}).status_code == 416
    head = client.head(key)
    assert (head.content, int(head.headers["content-length"])) == (b"", len(whole.content))
    for strange in ("vzarr.json", "log/00000000000000000000.json", "keys/keys.sqlite", f"nodes/{root}", "nodes/..%2f"):
        assert client.get(f"/api/transfer/{root}/objects/{strange}").status_code == 404
    assert client.get(f"/api/transfer/{root}/objects/nodes/{root}/zarr/..%2F..%2F..%2Fvzarr.json").status_code == 404
    assert client.get("/api/transfer").json() == {"repos": [root]}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer no"}, {"Authorization": "Basic x"}])
def test_whoever_writes_needs_the_token(client: TestClient, sealed: str, headers: dict[str, str]):
    base = f"/api/transfer/{sealed}"
    answers = [
        client.post(base, headers=headers),
        client.post(f"{base}/publish", headers=headers, json={}),
        client.post(f"{base}/lacking", headers=headers, json=[]),
        client.put(f"{base}/objects/nodes/{'1' * 32}/seal.json?sha256={SUM}", headers=headers, content=b"x"),
    ]
    assert {(a.status_code, a.headers["vzarr-error"]) for a in answers} == {(400, "ForbiddenError")}


def test_nothing_that_is_there_can_be_overwritten(client: TestClient, root: str, hub: Hub):
    where = f"/api/transfer/{root}/objects/nodes/{root}/zarr/zarr.json?sha256={SUM}"
    assert client.put(where, content=b"x", headers=ADMIN).headers["vzarr-error"] == "SealedError"
    client.post(f"/api/node/{root}/commit", json={"note": ""})
    assert client.put(where, content=b"x", headers=ADMIN).status_code == 400
    folder = f"nodes/{'1' * 32}"
    strange = ["vzarr.json", "log/00000000000000000002.json", "nodes/unversioned/keys/x", "nodes/x/y%5Cz"]
    for key in [*strange, folder, f"{folder}/journal/x", f"{folder}/zarr/..%2F..%2F..%2Fx"]:
        answer = client.put(f"/api/transfer/{root}/objects/{key}?sha256={SUM}", content=b"x", headers=ADMIN)
        assert answer.status_code == 400, key
    fresh = f"/api/transfer/{root}/objects/nodes/{'1' * 32}/seal.json"
    assert "checksum" in client.put(f"{fresh}?sha256={SUM}", content=b"y", headers=ADMIN).text
    assert client.put(fresh, content=b"x", headers=ADMIN).status_code == 400
    assert sorted(p.name for p in (Path(hub.root) / root / "nodes").iterdir()) == [root]


def test_a_version_is_published_once_it_is_whole(client: TestClient, other: vzarr.Repo, hub: Hub):
    served = hub.repos()[0]
    send(client, other, leave="sums/sha256")
    answer = client.post(f"/api/transfer/{other.uuid}/publish", json=arrival(other), headers=ADMIN)
    assert (answer.status_code, answer.headers["vzarr-error"]) == (500, "StorageError")
    assert len(served.versions()) == 1
    send(client, other)
    assert client.post(f"/api/transfer/{other.uuid}/publish", json=arrival(other), headers=ADMIN).status_code == 200
    assert served["master"].uuid == other["master"].uuid
    entries = len(served.log())
    assert client.post(f"/api/transfer/{other.uuid}/publish", json=arrival(other), headers=ADMIN).status_code == 200
    assert len(served.log()) == entries


def test_publishing_takes_what_arrives_and_nothing_else(client: TestClient, other: vzarr.Repo, hub: Hub):
    send(client, other)
    good = arrival(other)
    repo_op, root_op, tip = good["ops"]
    stranger = {**root_op, "id": "2" * 32}
    bodies: list[Any] = [
        None, [], {}, {**good, "format": 99}, {**good, "ops": 7}, {**good, "nodes": ["x"]}, {**good, "nodes": 3},
        {**good, "aside": "a/b"}, {**good, "ops": [*good["ops"], {"op": "instance_remove", "name": "x"}]},
        {**good, "ops": [*good["ops"], {"op": "seal", "id": other.uuid, "sha256": SUM}]},
        {**good, "ops": [repo_op, root_op, {**tip, "seal": None}]},
        {**good, "ops": [repo_op, root_op, {**tip, "seal": SUM}]},
        {**good, "ops": [repo_op, root_op, {**tip, "parents": []}]},
        {**good, "ops": [repo_op, {**root_op, "seal": SUM}, tip]},
        {**good, "ops": [repo_op, stranger, {**tip, "parents": ["2" * 32]}]},
        {**good, "ops": [repo_op, root_op, {**tip, "branch": "a:b"}]},
        {**good, "ops": [{**repo_op, "root": 1}, root_op, tip]},
    ]  # fmt: skip
    for body in bodies:
        answer = client.post(f"/api/transfer/{other.uuid}/publish", json=body, headers=ADMIN)
        assert answer.status_code in {400, 500}, body
        assert answer.headers.get("vzarr-error"), answer.text
    assert len(hub.repos()[0].versions()) == 1
    assert client.post(f"/api/transfer/{other.uuid}/publish", json=good, headers=ADMIN).status_code == 200


def test_objects_are_looked_for_together(client: TestClient, other: vzarr.Repo):
    key, size = next(iter(other.objects.walk(layout.node(other.uuid))))
    digest = hashlib.sha256(other.objects.get(key)).hexdigest()
    rows = [[key, size, digest], [key, size, SUM], [key, size + 1, digest], [f"nodes/{'1' * 32}/x", 1, SUM]]
    answer = client.post(f"/api/transfer/{other.uuid}/lacking", json=rows, headers=ADMIN)
    assert answer.json() == {"keys": [row[0] for row in rows[1:]]}
    for body in ({}, [[key]], [[key, -1, 2]], [["vzarr.json", 1, SUM]], rows * 300):
        assert client.post(f"/api/transfer/{other.uuid}/lacking", json=body, headers=ADMIN).status_code == 400


def test_a_clone_is_begun_where_its_root_says(client: TestClient, sealed: str, hub: Hub):
    fresh = "3" * 32
    for _ in range(2):
        assert client.post(f"/api/transfer/{fresh}", headers=ADMIN).status_code == 200
    assert client.get(f"/api/transfer/{fresh}").headers["vzarr-error"] == "NotFoundError"
    assert client.get("/api/repos/info").json().keys() == {sealed}
    for root in (sealed, "..", ".x", "a%2Fb"):
        assert client.post(f"/api/transfer/{root}", headers=ADMIN).status_code in {400, 404}
    assert sorted(p.name for p in Path(hub.root).iterdir()) == sorted([fresh, sealed])


def test_a_partial_clone_is_begun_with_limits_that_make_sense(client: TestClient, sealed: str, hub: Hub):
    fresh = "3" * 32
    where, good = f"/api/transfer/{fresh}/partial", {"depth": 1, "instances": ["seg"], "roi": ["hot", "4" * 32]}
    strange: list[Any] = [
        None, [], {}, {"partial": None}, {"partial": {}}, {"partial": 3}, {"partial": {**good, "more": 1}},
        *({"partial": {**good, "depth": depth}} for depth in (0, -1, 1.5, "1", True)),
        *({"partial": {**good, "instances": each}} for each in ("seg", [1], ["../x"], [""], {})),
        *({"partial": {**good, "roi": each}} for each in ("hot", ["hot"], ["hot", ""], ["hot", "../x"], [1, "4" * 32])),
    ]  # fmt: skip
    for body in strange:
        assert client.post(where, json=body, headers=ADMIN).status_code == 400, body
    assert client.post(where, json={"partial": good}).headers["vzarr-error"] == "ForbiddenError"
    assert sorted(p.name for p in Path(hub.root).iterdir()) == [sealed]
    for _ in range(2):
        assert client.post(where, json={"partial": good}, headers=ADMIN).status_code == 200
    assert client.get(where).json() == {"partial": good}
    for path, body in ((where, {"partial": {"depth": 1}}), (where.removesuffix("/partial"), None)):
        answer = client.post(path, json=body, headers=ADMIN)
        assert (answer.status_code, answer.headers["vzarr-error"]) == (400, "InvalidInputError")
        assert f"begun with other limits: --depth 1 --instances seg --roi hot,{'4' * 32}" in answer.text
    assert client.get(f"/api/transfer/{sealed}/partial").json() == {"partial": None}
    assert client.post(f"/api/transfer/{sealed}/partial", json={"partial": good}, headers=ADMIN).status_code == 400
    assert "partial" not in json.loads((Path(hub.root) / sealed / layout.REPO).read_text())


def test_what_a_version_left_out_is_nobodys_to_say(client: TestClient, other: vzarr.Repo, hub: Hub):
    """The list of it is the server's own, in a repo that is whole as in one that is not."""
    base = f"/api/transfer/{other.uuid}"
    for node in (other.uuid, other["master"].uuid):
        key = layout.left_out(node)
        for body in (b"\xff", b""):
            digest = hashlib.sha256(body).hexdigest()
            put = client.put(f"{base}/objects/{key}?sha256={digest}", content=body, headers=ADMIN)
            asked = client.post(f"{base}/urls", json=[[key, len(body), digest]], headers=ADMIN)
            assert (put.status_code, asked.status_code) == (400, 400)
    send(client, other)
    body = {**arrival(other), "tips": [other["master"].uuid]}
    assert client.post(f"{base}/wanted", json=body, headers=ADMIN).json() == {"keys": []}, "it stored no chunk"
    assert client.post(f"{base}/wanted", json=body).headers["vzarr-error"] == "ForbiddenError"
    for tips in (3, ["x"], [7]):
        assert client.post(f"{base}/publish", json={**body, "tips": tips}, headers=ADMIN).status_code == 400
    assert client.post(f"{base}/publish", json=body, headers=ADMIN).status_code == 200
    assert not list((Path(hub.root) / other.uuid).rglob("left-out"))


def test_keys_of_no_version_wait_until_they_are_published(client: TestClient, other: vzarr.Repo, hub: Hub):
    create(other["master"].newversion(), "loose", "keyvalue", versioned=False).put("a", b"1")
    other["master"].commit()
    send(client, other)
    snapshots = StoredPlace(other.objects).shared().snapshots
    brought = Brought(snapshots)
    body = arrival(other, unversioned=brought.to_json())
    body["nodes"] = [n.uuid for n in other.versions()[1:]]
    for key, _ in other.objects.walk(layout.node(other.versions()[1].uuid)):
        data = other.objects.get(key)
        where = f"/api/transfer/{other.uuid}/objects/{key}?sha256={hashlib.sha256(data).hexdigest()}"
        assert client.put(where, content=data, headers=ADMIN).status_code == 200
    answer = client.post(f"/api/transfer/{other.uuid}/publish", json=body, headers=ADMIN)
    assert (answer.status_code, answer.headers["vzarr-error"]) == (500, "StorageError")
    assert "loose" not in hub.repos()[0].state.instances
    (snapshot,) = brought.snapshots.values()
    for row in outside.rows(StoredPlace(other.objects), snapshot):
        where = f"/api/transfer/{other.uuid}/objects/{layout.arrived(row.digest)}?sha256={row.digest}"
        assert client.put(where, content=other.objects.get(row.key), headers=ADMIN).status_code == 200
    assert client.post(f"/api/transfer/{other.uuid}/publish", json=body, headers=ADMIN).json() == {"kept": []}
    assert hub.repos()[0].root["loose"].get("a") == b"1"
    shown = client.get(f"/api/transfer/{other.uuid}/unversioned").json()
    (name,) = (row["name"] for row in shown["snapshots"].values())
    folder = f"/api/transfer/{other.uuid}/objects/nodes/unversioned"
    assert client.get(f"{folder}/keys/{name}/zarr.json").status_code == 200
    assert client.get(f"{folder}/sums/{name}").status_code == 200
    for strange in ("keys/latest.json", "arrived/x", f"sums/{name}x", f"keys/{name}/..%2F..%2F..%2F..%2Fvzarr.json"):
        assert client.get(f"{folder}/{strange}").status_code == 404, strange


def test_what_is_brought_of_no_version_must_make_sense(client: TestClient, other: vzarr.Repo, hub: Hub):
    labels = create(hub.repos()[0].root.branch("side"), "seg", "labelmap")
    labels.reserve_labels(3)
    row = {"name": f"{'1' * 32}~{'2' * 16}", "keys": 1, "time": "2026-01-01T00:00:00Z", "before": "", "sums": SUM}
    good: dict[str, Any] = {"snapshots": {"1" * 32: row}, "replace": True, "added": [], "arrays": {}}
    bodies: list[Any] = [
        [], {}, 7, {**good, "replace": 1}, {**good, "added": 3}, {**good, "snapshots": []}, {**good, "more": 1},
        {**good, "snapshots": {"x": row}}, {**good, "snapshots": {"1" * 32: {**row, "name": "../x"}}},
        {**good, "snapshots": {"1" * 32: {**row, "keys": "1"}}}, {**good, "snapshots": {"1" * 32: {"name": "x"}}},
        {**good, "snapshots": {"1" * 32: {**row, "sums": "x"}}}, {**good, "arrays": {"1" * 32: "x"}},
        {**good, "arrays": []}, {**good, "arrays": {"x": SUM}},
    ]  # fmt: skip
    publish = f"/api/transfer/{other.uuid}/publish"
    for body in bodies:
        answer = client.post(publish, json={**arrival(other), "nodes": [], "unversioned": body}, headers=ADMIN)
        assert answer.status_code == 400, body
    place = f"/api/transfer/{other.uuid}/objects/{layout.arrived(SUM)}"
    assert client.put(f"{place}?sha256={hashlib.sha256(b'y').hexdigest()}", content=b"y", headers=ADMIN).is_client_error
    assert client.put(f"{place}?sha256={SUM}", content=b"x", headers=ADMIN).status_code == 200
    answer = client.post(publish, json={**arrival(other), "nodes": [], "unversioned": good}, headers=ADMIN)
    assert answer.headers["vzarr-error"] == "FormatError", "no list of checksums"


def test_nobody_brings_the_labels_that_a_versioned_instance_gave(client: TestClient, other: vzarr.Repo, hub: Hub):
    served = hub.repos()[0]
    seg = create(served.root.branch("side"), "seg", "labelmap")
    seg.reserve_labels(3)
    fake = unversioned.store(other.objects, seg.info.data_uuid, [(b"a", bytes(24))], "2026-01-01T00:00:00Z", None)
    brought = Brought({seg.info.data_uuid: fake}, replace=True)
    for row in outside.rows(StoredPlace(other.objects), fake):
        where = f"/api/transfer/{other.uuid}/objects/{layout.arrived(row.digest)}?sha256={row.digest}"
        assert client.put(where, content=other.objects.get(row.key), headers=ADMIN).status_code == 200
    body = {**arrival(other), "nodes": [], "unversioned": brought.to_json()}
    assert client.post(f"/api/transfer/{other.uuid}/publish", json=body, headers=ADMIN).json() == {"kept": []}
    assert served["side"]["seg"].reserve_labels(1) == (4, 4)


def test_who_is_refused_is_told_why(client: TestClient, sealed: str, tmp_path: Path):
    where = f"/api/transfer/{'a' * 32}"
    assert "needs the admin token" in client.post(where).text
    for how in ({"headers": {"Authorization": "Bearer wrong"}}, {"params": {"admintoken": "wrong"}}):
        assert "another admin token than the one given" in client.post(where, **how).text
    told = client.post(f"/api/transfer/{sealed}", headers=ADMIN).text
    assert f"the server has repo {sealed} already: push to it" in told


def test_what_cannot_be_reached_is_logged_in_a_line(client: TestClient, root: str, hub: Hub, caplog):
    error_response(AuthorityUnavailableError("the keys are elsewhere"), "/x")
    error_response(StorageError("the disk is full"), "/x")
    assert [record.exc_info is None for record in caplog.records] == [True, False]


def test_what_was_seen_is_forgotten_once_other_bytes_are_there(client: TestClient, other: vzarr.Repo, hub: Hub):
    """Two may send the same version, one of them mistaken: what is published is what lies there."""
    send(client, other)
    assert client.post(f"/api/transfer/{other.uuid}/publish", json=arrival(other), headers=ADMIN).status_code == 200
    other["master"].newversion().create_array("a", dtype="u1", chunks=(2, 2, 2))
    other["master"].commit()
    key = layout.tree(other["master"].uuid)
    send(client, other)
    wrong = bytes(other.objects.size(key) or 0)
    where = f"/api/transfer/{other.uuid}/objects/{key}?sha256={hashlib.sha256(wrong).hexdigest()}"
    assert client.put(where, content=wrong, headers=ADMIN).status_code == 200
    answer = client.post(f"/api/transfer/{other.uuid}/publish", json=arrival(other), headers=ADMIN)
    assert (answer.status_code, answer.headers["vzarr-error"]) == (500, "FormatError")
    send(client, other)
    assert client.post(f"/api/transfer/{other.uuid}/publish", json=arrival(other), headers=ADMIN).status_code == 200
    assert hub.repos()[0]["master"].uuid == other["master"].uuid


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        *(
            {"own": 1, "clone": "x", "known": known}
            for known in ([], {"0": "x"}, {"x": "x"}, {"1": 7}, {"1": {}}, {"1": "x" * 65})
        ),
    ],
)
def test_who_gives_which_labels_is_told_in_words(client: TestClient, sealed: str, hub: Hub, body: Any):
    assert client.post(f"/api/transfer/{sealed}/stripes", json=body, headers=ADMIN).status_code == 400
    assert not (Path(hub.root) / sealed / "stripes").exists()
