"""A full disk: what was acknowledged is there, what failed says so, and with room again the next attempt succeeds."""

from __future__ import annotations

import errno
import json
import re
import sys
from pathlib import Path

import numpy as np

import vzarr
from tests.crash.full_disk import block
from tests.namespaces import run_apart
from vzarr.overlay.care.verify import verify

SCRIPT = """
mount -t tmpfs -o size=2m tmpfs "$1"
"$2" -m tests.crash.full_disk "$1"
cp -r "$1/repo" "$3"
"""


def test_nothing_acknowledged_is_lost(tmp_path: Path):
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    ran = run_apart(small, SCRIPT, small, sys.executable, kept)
    assert ran.returncode == 0, ran.stderr
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    failures = [line for line in said if "failed" in line]
    assert [f["failed"] for f in failures] in (["write"], ["write", "commit"])
    assert {f["errno"] for f in failures} == {errno.ENOSPC}
    assert all(re.search("No space left|disk is full", f["message"]) for f in failures)
    acknowledged = [line["chunk"] for line in said if "chunk" in line]
    assert len(acknowledged) > 100
    _look(kept, acknowledged)


def _look(folder: Path, acknowledged: list[int]) -> None:
    with vzarr.open(str(folder)) as repo:
        assert not [f for f in verify(repo.objects) if f.damage]
        tip = repo["master"]
        assert tip.sealed
        for number, voxels in tip.read_chunks("a", [(n, 0, 0) for n in acknowledged]):
            assert np.array_equal(voxels, block(number[0]))
        assert len(tip.chunk_coords("a")) == len(acknowledged) + 1
