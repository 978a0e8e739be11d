"""A clone killed at ten random points: nothing partial is ever seen, and it goes on where it stopped."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vzarr
from tests.serving import serving
from vzarr.overlay.care.verify import verify


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["files", "server"])
def test_a_clone_killed_at_ten_random_points(kind: str, tmp_path: Path):
    root = "origin"
    with vzarr.create(str(tmp_path / "served" / root), root=root) as repo:
        version = repo.root
        version.create_array("a", dtype="u2", chunks=(4, 4, 4))
        for n in range(4):
            voxels = np.random.default_rng(n).integers(0, 9999, (12, 12, 12), "u2")
            version.write("a", (0, 0, 0), voxels)
            version.commit(str(n))
            version = version.newversion()
        total = sum(1 for node in repo.state.nodes for _ in repo.objects.walk(f"nodes/{node}"))
        if kind == "files":
            done = _clone(repo.url, tmp_path / "clone")
        else:
            with serving(tmp_path / "served") as server:
                done = _clone(f"{server.url}/{root}", tmp_path / "clone")
        assert done["status"] == 0
        killed, seen, objects = zip(*done["killed"], strict=True)
        assert all(killed), "killed ten times, or the point came too late to prove anything"
        assert not any(seen)
        assert list(objects) == sorted(objects)
        assert 0 < objects[-1] < total, "what was copied stays, and something is left to do"
        with vzarr.open(str(tmp_path / "clone")) as clone:
            assert not [f for f in verify(clone.objects) if f.damage]
            for mine in (v for v in repo.versions() if v.sealed):
                box = mine.bounds("a")
                np.testing.assert_array_equal(clone[mine.uuid].read("a", *box), mine.read("a", *box))


def _clone(source: str, target: Path) -> dict[str, object]:
    seed = str(random.randrange(10**6))
    command = [sys.executable, "-m", "tests.crash.cloner", source, str(target), seed, "10"]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2])
    print("seed", seed)
    return json.loads(found.stdout)
