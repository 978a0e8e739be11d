"""Unversioned voxel instances over HTTP: the lock of a version does not concern them, and no cache keeps them."""

from __future__ import annotations

import numpy as np
from starlette.testclient import TestClient

SIZE = (64, 64, 64)
RAW = "raw/0_1_2/64_64_64/0_0_0"


def make(client: TestClient, root: str, name: str, typename: str) -> None:
    body = {"typename": typename, "dataname": name, "versioned": "false"}
    assert client.post(f"/api/repo/{root}/instance", json=body).status_code == 200


def following(client: TestClient, node: str) -> str:
    client.post(f"/api/node/{node}/commit", json={"note": ""})
    return client.post(f"/api/node/{node}/newversion", json={}).json()["child"]


def test_images_are_written_at_any_version(client: TestClient, root: str):
    make(client, root, "em", "uint8blk")
    make(client, root, "em2", "uint8blk")
    child = following(client, root)
    for value, node in enumerate((root, child), 1):
        data = np.full(SIZE, value, np.uint8).tobytes()
        assert client.post(f"/api/node/{node}/em/{RAW}", content=data).status_code == 200
        assert {client.get(f"/api/node/{n}/em/{RAW}").content for n in (root, child)} == {data}
    assert client.get(f"/api/node/{root}/em/info").json()["Base"]["Versioned"] is False
    assert client.get(f"/api/node/{root}/em2/{RAW}").content == bytes(64**3)
    answer = client.get(f"/zarr/{root}/em/0/c/0/0/0")
    assert answer.status_code == 200
    assert "immutable" not in answer.headers["cache-control"]
    tag = answer.headers["etag"]
    assert client.get(f"/zarr/{root}/em/0/c/0/0/0", headers={"If-None-Match": tag}).status_code == 304
    client.post(f"/api/node/{child}/em/{RAW}", content=np.full(SIZE, 9, np.uint8).tobytes())
    assert client.get(f"/zarr/{root}/em/0/c/0/0/0", headers={"If-None-Match": tag}).status_code == 200
    assert client.get(f"/zarr/{root}/em/zarr.json").json()["attributes"]["ome"]["version"] == "0.5"


def test_labels_are_edited_at_any_version(client: TestClient, root: str):
    make(client, root, "seg", "labelmap")
    labels = np.ones(SIZE, np.uint64)
    labels[32:] = 2
    child = following(client, root)
    assert client.post(f"/api/node/{root}/seg/{RAW}", content=labels.tobytes()).status_code == 200
    assert client.post(f"/api/node/{root}/seg/merge", json=[1, 2]).status_code == 200
    for node in (root, child):
        assert client.get(f"/api/node/{node}/seg/size/1").json()["voxels"] == 64**3
        assert client.get(f"/api/node/{node}/seg/label/5_5_40").json()["Label"] == 1
    answer = client.post(f"/api/node/{child}/seg/cleave/1", json=[2])
    assert answer.status_code == 200
    new = answer.json()["CleavedLabel"]
    assert client.get(f"/api/node/{root}/seg/label/5_5_40").json()["Label"] == new
    client.post(f"/api/node/{child}/commit", json={"note": ""})
    assert client.post(f"/api/node/{child}/seg/merge", json=[1, new]).status_code == 200
    logged = client.get(f"/api/node/{root}/seg/mutations")
    assert len(logged.json()) > 2
    assert client.get(f"/api/node/{child}/seg/mutations").json() == logged.json()
