"""Open versions in a mirror: as they were at one moment, whole, and back again when the mirror becomes a repo."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vzarr
from vzarr.cli import main
from vzarr.errors import AuthorityUnavailableError, ConflictError, FormatError, StorageError
from vzarr.overlay import layout, opening
from vzarr.overlay.care.rebuildkeys import Rebuilt, rebuild
from vzarr.overlay.care.verify import verify
from vzarr.overlay.keys import pause
from vzarr.overlay.transfer import moment, taking
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import Transferred
from vzarr.types import blobs
from vzarr.types.labelmap import underway
from vzarr.types.labelmap.verify import check_index
from vzarr.types.registry import create


def labels(value: int, width: int = 64) -> np.ndarray:
    return np.full((64, 64, width), value, np.uint64)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """A sealed root, an open child with edits of every kind, an open branch, and data of no version."""
    with vzarr.create(str(tmp_path / "first"), alias="fly") as repo:
        root = repo.root
        create(root, "seg", "labelmap").write((0, 0, 0), np.concatenate([labels(1), labels(2), labels(3)], 2))
        create(root, "em", "uint8blk").write((0, 0, 0), np.full((32, 32, 64), 7, np.uint8))
        create(root, "notes", "keyvalue").put_many([("a", b"1"), ("gone", b"1")])
        create(root, "settings", "keyvalue", versioned=False).put("s", b"1")
        root.create_array("plain", dtype="u1", chunks=(4, 4), shape=(8, 8), dimension_names=None)
        root.write("plain", (0, 0), np.ones((8, 8), "u1"))
        vzarr.VersionStore(root).write("readme", b"of the root")
        root.commit()
        tip, side = root.newversion(), root.branch("side")
        tip["seg"].write((0, 0, 64), labels(9))
        tip["seg"].merge(1, [3])
        tip["em"].write((0, 0, -32), np.full((32, 32, 32), 8, np.uint8))
        tip["notes"].put("b", b"2")
        tip["notes"].delete("gone")
        tip["settings"].put("t", b"2")
        blobs.put(tip, b"a picture")
        tip.delete_chunks("plain", [(0, 0)])
        tip.rename("plain", "renamed")
        vzarr.VersionStore(tip).write("readme", b"of the tip")
        side["notes"].put("c", b"3")
        yield repo


def contents(repo: vzarr.Repo) -> dict[str, object]:
    """All that every version shows."""
    return {version.uuid: contents_of(repo, version.uuid) for version in repo.versions()}


def contents_of(repo: vzarr.Repo, node: str) -> object:
    """A version's Zarr hierarchy, byte for byte, and its keys."""
    version = repo[node]
    keys = {name: dict(version.keys(name).scan()) for name in repo.state.instances}
    return version.sealed, {key: version.store.read(key) for key in sorted(version.store.keys(""))}, keys


def copied(repo: vzarr.Repo, url: str) -> Transferred:
    return mirror(open_place(repo.url), open_place(url), opened=True)


def restored(url: str) -> Rebuilt:
    return rebuild(opening.open_objects(url))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "mirror")


def test_open_versions_come_back(repo: vzarr.Repo, url: str):
    copied(repo, url)
    assert not [f for f in verify(opening.open_objects(url)) if f.damage]
    with vzarr.open(url) as copy, pytest.raises(AuthorityUnavailableError):
        copy["master"]
    done = restored(url)
    assert (sorted(done.reopened), done.lost) == (sorted(n for n, i in repo.state.nodes.items() if not i.sealed), ())
    with vzarr.open(url) as copy:
        assert contents(copy) == contents(repo)
        assert blobs.get(copy.root, blobs.reference(b"a picture")) == b"a picture"
        tip = copy["master"]
        assert check_index(tip["seg"]) == []
        tip["notes"].put("later", b"1")
        assert tip["seg"].cleave(1, [3]).mutation_id > repo["master"]["seg"].cleave(1, [3]).mutation_id
        tip.commit()
        copy["side"].commit()
        assert not [f for f in verify(copy.objects) if f.damage]
    assert not list(opening.open_objects(url).walk("open"))
    assert restored(url).reopened == ()


def test_an_open_root_comes_back(tmp_path: Path, url: str):
    with vzarr.create(str(tmp_path / "first")) as repo:
        create(repo.root, "seg", "labelmap").write((0, 0, -64), labels(5))
        repo.root.create_array("a", dtype="u1", chunks=(4,), shape=(8,), dimension_names=None)
        repo.root.write("a", (0,), np.full(8, 3, "u1"))
        copied(repo, url)
        restored(url)
        with vzarr.open(url) as copy:
            assert contents(copy) == contents(repo)
            copy.root.commit()
            assert not list(verify(copy.objects))


def test_a_mirror_of_an_empty_repo_is_no_repo_yet(tmp_path: Path, url: str):
    vzarr.create(str(tmp_path / "first")).close()
    for _ in range(2):
        mirror(open_place(str(tmp_path / "first")), open_place(url), opened=True)
    with vzarr.open(url) as copy, pytest.raises(AuthorityUnavailableError, match="mirror"):
        copy["master"]
    assert restored(url).restored


def test_an_open_merge_comes_back(repo: vzarr.Repo, url: str):
    repo["side"].commit()
    repo["master"].commit()
    merged = repo.merge(["master", "side"])
    merged["notes"].put("m", b"1")
    copied(repo, url)
    restored(url)
    with vzarr.open(url) as copy:
        assert contents(copy) == contents(repo)
        copy[merged.uuid].commit()
        assert not list(verify(copy.objects))


def test_it_is_brought_up_to_date(repo: vzarr.Repo, url: str, monkeypatch: pytest.MonkeyPatch):
    copied(repo, url)
    monkeypatch.setattr("vzarr.overlay.objects.files.SETTLED_NS", 0)
    copied(repo, url)  # stamps are known now
    reads: list[str] = []
    tip = repo["master"]
    tip["em"].write((0, 0, 64), np.full((32, 32, 32), 9, np.uint8))
    tip.delete_chunks("em/0", [(0, 0, -1)])
    get = type(repo.objects).fetch

    def noted(self: Any, key: str, *more: object) -> object:
        if self.url == repo.url and "/zarr/" in key and key.startswith(layout.node(tip.uuid)):
            reads.append(key)
        return get(self, key, *more)

    with monkeypatch.context() as patch:
        patch.setattr(type(repo.objects), "fetch", noted)
        copied(repo, url)
    assert len(set(reads)) == 1, "only what changed is read"
    side = repo["side"].commit()
    repo["side"].newversion()
    copied(repo, url)
    there = opening.open_objects(url)
    found = moment.read(there)
    used = {found.sums, *(h.digest for h in moment.listed(there, found).values())}
    assert {key.rpartition("/")[2] for key, _ in there.walk("open/objects")} == used, "what is not needed goes"
    restored(url)
    with vzarr.open(url) as copy:
        assert contents(copy) == contents(repo)
        assert copy[side.uuid].sealed


def test_without_open_the_earlier_moment_stays(repo: vzarr.Repo, url: str):
    copied(repo, url)
    before = contents(repo)
    tip = repo["master"]
    tip["notes"].put("later", b"1")
    repo["side"].commit()
    late = repo["side"].newversion()
    mirror(open_place(repo.url), open_place(url))
    done = restored(url)
    assert (done.reopened, done.lost) == ((tip.uuid,), (late.uuid,))
    with vzarr.open(url) as copy:
        assert contents_of(copy, tip.uuid) == before[tip.uuid]
        with pytest.raises(AuthorityUnavailableError, match="accept-loss"):
            copy["side"]["notes"].get("c")


@pytest.mark.parametrize("point", ["put", "hold"])
def test_interrupted_it_shows_the_earlier_moment(
    repo: vzarr.Repo, url: str, point: str, monkeypatch: pytest.MonkeyPatch
):
    copied(repo, url)
    before = contents_of(repo, repo["master"].uuid)
    repo["master"]["notes"].put("later", b"1")

    def die(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if point == "put":
            patch.setattr(taking.Copies, "put", die)
        else:
            patch.setattr("vzarr.overlay.transfer.mirror._hold", die)
        with pytest.raises(KeyboardInterrupt):
            copied(repo, url)
    restored(url)
    with vzarr.open(url) as copy:
        assert contents_of(copy, repo["master"].uuid) == before


def test_interrupted_restoring_is_done_again(repo: vzarr.Repo, url: str, monkeypatch: pytest.MonkeyPatch):
    copied(repo, url)

    def die(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    for where in ("vzarr.overlay.care.rebuildkeys._make_embedded", "vzarr.overlay.care.reopening.Reopening.restore"):
        with monkeypatch.context() as patch:
            patch.setattr(where, die)
            with pytest.raises(KeyboardInterrupt):
                restored(url)
        with pytest.raises(AuthorityUnavailableError), vzarr.open(url) as copy:
            copy["master"]
    restored(url)
    with vzarr.open(url) as copy:
        assert contents(copy) == contents(repo)


def test_what_was_gone_on_with_is_not_taken_back(repo: vzarr.Repo, url: str, monkeypatch: pytest.MonkeyPatch):
    """Whoever was killed before removing the moment has a repo; when its keys are lost later, the moment is stale."""
    copied(repo, url)
    with monkeypatch.context() as patch:
        patch.setattr("vzarr.overlay.care.reopening.Reopening.forget", lambda _self: None)
        restored(url)
    with vzarr.open(url) as copy:
        copy["master"]["em"].write((0, 0, 0), np.full((32, 32, 32), 1, np.uint8))
    Path(url, layout.database()).unlink()
    done = restored(url)
    assert (done.reopened, len(done.lost)) == ((), 2)


def test_damage_is_named(repo: vzarr.Repo, url: str):
    copied(repo, url)
    there = opening.open_objects(url)
    held = moment.listed(there, moment.read(there))
    key = layout.moment_object(held[next(k for k in held if "/em/0" in k or "em/0~" in k)].digest)
    data = there.get(key)
    there.put(key, data[:-1] + b"?")
    assert key in {f.key for f in verify(there) if f.damage}
    with pytest.raises(FormatError, match=key):
        restored(url)
    there.delete(key)
    with pytest.raises(StorageError, match=key):
        restored(url)
    there.put(key, data)
    there.put(layout.moment(), b"{}")
    with pytest.raises(FormatError, match="damaged"):
        moment.read(there)
    assert "moment-damaged" in {f.name for f in verify(there)}


def test_writers_that_never_pause_are_told_of(repo: vzarr.Repo, url: str, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(pause, "LONGEST_SECONDS", 0.1)
        with vzarr.open(repo.url) as other, other["master"].writing(), pytest.raises(ConflictError, match="pause"):
            copied(repo, url)
    copied(repo, url)


def test_versions_made_meanwhile_are_part_of_it(repo: vzarr.Repo, url: str, monkeypatch: pytest.MonkeyPatch):
    """A new version between the last look and the pause: the pause is tried again, with its writers."""
    real, made = taking.at_once, []

    def late(*args: object) -> object:
        if not made:
            made.append(repo["side"].commit().newversion())
            made[0]["notes"].put("new", b"1")
        return real(*args)

    monkeypatch.setattr(taking, "at_once", late)
    copied(repo, url)
    assert restored(url).lost == ()
    with vzarr.open(url) as copy:
        assert contents(copy) == contents(repo)


def test_a_pause_that_writers_do_not_make_is_tried_again(repo: vzarr.Repo, url: str, monkeypatch: pytest.MonkeyPatch):
    real, tries = taking.at_once, []

    def late(*args: object) -> object:
        tries.append(args)
        if len(tries) < taking.ATTEMPTS:
            raise ConflictError("writers go on")
        return real(*args)

    monkeypatch.setattr(taking, "at_once", late)
    copied(repo, url)
    assert len(tries) == taking.ATTEMPTS


def test_what_a_killed_writer_left_half_done_is_finished_in_the_copy(
    repo: vzarr.Repo, url: str, monkeypatch: pytest.MonkeyPatch
):
    def die(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    tip = repo["master"]
    with monkeypatch.context() as patch:
        patch.setattr(underway, "_store", die)
        with pytest.raises(KeyboardInterrupt):
            tip["seg"].write((0, 0, 128), labels(11))
    copied(repo, url)
    restored(url)
    with vzarr.open(url) as copy:
        there = copy["master"]["seg"]
        assert check_index(there) == []
        assert (there.read((0, 0, 128), (64, 64, 192)) == 11).all()


@pytest.mark.parametrize("opened", [False, True])
def test_voxels_of_no_version_are_refused_by_a_mirror_instead_of_shown_as_nothing(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str], opened: bool
):
    with vzarr.create(str(tmp_path / "voxels")) as repo:
        for name, versioned in (("em", True), ("scratch", False)):
            made = create(repo.root, name, "uint8blk", config={"BlockSize": "32,32,32"}, versioned=versioned)
            made.write((0, 0, 0), np.full((32, 32, 32), 7, np.uint8))
        repo.root.commit()
        mirror(open_place(repo.url), open_place(url), opened=opened)
    with vzarr.open(url) as copy:
        root = copy["master"]
        assert set(root["em"].read((0, 0, 0), (1, 1, 1)).flat) == {7}
        assert sorted(name for name, _ in root.zarr.groups()) == ["em"]
        with pytest.raises(AuthorityUnavailableError, match="is a mirror"):
            root["scratch"].read((0, 0, 0), (1, 1, 1))
        with pytest.raises(AuthorityUnavailableError, match="is a mirror"):
            root.zarr["scratch/0"]
    assert main(["verify", url]) == 0
    assert main(["rebuild-keys", url]) == 0
    assert ("voxels that unversioned instances had are lost" in capsys.readouterr().out) is not opened
    with vzarr.open(url) as back:
        there = back["master"]["scratch"].read((0, 0, 0), (1, 1, 1))
        assert set(there.flat) == ({7} if opened else {0})


def test_by_the_command_line(repo: vzarr.Repo, url: str, capsys: pytest.CaptureFixture[str]):
    assert main(["clone", repo.url, url, "--open"]) == 1
    assert main(["clone", repo.url, url, "--mirror", "--open"]) == 0
    assert main(["verify", url]) == 0
    assert main(["rebuild-keys", url]) == 0
    said = capsys.readouterr().out
    assert f"open version {repo['master'].uuid}: as the mirror held it" in said
    assert "accept-loss" not in said
    assert main(["verify", "--labels", url, "--version", "master"]) == 0


def test_many_chunks_and_a_busy_thread(repo: vzarr.Repo, url: str):
    """While another thread writes, the copy is some moment of its work, not a mixture."""
    tip, stop, n = repo["master"], threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            n[0] += 1
            with tip.writing():
                tip.write("renamed", (0, 0), np.full((8, 8), n[0] % 250, "u1"))
                tip["notes"].put("n", b"%d" % (n[0] % 250))

    thread = threading.Thread(target=write)
    thread.start()
    copied(repo, url)
    stop.set()
    thread.join()
    restored(url)
    with vzarr.open(url) as copy:
        found = np.unique(copy["master"].read("renamed", (0, 0), (8, 8)))
        assert found.tolist() == [int(copy["master"]["notes"].get("n"))]
