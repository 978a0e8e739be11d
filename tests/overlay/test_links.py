"""Symbolic links: a repo may be reached by one, but inside it none is followed out, sealed, or written through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.errors import InvalidInputError, SealedError, StorageError
from vzarr.overlay.care.verify import verify
from vzarr.overlay.views.rootview import RootView

ONES = np.ones((4, 4), "u1")


@pytest.fixture(params=["root", "child"])
def version(request: pytest.FixtureRequest, file_repo: vzarr.Repo) -> vzarr.Version:
    """An open version with an array of its own."""
    version = file_repo.root if request.param == "root" else file_repo.root.commit().newversion()
    version.create_array("g/a", dtype="u1", chunks=(4, 4), shape=(8, 8), dimension_names=None)
    version.write_chunks("g/a", {(0, 0): ONES})
    return version


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Somebody else's array, chunks as in the version's, and a file."""
    array = zarr.create_array(tmp_path / "out/b", shape=(8, 8), chunks=(4, 4), dtype="u1", compressors=None)
    array[:] = 7
    (tmp_path / "out/file").write_bytes(bytes(16))
    return tmp_path / "out"


def folder(version: vzarr.Version) -> Path:
    """Where the version keeps the chunks of its array."""
    objects, view = version.repo.objects, version.view
    return Path(objects.path(view.own_folder(view.array("g/a"))))


def contents(at: Path) -> dict[str, bytes]:
    return {str(p.relative_to(at)): p.read_bytes() for p in at.rglob("*") if p.is_file()}


def to_file(at: Path, outside: Path) -> Path:
    at.symlink_to(outside / "file")
    return at


def to_folder(at: Path, outside: Path) -> Path:
    at.symlink_to(outside / "b")
    return at


def to_nothing(at: Path, outside: Path) -> Path:
    at.symlink_to(outside / "nosuch")
    return at


def to_itself(at: Path, _outside: Path) -> Path:
    at.symlink_to(at)
    return at


def to_above(at: Path, _outside: Path) -> Path:
    at.symlink_to(at.parent)
    return at


LINKS = [to_file, to_folder, to_nothing, to_itself, to_above]
Link = Callable[[Path, Path], Path]


def test_a_repo_may_be_reached_by_a_link(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with vzarr.create(str(tmp_path / "link/repo")) as repo:
        repo.root.create_array("a", dtype="u1", chunks=(4, 4), shape=(4, 4), dimension_names=None)
    (tmp_path / "repo").symlink_to(tmp_path / "disk/repo")
    with vzarr.open(str(tmp_path / "repo")) as repo:
        repo.root.write("a", (0, 0), ONES)
        assert list(repo.root.store.keys()) == ["a/c/0/0", "a/zarr.json", "zarr.json"]
        child = repo.root.commit().newversion()
        child.write("a", (0, 0), ONES * 2)
        child.rename("a", "b")
        child.commit()
        assert (repo["master"].zarr["b"][:] == 2).all()
        assert not list(verify(repo.objects))


@pytest.mark.parametrize("link", LINKS)
def test_none_is_sealed(version: vzarr.Version, outside: Path, link: Link):
    at = link(folder(version) / "c/1", outside)
    before = contents(outside)
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"links cannot be sealed: \S+/c/1;"):
            version.commit()
    assert not version.sealed
    assert [(f.name, f.key.rpartition("/")[2], f.damage) for f in verify(version.repo.objects) if f.name == "link"] == [
        ("link", "1", False)
    ]
    at.unlink()
    version.commit()
    assert (version.read("g/a", (0, 0), (4, 4)) == 1).all()
    assert not [f for f in verify(version.repo.objects) if f.damage or f.name == "link"]
    assert contents(outside) == before


@pytest.mark.parametrize("link", LINKS)
def test_nothing_behind_one_is_listed(version: vzarr.Version, outside: Path, link: Link):
    link(folder(version) / "c/1", outside)
    view = version.view
    link(Path(version.repo.objects.path(f"nodes/{version.uuid}/zarr/l")), outside)
    keys = set(version.store.keys())
    assert not [k for k in keys if k.startswith(("g/a/c/1/", "l/"))]
    assert keys >= {"g/a/c/0/0", "g/a/zarr.json"}
    assert set(dict(version.zarr["g"].members(max_depth=None))) == {"a"}
    assert set(view.entries) == {"", "g", "g/a"}
    assert version.chunk_coords("g/a").tolist() == [[0, 0]]


def test_what_one_leads_to_is_never_absent(version: vzarr.Version, outside: Path):
    chunks = folder(version) / "c/1"
    chunks.mkdir()
    to_file(chunks / "0", outside)
    assert version.store.read("g/a/c/1/0") == (bytes(16), 16)
    for link in (to_nothing, to_itself, to_folder):
        link(chunks / "1", outside)
        for read in (lambda: version.store.read("g/a/c/1/1"), lambda: version.read("g/a", (4, 4), (8, 8))):
            with pytest.raises(StorageError, match="symbolic link"):
                read()
        (chunks / "1").unlink()
    assert version.store.read("g/a/c/1/1") is None


@pytest.mark.parametrize("link", LINKS)
def test_a_write_replaces_one_and_leaves_what_it_led_to(version: vzarr.Version, outside: Path, link: Link):
    chunks, before = folder(version) / "c/1", contents(outside)
    chunks.mkdir()
    link(chunks / "0", outside)
    version.write_chunks("g/a", {(1, 0): ONES * 3})
    assert not (chunks / "0").is_symlink()
    link(chunks / "1", outside)
    version.delete_chunks("g/a", [(1, 1)])
    assert not (chunks / "1").is_symlink()
    assert contents(outside) == before
    assert version.commit().chunk_coords("g/a").tolist() == [[0, 0], [1, 0]]


def test_nothing_is_written_through_one(version: vzarr.Version, outside: Path):
    before = contents(outside)
    to_folder(folder(version) / "c/1", outside)
    refused = [
        lambda: version.write_chunks("g/a", {(1, 0): ONES}),
        lambda: version.delete_chunks("g/a", [(1, 0)]),
        lambda: version.store.write("g/a/c/1/1", b"1"),
    ]
    if isinstance(version.view, RootView):
        to_folder(folder(version).parent / "l", outside)
        refused += [
            lambda: version.store.write("g/l/zarr.json", b"{}"),
            lambda: version.store.delete_sync("g/l/zarr.json"),
            lambda: version.store.delete_below("g/l/c/0"),
        ]
    for change in refused:
        with pytest.raises(StorageError, match=r"(c/1|g/l) is a symbolic link"):
            change()
    assert contents(outside) == before


def test_a_folder_goes_with_its_links_and_without_what_they_lead_to(version: vzarr.Version, outside: Path):
    before = contents(outside)
    for n, link in enumerate(LINKS):
        link(folder(version) / f"c/l{n}", outside)
    del version.zarr["g/a"]
    assert contents(outside) == before
    assert not folder_is_there(version)
    version.commit()


def folder_is_there(version: vzarr.Version) -> bool:
    return any("/zarr/g/a" in key for key, _size in version.repo.objects.walk(f"nodes/{version.uuid}/zarr"))


def test_deleting_a_linked_folder_removes_the_link(file_repo: vzarr.Repo, outside: Path):
    root, before = file_repo.root, contents(outside)
    at = to_folder(Path(file_repo.objects.path(f"nodes/{root.uuid}/zarr/l")), outside)
    root.store.delete_below("l")
    assert not at.is_symlink()
    assert contents(outside) == before


def test_a_sealed_file_may_become_one_as_annexes_do(version: vzarr.Version, tmp_path: Path):
    at = folder(version) / "c/0/0"
    version.commit()
    at.rename(tmp_path / "annexed")
    at.symlink_to(tmp_path / "annexed")
    assert (version.read("g/a", (0, 0), (4, 4)) == 1).all()
    assert [(f.name, f.damage) for f in verify(version.repo.objects)] == [("link", False)]
    (tmp_path / "annexed").unlink()
    with pytest.raises(StorageError, match="symbolic link"):
        version.read("g/a", (0, 0), (4, 4))
    assert [f.name for f in verify(version.repo.objects) if f.damage] == ["object-unreadable", "chunk-unreadable"]
    with pytest.raises(SealedError):
        version.write_chunks("g/a", {(0, 0): ONES})
