"""Routes of labelmap beyond what the recordings of the reference server hold."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import tracemalloc

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.api.conftest import TOKEN
from vzarr.types.blockstreams import pack_stream
from vzarr.types.labelmap import proto, volumes, writes
from vzarr.types.labelmap.blocks import encode_block
from vzarr.types.labelmap.sparsevol import decode_coarse, decode_rles, encode_rles

SERVER = "http://localhost:8000"
"""For paths from the root: those of a client with a base are below that, however they begin."""


@pytest.fixture
def volume() -> np.ndarray:
    """Supervoxels 1 to 4 in planes across two blocks of 16^3 along x."""
    labels = np.ones((16, 16, 32), np.uint64)
    labels[4:, :, :], labels[8:, :, :], labels[12:, :, 16:] = 2, 3, 4
    return labels


@pytest.fixture
def seg(client: TestClient, root: str, volume: np.ndarray) -> TestClient:
    """Client whose paths are relative to a labelmap that holds `volume` from x = -16 on."""
    config = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16", "MaxDownresLevel": "1"}
    assert client.post(f"/api/repo/{root}/instance", json=config).status_code == 200
    client.base_url = client.base_url.join(f"/api/node/{root}/seg/")
    assert client.post("raw/0_1_2/32_16_16/-16_0_0", content=volume.tobytes()).status_code == 200
    return client


def ask(client: TestClient, path: str, value: object):
    return client.request("GET", path, json=value).json()


def test_voxels_come_back_at_negative_coordinates(seg: TestClient, volume: np.ndarray):
    found = seg.get("raw/0_1_2/32_16_16/-16_0_0")
    assert found.content == volume.tobytes()
    assert seg.get("label/-1_0_5").json() == {"Label": 2}
    assert ask(seg, "labels", [[-1, 0, 13], [0, 0, 13], [-17, 0, 0]]) == [3, 4, 0]


def test_one_absent_block_is_background(seg: TestClient):
    for query in ("", "?compression=gzip"):
        found = seg.get(f"raw/0_1_2/16_16_16/160_0_0{query}")
        assert found.status_code == 200
        content = gzip.decompress(found.content) if query else found.content
        assert content == bytes(8 * 16**3)


@pytest.mark.parametrize("body", ["[]", "[1]", "[1,1]", "[1,2.5]", "[1,-2]", "{}", "[true,2]", "", "[1,0]"])
def test_a_malformed_merge_is_refused(seg: TestClient, body: str):
    before = seg.get("listlabels?sizes=true").content
    assert seg.post("merge", content=body).status_code == 400
    assert seg.get("listlabels?sizes=true").content == before


def test_a_failed_edit_takes_neither_label_nor_mutation_id(seg: TestClient):
    first = seg.post("merge", json=[1, 2]).json()["MutationID"]
    assert seg.post("merge", json=[1, 777]).status_code == 400
    assert seg.post("cleave/1", json=[]).status_code == 400
    assert seg.post("cleave/1", json=[1, 2]).status_code == 400
    assert seg.post("cleave/1", json=[2]).json() == {"CleavedLabel": 5, "MutationID": first + 1}


def test_head_of_a_sparse_volume_looks_inside_the_bounds(seg: TestClient):
    assert seg.head("sparsevol/4").status_code == 200
    assert seg.head("sparsevol/4?minx=0").status_code == 200
    assert seg.head("sparsevol/4?maxx=-1").status_code == 204
    assert seg.get("sparsevol/4?maxx=-1").status_code == 404
    assert seg.head("sparsevol/777").status_code == 204
    assert seg.head("sparsevol/0").status_code == 400


def test_bounds_within_a_block_without_voxels_give_an_empty_body(seg: TestClient):
    found = seg.get("sparsevol/4?maxz=3")
    assert (found.status_code, found.content) == (200, b"")
    assert seg.get("sparsevol/4?minx=9&maxx=3").status_code == 400


def test_an_overwrite_is_counted_exactly_without_mutate(seg: TestClient, volume: np.ndarray):
    for _ in range(2):
        assert seg.post("raw/0_1_2/32_16_16/-16_0_0", content=volume.tobytes()).status_code == 200
    expected = [int((volume == v).sum()) for v in (1, 2, 3, 4)]
    assert ask(seg, "sizes", [1, 2, 3, 4]) == expected


def test_a_split_and_its_history(seg: TestClient, root: str, volume: np.ndarray):
    runs = decode_rles(seg.get("sparsevol/3?maxz=9").content)
    made = seg.post("split-supervoxel/3", content=bytes(encode_rles(runs))).json()
    assert ask(seg, "mapping", [3, made["SplitSupervoxel"], made["RemainSupervoxel"]]) == [0, 3, 3]
    cut = [made["MutationID"], 3, made["RemainSupervoxel"], made["SplitSupervoxel"]]
    assert seg.get("supervoxel-splits").json() == [root, [cut]]
    assert seg.get("size/3").json() == {"voxels": int((volume == 3).sum())}
    assert seg.get("size/3?supervoxels=true").status_code == 400


def test_a_sealed_version_refuses_what_changes_it_and_answers_the_rest(seg: TestClient, root: str):
    assert seg.post(f"http://localhost:8000/api/node/{root}/commit", json={}).status_code == 200
    assert seg.post("merge", json=[1, 2]).status_code == 400
    assert seg.post("nextlabel/1").status_code == 400
    assert seg.get("nextlabel").json() == {"nextlabel": 5}
    assert seg.get("maxlabel").json() == {"maxlabel": 4}


def test_indices_in_one_message_and_compressed(seg: TestClient, volume: np.ndarray):
    seg.post("merge", json=[1, 2], params={"u": "ann"})
    found = seg.request("GET", "indices", json=[1, 777, 3]).content
    messages = proto.decode_indices(found)
    assert [m.label for m in messages] == [1, 777, 3]
    assert [m.header.voxels for m in messages] == [int((volume <= 2).sum()), 0, int((volume == 3).sum())]
    assert messages[0].header.user == "ann"
    compressed = proto.decode_compressed(seg.request("GET", "indices-compressed", json=[1, 777]).content)
    assert [label for label, _ in compressed] == [1, 777]
    assert compressed[1][1] is None
    about = seg.get("index/1?metadata-only=true").json()
    assert (about["num_voxels"], about["last_mod_user"]) == (messages[0].header.voxels, "ann")


def test_too_many_indices_at_once(seg: TestClient):
    assert seg.request("GET", "indices", json=[1] * 50_001).status_code == 400


def test_posted_blocks_are_checked_before_any_is_stored(seg: TestClient, volume: np.ndarray):
    def frame(*blocks: bytes) -> bytes:
        return pack_stream([((n, 0, 0), gzip.compress(b)) for n, b in enumerate(blocks)])

    good, small = encode_block(volume[:, :, :16]), encode_block(np.zeros((8, 8, 8), np.uint64))
    before = seg.get("raw/0_1_2/64_16_16/0_0_0").content
    for body in (frame(good, small), frame(good, good[:-1]), frame(good) + b"xyz", frame(good, b"")):
        assert seg.post("blocks", content=body).status_code == 400
    assert seg.get("raw/0_1_2/64_16_16/0_0_0").content == before
    assert seg.post("blocks?downres=true", content=frame(good, good)).status_code == 200
    assert seg.get("raw/0_1_2/16_16_16/16_0_0").content == volume[:, :, :16].tobytes()


def test_the_hash_of_a_body_is_checked(seg: TestClient):
    body = json.dumps([1, 2])
    right = hashlib.md5(body.encode()).hexdigest()
    for endpoint in ("mapping", "sizes"):
        assert seg.request("GET", f"{endpoint}?hash={right}", content=body).status_code == 200
        assert seg.request("GET", f"{endpoint}?hash=beef", content=body).status_code == 400


def test_settings_can_be_changed_but_not_the_block_size(seg: TestClient):
    changed = seg.post("info", json={"MaxDownresLevel": "2"})
    assert changed.text == "Changed 'seg' based on received configuration:\n{map[maxdownreslevel:2]}\n"
    assert seg.get("info").json()["Extended"]["MaxDownresLevel"] == 2
    assert seg.post("info", json={"BlockSize": "32,32,32"}).status_code == 400
    assert seg.post("raw/0_1_2/16_16_16/0_0_0", content=bytes(8 * 16**3)).status_code == 200


def test_only_an_administrator_sets_labels(seg: TestClient):
    assert seg.post("maxlabel/100").status_code == 400
    assert seg.post("maxlabel/100?admintoken=a-token-for-tests").status_code == 200
    assert seg.get("nextlabel").json() == {"nextlabel": 101}


def test_labels_are_64_bit_integers(seg: TestClient):
    large = 2**63 + 7
    mapping = proto.encode_mappings([proto.MappingOp(1, large, np.array([1], np.uint64))])
    assert seg.post("mappings", content=mapping).status_code == 200
    assert ask(seg, "mapping", [1]) == [large]
    assert seg.get("mappings").text == f"1 {large}\n"
    assert seg.get("mappings?format=binary").content == struct.pack("<2Q", 1, large)


def test_proximity_names_the_nearest_voxels(seg: TestClient):
    found = seg.get("proximity/1/3").json()
    assert found["distance"] == 5.0
    assert (found["a"][2], found["b"][2]) == (3, 8)
    assert found["a"][:2] == found["b"][:2]
    for path, status in (("1/1", 400), ("1/0", 400), ("1/777", 404), ("777/1", 404), ("x/1", 400)):
        assert seg.get(f"proximity/{path}").status_code == status


def test_undo_over_http(seg: TestClient):
    assert seg.post("undo").status_code == 400  # posted voxels
    merged = seg.post("merge", json=[1, 2]).json()["MutationID"]
    second = seg.post("merge", json=[3, 1]).json()["MutationID"]
    refused = seg.post("undo", json={"MutationID": merged})
    assert refused.status_code == 409
    assert "supervoxel 2 has left body 1 and is in body 3 now" in refused.text
    assert seg.post("undo?u=ann").json() == {"MutationID": second + 1, "Undone": second}
    assert seg.post("undo", json={"MutationID": merged}).json()["Undone"] == merged
    assert ask(seg, "mapping", [1, 2, 3]) == [1, 2, 3]
    last = seg.get("mutations").json()[-2]
    assert (last["Action"], last["Undone"], last["User"]) == ("undo-complete", second, "ann")
    for body, status in (("[]", 400), ('{"MutationID": "1"}', 400), ('{"x": 1}', 400), ("{", 400)):
        assert seg.post("undo", content=body).status_code == status
    assert seg.post("undo", json={"MutationID": 7}).status_code == 404


def test_the_history_of_a_body_is_one_list(seg: TestClient, root: str):
    seg.post("merge", json=[1, 2])
    seg.post("merge", json=[3, 4])
    seg.post("undo")
    found = seg.get(f"history/3/{root}/{root}")
    assert found.headers["content-type"] == "application/json"
    assert [record["Action"] for record in found.json()] == ["merge-complete", "undo-complete"]
    assert seg.get(f"history/1/{root}/{root}").json()[0]["Labels"] == [2]
    assert seg.get(f"history/777/{root}/{root}").status_code == 404
    other = seg.post(f"{SERVER}/api/repos", params={"admintoken": TOKEN}, json={}).json()["root"]
    for between in (f"{root}/{other}", f"{other}/{root}"):
        assert seg.get(f"history/3/{between}").status_code == 400
        assert seg.get(f"mutations-range/{between}").status_code == 400


def test_batches_answer_as_single_questions_do(seg: TestClient, root: str):
    seg.post("merge?u=ann", json=[1, 2])
    for path in ("supervoxels", "supervoxel-sizes", "lastmod", "sparsevol-size"):
        single = [seg.get(f"{path}/{label}").json() for label in (1, 3)]
        assert ask(seg, path, [1, 777, 3]) == [single[0], None, single[1]]
        assert ask(seg, path, []) == []
        assert seg.post(path, json=[1]).json() == single[:1]
        for bad in ("[0]", "{}", "", "[1.5]"):
            assert seg.post(path, content=bad).status_code == 400
    one = seg.get("index/1?metadata-only=true").json()
    assert ask(seg, "indices?metadata-only=true", [777, 1]) == [None, one]
    assert ask(seg, "sparsevol-size?supervoxels=true", [2])[0]["voxels"] == 4 * 16 * 32
    assert seg.post(f"{SERVER}/api/node/{root}/commit", json={}).status_code == 200
    assert seg.post("lastmod", json=[3]).status_code == 200


def test_posted_voxels_are_in_the_log_but_not_among_the_mutations(app, seg: TestClient, root: str):
    seg.post("raw/0_1_2/16_16_16/0_0_0?u=ann&app=painter", content=np.full(16**3, 3, np.uint64).tobytes())
    seg.post(
        "blocks?u=ann", content=pack_stream([((0, 0, 0), gzip.compress(encode_block(np.ones((16,) * 3, np.uint64))))])
    )
    seg.post("nextlabel/3?u=ann")
    seg.post("merge?u=bob", json=[1, 2])
    assert [m["Action"] for m in seg.get("mutations").json()] == ["merge-complete"]
    assert [m["Action"] for m in seg.get(f"mutations-range/{root}/{root}").json()] == ["merge-complete"]
    assert [m["Action"] for m in seg.get(f"history/1/{root}/{root}").json()] == ["merge-complete"]
    logged = app.framework.state.hub.find(root)[1]["seg"].to_frame("mutations")
    assert logged["action"].tolist() == ["post-voxels", "post-voxels", "post-voxels", "post-nextlabel", "merge"]
    assert logged["user"].tolist() == ["", "ann", "ann", "ann", "bob"]
    assert logged["app"].tolist() == ["", "painter", "", "", ""]


def test_the_runs_of_a_split_can_be_fetched(seg: TestClient, volume: np.ndarray):
    runs = np.array([[-16, 0, 0, 32]], np.int32)
    assert seg.post("split-supervoxel/1", content=bytes(encode_rles(runs))).status_code == 200
    (record,) = seg.get("mutations").json()
    assert record["Timestamp"].endswith(" +0000 UTC")
    assert seg.get(f"blobstore/{record['Split']}").content == encode_rles(runs)
    assert seg.get("blobstore/AAAAAAAAAAAAAAAAAAAAAA==").status_code == 404


def test_a_query_without_a_value_is_as_if_it_were_not_there(seg: TestClient):
    for path, query in (
        ("blocks/16_16_16/0_0_0", "compression"),
        ("specificblocks?blocks=0,0,0&", "compression"),
        ("sparsevol/1", "format"),
        ("listlabels", "start"),
    ):
        separator = "" if path.endswith("&") else "?"
        assert seg.get(f"{path}{separator}{query}=").content == seg.get(path).content != b""


def test_a_point_of_a_sparse_volume_counts_in_voxels_of_its_scale(seg: TestClient):
    assert (seg.get("label/-1_0_4?scale=1").json(), seg.get("label/-1_0_4").json()) == ({"Label": 3}, {"Label": 2})
    assert seg.get("sparsevol-by-point/-1_0_4?scale=1").content == seg.get("sparsevol/3?scale=1").content


def test_a_volume_is_compressed_by_isotropic_too(seg: TestClient):
    for query in ("", "?compression=lz4", "?compression=gzip"):
        same = seg.get(f"raw/0_1_2/32_16_16/-16_0_0{query}")
        assert seg.get(f"isotropic/0_1_2/32_16_16/-16_0_0{query}").content == same.content
    assert seg.get("isotropic/0_1_2/32_16_16/-16_0_0?compression=foo").status_code == 400


def test_a_body_that_is_merged_while_all_are_sent_is_left_out(seg: TestClient, monkeypatch: pytest.MonkeyPatch):
    """Bodies are listed some at a time, and looked up one by one."""
    original = volumes.coarse_runs

    def coarse_runs(handle, found, bounds):
        if found.label == 1:
            handle.merge(1, [3])
        return original(handle, found, bounds)

    monkeypatch.setattr(volumes, "coarse_runs", coarse_runs)
    sent = seg.get("sparsevols-coarse/1/4")
    assert [label for label, _ in decode_coarse(sent.content)] == [1, 2, 4]


@pytest.mark.parametrize("path", ["blocks", "blocks?noindexing=true", "ingest-supervoxels"])
def test_of_a_large_stream_few_blocks_are_in_memory(seg: TestClient, monkeypatch: pytest.MonkeyPatch, path: str):
    """300 bytes may hold a block of 64^3; here 400 blocks of 16^3 hold 13 MB."""
    monkeypatch.setattr(writes, "BATCH_VOXELS", 4 * 16**3)
    blocks = [gzip.compress(encode_block(np.full((16, 16, 16), n + 10, np.uint64))) for n in range(400)]
    sent = pack_stream(((n % 20, n // 20, 2), block) for n, block in enumerate(blocks))
    seg.post("ingest-supervoxels", content=pack_stream([((0, 0, 2), blocks[0])]))  # what is made once is there
    tracemalloc.start()
    assert seg.post(path, content=sent).status_code == 200
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4_000_000
    assert ask(seg, "labels?supervoxels=true", [[0, 0, 32], [19 * 16, 19 * 16, 40]]) == [10, 409]
    if path == "blocks":
        assert seg.get("size/409").json() == {"voxels": 16**3}


def test_one_damaged_block_of_a_large_stream_refuses_all(seg: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writes, "BATCH_VOXELS", 4 * 16**3)
    block = gzip.compress(encode_block(np.full((16, 16, 16), 10, np.uint64)))
    sent = pack_stream(((n, 0, 2), block if n < 39 else block[:-1]) for n in range(40))
    for path in ("blocks", "blocks?noindexing=true", "ingest-supervoxels"):
        assert seg.post(path, content=sent).status_code == 400
        assert ask(seg, "labels?supervoxels=true", [[0, 0, 32]]) == [0]


def test_numbers_at_the_end_of_64_bits(seg: TestClient):
    every = seg.get("sparsevols-coarse/1/18446744073709551615")
    assert every.status_code == 200
    assert every.content == seg.get("sparsevols-coarse/1/4").content
    whole = seg.get("sparsevol/1").content
    for query in ("maxx=9223372036854775807", "minx=-9223372036854775809", f"maxz={1 << 80}"):
        assert seg.get(f"sparsevol/1?{query}").content == whole
        assert seg.head(f"sparsevol/1?{query}").status_code == 200


def test_without_an_index_there_is_no_largest_label_to_set(client: TestClient, root: str):
    config = {"typename": "labelmap", "dataname": "plain", "IndexedLabels": "false"}
    assert client.post(f"/api/repo/{root}/instance", json=config).status_code == 200
    assert client.post(f"/api/node/{root}/plain/maxlabel/9?admintoken=a-token-for-tests").status_code == 400
