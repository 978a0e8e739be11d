"""A repo in a folder that cannot be written, such as an archive: sealed versions are read, all else says why not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import vzarr
from tests.namespaces import run_apart
from vzarr.cli import main

SCRIPT = """
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
"$2" -m tests.overlay.test_unwritable "$1"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repo with a sealed root and an open child."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.root.create_array("a", dtype="u1", chunks=(4,), shape=(8,), dimension_names=None)
        repo.root.write("a", (0,), np.arange(8, dtype="u1"))
        repo.root.transact(repo.record_instance(repo.root, "notes", "keyvalue"), lambda tx: tx.put(b"k", b"v"))
        child = repo.root.commit().newversion()
        child.write("a", (0,), np.full(4, 9, "u1"))
    return tmp_path / "repo"


def test_sealed_versions_are_read_and_nothing_else(folder: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    ran = run_apart(tmp_path / "empty", SCRIPT, folder, sys.executable)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["sealed"] == list(range(8))
    assert said["sealed, by zarr"] == list(range(8))
    assert said["sealed key"] == "v"
    assert said["verify"] == 0
    for refused in ("open version", "write", "commit"):
        name, message = said[refused]
        assert name == "AuthorityUnavailableError"
        assert "master@sealed" in message
    assert said["branch"][0] == "AuthorityUnavailableError"
    assert said["ingest"] == 1


def _attempts(folder: str) -> dict[str, object]:
    said: dict[str, object] = {}
    with vzarr.open(folder) as repo:
        root = repo["master@sealed"]
        said["sealed"] = root.read("a", (0,), (8,)).tolist()
        said["sealed, by zarr"] = root.zarr["a"][:].tolist()
        said["sealed key"] = root.keys("notes").get(b"k").decode()
        attempts = {
            "open version": lambda: repo["master"].read("a", (0,), (8,)),
            "write": lambda: repo["master"].write("a", (0,), np.zeros(4, "u1")),
            "commit": lambda: repo["master"].commit(),
            "branch": lambda: root.branch("side"),
        }
        for name, attempt in attempts.items():
            try:
                attempt()
            except vzarr.errors.VzarrError as e:
                said[name] = [type(e).__name__, str(e)]
    said["verify"] = main(["verify", folder, "--json"])
    said["ingest"] = main(["newversion", folder])
    return said


if __name__ == "__main__":
    print(json.dumps(_attempts(sys.argv[1])))
