"""Endpoints of the server itself, its documentation, and the clients it brings."""

from __future__ import annotations

import json
import re

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import TOKEN
from vzarr.api.activity import Activity
from vzarr.api.routes import interface

GETS = [
    "/api/help",
    "/api/load",
    "/api/heartbeat",
    "/api/user-latencies",
    "/api/server/info",
    "/api/server/note",
    "/api/server/types",
    "/api/server/compiled-types",
    "/api/server/groupcache",
    "/api/repos/info",
    "/interface/version",
]


@pytest.mark.parametrize("path", GETS)
def test_what_can_be_read_has_a_head(client: TestClient, path: str):
    got, head = client.get(path), client.head(path)
    assert (got.status_code, head.status_code) == (200, 200)
    assert got.content
    assert head.headers["content-type"] == got.headers["content-type"]


def test_info_is_json_of_strings_and_claims_a_version_that_clients_accept(client: TestClient):
    info = client.get("/api/server/info").json()
    assert all(isinstance(value, str) for value in info.values())
    assert info["DVID Version"].startswith("v")
    assert tuple(map(int, info["DVID Version"][1:].split("."))) >= (0, 9)
    assert info["Note"] == "a note"
    assert TOKEN not in json.dumps(info)


def test_types_in_use_are_those_of_instances(client: TestClient, root: str):
    assert client.get("/api/server/types").json() == {}
    client.post(f"/api/repo/{root}/instance", json={"typename": "keyvalue", "dataname": "kv"})
    used = client.get("/api/server/types").json()
    assert list(used) == ["keyvalue"]
    assert used.items() <= client.get("/api/server/compiled-types").json().items()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/storage"),
        ("GET", "/api/server/config"),
        ("POST", "/api/server/settings"),
        ("POST", "/api/server/reload-auth"),
        ("POST", "/api/server/reload-blocklist"),
        ("POST", "/api/server/reload-metadata"),
    ],
)
def test_some_things_are_for_administrators(client: TestClient, method: str, path: str):
    assert client.request(method, path, json={}).status_code == 400
    answer = client.request(method, f"{path}?admintoken={TOKEN}", json={})
    assert answer.status_code == 200
    assert TOKEN not in answer.text


def test_settings_are_strings(client: TestClient):
    def post(body: object) -> int:
        return client.post(f"/api/server/settings?admintoken={TOKEN}", json=body).status_code

    assert post({"gc": "500", "throttle": "2"}) == 200
    assert post({"throttle": 1}) == 400
    assert post([]) == 400


def test_a_heartbeat_makes_a_user_known(client: TestClient):
    unknown = client.get("/api/user-latencies?u=ada").json()
    assert (unknown["User"], unknown["LastPing"]) == ("", "0001-01-01T00:00:00Z")
    assert client.get("/api/heartbeat?u=ada").text == "OK"
    assert client.get("/api/user-latencies?u=ada").json()["User"] == "ada"
    assert list(client.get("/api/user-latencies").json()) == ["ada"]


def test_the_load_counts_requests(client: TestClient):
    for _ in range(3):
        client.get("/api/heartbeat")
    load = client.get("/api/load").json()
    assert load["GET requests"] >= 4
    assert load["handlers active"] == 1


def test_users_who_were_long_silent_are_forgotten_first():
    activity = Activity()
    for n in range(10_001):
        activity.ping(f"user {n}")
    assert activity.latency("user 0")["User"] == ""
    assert activity.latency("user 10000")["User"] == "user 10000"


def test_nobody_is_given_a_token(client: TestClient):
    assert client.get("/api/server/token").status_code == 400


def test_help_of_an_unknown_type(client: TestClient):
    answer = client.get("/api/help/nosuchtype")
    assert answer.status_code == 400
    assert answer.text.startswith('Data type "nosuchtype" is not supported by current DVID server')
    assert client.get("/api/help/").text == client.get("/api/help").text


def test_one_document_describes_all_endpoints(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    assert "get" in paths["/api/server/info"]
    assert {"get", "post"} <= set(paths["/api/node/{uuid}/note"])
    assert {"get", "post"} <= set(paths["/api/node/{uuid}/{keyvalue}/key/{key}"])
    assert "/api/node/{uuid}/{uint8blk}/raw/{dims}/{size}/{offset}" in paths
    assert "/api/node/{uuid}/{instance}/info" in paths
    assert "/api/repo/{uuid}/branch-versions/{branch}" in paths
    for path, operations in paths.items():
        for operation in operations.values():
            declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path
    keyvalue = paths["/api/node/{uuid}/{keyvalue}/keys"]["get"]
    assert keyvalue["tags"] == ["keyvalue"]
    assert "DVID" in keyvalue["description"]


def test_the_documentation_needs_no_other_server(client: TestClient):
    page = client.get("/docs").text
    assert "http://" not in page.replace("http://localhost:8000", "")
    assert "https://" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_the_viewer_is_served_where_it_is_installed(client: TestClient):
    if interface.client_folder() is None:
        assert client.get("/neuroglancer/").status_code == 404
        pytest.skip("the neuroglancer client is not installed")
    answer = client.get("/neuroglancer/")
    assert answer.status_code == 200
    assert "/v/" in answer.url.path, "the client takes a token from its address"
    assert answer.text.index("window.EventSource =") < answer.text.index("src="), "ours runs before the client"
    scripts = re.findall(r'<script defer src="([^"]+)"', answer.text)
    assert scripts
    for script in scripts:
        assert "javascript" in client.head(str(answer.url.join(script))).headers["content-type"]


def test_without_the_viewer_a_text_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interface.importlib.util, "find_spec", lambda name: None)
    assert interface.client_folder() is None
