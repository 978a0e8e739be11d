"""Repos that begin with what one version of another holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    SealedError,
    UnsupportedError,
)
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.extract import flat
from vzarr.overlay.extract.content import load_region
from vzarr.overlay.extract.flat import flatten
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import push
from vzarr.types import blobs, registry
from vzarr.types.labelmap.verify import check_index

SHAPE = (64, 64, 64)


def labels(value: int) -> np.ndarray:
    return np.full(SHAPE, value, np.uint64)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """Two versions of a segmentation, an array and keys; a branch from the first."""
    with vzarr.create(str(tmp_path / "first"), alias="fly") as repo:
        root = repo.root
        root.create_instance("seg", "labelmap").write((0, 0, 0), np.concatenate([labels(1), labels(2)], 2))
        root.create_array("em", dtype="u1", chunks=SHAPE)
        root.write("em", (0, 0, 0), np.full((64, 64, 128), 7, "u1"))
        root.create_instance("notes", "keyvalue").put("a", b"1")
        root.create_instance("settings", "keyvalue", versioned=False).put("s", b"1")
        root.create_instance("gray", "uint8blk", config={"BlockSize": "32,32,32"}).write(
            (0, 0, 0), np.full(SHAPE, 9, "u1")
        )
        root.create_instance("hot", "roi").replace(np.array([[0, 0, 0, 0]]))
        root.commit("one")
        side = root.branch("side")
        side["seg"].write((0, 0, 64), labels(9))
        side.commit("aside")
        second = root.newversion()
        second["seg"].merge(1, [2])
        second["notes"].put("a", b"2")
        second.commit("two")
        yield repo


@pytest.mark.parametrize("ref", ["master", "side"])
def test_a_flattened_repo_is_one_version_and_goes_on(repo: vzarr.Repo, tmp_path: Path, ref: str):
    blob = blobs.put(repo.root, b"a blob")
    told: list[tuple[int, int]] = []
    uuid = flatten(repo[ref], str(tmp_path / "flat"), progress=lambda *how: told.append(how))
    assert {total for total, _ in told} == {len(told)} == {2 + 2 + 8}
    with vzarr.open(str(tmp_path / "flat")) as flat_repo:
        root, old = flat_repo.root, repo[ref]
        assert (len(flat_repo.versions()), root.uuid, root.sealed, root.note) == (1, uuid, True, old.note)
        for path in ("seg/0", "em", "gray/0"):
            np.testing.assert_array_equal(root.zarr[path][:], old.zarr[path][:])
        assert dict(root["seg"].list_bodies()) == dict(old["seg"].list_bodies())
        assert root["notes"].get("a") == old["notes"].get("a")
        assert root["settings"].get("s") == b"1"
        assert blobs.get(root, blob) == b"a blob"
        assert check_index(root["seg"]) == []
        assert not list(verify(flat_repo.objects))
        tip = root.newversion()
        tip["seg"].write((0, 0, 0), labels(11))
        assert tip["seg"].reserve_labels(1)[0] > 11
        tip.commit()
        assert not list(verify(flat_repo.objects))
        with pytest.raises(InvalidInputError, match="unrelated"):
            push(open_place(flat_repo.url), open_place(repo.url))


def test_instances_go_by_todays_names_and_deleted_ones_stay_behind(repo: vzarr.Repo, tmp_path: Path):
    registry.rename(repo, "gray", "em2")
    repo.delete_instance("seg")
    flatten(repo["master"], str(tmp_path / "flat"))
    with vzarr.open(str(tmp_path / "flat")) as made:
        assert sorted(made.root.zarr) == ["em", "em2"]
        assert not any("seg" in key for key, _ in made.objects.walk(layout.zarr(made.uuid)))
        assert (made.root["em2"].read((0, 0, 0), SHAPE) == 9).all()
        assert made.state.instances["em2"].folder == ""
    registry.rename(repo, "em2", "em")
    with pytest.raises(ConflictError, match="another group"):
        flatten(repo["master"], str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_some_instances_or_a_part_of_space(repo: vzarr.Repo, tmp_path: Path):
    tip = repo["master"]
    hot = load_region(tip, ("hot", ""))
    flatten(tip, str(tmp_path / "part"), instances=["gray", "notes"], within=hot)
    with vzarr.open(str(tmp_path / "part")) as made:
        assert sorted(made.state.instances) == ["gray", "notes"]
        assert sorted(made.root.zarr) == ["gray"]
        expected = np.zeros(SHAPE, "u1")
        expected[:32, :32, :32] = 9
        np.testing.assert_array_equal(made.root["gray"].read((0, 0, 0), SHAPE), expected)
        assert made.root["notes"].get("a") == b"2"
    with pytest.raises(UnsupportedError, match="seg/0"):
        flatten(tip, str(tmp_path / "no"), within=hot)
    with pytest.raises(NotFoundError, match="nothing"):
        flatten(tip, str(tmp_path / "no"), instances=["nothing"])
    assert not (tmp_path / "no").exists()


def test_what_was_cut_off_goes_on(repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url = str(tmp_path / "flat")
    with monkeypatch.context() as patch:
        patch.setattr(flat, "copy_strays", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            flatten(repo["master"], url)
    with pytest.raises(AlreadyExistsError):
        flatten(repo["side"], url)
    before = {
        key: Path(url, key).stat().st_mtime_ns
        for key, _ in open_place(url).objects.walk("nodes")
        if "/c/" in key and "/zarr/" in key
    }
    assert flatten(repo["master"], url)
    after = {
        key: Path(url, key).stat().st_mtime_ns
        for key, _ in open_place(url).objects.walk("nodes")
        if "/c/" in key and "/zarr/" in key
    }
    assert before == after
    with vzarr.open(url) as made:
        assert check_index(made.root["seg"]) == []
        assert not list(verify(made.objects))
    with pytest.raises(AlreadyExistsError):
        flatten(repo["master"], url)


def test_a_window_below_zero_survives_flattening(repo: vzarr.Repo, tmp_path: Path):
    tip = repo["master"].newversion()
    tip.write("em", (-64, 0, 0), np.full((64, 64, 128), 8, "u1"))
    tip.delete_chunks("em", [(0, 0, 0)])
    with pytest.raises(SealedError, match="commit it first"):
        flatten(tip, str(tmp_path / "flat"))
    tip.commit()
    flatten(tip, str(tmp_path / "flat"))
    with vzarr.open(str(tmp_path / "flat")) as made:
        assert made.root.bounds("em") == tip.bounds("em")
        np.testing.assert_array_equal(made.root.read("em", *tip.bounds("em")), tip.read("em", *tip.bounds("em")))


def test_an_adopted_volume_stays_adopted(tmp_path: Path):
    voxels = np.arange(64, dtype="u1").reshape(4, 4, 4)
    zarr.create_array(str(tmp_path / "em.zarr"), data=voxels, chunks=(2, 2, 2))
    with vzarr.create(str(tmp_path / "first")) as repo:
        repo.adopt("em", str(tmp_path / "em.zarr"), pin=True)
        tip = repo.root.commit().newversion()
        path = next(p for p in tip.view.entries if tip.has_array(p))
        tip.write(path, (0, 0, 0), np.full((2, 2, 2), 99, "u1"))
        tip.delete_chunks(path, [(1, 1, 1)])
        uuid = flatten(tip.commit(), str(tmp_path / "flat"))
    with vzarr.open(str(tmp_path / "flat")) as made:
        expected = voxels.copy()
        expected[:2, :2, :2], expected[2:, 2:, 2:] = 99, 0
        np.testing.assert_array_equal(made.root.zarr[path][:], expected)
        assert not list(verify(made.objects))
        assert not (tmp_path / "flat" / layout.zarr(uuid) / path / "c/0/0/1").exists()
