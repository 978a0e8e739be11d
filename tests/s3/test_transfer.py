"""A proofread segmentation travels from a folder over a bucket and a server back into a folder, and nothing changes."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import vzarr
from tests.serving import TOKEN, serving
from vzarr.demo.neuropil import synthesise
from vzarr.overlay import layout, opening
from vzarr.overlay.care.verify import verify
from vzarr.overlay.export.standalone import documents, place_bytes, places
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import clone, push
from vzarr.types.registry import create

VERSIONS = 20


@pytest.fixture
def synthetic() -> np.ndarray:
    return synthesise(128).supervoxels


@pytest.fixture
def real(fib25: Path) -> np.ndarray:
    with gzip.open(fib25 / "oversegmented_stack_labels.h5.gz") as packed, h5py.File(packed, "r") as h5:
        return np.pad(h5["stack"][:], [(0, -n % 64) for n in h5["stack"].shape])


@pytest.fixture
def proofread(tmp_path: Path) -> Iterator[Callable[[np.ndarray], vzarr.Repo]]:
    """Makes a repo with a history of proofreading: 20 versions on two branches."""
    made: list[vzarr.Repo] = []

    def make(labels: np.ndarray) -> vzarr.Repo:
        repo = vzarr.create(str(tmp_path / "first"), alias="fib25")
        made.append(repo)
        root = repo.root
        seg, notes = create(root, "seg", "labelmap"), create(root, "notes", "keyvalue")
        seg.write((0, 0, 0), labels.astype(np.uint64))
        notes.put("0", b"as segmented")
        root.commit("as segmented")
        draw = np.random.default_rng(1)
        tips = {"master": root.newversion(), "side": root.branch("side")}
        for n in range(1, VERSIONS):
            name = ("master", "side")[n % 2]
            proofread_once(tips[name], draw, n)
            sealed = tips[name].commit(f"round {n}")
            if n + 2 < VERSIONS:
                tips[name] = sealed.newversion()
        return repo

    yield make
    for repo in made:
        repo.close()


def proofread_once(version: vzarr.Version, draw: np.random.Generator, n: int) -> None:
    """A merge of bodies, a cleave, some voxels, and a key."""
    seg = version["seg"]
    bodies = [body for body, _ in seg.list_bodies()]
    target, other = draw.choice(bodies, 2, replace=False).tolist()
    seg.merge(target, [other])
    if n % 3 == 0:
        seg.cleave(target, [other])
    seg.write((0, 0, 64 * (n % 2)), np.full((64, 64, 64), target, np.uint64))
    version["notes"].put(str(n), b"round")


def contents(repo: vzarr.Repo) -> dict[str, object]:
    """Each sealed version: hash of every key of its Zarr hierarchy, and of all keys of its instances."""
    found: dict[str, object] = {}
    for version in (v for v in repo.versions() if v.sealed):
        view = version.view
        zarr = {key: hashlib.sha256(data).hexdigest() for key, data in documents(view)}
        zarr |= {key: hashlib.sha256(place_bytes(view, place)).hexdigest() for key, place in places(view)}
        keys = {
            name: hashlib.sha256(b"".join(k + b"\0" + v for k, v in version.keys(name).scan())).hexdigest()
            for name in repo.state.instances
        }
        found[version.uuid] = (version.info.parents, version.note, zarr, keys)
    return found


def objects_of(url: str) -> dict[str, int]:
    """Everything that versions stored: what belongs to none stays with each repo."""
    found = opening.open_objects(url).walk("nodes")
    return {key: size for key, size in found if not key.startswith(layout.node(layout.UNVERSIONED))}


@pytest.mark.parametrize("volume", ["synthetic", pytest.param("real", marks=pytest.mark.exhaustive)])
def test_from_a_folder_over_a_bucket_and_a_server_to_a_folder(
    volume: str, request: pytest.FixtureRequest, proofread, url: str, tmp_path: Path
):
    origin = proofread(request.getfixturevalue(volume))
    expected = contents(origin)
    assert len(expected) == VERSIONS
    assert origin.branches() == ["master", "side"]
    last = str(tmp_path / "last")
    vzarr.clone(origin.url, url, keys=f"sqlite:///{tmp_path}/keys.sqlite").close()
    with serving(tmp_path / "served") as server:
        with open_place(url) as bucket, open_place(server.url, TOKEN) as target:
            clone(bucket, target)
        vzarr.clone(server.url, last).close()
    for place in (url, str(tmp_path / "served" / origin.uuid), last):
        assert objects_of(place) == objects_of(origin.url)
        with vzarr.open(place) as repo:
            assert not list(verify(repo.objects))
            assert contents(repo) == expected


def test_a_push_of_one_version_moves_its_own_objects(proofread, synthetic: np.ndarray, url: str, tmp_path: Path):
    origin = proofread(synthetic)
    vzarr.clone(origin.url, url).close()
    tip = origin["master"].newversion()
    proofread_once(tip, np.random.default_rng(7), 1)
    tip.commit()
    moved: list[int] = []
    before = set(objects_of(url))
    with open_place(origin.url) as mine, open_place(url) as bucket:
        done = push(mine, bucket, progress=lambda _count, size: moved.append(size))
    own = dict(origin.objects.walk(layout.node(tip.uuid)))
    assert set(objects_of(url)) - before == set(own)
    assert (len(moved), done.nbytes) == (len(own), sum(own.values()))
