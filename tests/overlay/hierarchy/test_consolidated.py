"""Consolidated metadata: whatever changed after them, readers that believe them see the version as it is."""

from __future__ import annotations

import fsspec
import numpy as np
import pytest
import zarr

import vzarr
from vzarr.overlay.export.standalone import flatten
from vzarr.overlay.fsspec import VersionFileSystem

pytestmark = pytest.mark.filterwarnings("ignore:.*onsolidated metadata")
DATA = np.arange(1, 65, dtype="u2").reshape(8, 8)


def made(version: vzarr.Version, zarr_format: int) -> None:
    """A group ``g`` with two arrays, its metadata consolidated."""
    group = zarr.create_group(version.store, path="g", zarr_format=zarr_format, overwrite=True)
    for name in ("a", "h/b"):
        group.create_array(name, shape=DATA.shape, chunks=(4, 4), dtype="u2")[...] = DATA
    zarr.consolidate_metadata(version.store, path="g", zarr_format=zarr_format)


def believed(store, path: str = "g") -> zarr.Group:
    return zarr.open_consolidated(store, path=path, mode="r")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_right_ones_are_left_byte_for_byte(repo: vzarr.Repo, zarr_format: int):
    made(repo.root, zarr_format)
    name = "g/zarr.json" if zarr_format == 3 else "g/.zmetadata"
    stored = repo.objects.get(f"nodes/{repo.uuid}/zarr/{name}")
    assert b"consolidated" in stored
    assert repo.root.store.read(name)[0] == stored
    assert repo.root.commit().newversion().store.read(name)[0] == stored


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("where", ["root", "child"])
def test_they_follow_what_happens_to_arrays(repo: vzarr.Repo, zarr_format: int, where: str, tmp_path):
    made(repo.root, zarr_format)
    version = repo.root if where == "root" else repo.root.commit().newversion()
    version.rename("g/a", "g/c")
    version.write("g/h/b", (8, 0), DATA)
    inner = zarr.open_group(version.store, path="g", mode="r+", use_consolidated=False)
    inner.create_array("new/d", shape=(3,), chunks=(3,), dtype="u1")[...] = 7
    inner["c"].attrs["k"] = 1
    for at in (lambda: version, version.commit, version.newversion):
        store = at().store
        group = believed(store)
        assert sorted(k for k, _ in group.members(max_depth=None)) == ["c", "h", "h/b", "new", "new/d"]
        assert np.array_equal(group["c"][...], DATA)
        assert group["c"].attrs["k"] == 1
        assert np.array_equal(group["h/b"][...], np.concatenate([DATA, DATA]))
        assert group["new/d"][...].tolist() == [7, 7, 7]
        mapper = VersionFileSystem(store.version).get_mapper("g")
        name = "zarr.json" if zarr_format == 3 else ".zmetadata"
        assert mapper[name] == store.read(f"g/{name}")[0]
        assert mapper.fs.size(f"g/{name}") == len(mapper[name])
    flatten(version.view, tmp_path / "flat")
    assert np.array_equal(believed(tmp_path / "flat")["c"][...], DATA)
    if where == "child":
        assert sorted(believed(repo.root.store).array_keys()) == ["a"]
        assert np.array_equal(believed(repo.root.store)["a"][...], DATA)


def test_a_renamed_group_keeps_its_own(repo: vzarr.Repo):
    made(repo.root, 3)
    child = repo.root.commit().newversion()
    child.rename("g", "moved")
    assert np.array_equal(believed(child.store, "moved")["a"][...], DATA)
    assert np.array_equal(zarr.open_consolidated(fsspec.get_mapper("vzarr://moved", repo=child))["a"][...], DATA)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_rename_makes_the_groups_that_readers_look_for(repo: vzarr.Repo, zarr_format: int, depth: int):
    made(repo.root, zarr_format)
    version = repo.root.commit().newversion() if depth else repo.root
    version.rename("g/a", "g/p/q/a")
    for at in (lambda: version, version.commit, version.newversion):
        store = at().store
        for group in (believed(store), zarr.open_group(store, path="g", mode="r", use_consolidated=False)):
            assert sorted(k for k, _ in group.members(max_depth=None)) == ["h", "h/b", "p", "p/q", "p/q/a"]
            assert np.array_equal(group["p/q/a"][...], DATA)
            assert {member.metadata.zarr_format for _, member in group.members(max_depth=None)} == {zarr_format}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_others_put_where_no_group_is_can_be_read(repo: vzarr.Repo, zarr_format: int):
    made(repo.root, zarr_format)
    name = "zarr.json" if zarr_format == 3 else ".zarray"
    documents = {name: repo.objects.get(f"nodes/{repo.uuid}/zarr/g/a/{name}")}
    for path in ("p/q", "a/inside"):
        for key, data in documents.items():
            repo.objects.put(f"nodes/{repo.uuid}/zarr/g/{path}/{key}", data)
    for at in (lambda: repo.root, repo.root.commit, repo.root.newversion):
        group = believed(at().store)
        assert sorted(k for k, _ in group.members(max_depth=None)) == ["a", "h", "h/b", "p", "p/q"]
        assert np.array_equal(group["a"][...], DATA)
        assert group["p/q"].shape == DATA.shape


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"metadata": 3}', b'{"metadata": null}', b"\xff"])
def test_what_is_none_is_left_alone(version: vzarr.Version, data: bytes):
    version.store.write("x/.zmetadata", data)
    assert version.store.read("x/.zmetadata")[0] == data
    assert version.commit().newversion().store.read("x/.zmetadata")[0] == data


def test_a_group_may_say_that_it_has_none(version: vzarr.Version):
    data = b'{"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": null}'
    version.store.write("x/zarr.json", data)
    assert version.store.read("x/zarr.json")[0] == data
