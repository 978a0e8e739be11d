"""Routes of ROIs beyond what the recordings of the reference server hold, and ``?roi=`` of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

SPANS = [[-1, 0, -2, -1], [0, 0, 0, 0]]


@pytest.fixture
def client(client: TestClient, root: str) -> TestClient:
    """Client whose paths are relative to a version with a ROI, an image and labels."""
    for typename, name, size in (("roi", "r", "8,8,8"), ("uint8blk", "g", "8,8,8"), ("labelmap", "s", "16,16,16")):
        config = {"typename": typename, "dataname": name, "BlockSize": size}
        made = client.post(f"/api/repo/{root}/instance", json=config)
        assert made.status_code == 200, made.text
    client.base_url = client.base_url.join(f"/api/node/{root}/")
    assert client.post("r/roi", json=SPANS).status_code == 200
    return client


def _commit(client: TestClient) -> None:
    assert client.post("commit", json={"note": "done"}).status_code == 200


def test_negative_blocks_come_back(client: TestClient):
    assert client.get("r/roi").json() == SPANS
    assert client.get("r/info").json()["Extended"] == {"BlockSize": [8, 8, 8], "MinZ": -1, "MaxZ": 0}
    asked = [[-1, 0, -1], [-16, 7, -8], [-17, 0, -1], [-1, -1, -1], [7, 7, 7], [8, 0, 0]]
    assert client.post("r/ptquery", json=asked).json() == [True, True, False, False, True, False]
    mask = np.frombuffer(client.get("r/mask/0_1_2/4_1_2/-2_0_-1").content, "u1")
    assert mask.tolist() == [1, 1, 0, 0, 0, 0, 1, 1]


def test_a_sealed_version_answers_point_queries_and_takes_no_roi(client: TestClient):
    _commit(client)
    assert client.post("r/ptquery", json=[[0, 0, 0]]).json() == [True]
    assert client.post("r/roi", json=[]).status_code == 400
    assert client.delete("r/roi").status_code == 400
    assert client.get("r/roi").json() == SPANS


def test_info_can_be_posted_and_help_cites_the_endpoints(client: TestClient):
    assert client.post("r/info", json={}).json() == client.get("r/info").json()
    assert "GET D/partition" in client.get("r/help").text
    assert client.get("r/tags").status_code == 400


def test_a_partition_of_an_emptied_roi(client: TestClient):
    assert client.delete("r/roi").status_code == 200
    assert client.get("r/partition?batchsize=4").json()["Subvolumes"] == []
    assert client.get("r/partition?batchsize=0").status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "r/mask/2_1_0/8_8_8/0_0_0", None),
        ("GET", "r/mask/0_1_2/100000_100000_100000/0_0_0", None),
        ("POST", "r/ptquery", [[0, 0, 0, 0]]),
        ("POST", "r/ptquery", {"a": 1}),
        ("POST", "r/ptquery", [[0, 0, 1 << 31]]),
        ("POST", "r/roi", [[0, 0, 3, 2]]),
        ("GET", "g/raw/0_1_2/8_8_8/0_0_0?roi=s", None),
        ("GET", "g/isotropic/xy/8_8/0_0_0?roi=none", None),
        ("GET", "s/raw/0_1_2/8_8_8/0_0_0?roi=g", None),
        ("GET", "s/raw/0_1_2/8_8_8/0_0_0?roi=r&scale=1", None),
        ("GET", "s/raw/0_1_2/8_8_8/0_0_0?roi=r&attenuation=3", None),
        ("GET", "s/pseudocolor/xy/8_8/0_0_0?roi=none", None),
    ],
)
def test_bad_requests_are_refused_in_words(client: TestClient, method: str, path: str, body: object):
    found = client.request(method, path, json=body)
    assert found.status_code == 400
    assert found.text.strip()
    assert client.get("r/roi").json() == SPANS


def test_attenuation_darkens_what_lies_outside(client: TestClient):
    volume = np.random.default_rng(4).integers(0, 256, (8, 8, 16), "u1")
    assert client.post("g/raw/0_1_2/16_8_8/0_0_0", content=volume.tobytes()).status_code == 200
    for query, outside in (("", 0), ("&attenuation=1", volume >> 1), ("&attenuation=7", volume >> 7)):
        expected = np.where(np.arange(16) < 8, volume, outside)
        for verb in ("raw", "isotropic"):
            found = client.get(f"g/{verb}/0_1_2/16_8_8/0_0_0?roi=r{query}").content
            np.testing.assert_array_equal(np.frombuffer(found, "u1").reshape(volume.shape), expected)


def test_a_post_within_a_roi_leaves_the_rest(client: TestClient):
    ones, twos = np.ones((8, 8, 16), "u1"), np.full((8, 8, 16), 2, "u1")
    assert client.post("g/raw/0_1_2/16_8_8/0_0_0", content=ones.tobytes()).status_code == 200
    assert client.post("g/raw/0_1_2/16_8_8/0_0_0?roi=r", content=twos.tobytes()).status_code == 200
    assert client.get("g/raw/0_1_2/16_1_1/0_0_0").content == bytes([2] * 8 + [1] * 8)


def test_labels_posted_within_a_roi_are_counted_as_they_stand(client: TestClient):
    for label, query in ((5, ""), (6, "?roi=r")):
        body = np.full((16, 16, 32), label, "<u8").tobytes()
        assert client.post(f"s/raw/0_1_2/32_16_16/0_0_0{query}", content=body).status_code == 200
    assert [client.get(f"s/size/{label}").json()["voxels"] for label in (5, 6)] == [16**3] * 2
    row = np.frombuffer(client.get("s/raw/0_1_2/32_1_1/0_0_0?roi=r").content, "<u8")
    assert row.tolist() == [6] * 16 + [0] * 16
