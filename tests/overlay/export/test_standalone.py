"""A version on its own: readers without vzarr see in a plain folder what the version shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

import vzarr
from vzarr.errors import AlreadyExistsError, ConflictError, StorageError
from vzarr.overlay.export.standalone import documents, flatten

CHUNK = (4, 4, 4)


def edited(repo: vzarr.Repo) -> vzarr.Version:
    """A version that took something from each of three, reaches below voxel 0 and has Zarr 2 beside Zarr 3."""
    root, random = repo.root, np.random.default_rng(0)
    root.create_array("em/0", dtype="u2", chunks=CHUNK)
    root.write("em/0", (0, 0, 0), random.integers(0, 999, (12, 8, 8), "u2"))
    old: dict[str, Buffer] = {}
    zarr.create_array(MemoryStore(old), shape=(5, 5), chunks=(2, 2), dtype="i4", zarr_format=2)[:] = 3
    for key, value in old.items():
        root.store.write(f"old/{key}", value.to_bytes())
    root.store.write("readme.txt", b"hello")
    child = root.commit().newversion()
    child.write("em/0", (2, 2, 2), random.integers(0, 999, (4, 4, 4), "u2"))
    child.delete_chunks("em/0", [(2, 1, 1)])
    child = child.commit().newversion()
    child.write("em/0", (-3, 0, 0), random.integers(0, 999, (4, 4, 4), "u2"))
    child.rename("em", "image")
    return child


@pytest.fixture(params=["sealed", "open"])
def version(request: pytest.FixtureRequest, repo: vzarr.Repo) -> vzarr.Version:
    made = edited(repo)
    return made.commit() if request.param == "sealed" else made


def test_plain_readers_open_a_flattened_version(version: vzarr.Version, tmp_path: Path):
    target = tmp_path / "out" / "flat.zarr"
    done = flatten(version.view, target)
    shown = version.zarr["image/0"]
    found = zarr.open_group(target, mode="r")
    assert np.array_equal(found["image/0"][:], shown[:])
    assert np.array_equal(zarr.open_array(target / "old", mode="r", zarr_format=2)[:], np.full((5, 5), 3))
    assert found["image/0"].attrs["vzarr_origin"] == [-4, 0, 0]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{target}/image/0"}}
    assert np.array_equal(tensorstore.open(spec).result().read().result(), shown[:])
    assert (target / "readme.txt").read_bytes() == b"hello"
    files = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert files == set(version.store.keys())
    assert done.keys == len(files)
    assert [p.name for p in target.parent.iterdir()] == ["flat.zarr"]


def test_files_are_linked_and_copied_on_request(file_repo: vzarr.Repo, tmp_path: Path):
    version = edited(file_repo).commit()
    linked, copied = flatten(version.view, tmp_path / "l"), flatten(version.view, tmp_path / "c", copy=True)
    assert linked.linked == sum(p.stat().st_nlink > 1 for p in (tmp_path / "l").rglob("*") if p.is_file())
    assert linked.linked == linked.keys - len(dict(documents(version.view)))
    assert copied.linked == 0
    assert all(p.stat().st_nlink == 1 for p in (tmp_path / "c").rglob("*") if p.is_file())


def test_writing_to_a_flattened_version_leaves_the_repo_alone(file_repo: vzarr.Repo, tmp_path: Path):
    version = edited(file_repo).commit()
    before = version.zarr["image/0"][:]
    flatten(version.view, tmp_path / "flat")
    zarr.open_group(tmp_path / "flat", mode="r+")["image/0"][:] = 1
    assert np.array_equal(version.zarr["image/0"][:], before)


def test_nothing_is_overwritten(repo: vzarr.Repo, tmp_path: Path):
    (tmp_path / "there").mkdir()
    flatten(repo.root.view, tmp_path / "there")
    with pytest.raises(AlreadyExistsError):
        flatten(repo.root.view, tmp_path / "there")


def test_a_version_that_lost_an_object_is_not_flattened(file_repo: vzarr.Repo, tmp_path: Path):
    version = edited(file_repo).commit()
    (owner,) = version.owners("image/0", [(1, 0, 0)])
    (Path(file_repo.url.removeprefix("file://")) / f"nodes/{owner}/zarr/em/0/c/1/0/0").unlink()
    with pytest.raises(StorageError, match="missing"):
        flatten(version.view, tmp_path / "flat")
    assert not (tmp_path / "flat").exists()


def test_conflicts_are_refused(repo: vzarr.Repo, tmp_path: Path):
    repo.root.create_array("a", dtype="u1", chunks=CHUNK)
    repo.root.commit()
    for value, branch in enumerate(("x", "y"), 1):
        version = repo.root.branch(branch)
        version.write_chunks("a", {(0, 0, 0): np.full(CHUNK, value, "u1")})
        version.commit()
    merged = repo.merge(["x", "y"], keep_conflicts=True)
    with pytest.raises(ConflictError):
        flatten(merged.view, tmp_path / "flat")
    assert not (tmp_path / "flat").exists()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shifted", [True, False])
def test_ome_metadata_place_what_reaches_below_voxel_0(
    repo: vzarr.Repo, tmp_path: Path, zarr_format: int, shifted: bool
):
    steps = [{"type": "scale", "scale": [30.0, 8.0, 4.0]}]
    if shifted:
        steps.append({"type": "translation", "translation": [1.0, 2.0, 3.0]})
    ome = {"multiscales": [{"datasets": [{"path": "0", "coordinateTransformations": steps}, {"path": "nosuch"}]}]}
    version = repo.root.commit().newversion()
    attributes = ome if zarr_format == 2 else {"ome": ome}
    group = zarr.create_group(version.store, path="em", zarr_format=zarr_format, attributes=attributes)
    group.create_array("0", shape=(4, 4, 4), chunks=CHUNK, dtype="u2")[...] = 1
    version.write("em/0", (-3, 0, -8), np.full((1, 1, 1), 2, "u2"))
    flatten(version.view, tmp_path / "flat")
    found = zarr.open_group(tmp_path / "flat" / "em", mode="r")
    shown = found.attrs if zarr_format == 2 else found.attrs["ome"]
    placed = shown["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert placed[0] == steps[0]
    assert placed[1]["translation"] == ([-119.0, 2.0, -29.0] if shifted else [-120.0, 0.0, -32.0])
    assert found["0"][1, 0, 0] == 2  # global voxel (-3, 0, -8), the array's first being (-4, 0, -8)
    assert shown["multiscales"][0]["datasets"][1] == {"path": "nosuch"}
    assert dict(zarr.open_group(version.store, path="em", mode="r").attrs) == attributes


@pytest.mark.parametrize("ome", [3, [], {"multiscales": 3}, {"multiscales": [3, {"datasets": [{}, 3]}]}])
def test_what_is_no_ome_metadata_stays(repo: vzarr.Repo, tmp_path: Path, ome: object):
    repo.root.zarr.attrs["ome"] = ome
    repo.root.zarr.attrs["multiscales"] = ome
    flatten(repo.root.view, tmp_path / "flat")
    assert zarr.open_group(tmp_path / "flat", mode="r").attrs["ome"] == ome
