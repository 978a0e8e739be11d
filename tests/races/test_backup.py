"""Backups under load: processes write voxels, labels and keys, and what a mirror holds is whole as of its moment."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import vzarr
from tests.races import loading
from tests.races.loading import BLOCK, WORKERS
from tests.serving import TOKEN, serving
from vzarr.overlay import opening
from vzarr.overlay.care.rebuildkeys import rebuild
from vzarr.overlay.care.verify import verify
from vzarr.overlay.transfer import moment
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.places import open_place
from vzarr.types import registry

Rounds = list[tuple[int, float, float]]


@pytest.mark.slow
def test_a_backup_under_load_restores_clean(tmp_path: Path, keys: str | None):
    back_up(tmp_path, keys, times=2, pause=0.5)


@pytest.mark.slow
def test_a_backup_over_http_under_load_restores_clean(tmp_path: Path):
    """The writers are processes beside the server, which lets them pause for a client that does not see their keys."""
    back_up(tmp_path, None, times=2, pause=0.5, served=True)


@pytest.mark.exhaustive
def test_backups_under_load_for_a_minute(tmp_path: Path, keys: str | None):
    back_up(tmp_path, keys, times=10, pause=4)


def back_up(folder: Path, keys: str | None, *, times: int, pause: float, served: bool = False) -> None:
    url, copy, stop = str(folder / "repos" / "load"), str(folder / "mirror"), folder / "stop"
    loading.prepare(url, keys)
    processes = multiprocessing.get_context("forkserver")
    logs = {name: str(folder / f"{name}.log") for name in WORKERS}
    writers = [processes.Process(target=loading.work, args=(url, n, logs[n], str(stop))) for n in WORKERS]
    for writer in writers:
        writer.start()
    while any(not Path(log).exists() or Path(log).stat().st_size == 0 for log in logs.values()):
        time.sleep(0.1)
    with serving(folder / "repos") if served else nullcontext() as server:
        for _ in range(times):
            time.sleep(pause)
            with open_place(f"{server.url}/load" if server else url, TOKEN) as source:
                mirror(source, open_place(copy), opened=True)
    time.sleep(0.5)
    stop.touch()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0, "nobody was refused"
    done = {n: [json.loads(line) for line in Path(log).read_text().splitlines()] for n, log in logs.items()}
    held = moment.read(opening.open_objects(copy))
    at = datetime.fromisoformat(held.time).timestamp()
    for rounds in done.values():
        assert any(end < at for _, _, end in rounds), "there was work before the moment"
        assert any(began > at for _, began, _ in rounds), "and work after it"
    assert not [f for f in verify(opening.open_objects(copy)) if f.damage]
    assert not rebuild(opening.open_objects(copy), keys=None).lost
    with vzarr.open(copy) as repo:
        look(repo, done, at)
        for branch in ("master", "side"):
            repo[branch].commit()
        assert not list(verify(repo.objects))


def look(repo: vzarr.Repo, done: dict[str, Rounds], at: float) -> None:
    """Hold a restored repo against what was acknowledged before a moment, and begun after it."""
    tip = repo["master"]
    for name in WORKERS:
        certain = {n for n, _, end in done[name] if end < at}
        possible = {n for n, began, _ in done[name] if began < at} | {len(done[name])}
        CHECKS[name](repo, certain, possible)
    assert list(registry.verify(tip)) == []


def look_at_voxels(repo: vzarr.Repo, certain: set[int], possible: set[int]) -> None:
    for branch in ("master", "side"):
        rows = repo[branch].read("plain", (0, 0), repo[branch].bounds("plain")[1])[::2, 0].tolist()
        there = {n for n, value in enumerate(rows) if value == n + 1}
        assert certain <= there <= possible
        assert not [value for n, value in enumerate(rows) if value not in (0, n + 1)]


def look_at_volumes(repo: vzarr.Repo, certain: set[int], possible: set[int]) -> None:
    (value,) = np.unique(repo["master"]["em"].read((0, 0, 0), (BLOCK, 2 * BLOCK, 2 * BLOCK))).tolist()
    assert value in {n % 250 for n in possible - set(range(max(certain)))}


def look_at_labels(repo: vzarr.Repo, certain: set[int], possible: set[int]) -> None:
    seg = repo["master"]["seg"]
    for slot in range(loading.SLOTS):
        found = seg.read((0, 0, slot * BLOCK), (BLOCK, BLOCK, (slot + 1) * BLOCK), supervoxels=True)
        last = max((n for n in certain if n % loading.SLOTS == slot), default=-1)
        later = {n for n in possible if n % loading.SLOTS == slot and n >= last}
        first = loading.label_block(0, loading.SLOTS)[..., slot * BLOCK : (slot + 1) * BLOCK]
        expected = [loading.label_block(n + 1) for n in later] + ([first] if last < 0 else [])
        assert any(np.array_equal(found, block) for block in expected)


def look_at_keys(repo: vzarr.Repo, certain: set[int], possible: set[int]) -> None:
    for name in ("notes", "settings"):
        there = {int(key) for key, _ in repo["master"][name].items("!", "~")}
        assert certain <= there <= possible


CHECKS: dict[str, Callable[[vzarr.Repo, set[int], set[int]], None]] = {
    "voxels": look_at_voxels, "volumes": look_at_volumes, "labels": look_at_labels, "keys": look_at_keys,
}  # fmt: skip
