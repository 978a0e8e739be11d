"""Requests that must not work: each is refused with a clear message, and nothing is written or lost.

One server for all of them: a request that changed anything would show at once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import resource
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.api.conftest import TOKEN
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings
from vzarr.types.blockstreams import pack_stream
from vzarr.types.labelmap.blocks import encode_block

MEMORY = 400
"""MiB by which no refused request may raise what the process has ever used."""
ROOT, OPEN = "a" * 32, "b" * 32
LONG = "x" * 10_000
HUGE = 1 << 31
BLOCK = encode_block(np.ones((16, 16, 16), np.uint64))


@dataclass(frozen=True)
class Served:
    """A server with a sealed root and an open child, both with an image, a segmentation and keys."""

    client: TestClient
    hub: Hub

    def state(self) -> Any:
        """All that is stored: files by checksum, log entries, rows of the keys; leases come and go."""
        self.hub.behind.wait()
        repo = self.hub.find(OPEN)[0]
        folder = Path(repo.objects.path(""))
        files = {
            str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*"))
            if p.is_file() and not {"keys", "journal", "tmp"} & set(p.relative_to(folder).parts[:3:2])
        }
        rows = [(k, v) for k, v in repo.authority.kv.scan(b"") if b"\0w" not in k]
        return sorted(p.name for p in self.hub.root.iterdir()), files, len(repo.log()), rows


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    hub = Hub(tmp_path_factory.mktemp("served"))
    app = create_app(Settings(admin_token=TOKEN), hub)
    with TestClient(app, base_url="http://localhost:8000") as client:
        client.post("/api/repos", params={"admintoken": TOKEN}, json={"root": ROOT})
        for name, typename in (("gray", "uint8blk"), ("seg", "labelmap"), ("kv", "keyvalue")):
            body = {"typename": typename, "dataname": name, "BlockSize": "16,16,16"}
            assert client.post(f"/api/repo/{ROOT}/instance", json=body).status_code == 200
        labels = np.repeat(np.arange(1, 5, dtype=np.uint64), 4 * 16 * 16)
        for path, content in (
            ("gray/raw/0_1_2/16_16_16/0_0_0", bytes(range(256)) * 16),
            ("seg/raw/0_1_2/16_16_16/0_0_0", labels.tobytes()),
            ("seg/merge", b"[1, 2]"),
            ("kv/key/a", b"1"),
        ):
            assert client.post(f"/api/node/{ROOT}/{path}", content=content).status_code == 200
        client.post(f"/api/node/{ROOT}/commit", json={})
        assert client.post(f"/api/node/{ROOT}/newversion", json={"uuid": OPEN}).status_code == 200
        yield Served(client, hub)
    hub.close()


def refused(served: Served, method: str, path: str, body: bytes | None = None, status: int = 400) -> None:
    """Send one request, and compare what is stored and what memory was needed before and after."""
    before, peak = served.state(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = served.client.request(method, path, content=body)
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.endswith("\n")
    assert len(answer.text.split()) > 2, "no message"
    assert "Traceback" not in answer.text
    assert served.state() == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEMORY << 10


# ---------------------------------------------------------------- names

REFS = ["zzzz", "%00", "..", "%2e%2e", "a%2Fb", LONG, ":", ":nosuch", f"{OPEN}:nosuch", f"{OPEN}~1", "c" * 32, "é"]


@pytest.mark.parametrize("ref", [*REFS, f"{OPEN}:master~99", f"{OPEN}:master~-1", f"{OPEN}:master~x"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/node/{}/gray/info"),
        ("POST", "/api/node/{}/kv/key/a"),
        ("GET", "/api/node/{}/status"),
        ("POST", "/api/node/{}/commit"),
        ("GET", "/api/repo/{}/info"),
    ],
)
def test_unknown_references(served: Served, method: str, path: str, ref: str):
    if path.startswith("/api/repo") and "master~" in ref:
        pytest.skip("a repo's endpoints take what a node's do; once is enough")
    if ref in ("..", "%2e%2e"):
        pytest.skip("a client resolves it before it asks")
    refused(served, method, path.format(ref), b"{}")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "/a", "a\\b", "a\0b", "\n", LONG, "zarr.json", ".zarray", 5, None, ["a"]]
)
def test_names_of_instances(served: Served, name: object):
    body = json.dumps({"typename": "uint8blk", "dataname": name}).encode()
    refused(served, "POST", f"/api/repo/{OPEN}/instance", body)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a\0b", LONG, "a:b", "a~b", ".hidden", 5, None, ["a"]])
@pytest.mark.parametrize(
    ("path", "key"),
    [
        (f"/api/node/{ROOT}/tag", "tag"),
        (f"/api/node/{ROOT}/branch", "branch"),
        (f"/api/repos?admintoken={TOKEN}", "root"),
    ],
)
def test_names_of_versions_and_branches(served: Served, path: str, key: str, name: object):
    if key == "root" and name in ("", None):
        pytest.skip("then one is drawn")
    if key == "branch" and name in (".hidden",):
        pytest.skip("a branch is no folder")
    refused(served, "POST", path, json.dumps({key: name}).encode())


@pytest.mark.parametrize("uuid", ["short", "..", "g" * 32, "A" * 32, LONG, OPEN, 5])
@pytest.mark.parametrize("path", [f"/api/node/{ROOT}/newversion", f"/api/node/{ROOT}/branch"])
def test_ids_of_new_versions(served: Served, path: str, uuid: object):
    refused(served, "POST", path, json.dumps({"uuid": uuid, "branch": "new"}).encode())


@pytest.mark.parametrize(
    "key",
    [
        "..%2f..%2f..%2fvzarr.json",
        "gray/0/c/%2e%2e/%2e%2e/zarr.json",
        "%00",
        "gray/0/zarr.json%00",
        LONG,
        "/".join(["x"] * 3000),
        "gray/0/c/-1/0/0",
        "gray/0/c/0/0",
        "gray/0/c/0/0/0/0",
        f"gray/0/c/{10**30}/0/0",
        "gray/0/c/00/0/0",
        "gray/0/c/+0/0/0",
    ],
)
@pytest.mark.parametrize("ref", [ROOT, OPEN])
def test_keys_that_no_zarr_has(served: Served, ref: str, key: str):
    before = served.state()
    answer = served.client.get(f"/zarr/{ref}/{key}")
    assert answer.status_code in (400, 404), answer.text[:300]
    assert served.state() == before


# ---------------------------------------------------------------- settings of instances


@pytest.mark.parametrize("typename", ["uint8blk", "labelmap"])
@pytest.mark.parametrize(
    "settings",
    [
        {"BlockSize": "0,0,0"},
        {"BlockSize": "-32,32,32"},
        {"BlockSize": "a,b,c"},
        {"BlockSize": "1e3,32,32"},
        {"BlockSize": "1048576,1048576,1048576"},
        {"BlockSize": LONG},
        {"BlockSize": 64},
        {"VoxelSize": "0,8,8"},
        {"VoxelSize": "-8,8,8"},
        {"VoxelSize": "nan,8,8"},
        {"VoxelSize": "inf,8,8"},
        {"Compression": "bogus"},
        {"versioned": "maybe"},
    ],
    ids=str,
)
def test_settings_of_instances(served: Served, typename: str, settings: dict[str, object]):
    body = {"typename": typename, "dataname": "new", **settings}
    refused(served, "POST", f"/api/repo/{OPEN}/instance", json.dumps(body).encode())


@pytest.mark.parametrize("levels", ["-1", "300", "x", "1.5"])
def test_numbers_of_scales(served: Served, levels: str):
    body = {"typename": "labelmap", "dataname": "new", "MaxDownresLevel": levels}
    refused(served, "POST", f"/api/repo/{OPEN}/instance", json.dumps(body).encode())


def test_unknown_types(served: Served):
    body = json.dumps({"typename": "nosuch", "dataname": "new"}).encode()
    refused(served, "POST", f"/api/repo/{OPEN}/instance", body)


# ---------------------------------------------------------------- bodies

NOT_JSON = [b"", b"{", b"[1,", b"nonsense", b"\xff\xfe", b'{"a": 1}}', b"[" * 100_000, b"[1e999]", b"[NaN]"]


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda b: repr(b[:10]))
@pytest.mark.parametrize(
    "path",
    [
        f"/api/repo/{OPEN}/instance",
        f"/api/repo/{OPEN}/log",
        f"/api/repo/{OPEN}/info",
        f"/api/repo/{OPEN}/merge",
        f"/api/repo/{OPEN}/resolve",
        f"/api/node/{OPEN}/note",
        f"/api/node/{OPEN}/log",
        f"/api/node/{ROOT}/tag",
        f"/api/node/{ROOT}/branch",
        f"/api/node/{OPEN}/gray/extents",
        f"/api/node/{OPEN}/gray/resolution",
        f"/api/node/{OPEN}/seg/merge",
        f"/api/node/{OPEN}/seg/cleave/1",
        f"/api/node/{OPEN}/seg/renumber",
        f"/api/node/{OPEN}/seg/resolution",
    ],
)
def test_malformed_json(served: Served, path: str, body: bytes):
    refused(served, "POST", path, body)


@pytest.mark.parametrize("body", ["[]", "null", "5", '"text"', "true"])
@pytest.mark.parametrize(
    "path",
    [
        f"/api/repo/{OPEN}/instance",
        f"/api/repo/{OPEN}/log",
        f"/api/repo/{OPEN}/info",
        f"/api/repo/{OPEN}/merge",
        f"/api/node/{OPEN}/note",
        f"/api/node/{OPEN}/log",
        f"/api/node/{ROOT}/tag",
        f"/api/node/{ROOT}/branch",
        f"/api/node/{ROOT}/newversion",
        f"/api/node/{OPEN}/gray/extents",
        f"/api/node/{OPEN}/gray/resolution",
        f"/api/node/{OPEN}/seg/merge",
        f"/api/node/{OPEN}/seg/cleave/1",
        f"/api/node/{OPEN}/seg/renumber",
    ],
)
def test_json_of_another_kind(served: Served, path: str, body: str):
    refused(served, "POST", path, body.encode())


# ---------------------------------------------------------------- voxels


@pytest.mark.parametrize("name", ["gray", "seg"])
@pytest.mark.parametrize(
    "box",
    [
        "0_1_2/17_16_16/0_0_0",
        "0_1_2/16_16_16/1_0_0",
        "0_1_2/16_16_8/0_0_8",
        "0_1_2/16_16_16/0_0_-8",
        "0_1_2/0_16_16/0_0_0",
        "0_1_2/-16_16_16/0_0_0",
        f"0_1_2/{HUGE}_16_16/0_0_0",
        f"0_1_2/{HUGE - 16}_{HUGE - 16}_{HUGE - 16}/0_0_0",
        f"0_1_2/16_16_16/{HUGE}_0_0",
        f"0_1_2/16_16_16/{10**40}_0_0",
        "0_1_2/16_16/0_0_0",
        "0_1_2/16_16_16/0_0",
        "0_1_2/a_b_c/0_0_0",
        "0_1_2/1٣_16_16/0_0_0",
        "2_1_0/16_16_16/0_0_0",
        "xy/16_16/0_0_0",
        "bogus/16_16_16/0_0_0",
    ],
)
def test_boxes_that_cannot_be_written(served: Served, name: str, box: str):
    content = bytes(16**3 * (8 if name == "seg" else 1))
    refused(served, "POST", f"/api/node/{OPEN}/{name}/raw/{box}", content)


@pytest.mark.parametrize("name", ["gray", "seg"])
@pytest.mark.parametrize("size", [0, 1, 16**3 - 1, 16**3 * 8 + 1, 16**3 * 9])
def test_bodies_of_another_size(served: Served, name: str, size: int):
    refused(served, "POST", f"/api/node/{OPEN}/{name}/raw/0_1_2/16_16_16/0_0_0", bytes(size))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["gray", "seg"])
@pytest.mark.parametrize(
    "path",
    [
        f"raw/0_1_2/{HUGE - 1}_{HUGE - 1}_{HUGE - 1}/0_0_0",
        "raw/0_1_2/4096_4096_4096/-2048_-2048_-2048",
        "raw/xy/100000_100000/0_0_0",
        f"raw/xz/{HUGE - 1}_{HUGE - 1}/0_0_0/jpg",
        f"isotropic/yz/{HUGE - 1}_{HUGE - 1}/0_0_0",
        "raw/0_1_2/0_1_1/0_0_0",
        "raw/0_1_2/-1_1_1/0_0_0",
        f"raw/0_1_2/1_1_1/{HUGE}_0_0",
        f"raw/0_1_2/1_1_1/-{HUGE + 1}_0_0",
        "raw/0_1_2/1_1_1/0_0_0/bogus",
        "raw/xy/10_10/0_0_0/jpg:101",
        "raw/xy/10_10/0_0_0/jpg:x",
        "specificblocks?blocks=1,2",
        "specificblocks?blocks=1,2,x",
        f"specificblocks?blocks={10**30},0,0",
    ],
)
def test_boxes_that_cannot_be_read(served: Served, name: str, path: str):
    refused(served, "GET", f"/api/node/{OPEN}/{name}/{path}")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "path",
    [
        "gray/subvolblocks/17_16_16/0_0_0",
        "seg/blocks/17_16_16/0_0_0",
        "seg/blocks/16_16_16/0_0_0?compression=bogus",
        "seg/blocks/16_16_16/0_0_0?scale=-1",
        "seg/blocks/16_16_16/0_0_0?scale=256",
        f"gray/blocks/0_0_0/{HUGE - 1}",
        "gray/blocks/0_0_0/0",
        "gray/blocks/0_0_0/-1",
        "gray/arb/0_0_0/1000000000_0_0/0_1000000000_0/1",
        "gray/arb/0_0_0/nan_0_0/0_10_0/1",
        "gray/arb/0_0_0/10_0_0/0_10_0/0",
        "gray/arb/0_0_0/10_0_0/0_10_0/-1",
        "gray/arb/0_0_0/inf_0_0/0_10_0/1",
    ],
)
def test_streams_and_slices_that_cannot_be_read(served: Served, path: str):
    refused(served, "GET", f"/api/node/{OPEN}/{path}")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("gray/raw/0_1_2/100000000_1_1/0_0_0", 100_000_000),
        (f"gray/raw/0_1_2/1_1_100000000/{1 - HUGE}_0_0", 100_000_000),
        ("seg/raw/0_1_2/10000000_1_1/-5000000_0_0", 80_000_000),
        (f"seg/blocks/{HUGE - 16}_{HUGE - 16}_{HUGE - 16}/{16 - HUGE}_{16 - HUGE}_{16 - HUGE}", 0),
        (f"gray/subvolblocks/{HUGE - 16}_{HUGE - 16}_{HUGE - 16}/{16 - HUGE}_{16 - HUGE}_{16 - HUGE}", 0),
    ],
)
def test_huge_boxes_around_little_data_cost_what_they_answer(served: Served, path: str, size: int):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = served.client.get(f"/api/node/{OPEN}/{path}")
    assert (answer.status_code, len(answer.content)) == (200, size), answer.text[:300]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEMORY << 10


def _gzip(data: bytes) -> bytes:
    """The same bytes at any time: they name test cases, which all processes of a run must agree on."""
    return gzip.compress(data, 1, mtime=0)


def _frame(payload: bytes, *, claim: int | None = None) -> bytes:
    return struct.pack("<3iI", 0, 0, 0, len(payload) if claim is None else claim) + payload


@pytest.mark.parametrize(
    "body",
    [
        _frame(b""),
        _frame(b"no gzip"),
        _frame(_gzip(BLOCK)[:-9]),
        _frame(_gzip(BLOCK), claim=10**9),
        _frame(_gzip(BLOCK))[:10],
        _frame(_gzip(BLOCK[:-1])),
        _frame(_gzip(BLOCK + b"\0")),
        _frame(_gzip(encode_block(np.ones((8, 8, 8), np.uint64)))),
        _frame(_gzip(bytes(1 << 28))),
        pack_stream([((1, 1, 1), _gzip(BLOCK)), ((2, 1, 1), b"x")]),
    ],
    ids=["empty", "garbage", "cut", "claim", "frame", "short", "long", "small", "bomb", "second"],
)
def test_streams_of_blocks_that_are_damaged(served: Served, body: bytes):
    refused(served, "POST", f"/api/node/{OPEN}/seg/blocks?downres=true", body)


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "[1]",
        "[1, 1]",
        "[0, 3]",
        "[3, 0]",
        "[3, 99]",
        "[99, 3]",
        "[3, 2]",
        "[3, -4]",
        "[3, 4.5]",
        '[3, "4"]',
        "[3, null]",
        "[3, true]",
        "[3, [4]]",
        f"[3, {1 << 64}]",
        f"[3, {10**40}]",
    ],
)
def test_merges(served: Served, body: str):
    refused(served, "POST", f"/api/node/{OPEN}/seg/merge", body.encode())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("cleave/0", "[1]"),
        ("cleave/99", "[99]"),
        ("cleave/1", "[]"),
        ("cleave/1", "[1, 2]"),
        ("cleave/1", "[3]"),
        ("cleave/1", "[0]"),
        ("cleave/-1", "[2]"),
        ("cleave/x", "[2]"),
        (f"cleave/{1 << 64}", "[2]"),
        ("renumber", "[9]"),
        ("renumber", "[9, 99]"),
        ("renumber", "[3, 4]"),
        ("renumber", "[0, 4]"),
        ("renumber", "[9, 0]"),
        ("split-supervoxel/3", "nonsense"),
        ("split-supervoxel/0", ""),
        ("mappings", "\0\1\2"),
        ("index/3", "nonsense"),
        ("index/0", ""),
        ("indices", "nonsense"),
    ],
)
def test_other_edits_of_labels(served: Served, path: str, body: str):
    refused(served, "POST", f"/api/node/{OPEN}/seg/{path}", body.encode())


@pytest.mark.parametrize(
    "path",
    [
        "size/0",
        "size/-1",
        "size/x",
        f"size/{1 << 64}",
        "sparsevol/0",
        "sparsevol/3?scale=300",
        "sparsevol/3?format=bogus",
        "sparsevol/3?minx=a",
        "supervoxels/0",
        "lastmod/0",
        "label/1_2",
        f"label/{HUGE}_0_0",
        "labels",
        "mapping",
        "sizes",
    ],
)
def test_questions_about_labels(served: Served, path: str):
    refused(served, "GET", f"/api/node/{OPEN}/seg/{path}", b"nonsense")


@pytest.mark.parametrize("path", ["size/99", "sparsevol/99", "supervoxels/99", "sparsevol-size/99", "lastmod/99"])
def test_bodies_that_are_not_there(served: Served, path: str):
    refused(served, "GET", f"/api/node/{OPEN}/seg/{path}", status=404)


# ---------------------------------------------------------------- rights


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("note", b'{"note": "late"}'),
        ("log", b'{"log": ["late"]}'),
        ("commit", b"{}"),
        ("gray/raw/0_1_2/16_16_16/0_0_0", bytes(16**3)),
        ("gray/blocks/0_0_0/1", bytes(16**3)),
        ("seg/raw/0_1_2/16_16_16/0_0_0", bytes(16**3 * 8)),
        ("seg/blocks", _frame(_gzip(BLOCK))),
        ("seg/merge", b"[3, 4]"),
        ("seg/cleave/1", b"[2]"),
        ("seg/renumber", b"[9, 4]"),
        ("kv/key/a", b"late"),
        ("kv/key/new", b"late"),
    ],
)
def test_writes_to_a_sealed_version(served: Served, path: str, body: bytes):
    refused(served, "POST", f"/api/node/{ROOT}/{path}", body)


def test_deletions_in_a_sealed_version(served: Served):
    refused(served, "DELETE", f"/api/node/{ROOT}/kv/key/a")


@pytest.mark.parametrize("path", ["newversion", "tag", "branch"])
def test_children_of_an_open_version(served: Served, path: str):
    refused(served, "POST", f"/api/node/{OPEN}/{path}", b'{"tag": "t", "branch": "new"}')


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "é", LONG])
def test_wrong_tokens(served: Served, token: str):
    refused(served, "POST", f"/api/repos?admintoken={token}", b"{}")


# ---------------------------------------------------------------- storage


def test_a_chunk_that_cannot_be_read_is_an_error_of_the_server(served: Served):
    """It is a symbolic link to itself, which no user can open."""
    chunk = Path(served.hub.root / ROOT / "nodes" / ROOT / "zarr" / "gray" / "0" / "c" / "0" / "0" / "0")
    aside = chunk.with_name("aside")
    chunk.rename(aside)
    try:
        chunk.symlink_to(chunk)
        for ref in (ROOT, OPEN):
            for path in (f"/zarr/{ref}/gray/0/c/0/0/0", f"/api/node/{ref}/gray/raw/0_1_2/16_16_16/0_0_0"):
                answer = served.client.get(path)
                assert answer.status_code == 500
                assert "could not read" in answer.text
            assert served.client.get(f"/zarr/{ref}/gray/0/c/0/0/1").status_code == 404
            beside = served.client.get(f"/api/node/{ref}/gray/raw/0_1_2/16_16_16/16_0_0")
            assert (beside.status_code, beside.content) == (200, bytes(16**3))
        chunk.unlink()
        for path in (f"/zarr/{ROOT}/gray/0/c/0/0/0", f"/api/node/{OPEN}/gray/raw/0_1_2/16_16_16/0_0_0"):
            gone = served.client.get(path)
            assert gone.status_code == 500
            assert "missing" in gone.text
    finally:
        chunk.unlink(missing_ok=True)
        aside.rename(chunk)
    assert served.client.get(f"/api/node/{OPEN}/gray/raw/0_1_2/16_16_16/0_0_0").content == bytes(range(256)) * 16


def test_a_repo_of_a_newer_format_is_left_alone_and_takes_nobody_down(served: Served):
    newer = served.hub.root / ("f" * 32)
    newer.mkdir()
    (newer / "vzarr.json").write_text(json.dumps({"format": 99, "root": "f" * 32, "keys": {}}))
    try:
        assert served.client.get(f"/api/node/{'f' * 32}/status").status_code == 400
        assert served.client.get(f"/api/node/{OPEN}/status").json() == {"Locked": False}
        assert list(served.client.get("/api/repos/info").json()) == [ROOT]
        assert [p.name for p in newer.iterdir()] == ["vzarr.json"]
    finally:
        (newer / "vzarr.json").unlink()
        newer.rmdir()
