"""Routes of images beyond what the recordings of the reference server hold."""

from __future__ import annotations

import io

import lz4.block
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient


@pytest.fixture
def client(client: TestClient, root: str) -> TestClient:
    """Client whose paths are relative to a new instance."""
    config = {"typename": "uint8blk", "dataname": "g", "BlockSize": "8,4,2", "Background": "9"}
    made = client.post(f"/api/repo/{root}/instance", json=config)
    assert made.status_code == 200, made.text
    client.base_url = client.base_url.join(f"/api/node/{root}/g/")
    return client


@pytest.fixture
def volume(client: TestClient) -> np.ndarray:
    """Voxels that stand at (-2, 0, 8), zyx."""
    found = np.random.default_rng(1).integers(1, 256, (4, 8, 16), "u1")
    assert client.post("raw/0_1_2/16_8_4/8_0_-2", content=found.tobytes()).status_code == 200
    return found


def test_negative_coordinates_come_back(client: TestClient, volume: np.ndarray):
    found = client.get("raw/0_1_2/16_8_4/8_0_-2")
    np.testing.assert_array_equal(np.frombuffer(found.content, "u1").reshape(4, 8, 16), volume)
    assert client.get("info").json()["Extents"] == {"MinPoint": [8, 0, -2], "MaxPoint": [23, 7, 1]}


@pytest.mark.parametrize("fmt", ["png", "tif", "bmp"])
def test_a_slice_in_each_lossless_format(client: TestClient, volume: np.ndarray, fmt: str):
    for dims, size, offset, expected in (
        ("xy", "16_8", "8_0_-1", volume[1]),
        ("xz", "16_4", "8_3_-2", volume[:, 3]),
        ("yz", "8_4", "10_0_-2", volume[:, :, 2]),
    ):
        found = client.get(f"raw/{dims}/{size}/{offset}/{fmt}")
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found.content))), expected)


def test_unwritten_voxels_are_zero_in_regions_and_background_in_blocks(client: TestClient, volume: np.ndarray):
    assert set(client.get("raw/0_1_2/3_3_3/100_0_0").content) == {0}
    assert set(client.get("blocks/50_0_0/2").content) == {9}
    assert client.get("specificblocks?blocks=50,0,0").content == b""


def test_a_stream_in_the_stored_form(client: TestClient, volume: np.ndarray):
    body = client.get("specificblocks?blocks=1,0,-1").content
    assert np.frombuffer(body, "<i4", 4).tolist() == [1, 0, -1, len(body) - 16]
    assert lz4.block.decompress(body[16:]) == volume[:2, :4, :8].tobytes()


@pytest.mark.parametrize(
    "path",
    [
        "blocks/0_0_0/0",
        "blocks/0_0_0/-1",
        "blocks/0_0_0/99999999999",
        "raw/0_1_2/100000_100000_100000/0_0_0",
        "raw/0_1_2/0_1_1/0_0_0",
        "raw/xy/8_8/0_0_0?roi=any",
        "rawkey?x=1",
        "subvolblocks/8_4_3/0_0_0",
    ],
)
def test_bad_requests_are_refused_in_words(client: TestClient, path: str):
    found = client.get(path)
    assert found.status_code == 400
    assert found.text.strip()


def test_the_key_of_a_block(client: TestClient):
    found = client.get("rawkey?x=1&y=2&z=-3").json()
    assert bytes.fromhex(found["Key"]) == b"g/0/c/-3/2/1"


def test_help_cites_the_endpoints(client: TestClient):
    assert "GET D/subvolblocks/{size}/{offset}" in client.get("help").text
