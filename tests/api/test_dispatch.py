"""One URL scheme for instances of many datatypes: who answers, and what is refused before anybody does."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from vzarr.api.hub import Hub


@pytest.fixture
def kv(client: TestClient, root: str) -> str:
    """URL of a keyvalue instance at the open root."""
    made = client.post(f"/api/repo/{root}/instance", json={"typename": "keyvalue", "dataname": "stuff"})
    assert made.json() == {"result": f"Added stuff [keyvalue] to node {root}"}
    return f"/api/node/{root}/stuff"


@pytest.fixture
def gray(client: TestClient, root: str) -> str:
    """URL of an image instance at the open root."""
    body = {"typename": "uint8blk", "dataname": "gray", "BlockSize": "8,8,8"}
    assert client.post(f"/api/repo/{root}/instance", json=body).status_code == 200
    return f"/api/node/{root}/gray"


def test_each_instance_is_answered_by_its_own_datatype(client: TestClient, kv: str, gray: str):
    assert client.get(f"{kv}/keys").json() == []
    assert client.get(f"{gray}/keys").status_code == 400
    assert client.get(f"{gray}/raw/0_1_2/2_2_2/0_0_0").content == bytes(8)
    assert client.get(f"{kv}/raw/0_1_2/2_2_2/0_0_0").status_code == 400
    assert client.get(f"{kv}/info").json()["Base"]["TypeName"] == "keyvalue"
    assert client.get(f"{gray}/info").json()["Base"]["TypeName"] == "uint8blk"


def test_an_unknown_keyword_names_the_help(client: TestClient, kv: str):
    answer = client.get(f"{kv}/nosuch")
    assert answer.status_code == 400
    assert answer.text == (
        f'Bad API call ({kv}/nosuch) for data "stuff".  '
        f"See API help at http://localhost:8000/api/help/keyvalue ({kv}/nosuch).\n"
    )
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
def test_an_unknown_method_on_an_instance_is_a_bad_call(client: TestClient, kv: str, method: str):
    assert client.request(method, f"{kv}/keys").status_code == 400


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/node", "/api/node/", "/api/repo", "/api/repo/", "/api/repos", "/x"]
)
def test_unknown_paths_are_not_found(client: TestClient, path: str):
    for method in ("GET", "PUT", "DELETE"):
        answer = client.request(method, path)
        assert (answer.status_code, answer.text) == (404, "404 page not found\n"), (method, path)


def test_an_instance_without_keyword_is_not_found(client: TestClient, kv: str, root: str):
    for method, path in (
        ("GET", kv),
        ("DELETE", kv),
        ("GET", f"/api/node/{root}"),
        ("DELETE", f"/api/node/{root}"),
    ):
        assert client.request(method, path).status_code == 404
    assert client.get(f"/api/repo/{root}").status_code == 404
    assert client.head(f"/api/repo/{root}").status_code == 200
    assert client.get(f"/api/repo/{root}/nosuch").status_code == 404


def test_unknown_versions_and_instances_are_bad_requests(client: TestClient, root: str):
    unknown = client.get("/api/node/zzzz/stuff/keys")
    assert unknown.status_code == 400
    assert unknown.text == "could not find UUID with partial match to zzzz (/api/node/zzzz/stuff/keys).\n"
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert client.request(method, f"/api/node/{root}/nosuch/key/a").status_code == 400


def test_one_slash_at_the_end_is_ignored(client: TestClient, kv: str):
    client.post(f"{kv}/key/a", content=b"1")
    assert client.get(f"{kv}/keys/").json() == ["a"]
    assert client.get(f"{kv}/key/a/").content == b"1"
    assert client.get(f"{kv}/info/").status_code == 200


def test_bodies_of_get_requests_arrive(client: TestClient, kv: str):
    client.post(f"{kv}/key/a", content=b"1")
    assert client.request("GET", f"{kv}/keyvalues?json=true", json=["a"]).json() == {"a": 1}


def test_a_body_larger_than_any_default_limit_arrives(client: TestClient, kv: str):
    content = bytes(range(256)) * 50_000
    assert client.post(f"{kv}/key/large", content=content).status_code == 200
    assert client.get(f"{kv}/key/large").content == content


def test_options_name_the_methods_of_a_path(client: TestClient, kv: str, root: str):
    for path, methods in (
        ("/api/server/info", "GET, HEAD, OPTIONS"),
        ("/api/repos", "POST, OPTIONS"),
        (f"/api/node/{root}/note", "GET, HEAD, POST, OPTIONS"),
        (f"/api/repo/{root}", "HEAD, OPTIONS"),
        (f"{kv}/key/a", "GET, HEAD, POST, DELETE, OPTIONS"),
        (f"{kv}/tags", "GET, HEAD, POST, OPTIONS"),
    ):
        answer = client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (200, methods), path
    for path in ("/api/nosuch", f"{kv}/nosuch", f"/api/node/{root}/nosuch"):
        assert client.options(path).status_code == 404


def test_what_is_sealed_is_not_written(client: TestClient, kv: str, root: str):
    client.post(f"{kv}/key/a", content=b"1")
    client.post(f"/api/node/{root}/commit", json={})
    answer = client.post(f"{kv}/key/a", content=b"2")
    assert answer.status_code == 400
    assert answer.text == f'Cannot do POST on endpoint "key" of locked node {root} ({kv}/key/a).\n'
    assert client.delete(f"{kv}/key/a").status_code == 400
    assert client.get(f"{kv}/key/a").content == b"1"
    note = client.post(f"/api/node/{root}/note", json={"note": "late"})
    assert note.text == f"Cannot do post on locked node {root} (/api/node/{root}/note).\n"


def test_unversioned_instances_are_written_at_sealed_versions(client: TestClient, root: str):
    body = {"typename": "keyvalue", "dataname": "shared", "versioned": False}
    assert client.post(f"/api/repo/{root}/instance", json=body).status_code == 200
    client.post(f"/api/node/{root}/commit", json={})
    child = client.post(f"/api/node/{root}/newversion").json()["child"]
    assert client.post(f"/api/node/{root}/shared/key/a", content=b"1").status_code == 200
    assert client.get(f"/api/node/{child}/shared/key/a").content == b"1"


def test_versions_are_named_by_prefix_and_branch(client: TestClient, kv: str, root: str):
    client.post(f"{kv}/key/a", content=b"1")
    for ref in (root, root[:6], f"{root[:6]}:master", ":master", f"{root}:", f"{root}:master~0"):
        assert client.get(f"/api/node/{ref}/stuff/key/a").content == b"1", ref


def test_names_with_unusual_characters(client: TestClient, root: str):
    body = {"typename": "keyvalue", "dataname": "bad name! é"}
    assert client.post(f"/api/repo/{root}/instance", json=body).status_code == 200
    assert client.post(f"/api/node/{root}/bad%20name!%20%C3%A9/key/x%2Fy", content=b"1").status_code == 200
    assert client.get(f"/api/node/{root}/bad%20name!%20%C3%A9/keys").json() == ["x/y"]


def test_help_is_made_from_the_routes(client: TestClient, kv: str):
    text = client.get(f"{kv}/help").text
    assert text == client.get("/api/help/keyvalue").text
    assert "GET /api/node/{uuid}/{name}/keys" in text
    assert "(DVID: ``GET D/keys``)" in text
    assert "HEAD" not in text


def test_tags_of_an_instance(client: TestClient, kv: str, gray: str):
    assert client.get(f"{kv}/tags").json() == {"Tags": None}
    assert client.post(f"{kv}/tags", json={"a": "1"}).status_code == 200
    client.post(f"{kv}/tags", json={"b": "2"})
    assert client.get(f"{kv}/tags").json() == {"Tags": {"a": "1", "b": "2"}}
    client.post(f"{kv}/tags?replace=true", json={"c": "3"})
    assert client.get(f"{kv}/tags").json() == {"Tags": {"c": "3"}}
    assert client.post(f"{kv}/tags", json={"a": 1}).status_code == 400
    assert client.get(f"{gray}/tags").status_code == 400


def test_syncs_of_what_does_not_sync_are_refused(client: TestClient, kv: str):
    assert client.post(f"{kv}/sync", json={"sync": "nosuch"}).status_code == 400
    assert client.post(f"{kv}/sync", json={}).status_code == 400


def test_repos_made_by_another_process_are_served(client: TestClient, hub: Hub):
    other = Hub(hub.root)
    made = other.create()
    other.close()
    assert client.get(f"/api/node/{made.uuid}/status").json() == {"Locked": False}


def test_blobs_are_kept_at_sealed_versions_too(client: TestClient, kv: str, root: str):
    client.post(f"/api/node/{root}/commit", json={})
    kept = client.post(f"{kv}/blobstore", content=b"blobdata")
    assert kept.json() == {"reference": "22YWnFVlmVpCPD-ku8_VEA=="}
    assert client.get(f"{kv}/blobstore/22YWnFVlmVpCPD-ku8_VEA==").content == b"blobdata"
    assert client.get(f"{kv}/blobstore/8Dz3ELSZZHRnKsZ4e9nneQ==").status_code == 404
    for method, path in (("GET", "nosuch"), ("GET", ""), ("DELETE", "22YWnFVlmVpCPD-ku8_VEA==")):
        assert client.request(method, f"{kv}/blobstore/{path}").status_code == 400
