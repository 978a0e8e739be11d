"""A proofread segmentation travels from a folder over a bucket and a server back into a folder, and nothing changes."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import vzarr
from tests import proofreading
from tests.proofreading import contents, objects_of, proofread_once
from tests.serving import TOKEN, serving
from vzarr.demo.neuropil import synthesise
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import clone, push

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
        repo = proofreading.begin(str(tmp_path / "first"), labels)
        made.append(repo)
        proofreading.proofread(repo, VERSIONS)
        return repo

    yield make
    for repo in made:
        repo.close()


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
