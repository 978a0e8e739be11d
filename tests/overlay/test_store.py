"""What only this Store promises: handles that keep their window, other processes' changes, keys that lead nowhere."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.errors import InvalidInputError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.care.rebuild import rebuild_version
from vzarr.overlay.care.verify import verify
from vzarr.overlay.fsspec import VersionFileSystem

DATA = np.arange(64, dtype="u2").reshape(8, 8) + 1


@pytest.fixture
def painted(version: vzarr.Version) -> vzarr.Version:
    """An open version with an array ``a`` of four chunks at the origin."""
    version.create_array("a", dtype="u2", chunks=(4, 4), codecs=(), dimension_names=None)
    version.write("a", (0, 0), DATA)
    return version


@pytest.mark.parametrize(
    "key", ["../seal.json", "a/../a/zarr.json", "a//zarr.json", "/a", "a/", "", ".", "a/./b", "a\0b"]
)
def test_keys_that_lead_out_are_absent_and_cannot_be_set(painted: vzarr.Version, key: str):
    store = painted.store
    assert store.read(key) is None
    for change in (lambda: store.write(key, b"1"), lambda: store.delete_sync(key)):
        with pytest.raises(InvalidInputError, match="is no key"):
            change()


def test_the_bytes_of_the_deletion_marker_are_refused_as_a_chunk(painted: vzarr.Version):
    with pytest.raises(InvalidInputError, match="mark a deleted chunk"):
        painted.store.write("a/c/0/0", layout.MARKER)
    painted.store.write("notes", layout.MARKER)
    assert painted.store.read("notes")[0] == layout.MARKER
    assert np.array_equal(painted.zarr["a"][...], DATA)


def test_a_handle_keeps_its_window_while_the_array_grows_before_it(painted: vzarr.Version):
    handle = painted.store
    array = zarr.open_array(handle, path="a", mode="r+")
    painted.write_chunks("a", {(-1, 1): np.full((4, 4), 7, "u2")})
    fresh = painted.zarr["a"]
    assert fresh.shape == (12, 8)
    assert fresh.attrs["vzarr_origin"] == [-4, 0]
    assert (fresh[:4, 4:] == 7).all()
    for old in (array, zarr.open_array(handle, path="a", mode="r+")):
        assert old.shape == (8, 8)
        assert np.array_equal(old[...], DATA)
    assert sorted(handle.keys("a/c")) == [f"a/c/{y}/{x}" for y in "01" for x in "01"]
    array[0, 0] = 99
    assert painted.zarr["a"][4, 0] == 99
    array.attrs["seen"] = True
    assert painted.zarr["a"].shape == (12, 8)
    assert painted.zarr["a"].attrs["seen"] is True
    array.resize((4, 12))
    assert painted.zarr["a"].shape == (8, 12)
    assert painted.bounds("a") == ((-4, 0), (4, 12))
    assert (painted.zarr["a"][:4, 4:8] == 7).all()


def test_a_handle_deletes_the_folders_that_it_sees(painted: vzarr.Version):
    handle = painted.store
    handle.read("a/zarr.json")
    painted.write_chunks("a", {(-1, 1): np.full((4, 4), 7, "u2"), (0, -1): np.full((4, 4), 8, "u2")})
    painted.store.write("a/c/0/notes", b"loose")
    handle.delete_below("a/c/0")
    expected = np.zeros((12, 12), "u2")
    expected[8:, 4:] = DATA[4:]
    expected[:4, 8:], expected[4:8, :4] = 7, 8
    assert np.array_equal(painted.zarr["a"][...], expected)
    assert painted.store.read("a/c/0/notes") is None
    handle.delete_below("a/c")
    expected[8:, 4:] = 0
    assert np.array_equal(painted.zarr["a"][...], expected)
    painted.store.delete_below("a/c")
    assert not painted.zarr["a"][...].any()


def test_attributes_set_by_an_old_handle_take_back_no_growth(painted: vzarr.Version):
    array = painted.zarr["a"]
    painted.write("a", (8, 0), DATA)
    array.attrs["seen"] = 1
    array.attrs["again"] = 2
    assert painted.zarr["a"].shape == (16, 8)
    assert dict(painted.zarr["a"].attrs) == {"seen": 1, "again": 2}
    painted.zarr["a"].resize((4, 8))
    assert painted.zarr["a"].shape == (4, 8)


def test_a_copy_sent_elsewhere_sees_the_version_as_it_is_there(painted: vzarr.Version):
    store = painted.store
    store.read("a/zarr.json")
    painted.write_chunks("a", {(-1, 0): np.full((4, 4), 7, "u2")})
    there = pickle.loads(pickle.dumps(store))
    assert there == store
    assert zarr.open_array(there, path="a", mode="r").shape == (12, 8)


def test_another_process_sees_changes_without_being_told(painted: vzarr.Version):
    with vzarr.open(painted.url) as elsewhere:
        theirs = elsewhere[painted.uuid]
        assert np.array_equal(theirs.zarr["a"][...], DATA)
        painted.zarr["a"][0, 0] = 99
        assert theirs.zarr["a"][0, 0] == 99
        painted.write_chunks("a", {(0, -1): np.full((4, 4), 7, "u2")})
        assert theirs.store.read("a/c/0/0")[0] == np.full((4, 4), 7, "u2").tobytes()
        assert theirs.zarr["a"].shape == (8, 12)
        del painted.zarr["a"]
        assert theirs.store.read("a/zarr.json") is None
        painted.store.write("loose", b"1")
        assert "loose" in theirs.store.names("")
        painted.commit()
        assert theirs.sealed
        assert theirs.store.read_only
        with pytest.raises(SealedError):
            vzarr.VersionStore(theirs).write("loose", b"2")
        assert theirs.store.read("loose") == (b"1", 1)


def test_an_array_made_anew_shows_nothing_of_the_old_one(painted: vzarr.Version):
    version = painted
    for _ in range(2):
        version = version.commit().newversion()
        del version.zarr["a"]
        version.zarr.create_array("a", shape=(8, 8), chunks=(4, 4), dtype="u2", fill_value=5)
        assert (version.zarr["a"][...] == 5).all()
        version.zarr["a"][:4] = 6
        assert (version.zarr["a"][4:] == 5).all()
    assert np.array_equal(painted.zarr["a"][...], DATA)
    version.commit()
    assert (version.zarr["a"][4:] == 5).all()
    assert (version.zarr["a"][:4] == 6).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("order", ["chunks first", "metadata first"])
def test_chunks_may_come_before_their_metadata(version: vzarr.Version, zarr_format: int, order: str):
    source: dict = {}
    array = zarr.create_array(
        zarr.storage.MemoryStore(source), shape=(4, 4), chunks=(2, 2), dtype="u2", zarr_format=zarr_format
    )
    array[...] = DATA[:4, :4]
    keys = sorted(source, key=lambda k: ("zarr.json" in k or ".z" in k) == (order == "chunks first"))
    for key in keys:
        version.store.write(f"em/{key}", source[key].to_bytes())
    assert sorted(version.store.keys("em/")) == sorted(f"em/{k}" for k in source)
    for at in (lambda: version, version.commit, version.newversion):
        assert np.array_equal(zarr.open_array(at().store, path="em", mode="r")[...], DATA[:4, :4])


def test_metadata_that_are_none_are_kept_as_they_are(version: vzarr.Version):
    for data in (b"{", b"[]", b"{}", b'{"zarr_format": 4, "node_type": "array"}', b"\xff"):
        version.store.write("x/zarr.json", data)
        assert version.store.read("x/zarr.json") == (data, len(data))
        assert "x/zarr.json" in list(version.store.keys())
    version = version.commit().newversion()
    assert version.store.read("x/zarr.json")[0] == b"\xff"
    version.create_group("x")
    assert version.store.read("x/zarr.json")[0].startswith(b"{")
    assert sorted(version.zarr.group_keys()) == ["x"]


OUTSIDE = [
    "..",
    "../..",
    ".",
    "a/..",
    "a/../..",
    "../../OTHER",
    "a/./c",
    "a//c",
    "a\0",
    "a\nb",
    "\udc80",
    "/../..",
    "..//",
]


@pytest.mark.parametrize("state", ["plain", "marked", "child", "sealed"])
def test_nothing_outside_is_listed_opened_or_deleted(file_repo: vzarr.Repo, state: str):
    version = file_repo.root
    version.create_array("a", dtype="u2", chunks=(4, 4), codecs=(), dimension_names=None)
    version.write("a", (0, 0), DATA)
    if state == "marked":
        version.grow("a", (4, 0), (0, 0))
    if state in ("child", "sealed"):
        version = version.commit()
    if state == "child":
        version = version.newversion()
    other = vzarr.create(f"{file_repo.url}/nodes/{version.uuid}/OTHER")  # where "../OTHER" would lead to
    other.close()
    before = dict(file_repo.objects.walk())
    store = version.store
    files = VersionFileSystem(version)
    for path in OUTSIDE:
        assert store.names(path) == []
        assert [*store.keys(f"{path}/")] == []
        assert not version.has_array(path)
        assert not files.exists(path)
        with pytest.raises(SealedError if version.sealed else InvalidInputError):
            files.rm(path, recursive=True)
        with pytest.raises(ValueError, match=r"read-only|is no key"):
            store.delete_below(path)
        if not version.sealed:
            with pytest.raises(InvalidInputError):
                files.pipe_file(f"{path}/x", b"1")
    assert {k: n for k, n in file_repo.objects.walk() if not k.startswith("keys/")} == {
        k: n for k, n in before.items() if not k.startswith("keys/")
    }


def test_keys_are_any_other_text(painted: vzarr.Version):
    odd = ["...", "~/x", "a\\..\\..\\x", " ", "C:/x", "é", "\u2028", "a/c/-1/0", "a/c/00/0", "\r\x85", "%2e%2e/x", "🧠"]
    for key in odd:
        painted.store.write(key, key.encode())
    assert set(odd) <= set(painted.store.keys())
    sealed = painted.commit()
    for version in (sealed, sealed.newversion()):
        assert all(version.store.read(key) == (key.encode(), len(key.encode())) for key in odd)
    assert not list(verify(painted.repo.objects))
    rebuild_version(painted.repo.objects, painted.repo.state, painted.uuid)


@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe"])
def test_files_whose_names_are_no_keys_are_not_sealed(file_repo: vzarr.Repo, name: bytes):
    root = file_repo.root
    path = os.fsencode(file_repo.objects.path(f"nodes/{root.uuid}/zarr")) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(b"1")
    with pytest.raises(InvalidInputError, match="names cannot be sealed"):
        root.commit()
    Path(os.fsdecode(path)).unlink()
    assert root.commit().sealed
