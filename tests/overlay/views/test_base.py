"""Three kinds of version behind one face: where a chunk is looked for, what a marker is, what other processes did."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.errors import StorageError
from vzarr.overlay import layout
from vzarr.overlay.views.base import SealedView, is_marker
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.rootview import RootView

CHUNK = np.full((4, 4), 5, "u2")


@pytest.fixture
def root(repo: vzarr.Repo) -> vzarr.Version:
    repo.root.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    repo.root.write_chunks("a", {(0, 0): CHUNK, (1, 0): CHUNK})
    return repo.root


def places(version: vzarr.Version, coord: tuple[int, int]) -> tuple[str, ...]:
    return version.view.chunk_places(version.view.array("a"), coord)


def test_where_each_kind_looks(root: vzarr.Version):
    at_root = f"nodes/{root.uuid}/zarr/a/c/0/0"
    assert isinstance(root.view, RootView)
    assert places(root, (0, 0)) == (at_root,)
    child = root.commit().newversion()
    assert isinstance(root.view, SealedView)
    assert isinstance(child.view, OpenView)
    assert places(root, (0, 0)) == (at_root,)
    assert places(root, (7, 7)) == ()
    own = f"nodes/{child.uuid}/zarr/a/c/0/0"
    assert places(child, (0, 0)) == (own, at_root)
    child.write_chunks("a", {(0, 0): CHUNK})
    assert places(child.commit(), (0, 0)) == (own,)
    assert places(child, (1, 0)) == (f"nodes/{root.uuid}/zarr/a/c/1/0",)
    tip = child
    for _ in range(5):
        tip = tip.newversion().commit()
    assert places(tip, (0, 0)) == (own,)


def test_chunks_read_together_are_looked_for_where_they_can_be(root: vzarr.Version):
    at_root = [f"nodes/{root.uuid}/zarr/a/c/{y}/0" for y in range(2)]
    child = root.commit().newversion()
    view, entry = child.view, child.view.array("a")
    own = f"nodes/{child.uuid}/zarr/a/c/0/0"
    has_folders = child.repo.objects.path("") is not None
    find = view.finder(entry, [(0, 0), (1, 0)])
    assert find((0, 0)) == ((at_root[0],) if has_folders else (own, at_root[0]))
    assert len(find((7, 7))) == (0 if has_folders else 1)
    assert view.finder(entry, [(0, 0)])((0, 0)) == (own, at_root[0])
    child.write_chunks("a", {(1, 0): CHUNK + 1})
    assert view.finder(entry, [(0, 0), (1, 0)])((0, 0)) == (own, at_root[0])
    assert child.read("a", (0, 0), (8, 4))[::4, 0].tolist() == [5, 6]


def test_what_a_base_lost_is_missed_by_readers_of_regions_too(root: vzarr.Version):
    child = root.commit().newversion()
    assert child.read("a", (0, 0), (8, 4)).min() == 5
    root.repo.objects.delete(f"nodes/{root.uuid}/zarr/a/c/1/0")
    for read in (lambda: child.read("a", (0, 0), (8, 4)), lambda: list(child.read_chunks("a", [(0, 0), (1, 0)]))):
        with pytest.raises(StorageError, match="missing"):
            read()


def test_what_was_deleted_before_anything_was_written_is_gone_from_regions(root: vzarr.Version):
    child = root.commit().newversion()
    child.store.delete_below("a/c/1")
    assert child.read("a", (0, 0), (8, 4))[::4, 0].tolist() == [5, 0]


def test_only_the_whole_marker_is_one(root: vzarr.Version):
    objects = root.repo.objects
    for data, expected in [
        (layout.MARKER, True),
        (layout.MARKER[:-1] + b"\0", False),
        (layout.MARKER + b"\0", False),
        (b"", False),
    ]:
        objects.put("k", data)
        for found in (objects.fetch("k"), objects.fetch("k", 0, 0), objects.fetch("k", 3, 4)):
            assert is_marker(objects, "k", found) is expected


def test_a_version_that_another_process_seals_goes_on_being_read(root: vzarr.Version):
    child = root.commit().newversion()
    child.write_chunks("a", {(0, 1): CHUNK})
    with vzarr.open(root.url) as elsewhere:
        theirs = elsewhere[child.uuid]
        kept = theirs.view
        before = theirs.read("a", (0, 0), (8, 8))
        child.commit()
        assert np.array_equal(theirs.read("a", (0, 0), (8, 8)), before)
        assert kept.array("a") is not None
        assert kept.chunk_owner(kept.array("a"), (0, 1)) == child.uuid


def test_a_lost_loose_key_is_an_error(root: vzarr.Version):
    root.store.write("notes", b"1")
    child = root.commit().newversion()
    root.repo.objects.delete(f"nodes/{root.uuid}/zarr/notes")
    with pytest.raises(StorageError, match="notes"):
        child.store.read("notes")
    assert child.store.read("others") is None


def test_foreign_files_in_an_open_root_are_part_of_it(file_repo: vzarr.Repo):
    """An open root is plain Zarr: any tool may write it until it is sealed."""

    folder = file_repo.objects.path(layout.zarr(file_repo.uuid))
    array = zarr.open_group(folder, mode="r+").create_array("by/zarr", shape=(4, 4), chunks=(2, 2), dtype="u1")
    array[...] = 3
    assert (file_repo.root.read("by/zarr", (0, 0), (4, 4)) == 3).all()
    child = file_repo.root.commit().newversion()
    assert (child.zarr["by/zarr"][...] == 3).all()
    assert child.owners("by/zarr", [(1, 1)]) == [file_repo.uuid]
