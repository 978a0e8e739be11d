"""Images and labels of no version travel as they are at one moment, arrays and keys alike, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vzarr
from tests.serving import TOKEN, serving
from vzarr.errors import ConflictError, FormatError, VzarrError
from vzarr.overlay import layout
from vzarr.overlay.care import gc
from vzarr.overlay.care.verify import verify
from vzarr.overlay.hierarchy.naming import shared_folder
from vzarr.overlay.keys import brought, sharedarrays
from vzarr.overlay.keys.sharedarrays import Arrays
from vzarr.overlay.transfer import outside, places
from vzarr.overlay.transfer.places import StoredPlace, open_place
from vzarr.overlay.transfer.verbs import Transferred, clone, push
from vzarr.types import registry
from vzarr.types.registry import create

BLOCK = 32
CONFIG = {"blocksize": f"{BLOCK},{BLOCK},{BLOCK}", "maxdownreslevel": "1"}
WAITING = layout.arrived("").rstrip("/")


def voxels(value: int, dtype: str = "u1") -> np.ndarray:
    return np.full((BLOCK, BLOCK, BLOCK), value, dtype)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """A sealed root; an image that reaches below voxel 0, and labels: of no version, written after the commit."""
    with vzarr.create(str(tmp_path / "first")) as repo:
        root = repo.root
        create(root, "em", "uint8blk", versioned=False).write((0, 0, 0), voxels(1))
        create(root, "seg", "labelmap", versioned=False, config=CONFIG).write((0, 0, 0), voxels(5, "u8"))
        create(root, "empty", "uint8blk", versioned=False)
        root.commit()
        root["em"].write((0, 0, -BLOCK), voxels(2))
        root["seg"].write((0, 0, BLOCK), voxels(6, "u8"))
        root["seg"].merge(5, [6])
        yield repo


@pytest.fixture
def other(repo: vzarr.Repo, tmp_path: Path) -> Iterator[vzarr.Repo]:
    with vzarr.clone(repo.url, str(tmp_path / "second")) as other:
        yield other


def held(repo: vzarr.Repo) -> dict[str, Any]:
    """All voxels and bodies of no version."""
    em, seg = repo.root["em"], repo.root["seg"]
    found = {"em": em.read((0, 0, -BLOCK), (1, 1, 3 * BLOCK)).tolist(), "bodies": dict(seg.list_bodies())}
    return {**found, "seg": [seg.read((0, 0, 0), (1, 1, 3 * BLOCK), scale=s).tolist() for s in (0,)]}


def check(repo: vzarr.Repo) -> None:
    """Nothing is damaged, or half taken in."""
    assert not list(verify(repo.objects))
    assert not list(registry.verify(repo.root))
    assert not list(repo.objects.walk(WAITING))
    assert not gc.find(repo.objects, repo.authority, repo.state, 0)


def sent(source: str, target: str, **more: Any) -> Transferred:
    with open_place(source) as mine, open_place(target, TOKEN) as theirs:
        return push(mine, theirs, **more)


def test_a_clone_has_them_and_goes_on_by_itself(repo: vzarr.Repo, other: vzarr.Repo):
    before = held(repo)
    assert held(other) == before
    assert [*np.unique(before["em"])] == [0, 1, 2]
    check(other)
    new = other.root["seg"].cleave(5, [6]).body
    assert new > layout.STRIPE_LABELS, "labels of a clone come from its own range"
    other.root["em"].write((0, 0, 0), voxels(9))
    check(other)
    assert held(repo) == before


def test_from_folder_over_memory_and_server_to_folder(repo: vzarr.Repo, tmp_path: Path):
    before, memory = held(repo), f"memory://{tmp_path.name}"
    vzarr.clone(repo.url, memory).close()
    with serving(tmp_path / "served") as server:
        with open_place(memory) as source, open_place(server.url, TOKEN) as target:
            clone(source, target)
        with vzarr.clone(server.url, str(tmp_path / "last")) as last:
            assert held(last) == before
            check(last)
            last.root["em"].write((0, 0, 0), voxels(9))
            after = held(last)
        assert sent(last.url, server.url).kept == ["em"]
        assert sent(last.url, server.url, unversioned=True).kept == []
    with vzarr.open(str(tmp_path / "served" / repo.uuid)) as served:
        assert held(served) == after
        check(served)


def test_both_keep_theirs_unless_asked(repo: vzarr.Repo, other: vzarr.Repo):
    create_both = repo.root["empty"], other.root["empty"]
    create_both[0].write((0, 0, 0), voxels(3))
    repo.root["em"].write((0, 0, BLOCK), voxels(4))
    before = held(other)
    done = other.pull(repo.url)
    assert done.kept == ["em"]
    assert held(other) == before
    assert (create_both[1].read((0, 0, 0), (1, 1, 1)) == 3).all(), "who has none gets them"
    other.root["seg"].write((0, 0, 2 * BLOCK), voxels(8, "u8"))
    other.root["em"].write((0, 0, -2 * BLOCK), voxels(7))
    assert other.pull(repo.url, unversioned=True).kept == []
    assert held(other) == held(repo)
    assert (other.root["em"].read((0, 0, -2 * BLOCK), (1, 1, -BLOCK)) == 0).all(), "what is not there any more is gone"
    check(other)
    assert other.pull(repo.url).kept == []


def while_copying(monkeypatch: pytest.MonkeyPatch, step: Callable[[int], None]) -> None:
    """Let something happen after each look at the source."""
    looks = StoredPlace.shared
    count = iter(range(100))

    def look(self: StoredPlace) -> Any:
        found = looks(self)
        if self.url.endswith("first"):
            step(next(count))
        return found

    monkeypatch.setattr(StoredPlace, "shared", look)


@pytest.mark.parametrize("times", [1, 100])
def test_arrays_are_of_one_moment(repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int):
    """Also where they change at every look: then writers pause."""
    moments: list[dict[str, Any]] = []

    def step(n: int) -> None:
        if n < times and not paused:
            repo.root["seg"].write((0, 0, (n % 3) * BLOCK), voxels(10 + n, "u8"))
            repo.root["em"].write((0, 0, 0), voxels(10 + n))
            moments.append(held(repo))

    paused: list[bool] = []
    quiet = StoredPlace.quiet

    def note(self: StoredPlace) -> Any:
        paused.append(True)
        return quiet(self)

    monkeypatch.setattr(StoredPlace, "quiet", note)
    while_copying(monkeypatch, step)
    with vzarr.clone(repo.url, str(tmp_path / "second")) as other:
        assert held(other) == moments[-1]
        other.garbage(0, delete=True)  # objects of earlier looks
        check(other)
    assert bool(paused) == (times > 1)


def test_a_server_whose_arrays_never_rest_says_so(repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(StoredPlace, "quiet", lambda self: super(StoredPlace, self).quiet())
    while_copying(monkeypatch, lambda n: repo.root["em"].write((0, 0, 0), voxels(10 + n)))
    with pytest.raises(ConflictError, match="change all the time"):
        vzarr.clone(repo.url, str(tmp_path / "second"))
    with pytest.raises(FormatError, match="never finished"):
        vzarr.open(str(tmp_path / "second"))
    monkeypatch.undo()
    with vzarr.clone(repo.url, str(tmp_path / "second")) as other:
        assert held(other) == held(repo)


@pytest.mark.parametrize("step", ["write_rows", "drop"])
def test_what_was_cut_off_is_taken_in_later(
    repo: vzarr.Repo, other: vzarr.Repo, monkeypatch: pytest.MonkeyPatch, step: str
):
    """Whatever arrays were replaced by then, nobody takes them for the repo's own."""
    repo.root["em"].write((0, 0, BLOCK), voxels(4))
    other.root["em"].write((0, 0, -2 * BLOCK), voxels(7))

    def die(*_given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(brought if step == "drop" else sharedarrays, step, die)
    with pytest.raises(KeyboardInterrupt):
        sent(repo.url, other.url, unversioned=True)
    monkeypatch.undo()
    with vzarr.open(other.url) as again:
        assert dict(again.root["seg"].list_bodies()) == dict(repo.root["seg"].list_bodies())
        assert held(again) == held(repo)
        assert (again.root["em"].read((0, 0, -2 * BLOCK), (1, 1, -BLOCK)) == 0).all()
        again.garbage(0, delete=True)
        check(again)


def test_a_partial_clone_has_all_of_what_belongs_to_no_version(repo: vzarr.Repo, tmp_path: Path):
    """Nothing notes what would be missing of it, so that fill values would be read."""
    with vzarr.clone(repo.url, str(tmp_path / "part"), instances=["em"]) as part:
        assert held(part) == held(repo)
        assert dict(part.root["seg"].list_bodies()) == dict(repo.root["seg"].list_bodies())


def test_labels_that_came_are_not_given_again(repo: vzarr.Repo, other: vzarr.Repo):
    """They were chosen by whoever wrote them there, and lie in nobody's range."""
    other.root["seg"].write((0, 0, 2 * BLOCK), voxels(7, "u8"))
    sent(other.url, repo.url, unversioned=True)
    known = {int(body) for body, _ in repo.root["seg"].list_bodies()}
    assert 7 in known
    assert repo.root["seg"].reserve_labels(1)[0] not in known


@pytest.mark.parametrize(
    ("objects", "rows"),
    [
        ({"../vzarr.json": 1}, {}),
        ({"FOLDER/../x": 1}, {}),
        ({"other~12345678/0/zarr.json": 1}, {}),
        ({"FOLDER/a\\b": 1}, {}),
        ({}, {"em": {"docs": {}}}),
        ({}, {"FOLDER/0": {"docs": {}}}),
        ({}, {"FOLDER/0": {"docs": 3}}),
        ({}, {"FOLDER/0": []}),
        ({}, {"FOLDER/0": {"docs": {}, "id": 3}}),
    ],
)
def test_nothing_is_written_elsewhere(repo: vzarr.Repo, objects: dict[str, int], rows: dict[str, Any]):
    """Whoever sends arrays may be a stranger."""
    info = repo.root.instance_info("em")
    folder, place = shared_folder(info), StoredPlace(repo.objects)
    listed = Arrays(
        {key.replace("FOLDER", folder): ("0" * 64, size) for key, size in objects.items()},
        {key.replace("FOLDER", folder): row for key, row in rows.items()},
    ).to_bytes()
    digest = sharedarrays.seal.sha256(listed)
    repo.objects.put(layout.arrived(digest), listed)
    brings = brought.Brought(arrays={info.data_uuid: digest})
    with pytest.raises(FormatError):
        outside.check_waiting(place, brings, [info])
    with pytest.raises(FormatError, match="no instance"):
        outside.check_waiting(place, brings, [])


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"objects": {"x": 3}, "rows": {}}', b'{"objects": {}, "rows": 3}']
)
def test_lists_that_are_none(data: bytes):
    with pytest.raises(VzarrError):
        Arrays.from_bytes(data)


def test_a_server_gives_what_instances_stored_and_nothing_else(repo: vzarr.Repo, tmp_path: Path):
    with serving(tmp_path) as server, open_place(f"{server.url}/{repo.uuid}") as place:
        seen = place.shared()
        assert seen == StoredPlace(repo.objects).shared()
        for key, (size, _stamp) in seen.objects.items():
            data = place.get(f"{sharedarrays.PLACE}/{key}")
            assert data is not None
            assert len(data) == size
        assert place.get(f"{sharedarrays.PLACE}/nothing") is None
        for strange in (f"{sharedarrays.PLACE}/../keys/latest.json", f"{layout.node(layout.UNVERSIONED)}/tree.json"):
            assert place.get(strange) is None


@pytest.mark.parametrize("replace", [False, True])
def test_what_the_receiver_has_deleted_does_not_come_back(repo: vzarr.Repo, other: vzarr.Repo, replace: bool):
    other.delete_instance("em")
    other.garbage(0, delete=True)
    done = sent(repo.url, other.url, unversioned=replace)
    assert (done.nbytes > 0, done.kept) == (replace, [])  # the labels come again where they are asked for
    with vzarr.open(other.url) as again:
        (gone,) = again.state.deleted.values()
        assert not list(again.objects.walk(f"{sharedarrays.PLACE}/{shared_folder(gone)}"))
        again.garbage(0, delete=True)
        check(again)


def test_what_two_bring_at_once_is_taken_in(repo: vzarr.Repo, other: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    """Who was quicker removes what waited for both; who was slower brings it again."""
    repo.root["em"].write((0, 0, BLOCK), voxels(4))
    repo.root.branch("more").commit()
    real = StoredPlace.publish

    def second(place: StoredPlace, *given: Any) -> Any:
        monkeypatch.setattr(StoredPlace, "publish", real)
        sent(repo.url, other.url, unversioned=True)
        return place.publish(*given)

    monkeypatch.setattr(StoredPlace, "publish", second)
    assert sent(repo.url, other.url, unversioned=True).kept == []
    with vzarr.open(other.url) as again:
        assert held(again) == held(repo)
        assert again["more"].sealed
        assert all(entry.ops for entry in again.log())
        again.garbage(0, delete=True)
        check(again)


def test_what_one_brings_does_not_push_aside_what_another_has_noted(
    repo: vzarr.Repo, other: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    third = vzarr.clone(repo.url, str(tmp_path / "third"))
    for lab, name in ((repo, "first"), (third, "second")):
        tip = lab.root.branch(name)
        create(tip, name, "uint8blk", versioned=False).write((0, 0, 0), voxels(7))
        tip.commit()
    real = places.mark
    quick = threading.Thread(target=sent, args=(third.url, other.url))

    def mark(*given: Any) -> None:
        real(*given)
        monkeypatch.setattr(places, "mark", real)
        quick.start()
        quick.join(1)

    monkeypatch.setattr(places, "mark", mark)
    sent(repo.url, other.url)
    quick.join()
    with third, vzarr.open(other.url) as again:
        for name in ("first", "second"):
            assert (again[name][name].read((0, 0, 0), (BLOCK, BLOCK, BLOCK)) == 7).all()
        again.garbage(0, delete=True)
        check(again)


def test_who_comes_after_one_that_was_killed_takes_in_what_that_one_brought(
    repo: vzarr.Repo, other: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    third = vzarr.clone(repo.url, str(tmp_path / "third"))
    create(third.root.branch("late"), "late", "uint8blk", versioned=False).write((0, 0, 0), voxels(7))
    third["late"].commit()
    repo.root["em"].write((0, 0, BLOCK), voxels(4))

    def die(*_given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sharedarrays, "write_rows", die)
        with pytest.raises(KeyboardInterrupt):
            sent(repo.url, other.url, unversioned=True)
    sent(third.url, other.url)
    with third, vzarr.open(other.url) as again:
        assert held(again) == held(repo)
        assert (again["late"]["late"].read((0, 0, 0), (BLOCK, BLOCK, BLOCK)) == 7).all()
        again.garbage(0, delete=True)
        check(again)
