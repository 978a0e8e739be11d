"""Versions as plain Zarr over HTTP: what any Zarr reader sees, and how caches may keep it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from starlette.testclient import TestClient

from vzarr.api.hub import Hub
from vzarr.types import registry

DATA = np.arange(16**3, dtype="u1").reshape(16, 16, 16)


@pytest.fixture
def painted(client: TestClient, hub: Hub, root: str) -> str:
    """Id of an open root that holds an array ``a`` of 8 chunks."""
    version = hub.find(root)[1]
    version.create_array("a", dtype="u1", chunks=(8, 8, 8))
    version.write("a", (0, 0, 0), DATA)
    return root


def chunk(client: TestClient, ref: str, **headers: str):
    return client.get(f"/zarr/{ref}/a/c/0/0/0", headers=headers)


def test_any_key_of_the_store_is_there(client: TestClient, painted: str):
    answer = client.get(f"/zarr/{painted}/a/zarr.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["shape"] == [16, 16, 16]
    assert client.get(f"/zarr/{painted}/zarr.json").json()["node_type"] == "group"
    assert chunk(client, painted).status_code == 200
    assert chunk(client, f"{painted[:8]}:master").content == chunk(client, painted).content


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        "a/",
        "a/c/9/9/9",
        "nosuch",
        "a//zarr.json",
        "a/%2e/zarr.json",
        "a/%2e%2e/a/zarr.json",
        "%2e%2e/vzarr.json",
    ],
)
def test_what_is_no_object_is_not_found(client: TestClient, painted: str, key: str):
    assert client.get(f"/zarr/{painted}/{key}").status_code == 404


def test_an_unknown_version_is_not_found(client: TestClient, painted: str):
    assert client.get("/zarr/zzzz/zarr.json").status_code == 404


def test_nothing_is_written(client: TestClient, painted: str):
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        assert client.request(method, f"/zarr/{painted}/a/c/0/0/0").status_code == 405
    assert client.options(f"/zarr/{painted}/a/c/0/0/0").headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("seal", [False, True])
def test_ranges(client: TestClient, painted: str, seal: bool):
    if seal:
        client.post(f"/api/node/{painted}/commit", json={})
    whole = chunk(client, painted).content
    size = len(whole)
    for header, first, end in (
        ("bytes=2-5", 2, 6),
        (f"bytes={size - 3}-", size - 3, size),
        ("bytes=-4", size - 4, size),
    ):
        answer = chunk(client, painted, Range=header)
        assert (answer.status_code, answer.content) == (206, whole[first:end])
        assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
        assert answer.headers["content-length"] == str(end - first)
    assert chunk(client, painted, Range="bytes=0-1,3-4").content == whole
    beyond = chunk(client, painted, Range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize("seal", [False, True])
def test_head(client: TestClient, painted: str, seal: bool):
    if seal:
        client.post(f"/api/node/{painted}/commit", json={})
    got, head = chunk(client, painted), client.head(f"/zarr/{painted}/a/c/0/0/0")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "accept-ranges", "content-type", "cache-control"):
        assert head.headers[name] == got.headers[name], name
    assert client.head(f"/zarr/{painted}/a/c/9/9/9").status_code == 404


def test_an_open_version_is_asked_again(client: TestClient, painted: str, hub: Hub):
    first = chunk(client, painted)
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    assert tag.startswith('"')
    unchanged = chunk(client, painted, **{"If-None-Match": f'"other", {tag}'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    hub.find(painted)[1].write("a", (0, 0, 0), DATA + 1)
    changed = chunk(client, painted, **{"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    whole = chunk(client, painted, **{"Range": "bytes=0-1", "If-Range": tag})
    assert whole.status_code == 200


def test_a_sealed_versions_chunks_are_kept_for_ever(client: TestClient, painted: str):
    client.post(f"/api/node/{painted}/commit", json={})
    by_id = chunk(client, painted)
    assert "immutable" in by_id.headers["cache-control"]
    assert chunk(client, painted, **{"If-None-Match": by_id.headers["etag"]}).status_code == 304
    for ref in (f"{painted}:master", painted[:10]):
        assert chunk(client, ref).headers["cache-control"] == "no-cache"
        assert chunk(client, ref).headers["etag"] == by_id.headers["etag"]
    assert client.get(f"/zarr/{painted}/a/zarr.json").headers["cache-control"] == "no-cache"


def test_a_child_shows_the_chunks_of_its_parent_as_plain_zarr(client: TestClient, painted: str, hub: Hub):
    client.post(f"/api/node/{painted}/commit", json={})
    child = client.post(f"/api/node/{painted}/newversion").json()["child"]
    hub.find(child)[1].write("a", (8, 8, 8), np.full((8, 8, 8), 7, "u1"))
    assert chunk(client, child).content == chunk(client, painted).content
    last = "a/c/1/1/1"
    assert client.get(f"/zarr/{child}/{last}").content != client.get(f"/zarr/{painted}/{last}").content
    metadata = client.get(f"/zarr/{child}/a/zarr.json").json()
    assert metadata["chunk_key_encoding"]["name"] == "default"


def test_pages_may_read_chunks(client: TestClient, painted: str):
    answer = chunk(client, painted, Origin="https://viewer.example", Range="bytes=0-3")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Content-Range" in answer.headers["access-control-expose-headers"]


def test_a_lost_object_is_a_failure_and_never_absent(client: TestClient, painted: str, hub: Hub):
    client.post(f"/api/node/{painted}/commit", json={})
    assert chunk(client, painted).status_code == 200
    lost = [path for path in (hub.root / painted / "nodes").rglob("*") if path.as_posix().endswith("a/c/0/0/0")]
    assert len(lost) == 1
    lost[0].unlink()
    answer = chunk(client, painted)
    assert (answer.status_code, "etag" in answer.headers) == (500, False)
    assert client.head(f"/zarr/{painted}/a/c/0/0/0").status_code == 500
    assert client.get(f"/zarr/{painted}/a/c/9/9/9").status_code == 404


def shown(client: TestClient, base: str, scale: int = 0) -> list[int]:
    """Shape of an array by its metadata, and the voxel that its first chunk begins with."""
    first = client.get(f"{base}/c/0/0/0").content
    return [*client.get(f"{base}/zarr.json").json()["shape"], first[0] if first else -1]


def test_a_pinned_origin_stays_while_the_array_grows(client: TestClient, root: str, hub: Hub):
    version = hub.find(root)[1]
    for scale in (0, 1):
        version.create_array(f"em/{scale}", dtype="u1", chunks=(8, 8, 8), codecs=())
        version.write(f"em/{scale}", (-16 >> scale, 0, 0), np.full((16, 16, 16), 1 + scale, "u1"))
    answer = client.get(f"/zarr/{root}/em/0/", follow_redirects=False)
    assert answer.status_code == 307
    base = str(client.get(f"/zarr/{root[:9]}/em/0/").url).rstrip("/")
    assert base.endswith(f"/zarr/{root}@-16,0,0/em/0")
    before = [shown(client, f"/zarr/{root}@-16,0,0/em/{scale}") for scale in (0, 1)]
    assert (
        before == [shown(client, f"/zarr/{root}/em/{scale}") for scale in (0, 1)] == [[16, 16, 16, 1], [16, 16, 16, 2]]
    )
    for scale in (0, 1):
        version.write(f"em/{scale}", (-32 >> scale, 0, 0), np.full((8, 8, 8), 9, "u1"))
    assert [shown(client, f"/zarr/{root}@-16,0,0/em/{scale}") for scale in (0, 1)] == before
    assert shown(client, f"/zarr/{root}/em/0") == [32, 16, 16, 9]
    assert shown(client, f"/zarr/{root}@-32,0,0/em/1") == [24, 16, 16, 9]
    assert client.get(f"/zarr/{root}/em/0/", follow_redirects=False).headers["location"].count("@-32,0,0/em/0/") == 1


def test_origins_that_cannot_be_are_refused(client: TestClient, painted: str):
    assert client.get(f"/zarr/{painted}@1,0,0/a/zarr.json").status_code == 400
    assert client.get(f"/zarr/{painted}@8,0,0/a/zarr.json").json()["shape"] == [8, 16, 16]
    assert client.get(f"/zarr/{painted}@8,0/a/zarr.json").json()["shape"] == [16, 16, 16]
    assert client.get(f"/zarr/{painted}@8,0,0/zarr.json").status_code == 200
    assert client.get(f"/zarr/{painted}@8,0,0/a/").status_code == 404
    assert client.get(f"/zarr/{painted}@8,0,0/%2e%2e/a/zarr.json").status_code == 404
    assert client.get("/zarr/nosuch@8,0,0/a/zarr.json").status_code == 404


@pytest.mark.parametrize("pin", [True, False])
def test_chunks_of_a_source_that_may_change_are_asked_for_again(
    client: TestClient, hub: Hub, root: str, tmp_path: Path, pin: bool
):
    source = zarr.create_array(tmp_path / "source.zarr", shape=(64, 64, 64), chunks=(32, 32, 32), dtype="u1")
    source[:] = 3
    hub.find(root)[1].repo.adopt("em", str(tmp_path / "source.zarr"), pin=pin)
    hub.find(root)[1].commit()
    urls = [f"/zarr/{root}/em/0/c/0/0/0", f"/n5/{root}/em/s0/0/0/0", f"/precomputed/{root}/em/s0/0-32_0-32_0-32"]
    first = [client.get(url) for url in urls]
    assert [a.status_code for a in first] == [200] * 3
    assert {("immutable" in a.headers["cache-control"]) for a in first} == {pin}
    source[:] = 4
    for url, before in zip(urls, first, strict=True):
        again = client.get(url, headers={"If-None-Match": before.headers["etag"]})
        assert again.status_code == (304 if pin else 200)


def test_ome_metadata_say_where_the_first_voxel_is(client: TestClient, root: str, hub: Hub):
    version = hub.find(root)[1]
    config = {"BlockSize": "8,8,8", "VoxelSize": "4,5,6", "VoxelUnits": "nanometers,nanometers,nanometers"}
    registry.create(version, "em", "uint8blk", config=config).write((0, 0, 0), np.ones((8, 8, 8), "u1"))

    def steps(ref: str) -> list:
        ome = client.get(f"/zarr/{ref}/em/zarr.json").json()["attributes"]["ome"]
        return ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]

    scale = {"type": "scale", "scale": [6.0, 5.0, 4.0]}
    assert steps(root) == [scale]
    version.write("em/0", (-16, 0, 8), np.ones((8, 8, 8), "u1"))
    assert steps(root)[1] == {"type": "translation", "translation": [-96.0, 0.0, 0.0]}
    assert steps(f"{root}@-32,0,8")[1] == {"type": "translation", "translation": [-192.0, 0.0, 32.0]}
    client.post(f"/api/node/{root}/commit", json={})
    assert steps(root)[1] == {"type": "translation", "translation": [-96.0, 0.0, 0.0]}
    assert version.attributes("em")["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"] == [scale]
