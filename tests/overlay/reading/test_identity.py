"""Names of chunks' bytes: the same for the same bytes, another one as soon as they are others."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr.overlay.objects.files import SETTLED_NS
from vzarr.overlay.reading.identity import Chunk, identify

COORD = (0, 0, 0)


def block(value: int) -> np.ndarray:
    return np.full((8, 8, 8), value, np.uint64)


def chunk(version: vzarr.Version) -> Chunk | None:
    entry = version.view.array("a")
    assert entry is not None
    return identify(version.view, entry, COORD)


def value(found: Chunk) -> int | None:
    return found.visit(lambda voxels: int(voxels[0, 0, 0]))


def age(folder: Path) -> None:
    """Wait until every file is old enough to have a name; what counts is when it was changed, which nobody can set."""
    newest = max(p.stat().st_ctime_ns for p in folder.rglob("*") if p.is_file())
    time.sleep(max(0, newest + SETTLED_NS + 50_000_000 - time.time_ns()) / 1e9)


@pytest.fixture
def root(tmp_path: Path) -> vzarr.Version:
    root = vzarr.create(str(tmp_path / "repo")).root
    root.create_array("a", dtype="uint64", chunks=(8, 8, 8), codecs="labels")
    root.write_chunks("a", {COORD: block(1)})
    return root


def test_a_sealed_chunk_has_one_name_in_every_version_that_inherits_it(root: vzarr.Version):
    root.commit()
    first, second = root.newversion(), root.branch("other")
    found = chunk(root)
    assert found is not None
    assert value(found) == 1
    for heir in (first, second):
        assert chunk(heir).name == found.name
        assert value(chunk(heir)) == 1


def test_an_overwrite_gives_another_name_at_once(root: vzarr.Version, tmp_path: Path):
    root.commit()
    child = root.newversion()
    before = chunk(child)
    child.write_chunks("a", {COORD: block(2)})
    assert chunk(child) is None, "too young to be told from what may follow"
    age(tmp_path)
    after = chunk(child)
    assert after.name != before.name
    assert (value(before), value(after)) == (1, 2)
    child.write_chunks("a", {COORD: block(3)})
    age(tmp_path)
    assert chunk(child).name != after.name
    assert value(after) is None, "these bytes are gone"


def test_a_file_with_old_times_is_no_old_file(root: vzarr.Version, tmp_path: Path):
    age(tmp_path)
    before = chunk(root)
    file = next(p for p in (tmp_path / "repo").rglob("c/0/0/0"))
    times = file.stat()
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert chunk(root) is None
    age(tmp_path)
    assert chunk(root).name != before.name


def test_absent_deleted_and_remote_chunks_have_no_name(root: vzarr.Version):
    root.commit()
    child = root.newversion()
    assert identify(child.view, child.view.array("a"), (5, 5, 5)) is None
    child.delete_chunks("a", [COORD])
    assert chunk(child) is None
    memory = vzarr.create("memory://identity").root
    memory.create_array("a", dtype="uint64", chunks=(8, 8, 8))
    memory.write_chunks("a", {COORD: block(1)})
    assert chunk(memory) is None
    memory.commit()
    assert value(chunk(memory)) == 1


def test_a_repo_made_where_one_was_has_other_names(tmp_path: Path):
    def made(value: int) -> Chunk:
        repo = vzarr.create(str(tmp_path / "repo"), root="00000000000000000000000000000001")
        repo.root.create_array("a", dtype="uint64", chunks=(8, 8, 8))
        repo.root.write_chunks("a", {COORD: block(value)})
        repo.root.commit()
        return chunk(repo.root)

    first = made(1)
    (tmp_path / "repo").rename(tmp_path / "away")
    assert made(2).name != first.name
