"""Garbage is what no version needs, old enough to be nobody's work under way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.overlay import layout
from vzarr.overlay.adopt import adopt_volume
from vzarr.overlay.care import gc
from vzarr.overlay.care.verify import verify
from vzarr.overlay.sources.formats import open_volume

ONES = np.ones((2, 2, 2), "u1")


def folder(repo: vzarr.Repo) -> Path:
    return Path(repo.url.removeprefix("file://"))


def places(repo: vzarr.Repo, grace: float = 3600, **options: bool) -> set[tuple[str, str]]:
    return {(g.kind, g.place) for g in repo.garbage(grace, **options)}


def leave(repo: vzarr.Repo, key: str, age: float = 7200) -> Path:
    """Put an object there that was last touched some seconds ago, and so its folder."""
    path = folder(repo) / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left")
    then = time.time() - age
    for each in (path, path.parent, path.parent.parent):
        os.utime(each, (then, then))
    return path


def test_a_repo_in_use_has_none(repo: vzarr.Repo):
    repo.root.create_array("a", dtype="u1", chunks=(2, 2, 2))
    repo.root.write_chunks("a", {(0, 0, 0): ONES})
    child = repo.root.commit().newversion()
    child.write_chunks("a", {(0, 0, 1): ONES})
    assert repo.garbage(0) == []
    child.commit().tag("v1")
    assert repo.garbage(0) == []


def test_folders_that_the_log_does_not_know(file_repo: vzarr.Repo):
    leave(file_repo, "nodes/lost/seal.json")
    leave(file_repo, "nodes/fresh/base.json", age=0)
    assert places(file_repo) == {("node", "nodes/lost")}
    assert places(file_repo, 0) == {("node", "nodes/lost"), ("node", "nodes/fresh")}
    assert (folder(file_repo) / "nodes/lost").exists()
    file_repo.garbage(3600, delete=True)
    assert not (folder(file_repo) / "nodes/lost").exists()
    assert (folder(file_repo) / "nodes/fresh").exists()


def test_a_folder_in_which_one_object_is_new_is_left_alone(file_repo: vzarr.Repo):
    leave(file_repo, "nodes/busy/tree.json")
    (folder(file_repo) / "nodes/busy/base.json").write_bytes(b"new")
    assert places(file_repo) == set()


def test_journals_of_writers_that_are_gone(file_repo: vzarr.Repo):
    file_repo.root.create_array("a", dtype="u1", chunks=(2, 2, 2))
    file_repo.root.commit()
    child = file_repo.root.newversion()
    journal = f"{layout.node(child.uuid)}/journal"
    leave(file_repo, f"{journal}/dead/x")
    leave(file_repo, f"{layout.aside(child.uuid, 'later')}/0_0_0")
    leave(file_repo, f"{layout.node(file_repo.uuid)}/journal/late/x", age=0)
    with child.writing():
        (living,) = file_repo.authority.leases(child.uuid)
        leave(file_repo, f"{journal}/{living}/x")
        assert places(file_repo, delete=True) == {
            ("journal", f"{journal}/dead"),
            ("journal", f"{layout.node(file_repo.uuid)}/journal/late"),
        }
    left = {p.name for p in (folder(file_repo) / journal).iterdir()}
    assert left == {living, "aside-later"}


def test_checkpoints_but_the_newest(file_repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    for number in (255, 511, 767):
        leave(file_repo, layout.checkpoint(number))
    assert places(file_repo) == {("checkpoint", layout.checkpoint(255))}


def test_rows_that_a_commit_did_not_come_to_forget(repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    child = repo.root.commit().newversion()
    child.create_array("a", dtype="u1", chunks=(2, 2, 2))
    monkeypatch.setattr(type(repo.authority), "finish_close", lambda self, node, **_: None)
    child.commit()
    monkeypatch.undo()
    assert places(repo, delete=True) == {("rows", child.uuid)}
    assert repo.garbage(0) == []
    assert child.has_array("a")
    with vzarr.open(repo.url) as again:
        assert again[child.uuid].has_array("a")


def test_nothing_that_a_version_needs_is_removed(file_repo: vzarr.Repo):
    root = file_repo.root
    root.create_array("a", dtype="u1", chunks=(2, 2, 2))
    root.write_chunks("a", {(0, 0, 0): ONES})
    root.store.write("notes.txt", b"x")
    left, right = root.commit().newversion(), root.branch("side")
    for version, coord in ((left, (0, 0, 1)), (right, (0, 1, 0))):
        version.write_chunks("a", {coord: ONES})
        version.commit()
    file_repo.merge([left, right]).write_chunks("a", {(1, 0, 0): ONES})
    leave(file_repo, "tmp/x")
    assert places(file_repo, 0, delete=True) == {("unfinished", "tmp/x")}
    assert list(verify(file_repo.objects)) == []
    assert len(file_repo["master"].chunk_coords("a")) == 4


def test_pins_of_adoptions_that_were_cut_off(file_repo: vzarr.Repo, tmp_path: Path):
    source = tmp_path / "source.zarr"
    zarr.create_array(source, shape=(4, 4, 4), chunks=(2, 2, 2), dtype="u1")[:] = 1
    for name in ("kept", "dropped"):
        os.utime(source / "zarr.json", (len(name), len(name)))  # each its own pins
        adopt_volume(file_repo.root, name, open_volume(str(source)), pin="stamp")
    pins = {p.name: p for p in (folder(file_repo) / "nodes" / file_repo.uuid / "pins").iterdir()}
    assert len(pins) == 2
    assert places(file_repo, 0) == set()
    file_repo.root.store.delete_below("dropped")
    assert places(file_repo) == set()
    ((kind, place),) = places(file_repo, 0, delete=True)
    assert (kind, pins.pop(Path(place).name).exists()) == ("pins", False)
    assert [p.exists() for p in pins.values()] == [True]
    os.utime(source / "zarr.json", (4, 4))
    assert (file_repo.root.read("kept/0", (0, 0, 0), (4, 4, 4)) == 1).all()
    adopt_volume(file_repo.root, "again", open_volume(str(source)), pin="hash")
    file_repo.root.store.delete_below("again")
    found = file_repo.garbage(0)
    file_repo.root.commit()
    gc.remove(file_repo.objects, file_repo.authority, found)  # too late: the seal counts them
    assert places(file_repo, 0) == set()
    assert [f for f in verify(file_repo.objects) if f.kind != "source-unpinned"] == []
