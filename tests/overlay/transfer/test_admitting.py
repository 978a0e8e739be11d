"""What a server admits: nothing that would change what is there, or claim what is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr.errors import FormatError, NotFoundError, StorageError
from vzarr.overlay import layout, opening
from vzarr.overlay.care.verify import verify
from vzarr.overlay.sealing import leftout
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import admitting
from vzarr.overlay.transfer.copying import Row, list_nodes
from vzarr.overlay.transfer.partial import is_content
from vzarr.overlay.transfer.place import WHOLE
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.transfer.plans import Arrival, heads

CHUNK = (4, 4, 4)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """An array of three chunks in a row, of which the second version replaces the first, and a branch the last."""
    with vzarr.create(str(tmp_path / "first"), root="first") as repo:
        repo.root.create_array("a", dtype="u1", chunks=CHUNK)
        repo.root.write("a", (0, 0, 0), np.full((4, 4, 12), 1, "u1"))
        second = repo.root.commit().newversion()
        second.write("a", (0, 0, 0), np.full(CHUNK, 2, "u1"))
        second.commit()
        side = repo.root.branch("side")
        side.write("a", (0, 0, 8), np.full(CHUNK, 3, "u1"))
        side.commit()
        yield repo


@pytest.fixture
def place(tmp_path: Path) -> StoredPlace:
    return StoredPlace(opening.open_objects(str(tmp_path / "second")))


def arrival(repo: vzarr.Repo, branch: str, *known: str) -> Arrival:
    tips = heads(repo.state, [branch])
    nodes = [n for n in ("first", *tips) if n not in known]
    return Arrival(repo.state, nodes, tips=tips)


def send(repo: vzarr.Repo, place: StoredPlace, arrival: Arrival, wanted: Callable[[str], bool]) -> None:
    """Put all metadata in place, and some chunks."""
    for row in list_nodes(StoredPlace(repo.objects), arrival.source, arrival.nodes):
        if not is_content(row.key) or wanted(row.key):
            data = repo.objects.get(row.key)
            assert data is not None
            place.put(row.key, data)


def chunk(node: str, x: int) -> str:
    return f"{layout.zarr(node)}/a/c/0/0/{x}"


def publish(place: StoredPlace, arrival: Arrival) -> None:
    admitting.settle(place, arrival)
    place.publish(arrival)


@pytest.fixture
def shallow(repo: vzarr.Repo, place: StoredPlace) -> StoredPlace:
    """A clone of the newest version of the main branch, without the first chunk of the root."""
    place.begin("first", limits=Limits(1))
    coming = arrival(repo, "master")
    send(repo, place, coming, lambda key: key != chunk("first", 0))
    publish(place, coming)
    return place


def test_what_has_not_come_and_is_not_wanted_was_left_out(repo: vzarr.Repo, shallow: StoredPlace):
    assert leftout.read(shallow.objects, "first") == {chunk("first", 0)}
    assert leftout.read(shallow.objects, repo["master"].uuid) == frozenset()
    with vzarr.open(shallow.url) as part:
        assert part["master"].read("a", (0, 0, 0), (1, 1, 12)).ravel().tolist() == [2] * 4 + [1] * 8
        with pytest.raises(StorageError, match="partial clone"):
            part.root.read("a", (0, 0, 0), (1, 1, 12))
    assert {f.name for f in verify(shallow.objects)} == {"left-out"}


@pytest.mark.parametrize("x", [1, 2])
def test_what_is_wanted_must_have_come(repo: vzarr.Repo, place: StoredPlace, x: int):
    place.begin("first", limits=Limits(1))
    coming = arrival(repo, "master")
    send(repo, place, coming, lambda key: key not in {chunk("first", 0), chunk("first", x)})
    with pytest.raises(StorageError, match=f"{chunk('first', x)} has not arrived"):
        admitting.settle(place, coming)
    assert not place.state().nodes


@pytest.mark.parametrize("tips", [[], ["first"]])
def test_tips_make_no_less_of_it(repo: vzarr.Repo, place: StoredPlace, tips: list[str]):
    """Whoever names too few of the newest versions has those brought whole that nothing comes after."""
    place.begin("first", limits=Limits(1))
    coming = arrival(repo, "master")
    coming = Arrival(coming.source, coming.nodes, tips=tips)
    send(repo, place, coming, lambda key: "/first/" in key)
    with pytest.raises(StorageError, match="has not arrived"):
        admitting.settle(place, coming)


def test_a_whole_repo_does_not_become_a_partial_one(repo: vzarr.Repo, place: StoredPlace):
    place.begin("first", limits=WHOLE)
    coming = arrival(repo, "master")
    send(repo, place, coming, lambda key: key != chunk("first", 0))
    with pytest.raises(StorageError, match=chunk("first", 0)):
        admitting.settle(place, coming)
    assert leftout.read(place.objects, "first") == frozenset()


@pytest.mark.parametrize("wrong", [b"?", None])
def test_nothing_wrong_lies_where_something_was_left_out(repo: vzarr.Repo, place: StoredPlace, wrong: bytes | None):
    place.begin("first", limits=Limits(1))
    coming = arrival(repo, "master")
    send(repo, place, coming, lambda _key: True)
    place.put(chunk("first", 0), wrong or bytes(repo.objects.size(chunk("first", 0)) or 0))
    with pytest.raises((StorageError, FormatError), match=chunk("first", 0)):
        admitting.settle(place, coming)


def rows(repo: vzarr.Repo, *keys: str, data: bytes | None = None) -> list[Row]:
    found = [(key, data or repo.objects.get(key) or b"") for key in keys]
    return [Row(key, len(each), hashlib.sha256(each).hexdigest()) for key, each in found]


def test_a_version_takes_what_it_left_out_and_nothing_else(repo: vzarr.Repo, shallow: StoredPlace):
    gone, there = chunk("first", 0), chunk("first", 1)
    asked = rows(repo, gone, there, layout.seal("first"), layout.sums("first"), chunk(repo["master"].uuid, 0))
    assert admitting.may_put(shallow, asked) == asked[:1]
    assert admitting.may_put(shallow, rows(repo, gone, data=b"other")) == []
    fresh = rows(repo, chunk(repo["side"].uuid, 2))
    assert admitting.may_put(shallow, fresh) == fresh, "of a version that is on its way"


def test_a_whole_repo_takes_nothing_for_what_it_has(repo: vzarr.Repo):
    leftout.write(repo.objects, "first", {chunk("first", 0)})  # some other program's doing
    assert admitting.may_put(StoredPlace(repo.objects), rows(repo, chunk("first", 0))) == []


def test_what_is_new_brings_what_was_left_out(repo: vzarr.Repo, shallow: StoredPlace):
    coming = arrival(repo, "side", "first")
    send(repo, shallow, coming, lambda _key: True)
    assert shallow.wanted(coming) == {chunk("first", 0), *(chunk(repo["side"].uuid, 2),)}
    with pytest.raises(StorageError, match=f"{chunk('first', 0)} has not arrived"):
        admitting.settle(shallow, coming)
    assert leftout.read(shallow.objects, "first") == {chunk("first", 0)}
    shallow.put(chunk("first", 0), repo.objects.get(chunk("first", 0)) or b"")
    publish(shallow, coming)
    assert leftout.read(shallow.objects, "first") == frozenset()
    assert not list(verify(shallow.objects))


def test_a_region_is_meant_at_a_version_that_comes(repo: vzarr.Repo, place: StoredPlace):
    place.begin("first", limits=Limits(roi=("a", "nowhere")))
    coming = arrival(repo, "master")
    send(repo, place, coming, lambda _key: True)
    with pytest.raises(NotFoundError, match="nowhere"):
        admitting.settle(place, coming)
