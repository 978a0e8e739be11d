"""What differs between two versions: against what was done, and against comparing every chunk's owner."""

from __future__ import annotations

import itertools
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vzarr
from vzarr.overlay.compare import diff
from vzarr.overlay.compare.diff import CHANGED, CREATED, REMOVED, RENAMED, REPLACED, boxes_of

CHUNK = (2, 2, 2)
ONES = np.ones(CHUNK, "u1")


def array(version: vzarr.Version, path: str = "a", *coords: tuple[int, int, int]) -> None:
    version.create_array(path, dtype="u1", chunks=CHUNK)
    version.write_chunks(path, dict.fromkeys(coords, ONES))


def rows(coords: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(c) for c in coords.tolist()}


@pytest.fixture(params=["sealed", "open"])
def sealing(request: pytest.FixtureRequest):
    """Commits a version, or leaves it open."""
    return (lambda v: v.commit()) if request.param == "sealed" else (lambda v: v)


def test_a_version_does_not_differ_from_itself(repo: vzarr.Repo):
    array(repo.root, "a", (0, 0, 0))
    assert not repo.diff(repo.root, repo.root)
    repo.root.commit()
    assert not repo.diff("master", repo.root)
    assert not repo.diff(repo.root, repo.root.newversion())


def test_chunks_are_told_by_what_happened_to_them(repo: vzarr.Repo, sealing):
    array(repo.root, "a", (0, 0, 0), (0, 0, 1), (-3, 0, 40))
    child = repo.root.commit().newversion()
    child.write_chunks("a", {(0, 0, 1): ONES, (5, 5, 5): ONES})
    child.delete_chunks("a", [(0, 0, 0)])
    found = repo.diff(repo.root, sealing(child))
    assert [(p.path, p.kind) for p in found.paths] == [("a", CHANGED)]
    chunks = found["a"].chunks
    assert rows(chunks.added) == {(5, 5, 5)}
    assert rows(chunks.removed) == {(0, 0, 0)}
    assert rows(chunks.rewritten) == {(0, 0, 1)}
    assert sorted(chunks.boxes) == [((0, 0, 0), (2, 2, 4)), ((10, 10, 10), (12, 12, 12))]
    back = repo.diff(child, repo.root)["a"].chunks
    assert (rows(back.added), rows(back.removed)) == (rows(chunks.removed), rows(chunks.added))


def test_an_open_version_counts_with_its_own_folder(repo: vzarr.Repo):
    array(repo.root, "a", (0, 0, 0))
    child = repo.root.commit().newversion()
    assert not repo.diff(repo.root, child)
    child.write_chunks("a", {(0, 0, 0): ONES})
    assert rows(repo.diff(repo.root, child)["a"].chunks.coords) == {(0, 0, 0)}
    child.zarr.store.delete_below("a/c/0")
    assert rows(repo.diff(repo.root, child)["a"].chunks.removed) == {(0, 0, 0)}


def test_arrays_come_go_move_and_are_made_anew(repo: vzarr.Repo, sealing):
    for path in ("gone", "old", "again", "kept"):
        array(repo.root, path, (0, 0, 0))
    child = repo.root.commit().newversion()
    child.store.delete_below("gone")
    child.rename("old", "new")
    child.store.delete_below("again")
    child.create_array("again", dtype="u2", chunks=CHUNK)
    array(child, "made", (0, 0, 0), (0, 0, 1))
    found = repo.diff(repo.root, sealing(child))
    kinds = {p.path: p.kind for p in found.paths}
    assert kinds == {"gone": REMOVED, "new": RENAMED, "again": REPLACED, "made": CREATED}
    assert found["new"].before["path"] == "old"
    assert len(found["new"].chunks) == 0
    assert (found["again"].before["dtype"], found["again"].after["dtype"]) == ("uint8", "uint16")
    assert rows(found["gone"].chunks.removed) == {(0, 0, 0)}
    assert rows(found["made"].chunks.added) == {(0, 0, 0), (0, 0, 1)}


def test_paths_that_change_places_are_renames(repo: vzarr.Repo):
    array(repo.root, "x")
    array(repo.root, "y")
    child = repo.root.commit().newversion()
    child.rename("x", "z")
    child.rename("y", "x")
    found = repo.diff(repo.root, child)
    assert {(p.before["path"], p.path, p.kind) for p in found.paths} == {("x", "z", RENAMED), ("y", "x", RENAMED)}


def test_attributes_sizes_and_other_metadata_are_told_apart(repo: vzarr.Repo, sealing):
    array(repo.root, "a", (0, 0, 0))
    repo.root.zarr["a"].attrs["unit"] = "nm"
    child = repo.root.commit().newversion()
    child.zarr["a"].attrs.update({"unit": "um", "by": "ada"})
    child.zarr.attrs["title"] = "t"
    child.grow("a", (2, 0, 0), (0, 0, 3))
    found = repo.diff(repo.root, sealing(child))
    assert found["a"].attributes == {"unit": ("nm", "um"), "by": (None, "ada")}
    assert found[""].attributes == {"title": (None, "t")}
    assert found["a"].resized
    assert (found["a"].before["origin"], found["a"].after["origin"]) == ([0, 0, 0], [-2, 0, 0])
    assert not found["a"].metadata
    assert len(found["a"].chunks) == 0


def test_loose_keys(repo: vzarr.Repo, sealing):
    for key in ("same.txt", "gone.txt", "changed.txt"):
        repo.root.store.write(key, b"1")
    child = repo.root.commit().newversion()
    child.store.write("changed.txt", b"2")
    child.store.write("new.txt", b"3")
    child.store.delete_sync("gone.txt")
    assert repo.diff(repo.root, sealing(child)).loose == {
        "changed.txt": CHANGED,
        "gone.txt": REMOVED,
        "new.txt": CREATED,
    }


def test_keys_are_counted_once_however_often_they_were_written(repo: vzarr.Repo):
    info = repo.record_instance(repo.root, "notes", "keyvalue")
    repo.root.transact(info, lambda tx: tx.put(b"a", b"0"))
    left = repo.root.commit().newversion()
    right = repo.root.branch("side")
    left.transact(info, lambda tx: tx.put(b"a", b"1"))
    right.transact(info, lambda tx: [tx.put(b"a", b"2"), tx.put(b"b", b"2")])
    assert repo.diff(left, right).keys == {"notes": 2}
    assert repo.diff(repo.root, left).keys == {"notes": 1}


def test_shared_pages_are_not_opened(file_repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    array(file_repo.root, "a", *((z, 0, 0) for z in range(0, 320, 16)))
    child = file_repo.root.commit().newversion()
    child.write_chunks("a", {(16, 0, 0): ONES})
    child.commit()
    with vzarr.open(file_repo.url) as fresh:
        opened = []
        page = type(fresh._storage.pages).page
        monkeypatch.setattr(type(fresh._storage.pages), "page", lambda self, r: opened.append(r) or page(self, r))
        assert rows(fresh.diff(fresh.root, "master")["a"].chunks.coords) == {(16, 0, 0)}
    assert len(set(opened)) == 2


coordinate = st.tuples(*[st.integers(-3, 3)] * 3)


@given(st.sets(coordinate, max_size=40))
def test_boxes_cover_exactly_the_coordinates(coords: set[tuple[int, int, int]]):
    lo, hi = boxes_of(np.array(sorted(coords), np.int64).reshape(-1, 3))
    covered = [
        c
        for a, b in zip(lo.tolist(), hi.tolist(), strict=True)
        for c in itertools.product(*(range(*r) for r in zip(a, b, strict=True)))
    ]
    assert sorted(covered) == sorted(coords)


def test_a_full_block_is_one_box():
    lo, hi = boxes_of(np.argwhere(np.ones((3, 4, 5))))
    assert (lo.tolist(), hi.tolist()) == ([[0, 0, 0]], [[3, 4, 5]])


edits = st.lists(st.tuples(st.booleans(), st.sets(coordinate, min_size=1, max_size=6)), max_size=4)


@given(edits, edits)
def test_it_is_what_comparing_every_owner_gives(left, right):
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        array(repo.root, "a", (0, 0, 0), (1, 1, 1), (-1, 2, 0))
        repo.root.commit()
        tips = []
        for branch, steps in (("l", left), ("r", right)):
            version = repo.root.branch(branch)
            for delete, coords in steps:
                if delete:
                    version.delete_chunks("a", coords)
                else:
                    version.write_chunks("a", dict.fromkeys(coords, ONES))
                if len(coords) % 2:
                    version = version.commit().newversion()
            tips.append(version)
        everywhere = list(itertools.product(range(-4, 5), repeat=3))
        owners = [v.owners("a", everywhere) for v in tips]
        differ = {c for c, x, y in zip(everywhere, *owners, strict=True) if x != y}
        found = repo.diff(*tips)
        chunks = {p.path: p.chunks for p in found.paths}.get("a")
        assert rows(chunks.coords if chunks is not None else np.zeros((0, 3), int)) == differ
        assert diff.Diff.to_json(found)["a"] == tips[0].uuid
