"""Unversioned instances with voxels: one set of arrays for all versions, written whatever is sealed."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import vzarr
from vzarr.errors import AuthorityUnavailableError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.care.usage import total, usage
from vzarr.overlay.care.verify import verify
from vzarr.overlay.mountedstore import MountedStore
from vzarr.types import registry
from vzarr.types.labelmap import underway
from vzarr.types.registry import create

BLOCK = 32
BOX = (0, 0, 0), (BLOCK, BLOCK, 2 * BLOCK)
CONFIG = {"blocksize": f"{BLOCK},{BLOCK},{BLOCK}", "maxdownreslevel": "1"}
FOLDER = layout.zarr(layout.UNVERSIONED)


def voxels(value: int, dtype: str = "u1") -> np.ndarray:
    return np.full((BLOCK, BLOCK, BLOCK), value, dtype)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """A sealed root and an open child; an image and labels of no version, and an image of versions."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        root = repo.root
        create(root, "em", "uint8blk", versioned=False).write((0, 0, 0), voxels(1))
        create(root, "seg", "labelmap", versioned=False, config=CONFIG).write((0, 0, 0), voxels(5, "u8"))
        create(root, "own", "uint8blk").write((0, 0, 0), voxels(2))
        root.commit().newversion()
        yield repo


def test_all_versions_show_the_same(repo: vzarr.Repo):
    sealed, tip = repo.root, repo["master"]
    sealed["em"].write((0, 0, BLOCK), voxels(7))
    for version in (sealed, tip, tip.commit(), tip.newversion(), sealed.branch("side")):
        np.testing.assert_array_equal(version["em"].read(*BOX)[0, 0, ::BLOCK], [1, 7])
        np.testing.assert_array_equal(version.zarr["em/0"][0, 0, ::BLOCK], [1, 7])
    with pytest.raises(SealedError):
        sealed["own"].write((0, 0, 0), voxels(3))
    assert not list(verify(repo.objects))


def test_labels_are_edited_whatever_is_sealed(repo: vzarr.Repo):
    sealed, tip = repo.root, repo["master"]
    sealed["seg"].write((0, 0, -BLOCK), voxels(6, "u8"))
    done = tip["seg"].merge(5, [6])
    assert dict(sealed["seg"].list_bodies()) == {5: 2 * BLOCK**3}
    new = sealed["seg"].cleave(5, [6]).body
    assert (tip["seg"].read((0, 0, -BLOCK), (1, 1, 0)) == new).all()
    assert done < sealed["seg"].merge(5, [new])
    new = tip["seg"].cleave(5, [6]).body
    for version in (sealed, tip):
        assert list(registry.verify(version)) == []
    tip.commit()
    repo["master"].newversion()["seg"].write((0, 0, 0), voxels(9, "u8"))
    assert sorted(b for b, _ in sealed["seg"].list_bodies()) == sorted([9, new])
    assert list(registry.verify(sealed)) == []


def test_a_version_costs_none_of_it(repo: vzarr.Repo):
    tip = repo["master"]
    tip["em"].write((0, 0, BLOCK), voxels(7))
    tip.commit()
    assert not [key for key, _ in repo.objects.walk(f"{layout.node(tip.uuid)}/zarr")]
    found = total(usage(repo.objects, repo.state, [layout.UNVERSIONED]), lambda row: row.version)
    assert found.keys() == {layout.UNVERSIONED}


def test_the_folder_is_plain_zarr(repo: vzarr.Repo):
    (name,) = (n for n in repo.objects.list_dir(FOLDER)[0] if n.startswith("em~"))
    found = zarr.open_array(repo.objects.path(f"{FOLDER}/{name}/0"), mode="r")
    assert (found[:] == 1).all()
    assert "multiscales" in zarr.open_group(repo.objects.path(f"{FOLDER}/{name}"), mode="r").attrs["ome"]


def test_through_every_door(repo: vzarr.Repo, tmp_path: Path):
    sealed = repo.root
    assert isinstance(sealed.store, MountedStore)
    assert sealed.store.names("") == ["em", "own", "seg", "zarr.json"]
    assert sorted(sealed.zarr.group_keys()) == ["em", "own", "seg"]
    assert {"em/0", "own/0", "seg/1"} <= set(sealed.store.shown_entries())
    again = pickle.loads(pickle.dumps(sealed.zarr["em/0"]))
    assert (again[:] == 1).all()
    with pytest.raises((ValueError, SealedError)):
        sealed.zarr["em/0"][:] = 3
    repo["master"].zarr["em/0"][:] = 3
    assert (sealed["em"].read((0, 0, 0), (BLOCK,) * 3) == 3).all()
    with xr.open_dataset(f"vzarr://{sealed.uuid}@/::{repo.url}", engine="vzarr") as shown:
        assert int(shown["em"][0, 0, 0]) == 3
    handle = pickle.loads(pickle.dumps(sealed["seg"]))
    assert dict(handle.list_bodies()) == {5: BLOCK**3}
    assert repr(handle.version).startswith("<vzarr: what belongs to no version")


def test_clearing_a_version_leaves_them_alone(repo: vzarr.Repo):
    tip = repo["master"]
    tip.store.delete_below("")
    assert not tip.has_array("own/0")
    assert (tip["em"].read((0, 0, 0), (BLOCK,) * 3) == 1).all()


def test_what_a_version_has_under_the_name_goes_first(repo: vzarr.Repo):
    tip = repo["master"]
    tip.create_group("em", {"mine": True})
    assert tip.zarr["em"].attrs["mine"] is True
    assert (tip["em"].read((0, 0, 0), (BLOCK,) * 3) == 1).all()


def test_names_and_deletion(repo: vzarr.Repo):
    repo.rename_instance("em", "gray")
    assert "gray" in repo.root.store.names("")
    assert "em" not in repo.root.store.names("")
    assert (repo.root.zarr["gray/0"][:] == 1).all()
    create(repo["master"], "em", "uint8blk", versioned=False).write((0, 0, 0), voxels(8))
    assert (repo.root["gray"].read((0, 0, 0), (BLOCK,) * 3) == 1).all()
    assert (repo.root.zarr["em/0"][:] == 8).all()
    repo.delete_instance("gray")
    assert "gray" not in repo.root.store.names("")
    repo.garbage(0, delete=True)
    assert len([n for n in repo.objects.list_dir(FOLDER)[0] if n.startswith("em~")]) == 1
    assert not list(verify(repo.objects))


def test_what_a_killed_writer_left_is_finished_at_any_version(repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    def die(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(underway, "_store", die)
        with pytest.raises(KeyboardInterrupt):
            repo.root["seg"].write((0, 0, BLOCK), voxels(11, "u8"))
    assert (repo.root["seg"].read((0, 0, BLOCK), BOX[1]) == 11).all()
    assert list(registry.verify(repo.root)) == []
    folder = layout.aside(layout.UNVERSIONED, "left")
    repo.objects.put(f"{folder}/c/0/0/0", b"1")
    assert [each.place for each in repo.garbage(0, delete=True)] == [folder]


def test_readers_without_keys(repo: vzarr.Repo, tmp_path: Path):
    repo.root["em"].write((0, 0, -BLOCK), voxels(4))  # an array that is not plain
    repo["master"].commit()
    repo.close()
    Path(repo.objects.path(layout.database())).unlink()
    with vzarr.open(repo.url) as other:
        assert other.root["em"].read((0, 0, -BLOCK), (1, 1, BLOCK))[0, 0, ::BLOCK].tolist() == [4, 1]
        assert dict(other.root["seg"].list_bodies()) == {5: BLOCK**3}
        with pytest.raises(AuthorityUnavailableError):
            other.root["em"].write((0, 0, 0), voxels(5))


WRITER = """
import sys, numpy as np, vzarr
with vzarr.open(sys.argv[1]) as repo:
    for n in range(20):
        repo.root["em"].write((0, 0, 32 * n), np.full((32, 32, 32), int(sys.argv[2]), np.uint8))
        repo.root["seg"].write((0, 0, 32 * n), np.full((32, 32, 32), 10 * int(sys.argv[2]) + n, np.uint64))
"""


@pytest.mark.slow
def test_processes_write_at_a_sealed_version(repo: vzarr.Repo):
    workers = [subprocess.Popen([sys.executable, "-c", WRITER, repo.url, str(n)]) for n in (1, 2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    found = repo.root["em"].read((0, 0, 0), (BLOCK, BLOCK, 20 * BLOCK))[::31, ::31, ::BLOCK]
    assert set(np.unique(found)) <= {1, 2}
    assert list(registry.verify(repo.root)) == []
