"""Versions as N5 and precomputed over HTTP: TensorStore and CloudVolume as clients; what caches may keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorstore
from cloudvolume import CloudVolume
from starlette.testclient import TestClient

import vzarr
from tests.serving import serving
from vzarr.api.hub import Hub
from vzarr.overlay.sources.n5blocks import Compression, decode_block
from vzarr.types import registry

IMAGE = np.random.default_rng(2).integers(1, 255, (64, 64, 64)).astype("u1")
LABELS = np.repeat(np.repeat(IMAGE[:32, :32, :32].astype("u8") << np.uint64(33), 2, axis=0), 2, axis=1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server whose repo ``feed`` holds an image ``em`` and labels ``seg``."""
    folder = tmp_path_factory.mktemp("foreign")
    with vzarr.create(str(folder / "feed"), root="feed" * 8) as repo:
        em = repo.root.zarr.create_group("em", attributes=_ome())
        em.create_array("0", data=IMAGE, chunks=(32, 32, 32))
        em.create_array("1", data=IMAGE[::2, ::2, ::2], chunks=(32, 32, 32))
        repo.root.zarr.create_array("seg", data=LABELS, chunks=(32, 32, 32))
        repo.root.commit()
    with serving(folder) as server:
        yield server.url


def _ome() -> dict[str, object]:
    axes = [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
    datasets = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [8.0 * 2**n] * 3}]} for n in (0, 1)
    ]
    return {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}}


def opened(driver: str, url: str, **more: object) -> np.ndarray:
    return tensorstore.open({"driver": driver, "kvstore": f"{url}/", **more}).result().read().result()


def test_tensorstore_reads_n5(served: str):
    assert np.array_equal(opened("n5", f"{served}/n5/feed/em/s0").T, IMAGE)
    assert np.array_equal(opened("n5", f"{served}/n5/feed/em/s1").T, IMAGE[::2, ::2, ::2])
    assert np.array_equal(opened("n5", f"{served}/n5/feed/seg").T, LABELS)


def test_tensorstore_reads_precomputed(served: str):
    for scale, wanted in ((0, IMAGE), (1, IMAGE[::2, ::2, ::2])):
        found = opened("neuroglancer_precomputed", f"{served}/precomputed/feed/em", scale_index=scale)
        assert np.array_equal(found[..., 0].T, wanted)
    assert np.array_equal(opened("neuroglancer_precomputed", f"{served}/precomputed/feed/seg")[..., 0].T, LABELS)


def test_cloudvolume_reads_precomputed(served: str):
    volume = CloudVolume(f"precomputed://{served}/precomputed/feed/seg", progress=False, use_https=False)
    assert np.array_equal(volume[...][..., 0].T, LABELS)


@pytest.fixture
def painted(client: TestClient, hub: Hub, root: str) -> str:
    """Id of an open root with an instance ``em``."""
    version = hub.find(root)[1]
    image = registry.create(version, "em", "uint8blk", config={"blocksize": "32,32,32"})
    image.write((0, 0, 0), IMAGE)
    return root


@pytest.mark.parametrize(("kind", "key"), [("n5", "em/s0/0/1/0"), ("precomputed", "em/s0/0-32_32-64_0-32")])
def test_caches_and_ranges(client: TestClient, painted: str, hub: Hub, kind: str, key: str):
    url = f"/{kind}/{painted}/{key}"
    whole = client.get(url)
    assert (whole.status_code, whole.headers["cache-control"]) == (200, "no-cache")
    part = client.get(url, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    head = client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole.content)))
    assert client.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    hub.find(painted)[1].write("em/0", (0, 32, 0), IMAGE[:32, :32, :32] ^ 1)
    changed = client.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert changed.status_code == 200
    client.post(f"/api/node/{painted}/commit", json={})
    sealed = client.get(url)
    assert "immutable" in sealed.headers["cache-control"]
    assert sealed.content == changed.content
    assert client.get(url, headers={"If-None-Match": sealed.headers["etag"]}).status_code == 304
    assert client.get(url.replace(painted, painted[:9])).headers["cache-control"] == "no-cache"
    assert client.put(url).status_code == 405


def test_metadata(client: TestClient, painted: str):
    said = client.get(f"/n5/{painted}/em/s0/attributes.json")
    assert said.headers["content-type"] == "application/json"
    assert said.json()["blockSize"] == [32, 32, 32]
    assert client.get(f"/n5/{painted}/attributes.json").json()["n5"] == "4.0.0"
    block = client.get(f"/n5/{painted}/em/s0/1/0/0").content
    packed = Compression.of(said.json())
    assert np.array_equal(decode_block(block, (32, 32, 32), np.dtype("u1"), packed), IMAGE[:32, :32, 32:])
    info = client.get(f"/precomputed/{painted}/em/info")
    assert info.headers["content-type"] == "application/json"
    assert info.json()["scales"][0]["resolution"] == [8, 8, 8]


@pytest.mark.parametrize(
    "path",
    [
        "n5/{}/em/s0/9/9/9",
        "n5/{}/em/s7/attributes.json",
        "n5/{}/nosuch/attributes.json",
        "n5/{}/",
        "n5/{}/em/%2e%2e/zarr.json",
        "n5/zzzz/attributes.json",
        "precomputed/{}/info",
        "precomputed/{}/nosuch/info",
        "precomputed/{}/em/s0/0-32_0-32_0-33",
        "precomputed/{}/em/s7/0-32_0-32_0-32",
        "precomputed/{}/em",
    ],
)
def test_what_is_not_there(client: TestClient, painted: str, path: str):
    assert client.get("/" + path.format(painted)).status_code == 404


def test_what_a_format_has_not(client: TestClient, root: str, hub: Hub):
    hub.find(root)[1].zarr.create_array("flags", shape=(4, 4, 4), chunks=(2, 2, 2), dtype="bool")
    for url in (f"/n5/{root}/flags/attributes.json", f"/precomputed/{root}/flags/info"):
        answer = client.get(url)
        assert answer.status_code == 400
        assert "bool" in answer.text


@pytest.mark.parametrize("kind", ["n5", "precomputed"])
def test_a_version_of_one_server_is_the_root_of_another_repo(served: str, tmp_path: Path, kind: str):
    """The readers of foreign formats, over HTTP, where nothing can be listed."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        for name, wanted in (("em", IMAGE), ("seg", LABELS)):
            repo.adopt(name, f"{kind}://{served}/{kind}/feed/{name}")
            assert np.array_equal(repo.root.read(f"{name}/0", (0, 0, 0), wanted.shape), wanted)
        child = repo.root.commit().newversion()
        child.write("em/0", (30, 30, 30), np.full((4, 4, 4), 255, "u1"))
        changed = IMAGE.copy()
        changed[30:34, 30:34, 30:34] = 255
        assert np.array_equal(child.commit().read("em/0", (0, 0, 0), IMAGE.shape), changed)
        assert np.array_equal(repo.root.read("em/1", (0, 0, 0), (32, 32, 32)), IMAGE[::2, ::2, ::2])
