"""Instances that are renamed, deleted, brought back and collected, seen from versions of all kinds and by all ways."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.cli import main
from vzarr.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.export import standalone
from vzarr.overlay.namedstore import naming_of
from vzarr.overlay.transfer.places import open_place
from vzarr.types import registry

SHAPE = (64, 64, 64)
CONFIG = {"BlockSize": "32,32,32"}


def voxels(seed: int, dtype: str = "u1") -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 9, SHAPE, dtype)


def image(version: vzarr.Version, name: str, seed: int) -> None:
    """An image of some voxels."""
    if name not in version.repo.state.instances:
        registry.create(version, name, "uint8blk", config=CONFIG)
    version[name].write((0, 0, 0), voxels(seed))


def seed_of(version: vzarr.Version, name: str) -> int:
    """Which voxels an image has."""
    found = version[name].read((0, 0, 0), SHAPE)
    return next((n for n in range(10) if np.array_equal(found, voxels(n))), -1)


@pytest.fixture(params=["root", "child"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vzarr.Repo]:
    """A sealed version with an image `em` (0) and keys, made in the root or below it, and an open child with (1)."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        version = repo.root if request.param == "root" else repo.root.commit().newversion()
        image(version, "em", 0)
        registry.create(version, "notes", "keyvalue")
        version["notes"].put("k", b"v")
        image(version.commit().newversion(), "em", 1)
        yield repo


def test_a_rename_is_seen_from_every_version_and_changes_none(repo: vzarr.Repo):
    before = {key: repo.objects.get(key) for key, _ in repo.objects.walk("nodes")}
    data_uuid = repo.state.instances["em"].data_uuid
    info = registry.rename(repo, "em", "gray", user="ann")
    assert (info.name, info.data_uuid, info.path, info.folder) == ("gray", data_uuid, "em", "em")
    assert {key: repo.objects.get(key) for key, _ in repo.objects.walk("nodes")} == before
    assert list(repo.state.instances) == ["gray", "notes"]
    tip = repo["master"]
    assert [seed_of(v, "gray") for v in (tip, *tip.parents)] == [1, 0]
    with pytest.raises(NotFoundError, match="no instance 'em'"):
        tip["em"]
    image(tip, "gray", 2)
    assert seed_of(tip.commit().newversion(), "gray") == 2
    with vzarr.open(repo.url) as again:
        assert seed_of(again["master"], "gray") == 2
        assert again.log()[-3].user == "ann"
    assert list(verify(repo.objects)) == []
    registry.rename(repo, "gray", "em")
    assert repo.state.instances["em"].folder == ""


def test_the_hierarchy_shows_todays_names(repo: vzarr.Repo, tmp_path: Path):
    registry.rename(repo, "em", "gray")
    tip = repo["master"]
    for version in (tip, *tip.parents):
        group = version.zarr
        assert sorted(group) == ["gray"]
        assert sorted(group["gray"]) == ["0"]
        at = seed_of(version, "gray")
        assert np.array_equal(group["gray/0"], voxels(at))
        assert np.array_equal(zarr.open_array(version.store, path="em/0", mode="r"), voxels(at))  # for good
        keys = [*version.store.keys("gray/")]
        assert keys == [key for key in version.store.keys("") if key.startswith("g")]
        assert set(keys) == {*version.store.keys("gr")} > {"gray/0/zarr.json", "gray/0/c/0/0/0"}
        again = pickle.loads(pickle.dumps(version.store))
        assert again.names("") == ["gray", "zarr.json"]
        standalone.flatten(version.view, tmp_path / version.uuid, naming=naming_of(version, repo.known))
        assert np.array_equal(zarr.open_group(tmp_path / version.uuid)["gray/0"], voxels(at))
    tip.zarr["gray/0"][:32] = 7
    assert (tip["gray"].read((0, 0, 0), (32, 64, 64)) == 7).all()
    del tip.zarr["gray"]
    assert not tip.has_array("em/0")
    assert seed_of(tip.parents[0], "gray") == 0


def test_an_old_name_can_be_given_to_another(repo: vzarr.Repo):
    registry.rename(repo, "em", "gray")
    tip = repo["master"]
    image(tip, "em", 3)
    assert repo.state.instances["em"].path.startswith("em~")
    tip.commit()
    for version in (repo["master"], repo["master"].newversion()):
        assert (seed_of(version, "em"), seed_of(version, "gray")) == (3, 1)
        # Where `em` once leads, it leads for good.
        assert sorted(version.zarr) == ["em~" + repo.state.instances["em"].data_uuid[:8], "gray"]
        assert np.array_equal(version.zarr["em/0"], voxels(1))
    assert list(verify(repo.objects)) == []
    with pytest.raises(AlreadyExistsError, match="'em' exists"):
        registry.rename(repo, "gray", "em")


@pytest.mark.parametrize("name", ["", "commit", "a/b", ".x", "c"])
def test_names_that_no_instance_may_have(repo: vzarr.Repo, name: str):
    entries = len(repo.log())
    with pytest.raises(InvalidInputError):
        registry.rename(repo, "em", name)
    with pytest.raises(AlreadyExistsError):
        registry.rename(repo, "em", "notes")
    with pytest.raises(NotFoundError, match="no instance 'other'"):
        registry.rename(repo, "other", "x")
    assert len(repo.log()) == entries


def test_syncs_follow_an_instance(repo: vzarr.Repo):
    tip = repo["master"]
    registry.create(tip, "seg", "labelmap", config=CONFIG)
    repo.update_instance("notes", syncs=[repo.state.instances["seg"].data_uuid])
    registry.rename(repo, "seg", "bodies")
    assert tip["notes"].sync_names() == ["bodies"]
    repo.delete_instance("bodies")
    assert tip["notes"].sync_names() == ["undefined"]
    repo.undelete_instance("bodies")
    assert tip["notes"].sync_names() == ["bodies"]


def test_a_segmentation_stays_whole_through_a_rename(repo: vzarr.Repo):
    tip = repo["master"]
    registry.create(tip, "seg", "labelmap", config={**CONFIG, "MaxDownresLevel": "1"})
    tip["seg"].write((0, 0, 0), voxels(0, "u8"))
    registry.rename(repo, "seg", "bodies")
    seg = tip["bodies"]
    assert seg.merge(1, [2]) is not None
    assert seg.size(1) == int((voxels(0, "u8") <= 2).sum())
    assert list(registry.verify(tip)) == []
    tip.commit()
    assert list(registry.verify(repo["master"].newversion())) == []


def test_what_is_deleted_is_seen_nowhere(repo: vzarr.Repo, tmp_path: Path):
    stored = {key: repo.objects.get(key) for key, _ in repo.objects.walk("nodes")}
    gone = repo.delete_instance("em", user="ann")
    assert {key: repo.objects.get(key) for key, _ in repo.objects.walk("nodes")} == stored
    tip = repo["master"]
    for version in (tip, *tip.parents):
        with pytest.raises(NotFoundError, match="deleted at"):
            version["em"]
        assert sorted(version.zarr) == []
        assert [k for k in version.store.keys("") if k.startswith("em")] == []
        assert version.store.read("em/0/zarr.json") is None
        standalone.flatten(version.view, tmp_path / version.uuid, naming=naming_of(version, repo.known))
        assert sorted(zarr.open_group(tmp_path / version.uuid)) == []
    with pytest.raises(InvalidInputError, match="deleted instance"):
        tip.store.write("em/x", b"y")
    tip.store.delete_below("")
    assert tip.store.names("") == []
    assert repo.garbage(3600, delete=True) == []
    repo.undelete_instance("em")
    assert repo.state.instances["em"].data_uuid == gone.data_uuid
    assert [seed_of(v, "em") for v in (tip, *tip.parents)] == [1, 0]


def test_a_name_that_was_deleted_is_free(repo: vzarr.Repo):
    first = repo.delete_instance("em")
    tip = repo["master"]
    image(tip, "em", 4)
    assert sorted(tip.zarr) == ["em"]
    assert np.array_equal(tip.zarr["em/0"], voxels(4))
    with pytest.raises(AlreadyExistsError, match="another name"):
        repo.undelete_instance("em")
    registry.undelete(repo, "em", "old")
    assert (seed_of(tip, "old"), seed_of(tip, "em")) == (1, 4)
    second = repo.delete_instance("em")
    repo.delete_instance("old")
    registry.rename(repo, "notes", "em")
    repo.delete_instance("em")
    with pytest.raises(InvalidInputError, match="data id"):
        repo.undelete_instance("em")
    assert repo.undelete_instance(second.data_uuid).name == "em"
    assert repo.undelete_instance(first.data_uuid, "old").path == "em"
    with pytest.raises(NotFoundError, match="was deleted"):
        repo.undelete_instance("nothing")


def test_what_is_collected_does_not_come_back_and_sealed_versions_stay(repo: vzarr.Repo):
    registry.create(repo["master"], "loose", "keyvalue", versioned=False)
    repo["master"]["loose"].put("k", b"v")
    tip = repo["master"].commit().newversion()
    image(tip, "em", 2)
    tip["loose"].put("k", b"w")
    sealed = {key: repo.objects.get(key) for key, _ in repo.objects.walk("nodes") if tip.uuid not in key}
    ids = [repo.delete_instance(name).data_uuid for name in ("em", "loose", "notes")]
    assert repo.garbage(3600) == []
    found = {g.place: g for g in repo.garbage(0)}
    assert [*found] == ids
    assert found[ids[0]].objects > 8
    assert {g.place for g in repo.garbage(0, delete=True)} == {*ids}
    assert repo.garbage(0) == []
    for data_uuid in ids:
        rows = [key for key, _ in repo.authority.kv.scan(b"") if bytes.fromhex(data_uuid) in key]
        assert rows == []
        with pytest.raises(NotFoundError, match="collected"):
            repo.undelete_instance(data_uuid)
    assert [k for k, _ in repo.objects.walk(layout.node(tip.uuid)) if "em" in k] == []
    left = {key: repo.objects.get(key) for key, _ in repo.objects.walk("nodes") if tip.uuid not in key}
    assert {k: v for k, v in left.items() if "unversioned" not in k} == {
        k: v for k, v in sealed.items() if "unversioned" not in k
    }
    assert not any("~" in k for k in left if "unversioned" in k)
    image(tip, "em", 5)
    assert seed_of(tip.commit(), "em") == 5
    assert list(verify(repo.objects)) == []
    with vzarr.open(repo.url) as again:
        assert (seed_of(again["master"], "em"), len(again.state.deleted)) == (5, 3)


def test_a_collection_that_was_cut_off_is_done_again(repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    gone = repo.delete_instance("em")
    with monkeypatch.context() as patch:
        patch.setattr(type(repo.authority.kv), "transact", lambda self, fn: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            repo.garbage(0, delete=True)
    with pytest.raises(NotFoundError, match="collected"):
        repo.undelete_instance("em")
    assert [g.place for g in repo.garbage(1e9, delete=True)] == [gone.data_uuid]
    assert repo.garbage(0) == []


def test_what_is_deleted_stands_against_no_merge(repo: vzarr.Repo):
    base = repo["master"].commit()
    ours, theirs = base.newversion(), base.branch("side")
    for n, version in enumerate((ours, theirs)):
        image(version, "em", 5 + n)
        version["notes"].put("k", b"%d" % n)
        version.commit()
    with pytest.raises(ConflictError, match="em/0"):
        repo.merge([ours, theirs])
    repo.delete_instance("em")
    with pytest.raises(ConflictError, match="notes"):
        repo.merge([ours, theirs])
    repo.delete_instance("notes")
    merged = repo.merge([ours, theirs])
    repo.undelete_instance("em")
    repo.undelete_instance("notes")
    assert seed_of(merged, "em") == 5
    assert merged["notes"].get("k") == b"0"


def test_clones_have_todays_names_and_decide_for_themselves(repo: vzarr.Repo):
    registry.rename(repo, "em", "gray")
    repo.delete_instance("notes")
    repo["master"].commit()
    with vzarr.clone(repo.url, f"memory://{uuid.uuid4().hex}") as other:
        assert [*other.state.instances] == ["gray"]
        assert seed_of(other["master"], "gray") == 1
        assert other.undelete_instance("notes").typename == "keyvalue"
        assert other["master"]["notes"].get("k") == b"v"
        registry.rename(other, "gray", "mine")
        repo.delete_instance("gray")
        other["master"].newversion().commit()
        repo.pull(other.url)
        assert repo["master"].uuid == other["master"].uuid
        assert ([*repo.state.instances], [*other.state.instances]) == ([], ["mine", "notes"])


def test_instances_of_one_name_made_apart_come_together(repo: vzarr.Repo):
    repo["master"].commit()
    with vzarr.clone(repo.url, f"memory://{uuid.uuid4().hex}") as other:
        for n, each in enumerate((repo, other)):
            image(each["master"].newversion(), "rois", 6 + n)
            each["master"].commit()
        with pytest.raises(AlreadyExistsError, match="rename one"):
            repo.fetch(other.url, "lab2")
        registry.rename(repo, "rois", "mine")
        repo.fetch(other.url, "lab2")
        ours, theirs = repo["master"], repo["lab2-master"]
        assert (seed_of(ours, "mine"), seed_of(theirs, "rois")) == (6, 7)
        assert not ours.has_array(theirs["mine"].folder)
        assert ours["rois"].folder.startswith("rois~")
        with pytest.raises(ConflictError, match="rois"):
            repo.merge([ours, theirs])
        apart = ours.newversion()
        apart.rename("rois", "mine")
        merged = repo.merge([apart.commit(), theirs])
        assert (seed_of(merged, "mine"), seed_of(merged, "rois")) == (6, 7)
        merged["mine"].write((0, 0, 0), voxels(8))
        merged.commit()
        assert (seed_of(merged, "mine"), seed_of(merged, "rois")) == (8, 7)


def test_a_served_repo_tells_of_names(repo: vzarr.Repo):
    # What a server sends and takes is checked key by key.
    from vzarr.overlay.transfer import exchange

    registry.rename(repo, "em", "gray")
    repo.delete_instance("notes")
    plain = json.loads(json.dumps(exchange.state_to_json(repo.state)))
    state = exchange.state_from_json(plain)
    assert state.instances["gray"].path == "em"
    assert [i.name for i in state.deleted.values()] == ["notes"]
    assert open_place(repo.url).state().instances == repo.state.instances


def test_by_the_command_line(repo: vzarr.Repo, capsys: pytest.CaptureFixture[str]):
    url = repo.url
    assert main(["rename", url, "em", "gray"]) == 0
    assert main(["rename", url, "em", "gray"]) == 1
    assert main(["delete", url, "gray", "--json"]) == 0
    assert main(["delete", url, "gray"]) == 1
    assert "deleted at" in capsys.readouterr().err
    assert main(["undelete", url, "gray", "--as", "em"]) == 0
    assert seed_of(repo["master"], "em") == 1
    assert main(["delete", url, "em"]) == 0
    assert main(["gc", url, "--grace", "0", "--delete"]) == 0
    assert main(["undelete", url, "em"]) == 1
    assert "collected" in capsys.readouterr().err
