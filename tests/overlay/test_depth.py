"""Depth by counting: at 1,000 versions a read opens the same files and reads the same bytes as at one."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.sync import sync

import vzarr
from vzarr.overlay import layout
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.owners.directory import side
from vzarr.overlay.repo import Repo
from vzarr.overlay.version import Version

CHUNK = (8, 8, 8)
NBYTES = 512
GRID = (20, 8, 8)
DEPTH = 1000
REWRITTEN = 900
PAGE = side(3) ** 3


@dataclass
class Seen:
    """What was opened below a folder, and how many bytes of which key were read and written."""

    folder: str
    opens: list[str] = field(default_factory=list)
    reads: list[tuple[str, int]] = field(default_factory=list)
    writes: list[tuple[str, int]] = field(default_factory=list)

    def nbytes(self, part: str) -> int:
        """Bytes read from keys that contain a text."""
        return sum(n for key, n in self.reads if part in key)

    @property
    def cost(self) -> tuple[int, int]:
        """Opens (found or not), and bytes of chunks."""
        return len(self.opens), self.nbytes("/c/")


_listening: list[Seen] = []


def _on_open(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _listening and isinstance(args[0], str):
        for seen in _listening:
            if args[0].startswith(seen.folder):
                seen.opens.append(args[0][len(seen.folder) + 1 :])


sys.addaudithook(_on_open)


@contextmanager
def counting(repo: Repo) -> Iterator[Seen]:
    """Count what this process opens, reads and writes in a repo."""
    folder = repo.url.removeprefix("file://")
    seen = Seen(folder)
    fetch, read_into, put, create = (getattr(FileObjects, n) for n in ("fetch", "read_into", "put", "create"))

    def counted_fetch(self: FileObjects, key: str, *args: Any) -> Any:
        found = fetch(self, key, *args)
        seen.reads.append((key, len(found[0]) if found else 0))
        return found

    def counted_read_into(self: FileObjects, key: str, buffer: bytearray) -> Any:
        found = read_into(self, key, buffer)
        seen.reads.append((key, len(found) if found is not None else 0))
        return found

    def counted_put(self: FileObjects, key: str, data: bytes, **kwargs: Any) -> None:
        seen.writes.append((key, len(data)))
        put(self, key, data, **kwargs)

    def counted_create(self: FileObjects, key: str, data: bytes) -> bool:
        seen.writes.append((key, len(data)))
        return bool(create(self, key, data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileObjects, "fetch", counted_fetch)
        patch.setattr(FileObjects, "read_into", counted_read_into)
        patch.setattr(FileObjects, "put", counted_put)
        patch.setattr(FileObjects, "create", counted_create)
        _listening.append(seen)
        try:
            yield seen
        finally:
            _listening.remove(seen)


@dataclass(frozen=True)
class History:
    """A deep repo: its URL, ids of versions by depth, what making each cost, and chunk -> depth of its last writer."""

    url: str
    sealed: dict[int, str]
    open: dict[int, str]
    costs: list[Seen]
    written: dict[tuple[int, int, int], int]

    def at(self, kind: str, depth: int, *, repo: Repo) -> Version:
        """The version of a kind ("sealed" or "open") at a depth."""
        return repo[(self.sealed if kind == "sealed" else self.open)[depth]]


def _coord(i: int) -> tuple[int, int, int]:
    z, y, x = np.unravel_index(i, GRID)
    return int(z), int(y), int(x)


def _voxels(depth: int, coord: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng([depth, *coord]).integers(1, 255, CHUNK, np.uint8)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """1,000 versions over two owner pages; each rewrites one chunk, many chunks stay the root's."""
    url = str(tmp_path_factory.mktemp("depth") / "repo")
    with vzarr.create(url) as repo:
        version = repo.root
        version.create_array("a", dtype="u1", chunks=CHUNK, codecs=())
        everywhere = [_coord(i) for i in range(int(np.prod(GRID)))]
        version.write_chunks("a", {c: _voxels(0, c) for c in everywhere})
        version.commit()
        written = dict.fromkeys(everywhere, 0)
        sealed, opened, costs = {0: version.uuid}, {}, []
        for depth in range(1, DEPTH + 1):
            coord = _coord(depth % REWRITTEN)
            with counting(repo) as seen:
                version = version.newversion()
                version.write_chunks("a", {coord: _voxels(depth, coord)})
                version.commit()
            costs.append(seen)
            sealed[depth], written[coord] = version.uuid, depth
        for depth in (1, DEPTH):
            tip = repo[sealed[depth - 1]].branch(f"open{depth}")
            tip.write_chunks("a", {(0, 0, 0): _voxels(depth, (0, 0, 0))})
            opened[depth] = tip.uuid
    return History(url, sealed, opened, costs, written)


SAMPLE = [_coord(i) for i in (0, 1, 2, 77, 300, 511, 898, 899, 900, 1100, 1279)]
"""Chunks of the root and of many other owners, in both pages; the first is the open tips' own."""


def _box(coord: tuple[int, int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    lo = tuple(c * n for c, n in zip(coord, CHUNK, strict=True))
    return lo, tuple(a + n for a, n in zip(lo, CHUNK, strict=True))


def _by_store(version: Version) -> Any:
    store = version.store
    store.get_sync("a/zarr.json")
    return lambda coord: np.frombuffer(store.get_sync("a/c/" + "/".join(map(str, coord))).to_bytes(), "u1")


def _by_reader(version: Version) -> Any:
    return lambda coord: version.read("a", *_box(coord)).reshape(-1)


READERS = {"Store.get_sync": _by_store, "Version.read": _by_reader}


def _newest(history: History, kind: str, depth: int, coord: tuple[int, int, int]) -> int:
    """Depth at which the chunk that a version shows was written."""
    last = depth - 1 if kind == "open" else depth
    if kind == "open" and coord == (0, 0, 0):
        return depth
    place = int(np.ravel_multi_index(coord, GRID))
    writers = [d for d in range(1, last + 1) if d % REWRITTEN == place]
    return writers[-1] if writers else 0


def test_history_has_many_owners(history: History) -> None:
    with vzarr.open(history.url) as repo:
        owners = repo[history.sealed[DEPTH]].owners("a", [_coord(i) for i in range(int(np.prod(GRID)))])
        assert owners == [history.sealed[d] for d in history.written.values()]
        assert len(set(owners)) == REWRITTEN + 1


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("kind", ["sealed", "open"])
def test_warm_reads_cost_the_same_at_any_depth(history: History, kind: str, how: str) -> None:
    costs: dict[int, list[tuple[int, int]]] = {}
    with vzarr.open(history.url) as repo:
        for depth in (1, DEPTH):
            read = READERS[how](history.at(kind, depth, repo=repo))
            for coord in SAMPLE:
                read(coord)
            costs[depth] = []
            for coord in SAMPLE:
                with counting(repo) as seen:
                    found = read(coord)
                expected = _voxels(_newest(history, kind, depth, coord), coord)
                np.testing.assert_array_equal(found, expected.reshape(-1))
                costs[depth].append(seen.cost)
    # An open tip looks into its own folder first, and only then where the base's owner has the chunk.
    inherited = (1, NBYTES) if kind == "sealed" else (2, NBYTES)
    assert costs[1] == costs[DEPTH] == [(1, NBYTES), *[inherited] * (len(SAMPLE) - 1)]


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("kind", ["sealed", "open"])
def test_cold_reads_cost_the_same_at_any_depth(history: History, kind: str, how: str) -> None:
    costs = {}
    for depth in (1, DEPTH):
        with vzarr.open(history.url) as repo:
            list(repo.state.nodes)  # the rows of old versions, which the newest have no need of
            with counting(repo) as seen:
                read = READERS[how](history.at(kind, depth, repo=repo))
                read((19, 7, 7))
                read((1, 0, 0))
        costs[depth] = seen.cost
        owners = (min(REWRITTEN, depth) + 1) + 1
        pages = seen.nbytes("owners/pages")
        assert 0 < pages <= 2 * (2 * PAGE) + 16 * owners, "two pages, and the one directory block that leads to both"
    assert costs[1] == costs[DEPTH]
    assert costs[1][1] == 2 * NBYTES


def test_a_cold_page_costs_2_bytes_a_chunk_and_16_an_owner(history: History) -> None:
    with vzarr.open(history.url) as repo:
        owners = repo[history.sealed[DEPTH]].view.owners
        array = next(iter(owners.table.arrays))
        refs = [ref for _at, ref in owners.pages(array)]
        assert len(refs) == 2
        for ref in refs:
            page = owners.reader.page(ref)
            assert ref.length <= 2 * page.codes.size + 16 * len(page.owners)
        assert sum(len(owners.reader.page(r).owners) for r in refs) >= REWRITTEN


def test_opening_a_deep_repo_takes_few_requests(history: History) -> None:
    with vzarr.open(history.url) as repo:
        pass
    with counting(repo) as seen, vzarr.open(history.url) as repo:
        assert len(repo.versions()) == DEPTH + 3
    assert len(seen.opens) <= 8


def test_a_commit_costs_the_same_at_any_depth(history: History) -> None:
    # As many versions as lie between two checkpoints of the log, so that both samples see a whole cycle of hints.
    cycle = layout.CHECKPOINT_EVERY // 2
    early, late = history.costs[cycle : 2 * cycle], history.costs[-cycle:]

    def opens(costs: list[Seen]) -> float:
        return statistics.median(len(c.opens) for c in costs)

    def logged(costs: list[Seen]) -> float:
        return statistics.mean(
            sum(n for k, n in c.writes if k.startswith("log/") and "checkpoint" not in k) for c in costs
        )

    def stored(cost: Seen) -> int:
        return sum(n for k, n in cost.writes if not k.startswith("log/"))

    assert opens(late) <= opens(early)
    assert logged(late) == pytest.approx(logged(early), rel=0.1)
    # One chunk, one page with its owners, and small objects.
    assert max(map(stored, late)) <= NBYTES + 2 * PAGE + 16 * (REWRITTEN + 1) + 4096


def _disk(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file()}


def test_one_changed_chunk_among_a_million_costs_its_bytes_and_100_kb(tmp_path: Path) -> None:
    side_chunks = 100
    with vzarr.create(str(tmp_path / "repo")) as repo:
        version = repo.root
        version.create_array("a", dtype="u1", chunks=(4, 4, 4), codecs=(), shape=(4 * side_chunks,) * 3)
        step = side(3)
        corners = range(step // 2, side_chunks, step)
        voxels = np.ones((4, 4, 4), np.uint8)
        version.write_chunks("a", {(z, y, x): voxels for z in corners for y in corners for x in corners})
        version.commit()
        before = _disk(tmp_path / "repo")
        child = version.newversion()
        child.write_chunks("a", {(50, 50, 50): voxels})
        child.commit()
        fresh = {p: n for p, n in _disk(tmp_path / "repo").items() if p not in before}
        assert len(corners) ** 3 == len(version.chunk_coords("a"))
    chunk = [n for p, n in fresh.items() if p.parts[-4:] == ("c", "50", "50", "50")]
    assert len(chunk) == 1
    assert sum(fresh.values()) <= chunk[0] + 100_000


def test_zarr_opens_only_its_own_chunk(history: History) -> None:
    with vzarr.open(history.url) as repo:
        version = repo[history.sealed[DEPTH]]
        array = zarr.open_array(version.store, path="a", mode="r")
        array[:8, :8, :8]
        array[-8:, -8:, -8:]
        with counting(repo) as seen:
            found = array[-8:, -8:, -8:]
        np.testing.assert_array_equal(found, _voxels(0, (19, 7, 7)))
        assert seen.cost == (1, NBYTES)
        assert sync(version.store.exists("a/c/19/7/7"))
