"""Every way of using a repo, on an object store: mapper, xarray, server, labels, care, exports."""

from __future__ import annotations

import warnings
from pathlib import Path

import fsspec
import numpy as np
import orjson
import pytest
import xarray as xr
import zarr

import vzarr
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.cli import main
from vzarr.config import Settings
from vzarr.overlay.care.verify import verify
from vzarr.overlay.export.references import references
from vzarr.overlay.export.standalone import flatten
from vzarr.overlay.objects.remote import RemoteObjects
from vzarr.types import registry

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Using `httpx` with")
    from starlette.testclient import TestClient

SIZE = {"BlockSize": "32,32,32", "VoxelSize": "8,8,8", "VoxelUnits": "nanometers,nanometers,nanometers"}


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (64, 64, 64), dtype="u1")


@pytest.fixture
def history(repo: vzarr.Repo, volume: np.ndarray) -> vzarr.Repo:
    """An image in a sealed root, changed in a sealed child, and an open one above."""
    root = repo.root
    registry.create(root, "em", "uint8blk", config=SIZE)
    root.write("em/0", (0, 0, 0), volume)
    root.commit()
    child = root.newversion()
    child.write("em/0", (0, 0, 0), volume[:32] // 2)
    child.commit()
    child.newversion()
    return repo


def test_mapper_and_store(history: vzarr.Repo, volume: np.ndarray):
    mapper = fsspec.get_mapper(f"vzarr://master@/em/0::{history.url}")
    assert np.array_equal(zarr.open_array(mapper, mode="r")[:32], volume[:32] // 2)
    assert np.array_equal(zarr.open_array(history.root.store, path="em/0", mode="r")[...], volume)


def test_xarray_by_url(history: vzarr.Repo, volume: np.ndarray):
    with xr.open_dataset(history.url, engine="vzarr", version=history.uuid, chunks={}) as dataset:
        assert np.array_equal(dataset["em"].values, volume)


def test_server(history: vzarr.Repo, volume: np.ndarray, keys: str):
    """All repos below a URL, or the one at a URL; new ones are made there."""
    for where in (history.url, history.url.rpartition("/")[0]):
        hub = Hub(where, keys)
        with TestClient(create_app(Settings(admin_token="t"), hub), base_url="http://localhost") as client:
            answer = client.get(f"/api/node/{history.uuid}/em/raw/0_1_2/64_64_64/0_0_0")
            assert np.array_equal(np.frombuffer(answer.content, "u1").reshape(64, 64, 64), volume)
            if where != history.url:
                made = hub.create(alias="new")
                assert made.url == f"{where}/{made.uuid}"
                assert {r.uuid for r in Hub(where).repos()} == {history.uuid, made.uuid}
        hub.close()


def test_labels(repo: vzarr.Repo):
    registry.create(repo.root, "seg", "labelmap", config=SIZE)
    seg = repo.root["seg"]
    labels = np.zeros((32, 32, 32), "u8")
    labels[:16], labels[16:] = 1, 2
    seg.write((0, 0, 0), labels)
    repo.root.commit()
    child = repo.root.newversion()
    child["seg"].merge(1, [2])
    assert set(np.unique(child["seg"].read((0, 0, 0), (32, 32, 32)))) == {1}
    child.commit()
    assert list(verify(repo.objects)) == []


def test_care(history: vzarr.Repo, tmp_path: Path, volume: np.ndarray, capsys: pytest.CaptureFixture[str]):
    assert list(verify(history.objects)) == []
    history.objects.put("nodes/lost/tree.json", b"{}")
    assert [(g.kind, g.place) for g in history.garbage(0, delete=True)] == [("node", "nodes/lost")]
    assert list(verify(history.objects)) == []
    done = flatten(history["master~1"].view, tmp_path / "flat")
    assert (done.linked, done.keys > 8) == (0, True)
    assert np.array_equal(zarr.open_array(tmp_path / "flat", path="em/0", mode="r")[32:], volume[32:])
    refs = references(history["master~1"].view)
    chunk = refs["refs"]["em/0/c/0/0/0"][0]
    assert chunk.startswith(history.url)
    assert history.diff("master~2", "master~1")
    for words in (["verify"], ["log"], ["show"], ["du"], ["gc"], ["doctor"]):
        assert main([*words, history.url]) == 0, capsys.readouterr().err
    assert orjson.loads(history.objects.get("vzarr.json"))["keys"]["url"].startswith("sqlite:///")


def test_reading_asks_once_per_chunk(history: vzarr.Repo, lane: str):
    with vzarr.open(history.url) as repo:
        version = repo["master~1"]
        version.read("em/0", (0, 0, 0), (64, 64, 64))
        store = version.store
        store.read("em/0/c/0/1/1")
        assert isinstance(repo.objects, RemoteObjects)
        repo.objects.requests.clear()
        view, entry = version.view, version.view.array("em/0")
        view.read_chunk(entry, (0, 0, 0))
        assert repo.objects.requests == {"get": 1}
        store.read("em/0/c/1/1/1")
        assert repo.objects.requests == {"get": 2}


def test_creating_without_keys_says_what_to_give(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["init", url]) != 0
    assert "--keys sqlite:///PATH" in capsys.readouterr().err
    assert main(["init", url, "--keys", f"sqlite:///{tmp_path}/k.sqlite"]) == 0
    with vzarr.open(url) as repo:
        repo.root.commit()
