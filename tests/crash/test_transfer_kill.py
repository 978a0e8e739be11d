"""Transfers killed at ten random points: nothing partial is ever seen, and they go on where they stopped."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vzarr
from tests.serving import TOKEN, serving
from vzarr.overlay import layout
from vzarr.overlay.care.rebuildkeys import rebuild
from vzarr.overlay.care.verify import verify
from vzarr.overlay.opening import open_objects
from vzarr.types.registry import create

ROOT = "origin"
BOX = (0, 0, 0), (12, 12, 12)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """Four sealed versions, an open one, and keys of both kinds."""
    with vzarr.create(str(tmp_path / "served" / ROOT), root=ROOT) as repo:
        version = repo.root
        em = create(version, "em", "uint8blk", config={"blocksize": "4,4,4"})
        create(version, "hot", "roi", config={"blocksize": "4,4,4"}).replace(np.array([[0, 0, 0, 2], [1, 1, 0, 2]]))
        create(version, "notes", "keyvalue")
        create(version, "settings", "keyvalue", versioned=False).put("s", b"1")
        for n in range(5):
            em.at(version).write((0, 0, 0), np.random.default_rng(n).integers(0, 255, (12, 12, 12), np.uint8))
            version["notes"].put(str(n), b"1")
            if n < 4:
                version = version.commit(str(n)).newversion()
        yield repo


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["files", "server", "region", "mirror", "mirror of a server"])
def test_a_clone_killed_at_ten_random_points(repo: vzarr.Repo, kind: str, tmp_path: Path):
    target = tmp_path / "clone"
    if "server" in kind:
        options = [] if kind == "server" else ["--mirror", "--open", "--token", TOKEN]
        with serving(tmp_path / "served") as server:
            done = _clone(f"{server.url}/{ROOT}", target, *options)
    else:
        done = _clone(repo.url, target, *{"region": ["--roi", "hot"], "mirror": ["--mirror", "--open"]}.get(kind, []))
    assert done["status"] == 0
    killed, seen, objects = zip(*done["killed"], strict=True)
    assert all(killed), "killed ten times, or the point came too late to prove anything"
    assert not any(seen)
    assert list(objects) == sorted(objects)
    total = sum(1 for key, _ in open_objects(target).walk() if key.startswith(("nodes/", "open/")))
    assert 0 < objects[-1] < total, "what was copied stays, and something is left to do"
    assert not [f for f in verify(open_objects(target)) if f.damage]
    if "mirror" in kind:
        assert not rebuild(open_objects(target)).lost
    with vzarr.open(str(target)) as clone:
        for mine in repo.versions():
            if mine.sealed or "mirror" in kind:
                _compare(mine, clone[mine.uuid], region=kind == "region")
        assert clone.root["settings"].get("s") == b"1"
        assert not list(clone.objects.walk(layout.arrived("").rstrip("/")))
    repo["master"].write("em/0", *_one_block())  # nobody waits for a killed backup
    assert repo["master"].commit().sealed


def _one_block() -> tuple[tuple[int, ...], np.ndarray]:
    return (0, 0, 0), np.full((4, 4, 4), 1, np.uint8)


def _compare(mine: vzarr.Version, theirs: vzarr.Version, *, region: bool) -> None:
    boxes = [((0, 0, 0), (4, 4, 12)), ((4, 4, 0), (8, 8, 12))] if region else [BOX]
    for lo, hi in boxes:
        np.testing.assert_array_equal(theirs.read("em/0", lo, hi), mine.read("em/0", lo, hi))
    assert dict(theirs.keys("notes").scan()) == dict(mine.keys("notes").scan())


def _clone(source: str, target: Path, *options: str) -> dict[str, object]:
    seed = str(random.randrange(10**6))
    command = [sys.executable, "-m", "tests.crash.cloner", source, str(target), seed, "10", *options]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2])
    print("seed", seed)
    return json.loads(found.stdout)
