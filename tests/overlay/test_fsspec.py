"""The file system: URLs, files, and mappers that zarr uses; fsspec's own tests are in ``tests/peers``."""

from __future__ import annotations

import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr

import vzarr
from vzarr.errors import InvalidInputError, NotFoundError, SealedError, StorageError, UnsupportedError
from vzarr.overlay.fsspec import VersionFileSystem

DATA = np.arange(8**3, dtype="u2").reshape(8, 8, 8)


@pytest.fixture
def fs(version: vzarr.Version) -> VersionFileSystem:
    return VersionFileSystem(version)


@pytest.fixture
def painted(repo: vzarr.Repo) -> vzarr.Repo:
    """A repo whose sealed root and open child differ in one chunk of ``em/0``."""
    root = repo.root
    root.create_array("em/0", dtype="u2", chunks=(4, 4, 4), shape=(8, 8, 8))
    root.write("em/0", (0, 0, 0), DATA)
    root.commit("painted").newversion().write("em/0", (0, 0, 0), DATA[:4, :4, :4] + 1)
    return repo


# -- URLs


def test_urls_name_a_key_a_version_and_a_repo(painted: vzarr.Repo):
    first, second = painted.root, painted["master"]
    for url, version in [
        (f"vzarr://em/0::{painted.url}", second),
        (f"vzarr://{first.uuid}@/em/0::{painted.url}", first),
        (f"vzarr://master@sealed@/em/0::{painted.url}", first),
        (f"vzarr://{first.uuid[:9]}:master~1@/em/0::{painted.url}", first),
    ]:
        fs, path = fsspec.url_to_fs(url)
        assert (fs.version, path) == (version, "/em/0")
        assert fsspec.get_mapper(url)["c/0/0/0"] == version.store.read("em/0/c/0/0/0")[0]
    assert fsspec.url_to_fs(f"vzarr://em::{painted.url}", version=first.uuid)[0].version == first
    assert fsspec.url_to_fs("vzarr://em", repo=painted.url, version=first.uuid)[0].version == first
    assert fsspec.filesystem("vzarr", repo=painted).version == second
    assert fsspec.filesystem("vzarr", repo=painted, version=":master~1").version == first
    assert fsspec.filesystem("vzarr", repo=first, version="nosuch").version == first
    assert fsspec.open(f"vzarr://em/0/zarr.json::{painted.url}").open().read(1) == b"{"


def test_a_key_that_looks_like_a_ref_is_a_key(fs: VersionFileSystem):
    fs.pipe_file("x@/y", b"1")
    assert fs.cat_file("x@/y") == b"1"
    assert fs.ls("x@", detail=False) == ["/x@/y"]


def test_a_branch_is_looked_up_when_the_file_system_is_opened(repo: vzarr.Repo):
    before = fsspec.filesystem("vzarr", repo=repo.url)
    repo.root.commit().newversion()
    after = fsspec.filesystem("vzarr", repo=repo.url)
    assert before.version == repo.root
    assert after.version == repo["master"] != repo.root
    assert before != after


def test_bad_urls_say_what_is_wrong(painted: vzarr.Repo, tmp_path: Path):
    with pytest.raises(InvalidInputError, match="name a repo"):
        fsspec.get_mapper("vzarr://em")
    with pytest.raises(NotFoundError, match="no repo"):
        fsspec.get_mapper(f"vzarr://em::file://{tmp_path}/nothing-here")
    with pytest.raises(NotFoundError, match="nosuch"):
        fsspec.get_mapper(f"vzarr://nosuch@/em::{painted.url}")
    with pytest.raises(UnsupportedError, match="zip"):
        fsspec.get_mapper("vzarr://em::zip://x.zip")
    with pytest.raises(UnsupportedError, match="speed"):
        VersionFileSystem(fo=painted.url, target_options={"speed": 2})


# -- files


def test_listings_sizes_and_kinds(painted: vzarr.Repo):
    for version in painted.versions():
        fs = VersionFileSystem(version)
        assert fs.ls("", detail=False) == ["/em", "/zarr.json"]
        assert fs.ls("em/0", detail=False) == ["/em/0/c", "/em/0/zarr.json"]
        assert {e["name"]: e["type"] for e in fs.ls("em")} == {"/em/0": "directory", "/em/zarr.json": "file"}
        assert fs.ls("zarr.json", detail=False) == ["/zarr.json"]
        assert fs.size("em/0/c/1/1/1") == len(fs.cat_file("em/0/c/1/1/1"))
        assert sorted(fs.find("em/0/c")) == [f"/em/0/c/{z}/{y}/{x}" for z in "01" for y in "01" for x in "01"]
        assert fs.isdir("")
        assert fs.isdir("em/0/c/1")
        assert not fs.isdir("em/0/zarr.json")
        assert fs.isfile("em/0/zarr.json")
        assert not fs.exists("em/1")
        assert not fs.exists("em/0/c/9/9/9")
        with pytest.raises(FileNotFoundError):
            fs.ls("em/1")


@pytest.mark.parametrize("seal", [False, True])
def test_ranges_are_those_of_a_slice(version: vzarr.Version, seal: bool):
    fs = VersionFileSystem(version)
    data = bytes(range(50))
    fs.pipe_file("f", data)
    if seal:
        version.commit()
    places = [None, 0, 1, 49, 50, 60, -1, -50, -60]
    for start in places:
        for end in places:
            assert fs.cat_file("f", start, end) == data[start:end], (start, end)
    assert fs.cat_ranges(["f", "/f"], [0, 10], [5, 12]) == [data[:5], data[10:12]]
    assert fs.tail("f", 3) == data[-3:]
    with fs.open("f", block_size=7) as f:
        f.seek(20)
        assert f.read(9) == data[20:29]


def test_writes_show_at_once_and_only_whole(fs: VersionFileSystem):
    other = VersionFileSystem(fs.version)
    with fs.open("big", "wb", block_size=10) as f:
        for n in range(10):
            f.write(bytes([n]) * 7)
        assert not other.exists("big")
    assert other.cat_file("big") == b"".join(bytes([n]) * 7 for n in range(10))
    with fs.open("big", "ab") as f:
        f.write(b"end")
    assert other.cat_file("big")[-4:] == b"\x09end"
    assert other.size("big") == 73
    with pytest.raises(FileExistsError):
        fs.open("big", "xb")
    with fs.open("new", "xb") as f:
        f.write(b"1")
    assert other.cat_file("new") == b"1"
    with fs.transaction:
        with fs.open("late", "wb") as f:
            f.write(b"1")
        assert not other.exists("late")
    assert other.cat_file("late") == b"1"
    fs.touch("big", truncate=False)
    assert other.size("big") == 73
    fs.touch("big")
    assert other.cat_file("big") == b""


def test_removing_and_moving(fs: VersionFileSystem):
    fs.pipe({"a/b/1": b"1", "a/b/2": b"2", "a/c": b"3"})
    with pytest.raises(FileNotFoundError):
        fs.rm_file("a/b/3")
    with pytest.raises(IsADirectoryError):
        fs.rm("a/b")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("a/b")
    fs.rm("a/b/1")
    assert fs.find("a") == ["/a/b/2", "/a/c"]
    fs.mv("a/b", "d", recursive=True)
    assert fs.find("") == ["/a/c", "/d/2", "/zarr.json"]
    fs.rm("a", recursive=True)
    assert fs.find("") == ["/d/2", "/zarr.json"]
    fs.mkdir("e")
    assert not fs.exists("e")
    with pytest.raises(FileExistsError):
        fs.makedirs("d")


def test_a_sealed_version_takes_no_writes(painted: vzarr.Repo):
    fs = VersionFileSystem(painted.root)
    for write in (
        lambda: fs.pipe_file("f", b"1"),
        lambda: fs.rm_file("em/0/zarr.json"),
        lambda: fs.rm("em", recursive=True),
        lambda: fs.cp_file("em/0/zarr.json", "f"),
    ):
        with pytest.raises(SealedError):
            write()
    assert np.array_equal(painted.root.zarr["em/0"][...], DATA)


def test_a_failed_read_is_not_an_absent_file(file_repo: vzarr.Repo):
    fs = VersionFileSystem(file_repo.root)
    fs.pipe_file("f", b"1")
    path = Path(file_repo.objects.path(f"nodes/{file_repo.uuid}/zarr/f"))
    path.unlink()
    path.symlink_to(path)
    for read in (fs.cat_file, fs.info):
        with pytest.raises(StorageError):
            read("f")


def test_contents_have_names_of_their_own(painted: vzarr.Repo):
    first, second = VersionFileSystem(painted.root), VersionFileSystem(painted["master"])
    key = "em/0/c/0/0/0"
    before = first.ukey(key), second.ukey(key)
    assert len(set(before)) == 2
    painted["master"].write("em/0", (0, 0, 0), DATA[:4, :4, :4] + 2)
    assert first.ukey(key) == before[0]
    assert second.ukey(key) != before[1]


def test_copies_travel_to_other_processes(painted: vzarr.Repo):
    fs = VersionFileSystem(painted.root)
    there = pickle.loads(pickle.dumps(fs))
    assert there == fs
    assert hash(there) == hash(fs)
    assert there.cat_file("em/0/zarr.json") == fs.cat_file("em/0/zarr.json")


# -- mappers


def test_a_mapper_is_a_dict_of_keys(fs: VersionFileSystem):
    mapper = fs.get_mapper("m")
    assert not list(mapper)
    mapper["x/y"] = b"12"
    mapper.setitems({"z": b"3"})
    assert sorted(mapper) == ["x/y", "z"]
    assert len(mapper) == 2
    assert "x/y" in mapper
    assert "x" not in mapper
    assert mapper.getitems(["x/y", "nosuch"], on_error="omit") == {"x/y": b"12"}
    assert mapper.pop("z") == b"3"
    with pytest.raises(KeyError):
        mapper["z"]
    del mapper["x/y"]
    with pytest.raises(KeyError):
        del mapper["x/y"]
    mapper["q"] = b""
    mapper.clear()
    assert not list(mapper)
    assert fs.exists("zarr.json")
    assert pickle.loads(pickle.dumps(mapper)).fs == fs


def test_zarr_reads_and_writes_through_a_mapper(painted: vzarr.Repo):
    before, after = painted.root, painted["master"]
    old = zarr.open(fsspec.get_mapper(f"vzarr://{before.uuid}@/em/0::{painted.url}"), mode="r")
    new = zarr.open(fsspec.get_mapper("vzarr://em/0", repo=painted), mode="r+")
    assert np.array_equal(old[...], DATA)
    new[4:, 4:] = 7
    new.attrs["seen"] = True
    group = zarr.open(fsspec.get_mapper("vzarr://", repo=painted), mode="a")
    group.create_array("made/here", shape=(5,), chunks=(2,), dtype="f4")[...] = np.arange(5)
    expected = DATA.copy()
    expected[:4, :4, :4] += 1
    expected[4:, 4:] = 7
    assert np.array_equal(after.zarr["em/0"][...], expected)
    assert after.zarr["em/0"].attrs["seen"] is True
    assert after.zarr["made/here"][...].tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(before.zarr["em/0"][...], DATA)
    assert sorted(group) == ["em", "made"]


def test_zarr_lists_what_lies_in_folders_through_a_mapper(painted: vzarr.Repo):
    painted["master"].create_array("em/deep/er", dtype="u1", chunks=(4,), shape=(4,), dimension_names=None)
    for path, below in {"": "em/", "em": "", "em/deep": None}.items():
        group = zarr.open_group(fsspec.get_mapper(f"vzarr://{path}", repo=painted), mode="r")
        members = {"er"} if below is None else {f"{below}0", f"{below}deep", f"{below}deep/er"} | {below.strip("/")}
        assert set(dict(group.members(max_depth=None))) == members - {""}


def test_zarr_opens_the_url(painted: vzarr.Repo):
    array = zarr.open_array(f"vzarr://{painted.uuid}@/em/0::{painted.url}", mode="r")
    assert np.array_equal(array[...], DATA)
    array = zarr.open_array("vzarr://em/0", mode="r", storage_options={"repo": painted.url, "version": painted.uuid})
    assert np.array_equal(array[...], DATA)
