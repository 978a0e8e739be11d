"""Data of unversioned instances travel as they are now: to who has none, or in place of the receiver's on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import vzarr
from tests.serving import TOKEN, serving
from vzarr.cli import main
from vzarr.errors import FormatError, NotFoundError, StorageError
from vzarr.overlay import layout, opening
from vzarr.overlay.care import gc
from vzarr.overlay.care.verify import verify
from vzarr.overlay.history.state import State
from vzarr.overlay.keys import brought, unversioned
from vzarr.overlay.transfer import outside
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.places import StoredPlace, open_place
from vzarr.overlay.transfer.verbs import Transferred, clone, push
from vzarr.types import blobs
from vzarr.types.registry import create

WAITING = layout.arrived("").rstrip("/")


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """A sealed root and an open child; two unversioned instances, one without data, and labels that were given."""
    with vzarr.create(str(tmp_path / "first")) as repo:
        root = repo.root
        create(root, "settings", "keyvalue", versioned=False).put("a", b"1")
        create(root, "empty", "keyvalue", versioned=False)
        create(root, "seg", "labelmap").reserve_labels(5)
        blobs.put(root, b"a picture")
        tip = root.commit().newversion()
        tip["settings"].put("b", b"2")  # after the last commit
        yield repo


def settings(repo: vzarr.Repo) -> dict[str, bytes]:
    return dict(repo.root["settings"].items("!", "~"))


def sent(source: vzarr.Repo, target: str, **more: bool) -> Transferred:
    with open_place(source.url) as mine, open_place(target, TOKEN) as theirs:
        return push(mine, theirs, **more)


@pytest.fixture
def other(repo: vzarr.Repo, tmp_path: Path) -> Iterator[vzarr.Repo]:
    with vzarr.clone(repo.url, str(tmp_path / "second")) as other:
        yield other


def test_a_clone_has_them_as_they_are_now(repo: vzarr.Repo, other: vzarr.Repo):
    assert settings(other) == settings(repo) == {"a": b"1", "b": b"2"}
    assert blobs.get(other.root, blobs.reference(b"a picture")) == b"a picture"
    assert not list(other.objects.walk(WAITING))
    tip = other["master"].newversion()
    tip["settings"].put("c", b"3")
    tip.commit()
    assert dict(unversioned.read(other.objects)[tip["settings"].info.data_uuid].open(other.objects).scan(b"k", b"l"))
    assert not list(verify(other.objects))
    assert not gc.find(other.objects, other.authority, other.state, 0)


def test_labels_that_were_given_stay_behind(repo: vzarr.Repo, other: vzarr.Repo):
    mine, theirs = (tip["seg"].reserve_labels(1)[0] for tip in (repo["master"], other["master"].newversion()))
    assert mine == 6
    assert theirs > layout.STRIPE_LABELS


def test_both_keep_what_they_have_unless_asked(repo: vzarr.Repo, other: vzarr.Repo):
    other.root["settings"].put("a", b"mine")
    other.root["empty"].put("x", b"new")
    blobs.put(other.root, b"another picture")
    blobs.put(repo.root, b"a third")
    done = other.pull(repo.url)
    assert (done.versions, done.kept) == ([], ["settings"])
    assert settings(other) == {"a": b"mine", "b": b"2"}
    assert blobs.get(other.root, blobs.reference(b"a third")) == b"a third"
    assert blobs.get(other.root, blobs.reference(b"another picture")) == b"another picture"
    done = other.push(repo.url)
    assert (done.versions, done.kept) == ([], ["settings"])
    assert settings(repo) == {"a": b"1", "b": b"2"}
    assert repo.root["empty"].get("x") == b"new", "who has none gets them"
    other.root["settings"].delete("b")
    assert other.push(repo.url, unversioned=True).kept == []
    assert settings(repo) == settings(other) == {"a": b"mine"}
    assert other.push(repo.url, unversioned=True).nbytes == 0, "equal data are not sent"


def test_what_is_open_elsewhere_needs_no_commit(repo: vzarr.Repo, other: vzarr.Repo):
    """Versions and data of none travel together, and only for instances that arrive."""
    tip = repo["master"]
    create(tip, "late", "keyvalue", versioned=False).put("l", b"1")
    assert sent(repo, other.url).versions == []
    with pytest.raises(NotFoundError):
        other.root.instance_info("late")
    tip.commit()
    assert sent(repo, other.url).versions == [tip.uuid]
    assert other["master"]["late"].get("l") == b"1"


def test_over_a_server(repo: vzarr.Repo, tmp_path: Path):
    with serving(tmp_path / "served") as server:
        with open_place(repo.url) as mine, open_place(server.url, TOKEN) as theirs:
            clone(mine, theirs)
        with vzarr.clone(server.url, str(tmp_path / "back")) as back:
            assert settings(back) == settings(repo)
            back.root["settings"].put("c", b"3")
            assert sent(back, server.url).kept == ["settings"]
            assert sent(back, server.url, unversioned=True).kept == []
        assert sent(repo, server.url).kept == ["settings"]
        repo.pull(server.url, unversioned=True)
        assert settings(repo) == {"a": b"1", "b": b"2", "c": b"3"}


def test_who_was_killed_before_taking_them_in_has_them_later(
    repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def die(_authority: object, _versioned: object, state: State) -> list[str]:
        if not state.nodes:
            return []  # nothing is published yet
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vzarr.overlay.transfer.places.take_in_alone", die)
        with pytest.raises(KeyboardInterrupt), open_place(repo.url) as mine:
            clone(mine, open_place(str(tmp_path / "second")))
    with vzarr.open(str(tmp_path / "second")) as other:
        assert settings(other) == settings(repo)
        assert not list(other.objects.walk(WAITING))


def test_what_waits_for_versions_that_were_refused_is_garbage_in_the_end(repo: vzarr.Repo, other: vzarr.Repo):
    for each in (repo, other):
        tip = each["master"] if not each["master"].sealed else each["master"].newversion()
        create(tip, "late", "keyvalue", versioned=False).put("l", b"1")
        tip.commit()
    with pytest.raises(vzarr.errors.VzarrError):
        sent(repo, other.url)
    other.objects.put(f"{WAITING}/{'0' * 64}", b"x")
    other.objects.put(layout.snapshot_sums("left"), b"x")
    other.objects.put(f"{layout.keys(layout.UNVERSIONED, 'left')}/zarr.json", b"x")
    found = other.garbage(0, delete=True)
    assert sorted(g.kind for g in found) == ["snapshot", "unfinished", "unfinished"]
    assert not other.garbage(0)
    assert not list(verify(other.objects))


def test_a_tampered_snapshot_is_refused_by_name(repo: vzarr.Repo, tmp_path: Path):
    repo["master"].commit()
    info = repo.root.instance_info("settings")
    name = unversioned.read(repo.objects)[info.data_uuid].name
    key = f"{layout.keys(layout.UNVERSIONED, name)}/values/c/0"
    repo.objects.put(key, b"?")
    assert {(f.name, f.key) for f in verify(repo.objects)} == {("object-differs", key)}
    with pytest.raises(FormatError, match=key):
        clone(open_place(repo.url), open_place(str(tmp_path / "second")))
    with pytest.raises((NotFoundError, FormatError)):
        vzarr.open(str(tmp_path / "second"))
    repo.objects.delete(key)
    with pytest.raises(StorageError, match="missing"):
        mirror(open_place(repo.url), open_place(str(tmp_path / "mirror")))


def test_a_mirror_has_them_as_they_are_now(repo: vzarr.Repo, tmp_path: Path):
    url, seg = str(tmp_path / "mirror"), repo.root.instance_info("seg").data_uuid
    for n in range(3):
        repo.root["settings"].put("n", b"%d" % n)
        repo["master"]["seg"].reserve_labels(1)
        mirror(open_place(repo.url), open_place(url))
        mine, copied = (unversioned.read(o) for o in (repo.objects, opening.open_objects(url)))
        assert mine[seg].rows == copied[seg].rows is not None
        with vzarr.open(url) as copy:
            assert settings(copy) == settings(repo)
        assert not [f for f in verify(opening.open_objects(url)) if f.damage]
    assert len(opening.open_objects(url).list_dir(f"{layout.node(layout.UNVERSIONED)}/sums")[1]) <= 6


def test_early_snapshots_without_checksums_are_taken_anew(repo: vzarr.Repo, tmp_path: Path):
    repo["master"].commit()
    plain = {i: unversioned.Snapshot(s.name, s.keys, s.time) for i, s in unversioned.read(repo.objects).items()}
    unversioned.write(repo.objects, plain)
    with vzarr.clone(repo.url, str(tmp_path / "second")) as other:
        assert settings(other) == settings(repo)


def test_where_there_are_no_keys_snapshots_are_what_readers_see(repo: vzarr.Repo, other: vzarr.Repo):
    """As on an object store to which somebody cloned without `keys`."""
    theirs, place = StoredPlace(repo.objects), StoredPlace(other.objects)
    other.root["settings"].put("a", b"mine")
    blobs.put(other.root, b"another picture")
    place.shared()
    seen = theirs.shared()
    info = repo.root.instance_info("settings")
    blob = next(i for i in seen.snapshots if i not in {info.data_uuid for info in repo.state.instances.values()})
    for replace, kept, a in ((False, True, b"mine"), (True, False, b"1")):
        choice = outside.Choice((info,), frozenset({blob}), ())
        brings, _ = outside.bring(theirs, place, seen, choice, replace=replace)
        assert bool(brought.show(other.objects, brings, repo.state, {info.data_uuid})) == kept
        known = unversioned.read(other.objects)
        assert dict(known[info.data_uuid].open(other.objects).scan())[b"ka"] == a
        assert len(list(known[blob].open(other.objects).scan())) == 2
        assert not [f for f in verify(other.objects) if f.damage]


def test_a_source_that_cannot_be_written_gives_what_its_last_commit_found(
    repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_args: object) -> None:
        raise PermissionError(13, "read-only")

    with closing(opening.open_authority(repo.objects, opening.read_meta(repo.objects))):
        monkeypatch.setattr("vzarr.overlay.objects.files.os.replace", refuse)
        assert len(StoredPlace(repo.objects).shared().snapshots) >= 1
        monkeypatch.undo()
    with vzarr.clone(repo.url, str(tmp_path / "second")) as other:
        assert settings(other) == settings(repo)


def test_by_the_command_line(repo: vzarr.Repo, other: vzarr.Repo, capsys: pytest.CaptureFixture[str]):
    other.root["settings"].put("a", b"mine")
    assert main(["pull", other.url, repo.url]) == 0
    assert "left alone, since both have data of their own: settings" in capsys.readouterr().out
    assert main(["pull", other.url, repo.url, "--unversioned"]) == 0
    assert "left alone" not in capsys.readouterr().out
    assert settings(other) == settings(repo)
