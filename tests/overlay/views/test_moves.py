"""A rename in an open root that is cut off anywhere: whoever looks next finishes it, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.errors import StorageError
from vzarr.overlay.care.verify import verify
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.objects.files import FileObjects

SHAPE = (8, 8, 8)
ONES = np.ones((4, 4, 4), "u1")
Move = Callable[[FileObjects, str, str], None]


def before(_objects: FileObjects, _source: str, _target: str) -> None:
    raise KeyboardInterrupt


def halfway(objects: FileObjects, source: str, target: str) -> None:
    """As on an object store: some objects are at both places."""
    keys = [key for key, _ in objects.walk(source)]
    for key in keys[: len(keys) // 2]:
        objects.put(target + key[len(source) :], objects.get(key))
    raise KeyboardInterrupt


def nearly(objects: FileObjects, source: str, target: str) -> None:
    """All are at the new place, and some still at the old one."""
    keys = [key for key, _ in objects.walk(source)]
    copy(objects, source, target)
    for key in keys[::2]:
        objects.delete(key)
    raise KeyboardInterrupt


def after(objects: FileObjects, source: str, target: str, real: Move = FileObjects.rename_tree) -> None:
    real(objects, source, target)
    raise KeyboardInterrupt


def copy(objects: FileObjects, source: str, target: str) -> None:
    """Move as an object store does, one object after the other."""
    keys = [key for key, _ in objects.walk(source)]
    for key in keys:
        objects.put(target + key[len(source) :], objects.get(key))
    for key in keys:
        objects.delete(key)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repo whose open root has a group of a plain array, an adopted one and one below voxel 0."""
    source = zarr.create_array(tmp_path / "source.zarr", shape=SHAPE, chunks=(4, 4, 4), dtype="u1")
    source[:] = 5
    with vzarr.create(str(tmp_path / "repo")) as repo:
        root = repo.root
        for name in ("plain", "below"):
            root.create_array(f"g/{name}/0", dtype="u1", chunks=(4, 4, 4), shape=SHAPE)
            root.write(f"g/{name}/0", (0, 0, 0), ONES)
        root.write("g/below/0", (-4, 0, 0), 2 * ONES)
        repo.adopt("em", str(tmp_path / "source.zarr"), typename="zarr")
        root.rename("em", "g/em")
        root.write("g/em/0", (0, 0, 0), 3 * ONES)
    return tmp_path / "repo"


def check(version: vzarr.Version, group: str, gone: str) -> None:
    assert {f"{group}/{n}/0" for n in ("plain", "below", "em")} == {
        p for p, e in version.view.entries.items() if isinstance(e, ArrayEntry)
    }
    assert not list(version.store.keys(gone))
    assert version.read(f"{group}/plain/0", (0, 0, 0), (4, 4, 4)).all()
    assert (version.read(f"{group}/below/0", (-4, 0, 0), (0, 4, 4)) == 2).all()
    assert (version.read(f"{group}/em/0", (0, 0, 0), (4, 4, 4)) == 3).all()
    assert (version.zarr[f"{group}/em/0"][4:] == 5).all()


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("cut", [before, halfway, nearly, after])
def test_a_rename_that_was_cut_off_is_finished(folder: Path, cut: Move, sealed: bool, monkeypatch: pytest.MonkeyPatch):
    with vzarr.open(str(folder)) as repo, monkeypatch.context() as patch:
        patch.setattr(FileObjects, "rename_tree", cut)
        with pytest.raises(KeyboardInterrupt):
            repo.root.rename("g", "moved/here")
    if cut in (halfway, nearly):
        monkeypatch.setattr(FileObjects, "rename_tree", copy)
    with vzarr.open(str(folder)) as repo:
        check(repo.root.commit() if sealed else repo.root, "moved/here", "g/")
        if sealed:
            assert not [f for f in verify(repo.objects) if f.damage]
        else:
            repo.root.rename("moved/here", "again")
            check(repo.root, "again", "moved/here/")


def test_a_rename_that_fails_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_objects: FileObjects, _source: str, _target: str) -> None:
        raise StorageError("no room")

    with vzarr.open(str(folder)) as repo:
        with monkeypatch.context() as patch:
            patch.setattr(FileObjects, "rename_tree", fail)
            with pytest.raises(StorageError, match="no room"):
                repo.root.rename("g", "moved")
        check(repo.root, "g", "moved/")
    with vzarr.open(str(folder)) as repo:
        check(repo.root, "g", "moved/")
        repo.root.rename("g", "moved")
        check(repo.root, "moved", "g/")
