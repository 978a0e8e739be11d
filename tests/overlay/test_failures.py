"""Absent, deleted and failed are three things: a chunk that cannot be read is an error, whoever asks and however.

Failures are real ones: the chunk's file becomes a symbolic link to itself, which no user can open.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vzarr
from vzarr.errors import StorageError
from vzarr.overlay.fsspec import VersionFileSystem

BROKEN, ABSENT, DELETED, WHOLE = (0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)
"""Chunks, zyx."""
FILL, VALUE = 9, 5
STATES = ["open root", "sealed root", "inherited by an open child", "own of an open child", "sealed child", "heir"]


def _read(version: vzarr.Version, chunk: tuple[int, ...]) -> Any:
    lo = [4 * c for c in chunk]
    return version.read("a", lo, [n + 4 for n in lo])


def _read_chunks(version: vzarr.Version, chunk: tuple[int, ...]) -> Any:
    found = next(iter(version.read_chunks("a", [chunk])))[1]
    return np.full((4, 4, 4), FILL) if found is None else found


def _zarr(version: vzarr.Version, chunk: tuple[int, ...]) -> Any:
    return version.zarr["a"].blocks[chunk]


READERS: list[Callable[[vzarr.Version, tuple[int, ...]], Any]] = [_read, _read_chunks, _zarr]


@pytest.fixture(params=STATES)
def version(request: pytest.FixtureRequest, file_repo: vzarr.Repo) -> vzarr.Version:
    """A version of each kind with a whole, an absent, a deleted and a broken chunk."""
    root, state = file_repo.root, request.param
    root.create_array("a", dtype="u1", chunks=(4, 4, 4), shape=(8, 8, 8), fill_value=FILL)
    owner = root
    if state in ("own of an open child", "sealed child"):
        root.write("a", (0, 4, 0), np.full((4, 4, 4), VALUE, "u1"))
        owner = root.commit().newversion()
    for chunk in (BROKEN, DELETED, WHOLE):
        owner.write_chunks("a", {chunk: np.full((4, 4, 4), VALUE, "u1")})
    owner.delete_chunks("a", [DELETED])
    found = owner
    if state in ("sealed root", "inherited by an open child", "heir"):
        found = owner.commit()
    if state == "inherited by an open child":
        found = owner.newversion()
    if state == "heir":
        found = owner.newversion().commit().newversion().commit()
    if state == "sealed child":
        owner.commit()
    view = owner.view
    path = Path(file_repo.objects.path(view.storage.chunk_key(owner.uuid, view.array("a"), BROKEN)))
    path.unlink()
    path.symlink_to(path)
    return found


@pytest.mark.parametrize("read", READERS)
def test_a_chunk_that_cannot_be_read_is_an_error(version: vzarr.Version, read: Callable[..., Any]):
    with pytest.raises(StorageError, match="could not read"):
        read(version, BROKEN)
    assert (read(version, WHOLE) == VALUE).all()
    assert (read(version, ABSENT) == FILL).all()
    assert (read(version, DELETED) == FILL).all()


def test_a_region_with_such_a_chunk_is_an_error(version: vzarr.Version):
    with pytest.raises(StorageError):
        version.read("a", (0, 0, 0), (8, 8, 8))
    with pytest.raises(StorageError):
        version.zarr["a"][:]


def test_it_is_not_taken_for_missing_by_the_mapper(version: vzarr.Version):
    files = VersionFileSystem(version)
    with pytest.raises(StorageError):
        files.cat_file("a/c/0/0/0")
    with pytest.raises(FileNotFoundError):
        files.cat_file("a/c/0/0/1")
    with pytest.raises(FileNotFoundError):
        files.cat_file("a/c/0/1/0")
    mapper = files.get_mapper("")
    assert "a/c/0/0/1" not in mapper
    with pytest.raises(StorageError):
        mapper["a/c/0/0/0"]


@pytest.mark.parametrize("state", ["sealed root", "heir", "open child"])
def test_an_owned_chunk_that_is_gone_is_no_absent_one(file_repo: vzarr.Repo, state: str):
    root = file_repo.root
    root.create_array("a", dtype="u1", chunks=(4,), shape=(8,), dimension_names=None)
    root.write("a", (0,), np.full(8, VALUE, "u1"))
    version = root.commit()
    Path(file_repo.objects.path(f"nodes/{root.uuid}/zarr/a/c/1")).unlink()
    if state != "sealed root":
        version = version.newversion()
    if state == "heir":
        version.commit()
    for read in (lambda: version.read("a", (0,), (8,)), lambda: version.zarr["a"][:]):
        with pytest.raises(StorageError, match="missing"):
            read()


def test_a_write_that_fails_is_an_error_and_the_old_chunk_stays(file_repo: vzarr.Repo):
    root = file_repo.root
    root.create_array("a", dtype="u1", chunks=(4,), shape=(8,), dimension_names=None)
    root.write("a", (0,), np.full(4, VALUE, "u1"))
    folder = Path(file_repo.objects.path(f"nodes/{root.uuid}/zarr/a/c"))
    (folder / "1").mkdir()
    (folder / "1" / "in the way").touch()
    with pytest.raises(StorageError, match="could not write"):
        root.write("a", (4,), np.full(4, 1, "u1"))
    assert root.read("a", (0,), (4,)).tolist() == [VALUE] * 4
