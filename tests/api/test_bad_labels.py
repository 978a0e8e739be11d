"""Requests to a labelmap that must not work: cut short, damaged, absurd, about labels that there are not.

Each is refused with a clear message; nothing is written, no number is taken, and the server goes on.
"""

from __future__ import annotations

import resource
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.api.conftest import TOKEN, TestClient
from tests.api.test_bad_input import MEMORY, OPEN, ROOT, Served
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings
from vzarr.types.blockstreams import pack_stream
from vzarr.types.bytecodecs import gzip_raw, lz4_raw
from vzarr.types.labelmap import proto, verify
from vzarr.types.labelmap.blocks import encode_block
from vzarr.types.labelmap.proto import MappingOp
from vzarr.types.labelmap.runs import runs_of_mask
from vzarr.types.labelmap.sparsevol import encode_rles

BIG = (1 << 63) + 5
LAST = (1 << 64) - 1
VOXELS = np.repeat(np.arange(1, 5, dtype=np.uint64), 4 * 16 * 16).reshape(16, 16, 16)
"""Labels 1 to 4 in four planes each; 2 was merged into 1."""
FAR = np.full((16, 16, 16), BIG, np.uint64)
FAR[3:5, 4:9] = 9
FAR[0] = 0
NEW = np.random.default_rng(1).integers(0, 6, (16, 16, 16)).astype(np.uint64)
HALF = bytes(encode_rles(runs_of_mask((VOXELS == 3) & (np.arange(16) < 5))))
BLOCK = encode_block(NEW)
INSTANCES = ("seg", "played", "loose")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    hub = Hub(tmp_path_factory.mktemp("served"))
    with TestClient(create_app(Settings(admin_token=TOKEN), hub), base_url="http://localhost:8000") as client:
        client.post("/api/repos", params={"admintoken": TOKEN}, json={"root": ROOT})
        for name in INSTANCES:
            body = {"typename": "labelmap", "dataname": name, "BlockSize": "16,16,16", "MaxDownresLevel": "1"}
            assert client.post(f"/api/repo/{ROOT}/instance", json=body).status_code == 200
            for path, content in (
                ("raw/0_1_2/16_16_16/0_0_0", VOXELS.tobytes()),
                ("raw/0_1_2/16_16_16/-16_-16_-16", FAR.tobytes()),
                ("merge", b"[1, 2]"),
            ):
                assert client.post(f"/api/node/{ROOT}/{name}/{path}", content=content).status_code == 200
        client.post(f"/api/node/{ROOT}/commit", json={})
        assert client.post(f"/api/node/{ROOT}/newversion", json={"uuid": OPEN}).status_code == 200
        for name in INSTANCES:
            assert client.post(f"/api/node/{OPEN}/{name}/merge", content=b"[4, 9]").status_code == 200
        yield Served(client, hub)
    hub.close()


def send(
    served: Served, method: str, path: str, body: bytes | None = None, name: str = "seg", ref: str = OPEN
) -> tuple[int, str]:
    """Status and message of one request, of which an error has a message."""
    answer = served.client.request(method, f"/api/node/{ref}/{name}/{path}", content=body)
    if answer.status_code >= 400:
        assert answer.status_code < 500, (path, answer.text[:300])
        assert len(answer.text.split()) > 2, "no message"
        assert "Traceback" not in answer.text
    return answer.status_code, answer.text if answer.status_code >= 400 else ""


def refused(served: Served, method: str, path: str, body: bytes | None = None, ref: str = OPEN) -> None:
    before, peak = served.state(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, text = send(served, method, path, body, ref=ref)
    assert status in (400, 403, 404), text
    assert served.state() == before, text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEMORY << 10


# ---------------------------------------------------------------- cut short and damaged


@dataclass(frozen=True)
class Post:
    """A good request; `fine` are lengths at which what is cut off leaves another good one."""

    path: str
    body: bytes
    fine: frozenset[int] = frozenset()


def _prefixes_of_messages(body: bytes, parse: object) -> frozenset[int]:
    """Lengths at which a protobuf message is one again: it ends between two fields."""
    found = set()
    for n in range(len(body)):
        try:
            parse(body[:n])  # type: ignore[operator]
        except ValueError:
            continue
        found.add(n)
    return frozenset(found)


MAPPINGS = proto.encode_mappings([MappingOp(1, 30, np.array([3, 4], np.uint64)), MappingOp(2, 40, np.array([9]))])
BOX = "raw/0_1_2/16_16_16/16_16_16"
POSTS = {
    "raw": Post(BOX, NEW.tobytes()),
    "raw, lz4": Post(f"{BOX}?compression=lz4", lz4_raw(NEW)),
    "raw, gzip": Post(f"{BOX}?compression=gzip", gzip_raw(NEW)),
    "blocks": Post("blocks?downres=true", pack_stream([((1, 1, 1), gzip_raw(BLOCK))]), frozenset([0])),
    "ingest": Post("ingest-supervoxels", pack_stream([((1, 1, 1), gzip_raw(BLOCK))]), frozenset([0])),
    "merge": Post("merge", b"[3, 4, 1]"),
    "cleave": Post("cleave/1", b"[2]"),
    "renumber": Post("renumber", b"[70, 3, 71, 4]"),
    "split-supervoxel": Post("split-supervoxel/3", HALF),
    "split": Post("split/3", HALF),
    "undo": Post("undo", b'{"MutationID": 1000000001}', frozenset([0])),
    "extents": Post("extents", b'{"MinPoint": [0, 0, 0], "MaxPoint": [5, 5, 5]}'),
    "resolution": Post("resolution", b"[8, 8, 8]"),
    "info": Post("info", b'{"MaxDownresLevel": "3"}'),
    "tags": Post("tags", b'{"a": "b"}'),
}


@pytest.mark.parametrize("post", POSTS.values(), ids=POSTS)
def test_what_is_cut_short_is_refused(served: Served, post: Post):
    """At every offset of what is short, at some of what is long."""
    size = len(post.body)
    ends = range(size) if size < 400 else sorted({*range(40), *range(40, size, size // 60), *range(size - 40, size)})
    before = served.state()
    for end in ends:
        if end not in post.fine:
            status, text = send(served, "POST", post.path, post.body[:end])
            assert status == 400, (end, text)
    assert served.state() == before


@pytest.mark.parametrize("name", ["raw, lz4", "raw, gzip", "blocks", "ingest", "split-supervoxel", "split"])
def test_what_is_damaged_is_refused_or_means_something_else(served: Served, name: str):
    """One bit is turned at a time; whatever is taken leaves voxels, index and bodies in agreement."""
    post, rng = POSTS[name], np.random.default_rng(3)
    for at in sorted(set(rng.integers(0, len(post.body), 60).tolist())):
        damaged = bytearray(post.body)
        damaged[at] ^= 1 << int(rng.integers(8))
        send(served, "POST", post.path, bytes(damaged), name="played")
    if name != "ingest":  # which stores voxels without an index
        assert verify.check_index(served.hub.find(OPEN)[1]["played"]) == []
    else:
        served.hub.find(OPEN)[1]["played"].write((16, 16, 16), NEW)


def _index(label: int = 3) -> bytes:
    return proto.encode_index(proto.decode_index(bytes.fromhex("0a0a0800120 60a04080310051003".replace(" ", ""))))


@pytest.mark.parametrize(
    ("path", "body"),
    [("mappings", MAPPINGS), ("index/3", _index()), ("indices", b"\x0a" + bytes([len(_index())]) + _index())],
)
def test_damaged_messages(served: Served, path: str, body: bytes):
    """Cut or turned at every offset: refused, or another message; the server goes on either way."""
    for at in range(len(body)):
        send(served, "POST", path, body[:at], name="loose")
        for bit in range(8):
            damaged = bytearray(body)
            damaged[at] ^= 1 << bit
            send(served, "POST", path, bytes(damaged), name="loose")
    assert send(served, "GET", "existing-labels", name="loose")[0] == 200
    assert send(served, "GET", "raw/0_1_2/16_16_16/0_0_0", name="loose")[0] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("mappings", b"\xff" * 40),
        ("mappings", b"\x0a\xff\xff\xff\xff\x0f"),
        ("mappings", proto.encode_mappings([MappingOp(1, 30, np.array([0], np.uint64))])),
        ("mappings", proto.encode_mappings([MappingOp(1, LAST, np.array([3], np.uint64))])),
        ("index/3", b"\x0a\xff\xff\xff\xff\x0f"),
        ("index/4", _index()),
        ("index/0", b""),
        ("indices", b"\x0a\x02\x10\x00"),
        ("indices", b"garbage"),
    ],
)
def test_messages_that_say_nothing_or_nonsense(served: Served, path: str, body: bytes):
    refused(served, "POST", path, body)


# ---------------------------------------------------------------- bombs, sizes, labels


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{BOX}?compression=gzip", gzip_raw(bytes(1 << 28), 9)),
        (f"{BOX}?compression=lz4", lz4_raw(bytes(1 << 28))),
        (BOX, gzip_raw(bytes(1 << 28), 9)),
        ("raw/0_1_2/4096_4096_4096/0_0_0?compression=lz4", lz4_raw(bytes(1 << 20))),
        ("raw/0_1_2/4096_4096_4096/0_0_0?compression=gzip", gzip_raw(bytes(1 << 20))),
        ("blocks", pack_stream([((0, 0, n), gzip_raw(bytes(1 << 26), 9)) for n in range(20)])),
        ("blocks", pack_stream([((0, 0, 0), gzip_raw(struct.pack("<4IQ", 128, 128, 128, 1, 7)))])),
        ("blocks", pack_stream([((0, 0, 0), gzip_raw(struct.pack("<4I", 2, 2, 2, (1 << 32) - 1)))])),
        ("ingest-supervoxels", pack_stream([((0, 0, 0), gzip_raw(bytes(1 << 28), 9))])),
        ("split/3", struct.pack("<4B2I", 0, 3, 0, 0, 0, (1 << 32) - 1)),
        ("mapping", b"[" + b"1," * 10 + b"]" * 10),
    ],
    ids=["gzip", "lz4", "plain", "box lz4", "box gzip", "blocks", "shape", "table", "ingest", "spans", "json"],
)
def test_bombs(served: Served, path: str, body: bytes):
    refused(served, "GET" if path == "mapping" else "POST", path, body)


@pytest.mark.parametrize("size", [f"512_512_{1536 + 16}", "_".join(["2147483584"] * 3)])
@pytest.mark.parametrize("compression", ["gzip", "lz4"])
def test_a_box_that_no_answer_holds_is_not_expanded(served: Served, size: str, compression: str):
    path = f"raw/0_1_2/{size}/0_0_0?compression={compression}"
    refused(served, "POST", path, b"x")
    assert "exceeds this DVID server's set limit (3221225472)" in send(served, "POST", path, b"x")[1]


@pytest.mark.parametrize("shape", [(8, 8, 8), (16, 16, 8), (24, 16, 16), (64, 64, 64)])
@pytest.mark.parametrize("path", ["blocks", "ingest-supervoxels", "ingest-supervoxels?scale=1"])
def test_blocks_of_another_size(served: Served, path: str, shape: tuple[int, int, int]):
    refused(served, "POST", path, pack_stream([((0, 0, 0), gzip_raw(encode_block(np.ones(shape, np.uint64))))]))


@pytest.mark.parametrize("coord", [(1 << 20, 0, 0), (0, -(1 << 20) - 1, 0), (0, 0, (1 << 31) - 1), (-(1 << 31), 0, 0)])
@pytest.mark.parametrize("path", ["blocks", "blocks?noindexing=true", "ingest-supervoxels", "blocks?scale=1"])
def test_blocks_too_far_away(served: Served, path: str, coord: tuple[int, int, int]):
    refused(served, "POST", path, pack_stream([((0, 0, 0), gzip_raw(BLOCK)), (coord, gzip_raw(BLOCK))]))


ENDLESS = np.where(VOXELS == 3, np.uint64(LAST), VOXELS)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (BOX, ENDLESS.tobytes()),
        ("blocks", pack_stream([((0, 0, 0), gzip_raw(encode_block(ENDLESS)))])),
        ("ingest-supervoxels", pack_stream([((0, 0, 0), gzip_raw(encode_block(ENDLESS)))])),
        ("renumber", f"[{LAST}, 3]".encode()),
        ("renumber", b"[70, 3, 71, 99]"),
        ("renumber", b"[70, 3, 70, 4]"),
        ("renumber", b"[70, 3, 0, 4]"),
        ("renumber", b"[]"),
        ("merge", f"[3, {LAST}]".encode()),
        ("merge", f"[{LAST}, 3]".encode()),
        ("merge", f"[3, {BIG + 1}]".encode()),
        ("merge", f"[3, {BIG}, 99]".encode()),
        ("cleave/1", f"[{LAST}]".encode()),
        ("cleave/1", b"[2, 3]"),
        ("cleave/1", b"[1, 2]"),
        ("cleave/1", b"[1, 1, 2, 2]"),
        (f"cleave/{LAST}", b"[1]"),
        (f"cleave/{BIG}", f"[{BIG}]".encode()),
        ("cleave/2", b"[2]"),
        (f"split-supervoxel/3?split={LAST}", HALF),
        (f"split-supervoxel/3?remain={1 << 64}", HALF),
        ("split-supervoxel/3?split=4", HALF),
        ("split-supervoxel/3?split=80&remain=80", HALF),
        (f"split-supervoxel/{LAST}", HALF),
        ("split-supervoxel/99", HALF),
        ("split/2", HALF),
        ("split/99", HALF),
        ("nextlabel/0", b""),
        ("nextlabel/-1", b""),
        (f"nextlabel/{LAST}", b""),
        (f"nextlabel/{1 << 64}", b""),
        (f"maxlabel/{LAST}?admintoken={TOKEN}", b""),
        (f"set-nextlabel/{LAST}?admintoken={TOKEN}", b""),
        (f"set-nextlabel/9?ceiling=5&admintoken={TOKEN}", b""),
        ("set-nextlabel/9", b""),
        ("undo", b'{"MutationID": -1}'),
        ("undo", b'{"MutationID": 18446744073709551616}'),
        ("undo", b'{"MutationID": true}'),
        ("undo", b'{"mutation": 5}'),
        ("undo", b"[]"),
        ("undo", b"nonsense"),
    ],
)
def test_labels_and_numbers_that_cannot_be(served: Served, path: str, body: bytes):
    refused(served, "POST", path, body)


@pytest.mark.parametrize("label", [0, -1, 1 << 64, 10**40, "1.5", "x", "0x1", "1e3", "%20", LAST, BIG + 1, 2])
@pytest.mark.parametrize(
    "path",
    [
        "size/{}",
        "supervoxels/{}",
        "supervoxel-sizes/{}",
        "lastmod/{}",
        "sparsevol/{}",
        "sparsevol-size/{}",
        "sparsevol-coarse/{}",
        "index/{}",
        "proximity/{}/3",
        "proximity/3/{}",
        "index-version/{}",
        "history/{}/" + f"{ROOT}/{OPEN}",
    ],
)
def test_bodies_that_are_not_there(served: Served, path: str, label: object):
    status, text = send(served, "GET", path.format(label))
    assert status in (400, 404), text


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[[1]]", b"[-1]", b"[18446744073709551616]", b'["1"]', b"[1.0]", b"[tru"]
)
@pytest.mark.parametrize(
    "path",
    [
        "mapping",
        "sizes",
        "labels",
        "supervoxels",
        "supervoxel-sizes",
        "lastmod",
        "sparsevol-size",
        "indices",
        "indices-compressed",
    ],
)
def test_lists_that_are_none(served: Served, path: str, body: bytes):
    if path == "labels" and body == b"[[1]]":
        pytest.skip("DVID takes missing coordinates for 0")
    assert send(served, "GET", path, body)[0] == 400


@pytest.mark.parametrize("path", ["mapping", "sizes", "labels", "supervoxels", "lastmod", "indices-compressed"])
def test_empty_lists_have_empty_answers(served: Served, path: str):
    assert send(served, "GET", path, b"[]")[0] == 200


# ---------------------------------------------------------------- runs


def _rles(*runs: tuple[int, int, int, int]) -> bytes:
    return struct.pack("<4B2I", 0, 3, 0, 0, 0, len(runs)) + b"".join(struct.pack("<4i", *r) for r in runs)


FIRST, NEXT = (0, 0, 8, 4), (0, 1, 8, 4)
"""Of supervoxel 3, which has the planes z = 8 to 11."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        _rles(),
        _rles((0, 0, 8, 0)),
        _rles((0, 0, 8, -4)),
        _rles((0, 0, 8, -(1 << 31))),
        _rles(((1 << 31) - 1, 0, 8, 2)),
        _rles(*((-(1 << 31) + 16, y, z, (1 << 31) - 1) for z in range(16) for y in range(16))),
        _rles(*((0, y, z, (1 << 31) - 1) for z in range(-16, 16) for y in range(-16, 16))),
        _rles((1000, 1000, 1000, 5)),
        _rles((-(1 << 31), -(1 << 31), -(1 << 31), 5)),
        _rles((0, 0, 7, 4)),
        _rles(FIRST, (0, 0, 12, 1)),
        _rles(*((0, y, z, 16) for z in range(8, 12) for y in range(16))),
        _rles(FIRST, FIRST),
        _rles(FIRST, (2, 0, 8, 4)),
        _rles(NEXT, FIRST),
        _rles(FIRST, (-5, 0, 8, 1)),
        struct.pack("<4B2I", 0, 3, 0, 0, 0, 2) + struct.pack("<4i", *FIRST),
        struct.pack("<4B2I", 0, 3, 0, 0, 0, 1) + struct.pack("<4i", *FIRST) * 2,
        struct.pack("<4B2I", 1, 3, 0, 0, 0, 1) + struct.pack("<4i", *FIRST),
        struct.pack("<4B2I", 0, 2, 0, 0, 0, 1) + struct.pack("<4i", *FIRST),
        struct.pack("<4B2I", 0, 3, 1, 0, 0, 1) + struct.pack("<4i", *FIRST),
        gzip_raw(HALF),
    ],
)
@pytest.mark.parametrize("path", ["split-supervoxel/3", "split/3"])
def test_runs_that_cannot_be_split_off(served: Served, path: str, body: bytes):
    refused(served, "POST", path, body)


def test_good_runs_work(served: Served):
    """So that it is the runs for which others were refused."""
    assert send(served, "POST", "split-supervoxel/3", _rles(FIRST, NEXT), name="played")[0] in (200, 400)
    seg = served.hub.find(OPEN)[1]["seg"]
    before = served.state()
    made = served.client.post(f"/api/node/{OPEN}/seg/split-supervoxel/3", content=_rles(FIRST, NEXT))
    assert made.status_code == 200, made.text
    assert seg.size(made.json()["SplitSupervoxel"], supervoxel=True) == 8
    assert served.state() != before
    assert served.client.post(f"/api/node/{OPEN}/seg/undo").status_code == 200


# ---------------------------------------------------------------- sealed versions


SEALED = {
    **{name: (post.path, post.body) for name, post in POSTS.items() if name not in ("resolution", "info", "tags")},
    "mappings": ("mappings", MAPPINGS),
    "index": ("index/3", _index()),
    "indices": ("indices", b""),
    "nextlabel": ("nextlabel/5", b""),
    "maxlabel": (f"maxlabel/500?admintoken={TOKEN}", b""),
}


@pytest.mark.parametrize(("path", "body"), SEALED.values(), ids=SEALED)
def test_sealed_versions_stay(served: Served, path: str, body: bytes):
    refused(served, "POST", path, body, ref=ROOT)


def test_after_all_that_everything_is_right(served: Served):
    for ref in (ROOT, OPEN):
        seg = served.hub.find(ref)[1]["seg"]
        assert verify.check_index(seg) == []
        assert seg.read((0, 0, 0), (16, 16, 16), supervoxels=True).tolist() == VOXELS.tolist()
        assert [b for b, _ in seg.list_bodies()] == [1, 3, 4, *([9] if ref == ROOT else []), BIG]
