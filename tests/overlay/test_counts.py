"""What a commit and an opening cost, counted: opens, walks, transactions, objects made; at any depth."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import vzarr
from tests.overlay.test_depth import counting
from vzarr.overlay import layout
from vzarr.overlay.chunks.codec import FastCodec
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.nodes import NodeInfo
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.overlay.kv.sqliteconnections import Connections

CHUNK = (8, 8, 8)
ENTRIES = 130
"""Enough for a checkpoint and some entries after it."""

_walks: list[list[str]] = []


def _on_scan(event: str, args: tuple[Any, ...]) -> None:
    if event == "os.scandir" and _walks:
        for walked in _walks:
            walked.append(str(args[0]))


sys.addaudithook(_on_scan)


@contextmanager
def walking() -> Iterator[list[str]]:
    """Folders that are listed meanwhile."""
    walked: list[str] = []
    _walks.append(walked)
    try:
        yield walked
    finally:
        _walks.remove(walked)


def _edit(version: vzarr.Version, count: int, value: int) -> list[tuple[int, ...]]:
    coords = [(z, y, 1) for z in range(4) for y in range(4)][:count]
    version.write_chunks("a", {c: np.full(CHUNK, value, "u1") for c in coords})
    return coords


@pytest.fixture
def edited(file_repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch) -> tuple[vzarr.Version, list[int]]:
    """A version to be committed, and a list that gets an item per transaction."""
    root = file_repo.root
    root.create_array("a", dtype="u1", chunks=CHUNK, codecs=(), shape=(64, 64, 64))
    root.write("a", (0, 0, 0), np.ones((16, 16, 16), "u1"))
    child = root.commit().newversion()
    transactions: list[int] = []
    transact = SqliteKV.transact
    monkeypatch.setattr(SqliteKV, "transact", lambda self, fn: transactions.append(1) or transact(self, fn))
    return child, transactions


@pytest.mark.parametrize("count", [1, 16])
def test_a_commit_reads_each_chunk_once_and_walks_once(
    edited: tuple[vzarr.Version, list[int]], file_repo: vzarr.Repo, count: int
):
    child, transactions = edited
    coords = _edit(child, count, 2)
    del transactions[:]
    with counting(file_repo) as seen, walking() as walked:
        child.commit()
    opened = Counter(seen.opens)
    chunks = [f"{layout.zarr(child.uuid)}/a/c/{'/'.join(map(str, c))}" for c in coords]
    assert [opened[c] for c in chunks] == [1] * count
    folders = Counter(w for w in walked if f"{layout.zarr(child.uuid)}/" in w)
    assert set(folders.values()) == {1}, "one walk tells pages and checksums what there is"
    assert len(seen.opens) - count <= 34
    # The end of the writer's lease, and the version's closing and sealing.
    assert len(transactions) <= 3
    written = Counter(key.rpartition("/")[2] for key, _ in seen.writes if key.startswith("nodes/"))
    assert written == {"zarr.json": 1, "pages": 1, "table.json": 1, "sha256": 1, "seal.json": 1}


def test_a_version_that_changed_nothing_writes_its_seal_and_no_pages(
    edited: tuple[vzarr.Version, list[int]], file_repo: vzarr.Repo
):
    with counting(file_repo) as seen:
        edited[0].commit()
    assert {key.rpartition("/")[2] for key, _ in seen.writes if key.startswith("nodes/")} == {"sha256", "seal.json"}


def test_chunks_are_written_without_transactions(edited: tuple[vzarr.Version, list[int]]):
    child, transactions = edited
    _edit(child, 1, 2)
    del transactions[:]
    _edit(child, 16, 3)
    assert transactions == []


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Repos by depth; their logs are as long as each other, but an entry makes many versions."""
    found = {}
    for depth in (1, 1000, 10_000):
        url = found[depth] = str(tmp_path_factory.mktemp("counts") / "repo")
        with vzarr.create(url) as repo:
            repo.root.commit()
            record, last, log = repo.root.info.seal, repo.uuid, RepoLog(repo.objects)
            log.open()
            for n in range(ENTRIES):
                ops: list[dict[str, Any]] = [{"op": "info", "alias": f"entry {n}"}]
                for i in range(n * depth // ENTRIES, (n + 1) * depth // ENTRIES):
                    name = f"{i + 1:032x}"
                    ops.append({"op": "node", "id": name, "parents": [last], "branch": "", "note": "a note"})
                    ops.append({"op": "seal", "id": name, "sha256": record})
                    last = name
                log.publish(lambda _, ops=ops: ops)
    return found


def test_opening_and_finding_the_tip_costs_the_same_at_any_depth(deep: dict[int, str], monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []
    create = NodeInfo.__init__
    monkeypatch.setattr(NodeInfo, "__init__", lambda self, *a, **k: create(self, *a, **k) or made.append(self.id))
    opens, infos = {}, {}
    for depth, url in deep.items():
        with vzarr.open(url) as repo:
            pass
        del made[:]
        with counting(repo) as seen, vzarr.open(url) as repo:
            tip = repo["master"]
            assert (tip.uuid, tip.info.version_id) == (f"{depth:032x}", depth + 1)
        opens[depth], infos[depth] = len(seen.opens), len(made)
        # A row of a table, the hash of the seal and two ids are 80 bytes and a note.
        assert seen.nbytes("log/") <= 130 * depth + 16_384
    assert opens[1] == opens[1000] == opens[10_000] <= 8
    assert max(infos.values()) <= 2


@dataclass
class Asked:
    """What was asked of key stores in SQLite."""

    reads: int = 0
    connections: int = 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Counts reads outside of transactions, a statement each, and connections that are opened."""
    seen, take, connect = Asked(), Connections.take, Connections.connect

    def counted_take(self: Connections) -> Any:
        seen.reads += 1
        return take(self)

    def counted_connect(self: Connections) -> Any:
        seen.connections += 1
        return connect(self)

    monkeypatch.setattr(Connections, "take", counted_take)
    monkeypatch.setattr(Connections, "connect", counted_connect)
    return seen


def test_a_sealed_version_is_read_without_the_key_store(
    edited: tuple[vzarr.Version, list[int]], file_repo: vzarr.Repo, asked: Asked
):
    child, transactions = edited
    _edit(child, 1, 2)
    child.commit()
    asked.reads, asked.connections = 0, 0
    del transactions[:]
    with vzarr.open(file_repo.url) as repo:
        assert repo[child.uuid].read("a", (0, 0, 8), (8, 8, 16)).max() == 2
    assert (asked, transactions) == (Asked(), [])
    assert Path(file_repo.url.removeprefix("file://"), layout.database()).exists()


COLD = {"root": (7, 1), "sealed": (10, 0), "open": (12, 1)}
"""Files that opening a repo from nothing and reading one chunk opens, or tries to, and statements to the key store."""


@pytest.mark.parametrize("kind", COLD)
def test_opening_a_repo_and_reading_one_chunk(file_repo: vzarr.Repo, kind: str, asked: Asked):
    tip = file_repo.root
    tip.create_array("a", dtype="u1", chunks=CHUNK, codecs=(), shape=(64, 64, 64))
    tip.write("a", (0, 0, 0), np.ones((16, 16, 16), "u1"))
    if kind != "root":
        tip = tip.commit().newversion()
        _edit(tip, 1, 2)
        tip.commit()
    if kind == "open":
        tip = tip.newversion()
    asked.reads, asked.connections = 0, 0
    with counting(file_repo) as seen, vzarr.open(file_repo.url) as repo:
        repo[tip.uuid].read("a", (8, 8, 8), (16, 16, 16))
    opens, reads = COLD[kind]
    assert len([key for key in seen.opens if "keys/" not in key]) == opens, seen.opens
    assert (asked.reads, asked.connections) == (reads, 0), "connections that are there already serve"


def test_an_open_version_in_which_an_array_has_no_chunks_is_read_like_a_sealed_one(
    edited: tuple[vzarr.Version, list[int]], file_repo: vzarr.Repo
):
    child, _ = edited
    child.read("a", (0, 0, 0), (16, 16, 16))
    with counting(file_repo) as seen:
        child.read("a", (0, 0, 0), (16, 16, 16))
    assert len(seen.opens) == 8
    _edit(child, 1, 2)
    with counting(file_repo) as seen:
        assert child.read("a", (0, 0, 0), (16, 16, 16))[0, 0].tolist() == [1] * 8 + [2] * 8
    assert len(seen.opens) == 15, "one of them was found in the first place"


def test_metadata_are_told_without_a_thread_and_chunks_by_one(
    edited: tuple[vzarr.Version, list[int]], monkeypatch: pytest.MonkeyPatch
):
    child, _ = edited
    handed: list[Any] = []
    to_thread = asyncio.to_thread
    monkeypatch.setattr(
        asyncio, "to_thread", lambda *a, **k: handed.append(a[1] if len(a) > 1 else "") or to_thread(*a, **k)
    )
    for version in (child, child.parents[0]):
        array = zarr.open_array(version.store, path="a", mode="r")
        assert "a/zarr.json" not in handed
        assert array[0, 0, 0] == 1
        assert "a/c/0/0/0" in handed
        del handed[:]


def test_chunks_of_a_larger_volume_are_encoded_from_memory_that_is_there(
    edited: tuple[vzarr.Version, list[int]], monkeypatch: pytest.MonkeyPatch
):
    child, _ = edited
    seen: list[tuple[bool, int]] = []
    encode = FastCodec.encode

    def watched(self: FastCodec, voxels: Any) -> bytes:
        seen.append((voxels.flags.c_contiguous, voxels.__array_interface__["data"][0]))
        return encode(self, voxels)

    monkeypatch.setattr(FastCodec, "encode", watched)
    volume = np.arange(32**3, dtype="u1").reshape(32, 32, 32)
    child.write("a", (0, 0, 0), volume)
    child.write_chunks("a", {(z, 1, 1): volume[8 * z : 8 * z + 8, 8:16, 8:16] for z in range(4)})
    assert len(seen) == 68
    assert all(whole for whole, _ in seen)
    assert len({address for _, address in seen}) <= 2, "one piece of memory a thread"
    np.testing.assert_array_equal(child.read("a", (0, 0, 0), (32, 32, 32)), volume)


def test_pages_that_differ_are_read_together(file_repo: vzarr.Repo):
    root = file_repo.root
    root.create_array("a", dtype="u1", chunks=(1, 1, 1), codecs=(), shape=(160, 160, 16))
    coords = [(16 * z, 16 * y, 0) for z in range(10) for y in range(10)]
    tips = []
    root.write_chunks("a", dict.fromkeys(coords, np.full((1, 1, 1), 9, "u1")))
    root.commit()
    for n, name in enumerate(("left", "right")):
        tips.append(root.branch(name))
        tips[-1].write_chunks("a", dict.fromkeys(coords[n::2], np.full((1, 1, 1), n, "u1")))
        tips[-1].commit()
    with vzarr.open(file_repo.url) as repo:
        with counting(repo) as seen:
            found = repo.diff(tips[0].uuid, tips[1].uuid)
        assert len(found["a"].chunks) == len(coords)
        # Of each of three versions one directory block, and all pages at once.
        assert len([k for k in seen.opens if k.endswith("owners/pages")]) <= 6
        with counting(repo) as seen:
            repo.merge(tips)
        assert len([k for k in seen.opens if k.endswith("owners/pages")]) <= 8
