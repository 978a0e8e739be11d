"""Instances renamed, deleted and brought back over HTTP."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.api.conftest import TOKEN

ADMIN = {"Authorization": f"Bearer {TOKEN}"}
SETTINGS = {"typename": "uint8blk", "dataname": "em", "BlockSize": "32,32,32"}
RAW = "raw/0_1_2/32_32_32/0_0_0"


@pytest.fixture
def repo(client: TestClient, root: str) -> str:
    """Path of a repo with an image `em` and keys `kv` in its sealed root."""
    for body in (SETTINGS, {"typename": "keyvalue", "dataname": "kv"}):
        assert client.post(f"/api/repo/{root}/instance", json=body).status_code == 200
    voxels = np.full((32, 32, 32), 7, "u1")
    assert client.post(f"/api/node/{root}/em/{RAW}", content=voxels.tobytes()).status_code == 200
    assert client.post(f"/api/node/{root}/kv/key/k", content=b"v").status_code == 200
    assert client.post(f"/api/node/{root}/commit", json={"note": ""}).status_code == 200
    return f"/api/repo/{root}"


def names(client: TestClient, repo: str) -> list[str]:
    return [*client.get(f"{repo}/info").json()["DataInstances"]]


def test_an_instance_gets_another_name(client: TestClient, repo: str):
    node = repo.replace("repo", "node")
    before = client.get(f"{node}/em/info").json()["Base"]["DataUUID"]
    answer = client.post(f"{repo}/instance/em/rename?u=ann", json={"name": "gray"}, headers=ADMIN)
    assert (answer.status_code, answer.json()) == (200, {"name": "gray", "data_uuid": before})
    assert names(client, repo) == ["gray", "kv"]
    assert client.get(f"{node}/gray/{RAW}").content == b"\7" * 32**3
    assert client.get(f"{node}/em/info").status_code == 400
    assert 'Renamed data instance "em" to "gray"' in client.get(f"{repo}/log").json()["log"][-1]
    at = node.replace("/api/node", "/zarr")
    assert client.get(f"{at}/gray/0/c/0/0/0").content == client.get(f"{at}/em/0/c/0/0/0").content
    old, new = (client.get(f"{at}/{name}/0/c/0/0/0").headers["cache-control"] for name in ("em", "gray"))
    assert ("immutable" in old, new) == (True, "no-cache")
    assert client.get(f"{at.replace('/zarr', '/n5')}/gray/s0/attributes.json").json()["blockSize"] == [32, 32, 32]


def test_an_instance_is_deleted_and_comes_back(client: TestClient, repo: str):
    node = repo.replace("repo", "node")
    answer = client.delete(f"{repo}/instance/em?u=ann", headers=ADMIN)
    assert answer.status_code == 200
    assert names(client, repo) == ["kv"]
    refused = client.get(f"{node}/em/{RAW}")
    assert (refused.status_code, "deleted at" in refused.text) == (400, True)
    for path in ("em/zarr.json", "em/0/zarr.json", "em/0/c/0/0/0"):
        assert client.get(f"{node.replace('/api/node', '/zarr')}/{path}").status_code == 404
    listed = client.get(f"{repo}/deleted-instances").json()["instances"]
    assert listed == [{**answer.json(), "typename": "uint8blk", "collected": False}]
    assert client.delete(f"{repo}/instance/em", headers=ADMIN).status_code == 400
    answer = client.post(f"{repo}/instance/em/undelete", json={"name": "back"}, headers=ADMIN)
    assert answer.json() == {"name": "back", "data_uuid": listed[0]["data_uuid"]}
    assert client.get(f"{node}/back/{RAW}").content == b"\7" * 32**3
    assert client.get(f"{repo}/deleted-instances").json() == {"instances": []}


def test_whoever_does_it_needs_the_token(client: TestClient, repo: str):
    for headers in ({}, {"Authorization": "Bearer no"}):
        answers = [
            client.post(f"{repo}/instance/em/rename", json={"name": "x"}, headers=headers),
            client.delete(f"{repo}/instance/em", headers=headers),
            client.post(f"{repo}/instance/em/undelete", headers=headers),
        ]
        assert {(a.status_code, a.headers["vzarr-error"]) for a in answers} == {(400, "ForbiddenError")}
    assert names(client, repo) == ["em", "kv"]


@pytest.mark.parametrize(
    ("name", "body", "kind"),
    [
        ("em", {}, "InvalidInputError"),
        ("em", {"name": 7}, "InvalidInputError"),
        ("em", {"name": "commit"}, "InvalidInputError"),
        ("em", {"name": "a/b"}, "InvalidInputError"),
        ("em", {"name": "kv"}, "AlreadyExistsError"),
        ("other", {"name": "x"}, "NotFoundError"),
    ],
)
def test_what_is_wrong_changes_nothing(client: TestClient, repo: str, name: str, body: dict, kind: str):
    answer = client.post(f"{repo}/instance/{name}/rename", json=body, headers=ADMIN)
    assert (answer.status_code, answer.headers["vzarr-error"]) == (400, kind)
    answer = client.post(f"{repo}/instance/{name}/undelete", headers=ADMIN)
    assert (answer.status_code, answer.headers["vzarr-error"]) == (400, "NotFoundError")
    assert names(client, repo) == ["em", "kv"]
    assert len(client.get(f"{repo}/log").json()["log"]) == 2


def test_a_repo_asks_for_the_passcode_that_it_was_made_with(client: TestClient):
    made = client.post("/api/repos", json={"alias": "safe", "passcode": "sesame"}, headers=ADMIN)
    repo = f"/api/repo/{made.json()['root']}"
    assert client.post(f"{repo}/instance", json=SETTINGS).status_code == 200
    verbs = (("POST", "em/rename", {"name": "x"}), ("DELETE", "em", {}), ("POST", "em/undelete", {}))
    for method, path, body in verbs:
        for given in ({}, {"passcode": ""}, {"passcode": "Sesame"}):
            answer = client.request(method, f"{repo}/instance/{path}", json={**body, **given}, headers=ADMIN)
            assert (answer.status_code, answer.headers["vzarr-error"]) == (400, "ForbiddenError")
            assert "incorrect passcode" in answer.text
    assert names(client, repo) == ["em"]
    for method, path, body in verbs[1:]:
        right = {**body, "passcode": "sesame"}
        assert client.request(method, f"{repo}/instance/{path}", json=right, headers=ADMIN).status_code == 200
