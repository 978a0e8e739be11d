"""`vzarr index` and `vzarr agglomerate`, killed at any moment: done or not there, and done when run again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr.types import registry
from vzarr.types.labelmap import verify
from vzarr.types.labelmap.handle import LabelMap

pytestmark = pytest.mark.crash

WORK = """
import sys, numpy as np, vzarr
from vzarr.ingest import index
from vzarr.types.labelmap import agglomerate, pages
index.BATCH, pages.BULK = 3, 1
with vzarr.open(sys.argv[1]) as repo:
    seg = repo["master"]["seg"]
    print("at it", flush=True)
    if sys.argv[2] == "index":
        index.index_volume(seg, batch=3)
    else:
        seg.agglomerate(np.array([[sv, sv // 7 + 1000] for sv in range(1, 400)], np.uint64))
print("done", flush=True)
"""


def _run(place: Path, what: str, seconds: float | None = None) -> bool:
    """Whether the work was done before it was killed, so many seconds after it began."""
    child = subprocess.Popen([sys.executable, "-c", WORK, str(place), what], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "at it\n"
    if seconds is not None:
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
    said = child.stdout.read()
    child.stdout.close()
    child.wait()
    return said == "done\n"


def _seg(repo: vzarr.Repo) -> LabelMap:
    seg = repo["master"]["seg"]
    assert isinstance(seg, LabelMap)
    return seg


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A labelmap of 400 supervoxels whose voxels plain Zarr wrote."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
        array = _seg(repo).array()
        array.resize((96, 64, 64))
        cells = np.random.default_rng(5).permutation(np.arange(24 * 16 * 16)).reshape(24, 16, 16) % 401
        _seg(repo).array()[...] = np.kron(cells.astype(np.uint64), np.ones((4, 4, 4), np.uint64))
    return tmp_path / "repo"


def test_killed_while_indexing_and_agglomerating(place: Path):
    delays = [0.0, 0.1]
    for seconds in delays:
        done = _run(place, "index", seconds)
        with vzarr.open(str(place)) as repo:
            seg = _seg(repo)
            bodies = list(seg.list_bodies())
            assert bodies == [] or not verify.check_index(seg)
            assert bodies or not done
    assert _run(place, "index")
    with vzarr.open(str(place)) as repo:
        assert not verify.check_index(_seg(repo))
        assert len(list(_seg(repo).list_bodies())) == 400
    for seconds in delays:
        done = _run(place, "agglomerate", seconds)
        with vzarr.open(str(place)) as repo:
            moved = _seg(repo).lookup(np.arange(1, 400, dtype=np.uint64)) >= 1000
            assert moved.all() if done else moved.all() or not moved.any()
            assert not verify.check_index(_seg(repo))
    assert _run(place, "agglomerate")
    with vzarr.open(str(place)) as repo:
        assert not verify.check_index(_seg(repo))
        assert len(list(_seg(repo).list_bodies())) == 58 + 1
