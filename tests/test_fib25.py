"""Acceptance: an over-segmentation is ingested and proofread to the truth over HTTP; numpy checks every body.

The same path is walked on real FIB-SEM data (found through VZARR_TEST_DATA) and on the synthetic volume of the demo.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

import vzarr
from tests.serving import serving
from vzarr.demo.client import Bodies, Client
from vzarr.demo.neuropil import synthesise
from vzarr.demo.proofread import (
    Work,
    body_volume,
    check_bodies,
    cleave_apart,
    complete,
    largest_overlap,
    merge_together,
)
from vzarr.demo.tour import checksum
from vzarr.ingest import ingest
from vzarr.types.labelmap.verify import check_index


@dataclass(frozen=True)
class Case:
    """A volume to proofread, and how much work that is known to be (None: not known beforehand)."""

    stack: str
    transforms: str
    supervoxels: np.ndarray
    mapping: np.ndarray
    truth: np.ndarray
    bodies: int | None = None
    cleaves: int | None = None
    merges: int | None = None
    left: int | None = None


def loaded(file: Path) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(file) as packed, h5py.File(packed, "r") as h5:
        return h5["stack"][:].astype(np.uint64), h5["transforms"][:].astype(np.uint64)


@pytest.fixture
def real(fib25: Path) -> Case:
    file = fib25 / "oversegmented_stack_labels.h5.gz"
    supervoxels, mapping = loaded(file)
    fragments, to_body = loaded(fib25 / "groundtruth.h5.gz")
    true_volume = body_volume(fragments, to_body[np.argsort(to_body[:, 0])])
    assert (true_volume == 0).sum() == 250
    assert len(np.unique(true_volume)) == 526
    truth = largest_overlap(supervoxels, true_volume)
    return Case(f"{file}:stack", f"{file}:transforms", supervoxels, mapping, truth, 3051, 286, 3127, 210)


@pytest.fixture
def synthetic(tmp_path: Path) -> Case:
    tissue = synthesise(128)
    file = tmp_path / "labels.h5"
    with h5py.File(file, "w") as h5:
        h5["stack"], h5["transforms"] = tissue.supervoxels.astype(np.int32), tissue.mapping
    bodies = len(np.unique(tissue.mapping[:, 1]))
    left = len(np.unique(tissue.truth[:, 1]))
    pieces = len(tissue.mapping)
    work = {"bodies": bodies, "cleaves": pieces - bodies, "merges": pieces - left, "left": left}
    return Case(f"{file}:stack", f"{file}:transforms", tissue.supervoxels, tissue.mapping, tissue.truth, **work)


@contextmanager
def client_of(root: Path) -> Iterator[Client]:
    with serving(root) as server:
        client = Client(server.url)
        yield client
        client.close()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["real", "synthetic"])
def test_from_an_oversegmentation_to_the_truth(case: str, request: pytest.FixtureRequest, tmp_path: Path):
    job: Case = request.getfixturevalue(case)
    place = tmp_path / "root" / case
    original = complete(job.mapping, np.unique(job.supervoxels[job.supervoxels != 0]))
    with vzarr.create(str(place)) as repo:
        seg = ingest(repo.root, "seg", job.stack, typename="labelmap", mapping=job.transforms, voxel_size=10)
        assert len(list(seg.list_bodies())) == job.bodies == len(np.unique(original[:, 1]))
        sizes = np.unique(body_volume(job.supervoxels, original), return_counts=True)
        expected = dict(zip(*(part.tolist() for part in sizes), strict=True))
        expected.pop(0, None)
        assert dict(seg.list_bodies()) == expected
        parent = repo.root.commit("as segmented").uuid
        work, side = repo.root.newversion().uuid, repo.root.branch("side").uuid
    before = checksum(place / "nodes" / parent)

    with client_of(tmp_path / "root") as client:
        at = {node: Bodies(client, node, "seg") for node in (parent, work, side)}
        answers = _answers(client, parent, original)
        done = cleave_apart(at[work], Work(original))
        assert check_bodies(at[work], job.supervoxels, done.table, sample=5) == len(original)
        done = merge_together(at[work], done, job.truth)
        assert (done.cleaves, done.merges) == (job.cleaves, job.merges)
        assert check_bodies(at[work], job.supervoxels, done.table, sample=50) == job.left
        for other in (parent, side):
            assert check_bodies(at[other], job.supervoxels, original, sample=5) == job.bodies
        assert _answers(client, parent, original) == answers
        assert _answers(client, side, original) == answers

    assert checksum(place / "nodes" / parent) == before
    with vzarr.open(str(place)) as repo:
        final = repo[work]["seg"]
        assert len(list(final.list_bodies())) == job.left
        assert check_index(final) == []
        assert check_index(repo[parent]["seg"]) == []
        assert _same_groups(done.table, job.truth)


def _answers(client: Client, version: str, table: np.ndarray) -> dict[str, object]:
    """What one version says, byte for byte."""
    base = f"/api/node/{version}/seg"
    bodies = np.unique(table[:, 1])
    some = bodies[:: max(1, len(bodies) // 20)].tolist()
    return {
        "sizes": client.request("GET", f"{base}/sizes", bodies.tolist()),
        "mapping": client.request("GET", f"{base}/mapping", table[:, 0].tolist()),
        "mappings": sorted(client.request("GET", f"{base}/mappings").splitlines()),
        "sparsevols": [client.request("GET", f"{base}/sparsevol/{body}") for body in some],
        "voxels": client.request("GET", f"{base}/raw/0_1_2/64_64_64/0_0_0"),
    }


def _same_groups(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two tables put the same supervoxels together."""
    pairs = np.unique(np.stack([a[:, 1], b[:, 1]], 1), axis=0)
    return len(pairs) == len(np.unique(a[:, 1])) == len(np.unique(b[:, 1]))
