"""Endpoints of the contract that no recording shows, as the contract describes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conformance import conform
from tests.conformance.conform import Session
from tests.serving import TOKEN, Server

HERE = Path(__file__).parent


@pytest.fixture
def session(server: Server) -> Session:
    session = Session(server.url, None)
    session.token = TOKEN
    session.repo()
    for typename in ("labelmap", "uint8blk", "keyvalue"):
        made = session.post("/api/repo/{root}/instance", {"typename": typename, "dataname": typename})
        assert made.status == 200
    return session


def test_a_labelmap_tells_its_axes(session: Session):
    got = session.get("/api/node/{root}/labelmap/metadata")
    assert [axis["Label"] for axis in got.json()["Axes"]] == ["X", "Y", "Z"]
    assert got.json()["Properties"]["Values"] == [{"DataType": "uint64", "Label": "labelmap"}]


def test_indices_come_back_as_they_were_posted(session: Session):
    voxels = np.zeros((64, 64, 64), "<u8")
    voxels[:8], voxels[8:] = 5, 7
    assert session.post("/api/node/{root}/labelmap/raw/0_1_2/64_64_64/0_0_0", voxels).status == 200
    five, seven = (session.get(f"/api/node/{{root}}/labelmap/index/{body}").body for body in (5, 7))
    both = session.request("GET", "/api/node/{root}/labelmap/indices", [5, 7]).body
    assert [bytes(value) for _, value in conform.pb_fields(both)] == [five, seven]
    packed = session.request("GET", "/api/node/{root}/labelmap/indices-compressed", [5, 7, 9])
    assert packed.status == 200
    size = int.from_bytes(packed.body[:8], "little")
    assert 0 < size < len(packed.body)
    assert session.post("/api/node/{root}/labelmap/index/5", five).status == 200
    assert session.post("/api/node/{root}/labelmap/indices", both).status == 200
    assert session.request("GET", "/api/node/{root}/labelmap/sizes", [5, 7]).json() == [8 * 64 * 64, 56 * 64 * 64]


def test_an_image_keeps_its_settings(session: Session):
    before = session.get("/api/node/{root}/uint8blk/info").json()
    assert session.post("/api/node/{root}/uint8blk/info", {"VoxelSize": "4,4,4"}).status == 400
    assert session.get("/api/node/{root}/uint8blk/info").json() == before


@pytest.mark.parametrize("name", ["labelmap", "uint8blk", "keyvalue"])
def test_what_syncs_with_nothing_says_so(session: Session, name: str):
    answer = session.post(f"/api/node/{{root}}/{name}/sync", {"sync": "keyvalue"})
    assert answer.status == 400
    assert b"not syncable" in answer.body


def test_blobs_are_named_by_their_content(session: Session):
    reference = session.post("/api/node/{root}/keyvalue/blobstore", b"blobdata").json()["reference"]
    assert reference == "22YWnFVlmVpCPD-ku8_VEA=="
    assert session.get(f"/api/node/{{root}}/keyvalue/blobstore/{reference}").body == b"blobdata"
    assert session.get("/api/node/{root}/keyvalue/blobstore/AAAAAAAAAAAAAAAAAAAAAA==").status == 404


def test_blobs_as_they_are_recorded_whatever_the_second_instance_is(server: Server):
    class OtherType(Session):
        def instance(self, typename: str, name: str, **config):
            return super().instance("roi" if typename == "annotation" else typename, name, **config)

    recorded = json.loads((HERE / "golden" / "blobstore.json").read_text())["steps"]
    session = OtherType(server.url, recorded)
    session.token = TOKEN
    conform.load(HERE / "scenarios" / "blobstore.py").run(session)
    assert len(session.steps) == len(recorded)
    assert [conform.compare_step(*pair) for pair in zip(recorded, session.steps, strict=True)] == [None] * len(recorded)


def test_lines_of_a_repos_log_carry_their_time(session: Session):
    assert session.post("/api/repo/{root}/log", {"log": ["hello"]}).status == 200
    (*_, line) = session.get("/api/repo/{root}/log").json()["log"]
    time, _, words = line.partition("  ")
    assert words == "hello"
    assert time.endswith("Z")
