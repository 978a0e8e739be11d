"""``GET D/fvdb/{id}``; what is in the file is looked at beside the writer."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from starlette.testclient import TestClient


@pytest.fixture
def seg(client: TestClient, root: str) -> TestClient:
    """Client whose paths are relative to a labelmap of two supervoxels in two blocks of 16^3."""
    config = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16", "MaxDownresLevel": "1"}
    assert client.post(f"/api/repo/{root}/instance", json=config).status_code == 200
    client.base_url = client.base_url.join(f"/api/node/{root}/seg/")
    labels = np.ones((16, 16, 32), np.uint64)
    labels[8:] = 2
    assert client.post("raw/0_1_2/32_16_16/-16_0_0", content=labels.tobytes()).status_code == 200
    assert client.post("merge", json=[1, 2]).status_code == 200
    return client


def _voxels(content: bytes) -> int:
    return struct.unpack_from("<Q", content, 16 + 24)[0]


def test_a_body_as_a_file(seg: TestClient):
    found = seg.get("fvdb/1")
    assert found.status_code == 200
    assert found.headers["content-disposition"] == 'attachment; filename="seg-1.nvdb"'
    assert found.content[:8] == b"NanoVDB2"
    assert _voxels(found.content) == 16 * 16 * 32
    assert _voxels(seg.get("fvdb/2?supervoxels=true").content) == 16 * 16 * 16
    assert _voxels(seg.get("fvdb/1?scale=1").content) == 8 * 8 * 16
    assert "my body.nvdb" in seg.get("fvdb/1?name=my%20body").headers["content-disposition"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("fvdb/2", 404), ("fvdb/0", 400), ("fvdb/x", 400), ("fvdb/1?scale=5", 404), ("fvdb/1?name=a%0Ab", 400),
     ("fvdb/1?name=%22", 400), ("fvdb/1?scale=-1", 400), ("fvdb/18446744073709551615", 404)],
)  # fmt: skip
def test_what_is_no_body(seg: TestClient, path: str, status: int):
    assert seg.get(path).status_code == status
