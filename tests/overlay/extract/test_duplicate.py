"""Copies of instances: the same data under another name and data id, whole or not there, and on their own from then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.cli import main
from vzarr.errors import AlreadyExistsError, NotFoundError, SealedError, StorageError, UnsupportedError
from vzarr.overlay.care.verify import verify
from vzarr.overlay.extract import duplicate as module
from vzarr.overlay.extract.content import load_region
from vzarr.overlay.extract.duplicate import duplicate, is_unchanged
from vzarr.overlay.objects.base import Objects
from vzarr.types import registry

SHAPE = (64, 64, 64)
CONFIG = {"BlockSize": "32,32,32", "MaxDownresLevel": "1"}


def voxels(seed: int, kind: str = "u1") -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 6, SHAPE, kind)


@pytest.fixture
def tip(repo: vzarr.Repo) -> vzarr.Version:
    """An open version after two sealed ones with a segmentation, an image below 0, keys and a region."""
    first = repo.root
    first.create_instance("seg", "labelmap", config=CONFIG).write((0, 0, 0), voxels(0, "u8"))
    first.create_instance("em", "uint8blk", config={"BlockSize": "32,32,32"}).write((-32, 0, 0), voxels(1))
    first.create_instance("notes", "keyvalue").put("a", b"1")
    first.create_instance("loose", "keyvalue", versioned=False).put("a", b"1")
    first.create_instance("hot", "roi").replace(np.array([[0, 0, 0, 0]]))
    second = first.commit().newversion()
    second["seg"].merge(1, [2])
    second["em"].write((0, 0, 0), np.full((32, 32, 32), 9, "u1"))
    second["notes"].put("b", b"2")
    second["notes"].delete("a")
    repo.update_instance("notes", tags={"t": "1"}, syncs=[repo.state.instances["seg"].data_uuid])
    return second.commit().newversion()


def parent(version: vzarr.Version) -> vzarr.Version:
    return version.parents[0]


def test_a_copy_is_the_same_and_goes_its_own_way(tip: vzarr.Version):
    repo, told = tip.repo, list[tuple[int, int]]()
    for name in ("seg", "em", "notes", "loose"):
        made = duplicate(parent(tip), name, tip, f"{name}2", progress=lambda *how: told.append(how), user="ann")
        old = repo.state.instances[name]
        assert made.data_uuid != old.data_uuid
        assert (made.typename, made.config, made.tags, made.syncs, made.versioned, made.version) == (
            old.typename, old.config, old.tags, old.syncs, old.versioned, tip.uuid,
        )  # fmt: skip
        assert dict(tip.keys(f"{name}2").scan()) == dict(tip.keys(name).scan())
    assert len(told) == 8 + 1 + 8
    assert 'Copied data instance "seg" at version' in repo.state.log[-4]
    for path in ("seg2/0", "seg2/1", "em2/0"):
        old = path.replace("2/", "/")
        assert tip.bounds(path) == tip.bounds(old)
        np.testing.assert_array_equal(tip.read(path, *tip.bounds(path)), tip.read(old, *tip.bounds(old)))
    assert list(registry.verify(tip)) == []
    before = tip["seg"].read((0, 0, 0), SHAPE)
    tip["seg2"].write((0, 0, 0), voxels(5, "u8"))
    tip["seg2"].merge(3, [4])
    tip["notes2"].put("b", b"3")
    tip["loose2"].put("a", b"2")
    np.testing.assert_array_equal(tip["seg"].read((0, 0, 0), SHAPE), before)
    assert (tip["notes"].get("b"), tip["loose"].get("a")) == (b"2", b"1")
    assert list(registry.verify(tip)) == []
    tip.commit()
    assert list(verify(repo.objects)) == []
    child = tip.newversion()
    assert child["seg2"].size(3) == tip["seg2"].size(3)
    assert repo.state.deleted == {}


def test_no_chunk_is_read(tip: vzarr.Version, monkeypatch: pytest.MonkeyPatch):
    kind, asked = type(tip.repo.objects), list[str]()
    if "copy" not in vars(kind):
        pytest.skip("what lies in memory is copied there")
    for verb in ("fetch", "read_into"):
        whole = getattr(kind, verb)

        def counted(self: Objects, key: str, *more: object, whole=whole) -> object:
            asked.append(key)
            return whole(self, key, *more)

        monkeypatch.setattr(kind, verb, counted)
    duplicate(parent(tip), "em", tip, "em2")
    assert not [key for key in asked if "/em/0/c/" in key or "/em2/0" in key]


def test_files_are_shared_until_one_is_written(file_repo: vzarr.Repo):
    first = file_repo.root
    first.create_instance("em", "uint8blk", config={"BlockSize": "32,32,32"}).write((0, 0, 0), voxels(1))
    tip = first.commit().newversion()
    duplicate(first, "em", tip, "em2")
    folder = Path(file_repo.url.removeprefix("file://"))
    old, new = (sorted(folder.glob(f"nodes/{v.uuid}/zarr/em*/**/c/*/*/*")) for v in (first, tip))
    assert len(old) == len(new) == 8
    assert {p.stat().st_ino for p in old} == {p.stat().st_ino for p in new}
    sealed = {p: p.read_bytes() for p in old}
    tip["em2"].write((0, 0, 0), voxels(2))
    assert {p: p.read_bytes() for p in old} == sealed
    np.testing.assert_array_equal(first["em"].read((0, 0, 0), SHAPE), voxels(1))


def test_what_was_sealed_long_ago_or_renamed_or_lies_in_a_part_of_space(tip: vzarr.Version):
    repo = tip.repo
    registry.rename(repo, "em", "gray")
    duplicate(repo.root, "gray", tip, "old")
    np.testing.assert_array_equal(tip["old"].read((-32, 0, 0), (32, 64, 64)), voxels(1))
    duplicate(parent(tip), "gray", tip, "em", within=load_region(parent(tip), ("hot", "")))
    assert repo.state.instances["em"].path.startswith("em~")
    expected = np.zeros(SHAPE, "u1")
    expected[32:, :32, :32] = 9
    np.testing.assert_array_equal(tip["em"].read((-32, 0, 0), (32, 64, 64)), expected)
    with pytest.raises(UnsupportedError, match="counted"):
        duplicate(parent(tip), "seg", tip, "seg2", within=load_region(parent(tip), ("hot", "")))


def test_an_adopted_volume_is_copied_from_its_source(tmp_path: Path):
    source = np.arange(64, dtype="u1").reshape(4, 4, 4)
    zarr.create_array(str(tmp_path / "em.zarr"), data=source, chunks=(2, 2, 2))
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.adopt("em", str(tmp_path / "em.zarr"))
        second = repo.root.commit().newversion()
        second["em"].write((0, 0, 0), np.full((2, 2, 2), 99, "u1"))
        second.delete_chunks("em/0", [(1, 1, 1)])
        tip = second.commit().newversion()
        duplicate(second, "em", tip, "em2")
        (tmp_path / "em.zarr" / "zarr.json").unlink()
        expected = source.copy()
        expected[:2, :2, :2], expected[2:, 2:, 2:] = 99, 0
        np.testing.assert_array_equal(tip["em2"].read((0, 0, 0), (4, 4, 4)), expected)


def test_what_cannot_be_copied_changes_nothing(tip: vzarr.Version):
    repo, entries = tip.repo, len(tip.repo.log())
    for source, name, target, to, kind in (
        (tip, "em", tip, "x", SealedError),
        (repo.root, "em", parent(tip), "x", SealedError),
        (repo.root, "nothing", tip, "x", NotFoundError),
        (repo.root, "em", tip, "seg", AlreadyExistsError),
    ):
        with pytest.raises(kind):
            duplicate(source, name, target, to)
    assert len(repo.log()) == entries
    assert sorted(tip.zarr) == ["em", "seg"]


def test_a_copy_that_fails_or_is_stopped_leaves_nothing(tip: vzarr.Version):
    def stop(total: int, size: int) -> None:
        raise KeyboardInterrupt

    repo = tip.repo
    with pytest.raises(KeyboardInterrupt):
        duplicate(parent(tip), "em", tip, "em2", progress=stop)
    assert sorted(tip.view.entries) == sorted(parent(tip).view.entries)
    (gone,) = repo.state.deleted.values()
    assert (gone.name, gone.collected) == ("em2", True)
    assert [k for k, _ in repo.objects.walk(f"nodes/{tip.uuid}") if "em2" in k] == []
    assert repo.garbage(0) == []
    with pytest.raises(NotFoundError, match="never finished"):
        repo.undelete_instance("em2")
    assert duplicate(parent(tip), "em", tip, "em2").path.startswith("em2~")
    assert list(verify(repo.objects)) == []


def test_what_a_killed_process_left_is_collected(tip: vzarr.Version, monkeypatch: pytest.MonkeyPatch):
    repo = tip.repo
    with monkeypatch.context() as patch:
        patch.setattr(type(repo), "collect_instance", lambda *_: None)
        patch.setattr(module, "keys_of", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            duplicate(parent(tip), "em", tip, "em2")
    assert sorted(tip.zarr) == ["em", "seg"]
    assert repo.garbage(0) == []  # its process lives, as far as anybody can tell
    (left,) = repo.state.deleted.values()
    monkeypatch.setattr(type(repo.authority.presence), "is_running", lambda _self, name: name != left.maker)
    with vzarr.clone(repo.url, f"memory://{left.data_uuid}") as other:
        assert other.state.deleted == {}
        assert sorted(other["master"].zarr) == ["em", "seg"]
    assert [g.place for g in repo.garbage(0, delete=True) if g.kind == "instance"] == [left.data_uuid]
    assert [k for k, _ in repo.objects.walk(f"nodes/{tip.uuid}") if "em2" in k] == []


def test_a_missing_chunk_is_no_absent_one(tip: vzarr.Version):
    repo = tip.repo
    (key,) = [k for k, _ in repo.objects.walk(f"nodes/{repo.uuid}/zarr/em") if k.endswith("/c/-1/0/0")]
    repo.objects.delete(key)
    with pytest.raises(StorageError, match="could not copy"):
        duplicate(parent(tip), "em", tip, "em2")
    assert "em2" not in repo.state.instances


def test_what_an_open_version_changed(tip: vzarr.Version):
    names = ("seg", "em", "notes", "loose")
    assert [is_unchanged(tip, name) for name in names] == [True] * 4
    tip["loose"].put("a", b"9")
    tip["notes"].put("b", b"9")
    assert [is_unchanged(tip, name) for name in names] == [True, True, False, True]
    tip["em"].write((0, 0, 0), np.full((32, 32, 32), 9, "u1"))
    assert [is_unchanged(tip, name) for name in names] == [True, False, False, True]


def test_by_the_command_line(tip: vzarr.Version, capsys: pytest.CaptureFixture[str]):
    url = tip.repo.url
    assert main(["copy", url, "em", "em2"]) == 0
    assert main(["copy", url, "em", "em2"]) == 1
    assert main(["copy", url, "em", "part", "--version", tip.repo.uuid, "--roi", "hot", "--into", tip.uuid]) == 0
    assert main(["copy", url, "em", "a/b"]) == 1
    assert sorted(tip.repo.state.instances) == ["em", "em2", "hot", "loose", "notes", "part", "seg"]
