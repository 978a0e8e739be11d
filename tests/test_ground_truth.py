"""Acceptance: from an over-segmentation to the ground truth exactly, by splits, cleaves, merges and voxel writes.

Every supervoxel that spans several true bodies is split by voxels; then two branches divide the true bodies among them,
cleave and merge, and are merged themselves; at last the background is written.  Each sealed version must go on to read
as numpy says, over HTTP and directly.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

import vzarr
from tests.serving import serving
from vzarr.demo.client import Client
from vzarr.demo.neuropil import synthesise
from vzarr.demo.proofread import body_volume, complete
from vzarr.ingest import ingest
from vzarr.overlay.care.verify import verify
from vzarr.types.labelmap.verify import check_index

Volume = np.ndarray


@dataclass
class Model:
    """What a version holds: supervoxels by voxel (zyx), and the body of each."""

    supervoxels: Volume
    bodies: dict[int, int]

    def copy(self) -> Model:
        return Model(self.supervoxels.copy(), dict(self.bodies))

    def table(self) -> Volume:
        ids = np.unique(self.supervoxels[self.supervoxels != 0])
        return np.array([(s, self.bodies[int(s)]) for s in ids], np.uint64).reshape(-1, 2)


def rles(voxels_zyx: Volume) -> bytes:
    """DVID's sparse volume format of voxels, rows (z, y, x) sorted."""
    z, y, x = voxels_zyx.T
    starts = np.flatnonzero(
        (np.diff(z, prepend=-1) != 0) | (np.diff(y, prepend=-1) != 0) | (np.diff(x, prepend=-9) != 1)
    )
    lengths = np.diff(np.append(starts, len(x)))
    runs = np.stack([x[starts], y[starts], z[starts], lengths], 1).astype("<i4")
    header = bytes([0, 3, 0, 0]) + np.array([0, len(runs)], "<u4").tobytes()
    return header + runs.tobytes()


@dataclass
class Proofreader:
    """Edits a version over HTTP and its model alike.

    Parameters
    ----------
    client, node
        Where.
    model
        What the version holds; changed.
    """

    client: Client
    node: str
    model: Model

    def _post(self, path: str, body: object) -> dict[str, int]:
        if not isinstance(body, bytes):
            return self.client.post(f"/api/node/{self.node}/seg/{path}", body)
        connection = self.client._connection
        connection.request("POST", f"/api/node/{self.node}/seg/{path}", body)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return json.loads(content or b"{}")

    def split(self, supervoxel: int, voxels_zyx: Volume) -> tuple[int, int]:
        """Split voxels off a supervoxel; gives the new numbers of them and of the rest."""
        made = self._post(f"split-supervoxel/{supervoxel}", rles(voxels_zyx))
        part, rest = made["SplitSupervoxel"], made["RemainSupervoxel"]
        return part, rest

    def cleave(self, body: int, supervoxels: list[int]) -> int:
        made = self._post(f"cleave/{body}", supervoxels)["CleavedLabel"]
        self.model.bodies.update(dict.fromkeys(supervoxels, made))
        return made

    def merge(self, bodies: list[int]) -> None:
        self._post("merge", bodies)
        gone = set(bodies[1:])
        self.model.bodies.update({s: bodies[0] for s, b in self.model.bodies.items() if b in gone})


def split_all(reader: Proofreader, truth: Volume) -> int:
    """Split every supervoxel that spans several true bodies, or background too; gives the number of splits."""
    model = reader.model
    flat, true = model.supervoxels.reshape(-1), truth.reshape(-1)
    order = np.lexsort((true, flat))
    pieces = np.split(order, np.flatnonzero(np.diff(flat[order]) | np.diff(true[order])) + 1)
    of: dict[int, list[Volume]] = defaultdict(list)
    for piece in pieces:
        of[int(flat[piece[0]])].append(np.sort(piece))
    count = 0
    for supervoxel, parts in of.items():
        rest, body = supervoxel, model.bodies[supervoxel]
        for part in parts[1:]:
            at = np.stack(np.unravel_index(part, truth.shape), 1)
            new, kept = reader.split(rest, at)
            flat[part] = new
            flat[np.concatenate([p for p in parts if flat[p[0]] == rest])] = kept
            model.bodies[new] = model.bodies[kept] = body
            rest, count = kept, count + 1
    return count


def truth_of(model: Model, truth: Volume) -> dict[int, int]:
    """True body of each supervoxel, when none spans several."""
    pairs = together(model.supervoxels, truth)
    assert len(np.unique(pairs[:, 0])) == len(pairs)
    return {int(s): int(t) for s, t in pairs if s}


def together(a: Volume, b: Volume) -> Volume:
    """Rows of values that two volumes of one shape have at the same voxels."""
    both = [np.unique(v, return_inverse=True) for v in (a.reshape(-1), b.reshape(-1))]
    (left, at_left), (right, at_right) = both
    first, second = np.divmod(np.unique(at_left * len(right) + at_right), len(right))
    return np.stack([left[first], right[second]], 1)


def gather(reader: Proofreader, true: dict[int, int], mine: set[int]) -> None:
    """Bring the supervoxels of some true bodies together, each in a body of its own."""
    groups: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for supervoxel, body in reader.model.bodies.items():
        if supervoxel in true:
            groups[body][true[supervoxel]].append(supervoxel)
    for body, by_truth in groups.items():
        own = [t for t in by_truth if t in mine]
        for t in own[1:] if len(own) == len(by_truth) else own:
            reader.cleave(body, by_truth[t])
    bodies: dict[int, set[int]] = defaultdict(set)
    for supervoxel, t in true.items():
        if t in mine:
            bodies[t].add(reader.model.bodies[supervoxel])
    for together in bodies.values():
        if len(together) > 1:
            reader.merge(sorted(together))


def check_directly(version: vzarr.Version, model: Model) -> None:
    seg = version["seg"]
    box = (0, 0, 0), model.supervoxels.shape
    assert np.array_equal(version.read("seg/0", *box), model.supervoxels)
    expected = body_volume(model.supervoxels, model.table())
    assert np.array_equal(np.asarray(seg.bodies[tuple(slice(0, n) for n in box[1])]), expected)
    sizes = dict(zip(*(part.tolist() for part in np.unique(expected, return_counts=True)), strict=True))
    sizes.pop(0, None)
    assert dict(seg.list_bodies()) == sizes
    assert check_index(seg) == []


def check_over_http(client: Client, node: str, model: Model) -> None:
    base = f"/api/node/{node}/seg"
    table = model.table()
    assert json.loads(client.request("GET", f"{base}/mapping", table[:, 0].tolist())) == table[:, 1].tolist()
    expected = body_volume(model.supervoxels, table)
    bodies, sizes = np.unique(expected[expected != 0], return_counts=True)
    assert json.loads(client.request("GET", f"{base}/sizes", bodies.tolist())) == sizes.tolist()
    z, y, x = expected.shape
    voxels = client.request("GET", f"{base}/raw/0_1_2/{x}_{y}_{z}/0_0_0")
    assert np.array_equal(np.frombuffer(voxels, np.uint64).reshape(expected.shape), expected)
    for body in bodies[:: max(1, len(bodies) // 20)].tolist():
        content = client.request("GET", f"{base}/sparsevol/{body}")
        runs = np.frombuffer(content, "<i4", offset=12).reshape(-1, 4)
        found = np.zeros(expected.shape, bool)
        for rx, ry, rz, n in runs.tolist():
            found[rz, ry, rx : rx + n] = True
        assert np.array_equal(found, expected == body)


def write_background(reader: Proofreader, truth: Volume) -> None:
    """Write voxels as numpy has them, with the background as 0."""
    model = reader.model
    model.supervoxels[truth == 0] = 0
    low = [n // 64 * 64 for n in np.argwhere(truth == 0).min(0)]
    high = [-(-(n + 1) // 64) * 64 for n in np.argwhere(truth == 0).max(0)]
    block = np.zeros([b - a for a, b in zip(low, high, strict=True)], np.uint64)
    inside = model.supervoxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    block[tuple(slice(0, n) for n in inside.shape)] = inside
    size, offset = ("_".join(map(str, triple)) for triple in (block.shape[::-1], low[::-1]))
    reader._post(f"raw/0_1_2/{size}/{offset}?mutate=true", block.tobytes())


@contextmanager
def client_of(root: Path) -> Iterator[Client]:
    with serving(root) as server:
        client = Client(server.url)
        yield client
        client.close()


@dataclass(frozen=True)
class Case:
    """Volumes to start from and to get to; `splits` and `bodies` where they are known beforehand."""

    supervoxels: Volume
    mapping: Volume
    truth: Volume
    splits: int | None = None
    bodies: int | None = None


def loaded(file: Path) -> tuple[Volume, Volume]:
    with gzip.open(file) as packed, h5py.File(packed, "r") as h5:
        return h5["stack"][:].astype(np.uint64), h5["transforms"][:].astype(np.uint64)


def real(folder: Path, edge: int | None) -> Case:
    supervoxels, mapping = loaded(folder / "oversegmented_stack_labels.h5.gz")
    fragments, to_body = loaded(folder / "groundtruth.h5.gz")
    truth = body_volume(fragments, to_body[np.argsort(to_body[:, 0])])
    if edge is None:
        spans = np.unique(together(supervoxels, truth)[:, 0], return_counts=True)[1]
        assert (spans.size, int((spans > 1).sum()), int((truth == 0).sum())) == (3337, 2182, 250)
        return Case(supervoxels, mapping, truth, 7426, 525)
    corner = (slice(0, edge),) * 3
    return Case(supervoxels[corner], mapping, truth[corner])


def synthetic() -> Case:
    """A volume whose true bodies cut across its supervoxels, with some background."""
    tissue = synthesise(64)
    truth = body_volume(tissue.supervoxels, tissue.truth)
    truth = np.roll(truth, 1, axis=0)
    truth[10:12, 20:23, 30:33] = 0
    supervoxels = tissue.supervoxels.copy()
    truth[supervoxels == 0] = 0
    return Case(supervoxels, tissue.mapping, truth)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["synthetic", "corner", pytest.param("whole", marks=pytest.mark.exhaustive)])
@pytest.mark.timeout(1800)
def test_exactly_to_the_ground_truth(which: str, request: pytest.FixtureRequest, tmp_path: Path):
    folder = request.getfixturevalue("fib25") if which != "synthetic" else None
    case = synthetic() if folder is None else real(folder, 64 if which == "corner" else None)
    start = Model(case.supervoxels.copy(), {})
    start.bodies = {
        int(s): int(b) for s, b in complete(case.mapping, np.unique(case.supervoxels[case.supervoxels != 0]))
    }
    sealed: dict[str, Model] = {}
    place = tmp_path / "root" / "repo"
    with h5py.File(tmp_path / "labels.h5", "w") as h5:
        h5["stack"], h5["transforms"] = case.supervoxels, case.mapping
    with vzarr.create(str(place)) as repo:
        ingest(
            repo.root,
            "seg",
            f"{tmp_path}/labels.h5:stack",
            typename="labelmap",
            mapping=f"{tmp_path}/labels.h5:transforms",
        )
        sealed[repo.root.commit().uuid] = start
        split = repo.root.newversion().uuid

    with client_of(tmp_path / "root") as client:
        reader = Proofreader(client, split, start.copy())
        splits = split_all(reader, case.truth)
        assert case.splits in (None, splits)
        client.post(f"/api/node/{split}/commit", {})
        sealed[split] = reader.model
        true = truth_of(reader.model, case.truth)
        client.close()  # the server does not wait for who thinks for long
        bodies = sorted(set(true.values()) - {0})
        halves = [set(bodies[::2]), set(bodies[1::2]) | {0}]
        branches = []
        for number, mine in enumerate(halves):
            made = client.post(f"/api/node/{split}/branch", {"branch": f"half{number}"})["child"]
            branch = Proofreader(client, made, sealed[split].copy())
            gather(branch, true, mine)
            client.post(f"/api/node/{made}/commit", {})
            sealed[made] = branch.model
            branches.append(branch)
        joined = sealed[split].copy()
        for branch in branches:
            moved = {s: b for s, b in branch.model.bodies.items() if b != sealed[split].bodies[s]}
            assert not {s for s in moved if joined.bodies[s] not in (moved[s], sealed[split].bodies[s])}
            joined.bodies.update(moved)

    with vzarr.open(str(place)) as repo:
        merged = repo.merge([b.node for b in branches], note="both halves").uuid
        check_directly(repo[merged], joined)

    with client_of(tmp_path / "root") as client:
        last = Proofreader(client, merged, joined)
        write_background(last, case.truth)
        client.post(f"/api/node/{merged}/commit", {})
        client.close()
        final = body_volume(last.model.supervoxels, last.model.table())
        pairs = together(final, case.truth)
        assert len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))
        assert case.bodies in (None, len(pairs) - bool((case.truth == 0).any()))
        sealed[merged] = last.model
        for node, model in sealed.items():
            check_over_http(client, node, model)
            client.close()

    with vzarr.open(str(place)) as repo:
        for node, model in sealed.items():
            check_directly(repo[node], model)
        assert not [f for f in verify(repo.objects) if f.damage]
