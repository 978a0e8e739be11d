"""Clones go on by themselves: labels and mutation ids of two never meet, and a merge brings their edits together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vzarr
from vzarr.overlay import opening
from vzarr.overlay.care.migratekeys import migrate
from vzarr.overlay.care.rebuildkeys import rebuild
from vzarr.overlay.layout import STRIPE_LABELS
from vzarr.overlay.transfer import stripes
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.stripes import Stripes
from vzarr.overlay.transfer.verbs import clone, fetch, push
from vzarr.types.labelmap.verify import check_index
from vzarr.types.registry import create


def test_labels_of_two_clones_never_meet(tmp_path: Path):
    urls = [str(tmp_path / name) for name in ("origin", "one", "two")]
    voxels = np.zeros((64, 64, 64), np.uint64)
    voxels[:, :, :32], voxels[:, :, 32:] = 5, 6
    with vzarr.create(urls[0]) as origin:
        seg = create(origin.root, "seg", "labelmap")
        seg.write((0, 0, 0), voxels)
        seg.merge(5, [6])
        origin.root.commit()
        for url in urls[1:]:
            clone(open_place(urls[0]), open_place(url))
    made = {}
    for url in urls:
        with vzarr.open(url) as repo:
            tip = repo["master"].newversion() if url == urls[0] else repo["master"].branch(Path(url).name)
            done = tip["seg"].cleave(5, [6])
            made[url] = (done.body, done.mutation_id, repo.stripe)
            tip.commit()
    bodies = [body for body, _, _ in made.values()]
    assert len(set(bodies)) == 3
    assert len({mutation for _, mutation, _ in made.values()}) == 3
    for body, _, stripe in list(made.values())[1:]:
        assert stripe * STRIPE_LABELS < body < (stripe + 1) * STRIPE_LABELS < 2**53


def test_what_labs_did_comes_together(tmp_path: Path):
    urls = [str(tmp_path / name) for name in ("origin", "clone")]
    voxels = np.repeat(np.arange(1, 9, dtype=np.uint64), 8)[None, None, :] * np.ones((64, 64, 1), np.uint64)
    with vzarr.create(urls[0]) as origin:
        create(origin.root, "seg", "labelmap").write((0, 0, 0), voxels)
        origin.root.commit()
        clone(open_place(urls[0]), open_place(urls[1]))
        tip = origin.root.newversion()
        tip["seg"].merge(1, [2])
        tip.commit()
        with vzarr.open(urls[1]) as other:
            theirs = other["master"].newversion()
            theirs["seg"].merge(7, [8])
            theirs.commit()
        fetch(open_place(urls[1]), open_place(urls[0]), "theirs")
        merged = origin.merge(["master", "theirs-master"])
        assert sorted(b for b, _ in merged["seg"].list_bodies()) == [1, 3, 4, 5, 6, 7]
        assert check_index(merged["seg"]) == []


@pytest.fixture
def drawn_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the numbers that are free the least is drawn: two who don't know of each other draw the same."""
    monkeypatch.setattr(stripes.secrets, "choice", lambda free: free[0])


@pytest.mark.usefixtures("drawn_in_turn")
def test_the_source_of_clones_writes_down_who_has_which_labels(tmp_path: Path):
    origin, *urls = (str(tmp_path / name) for name in ("origin", "one", "two", "three"))
    with vzarr.create(origin) as repo:
        repo.root.commit()
    for source, url in zip((origin, origin, urls[0]), urls, strict=True):
        clone(open_place(source), open_place(url))
    # The third is a clone of the first, which knew nothing of the second and had the last word on neither.
    numbers = [open_place(url).stripes().own for url in urls]
    assert numbers[:2] == [1, 2]
    assert set(open_place(origin).stripes().known) == {1, 2}
    push(open_place(urls[1]), open_place(origin))
    push(open_place(urls[2]), open_place(origin))
    assert len({open_place(url).stripes().own for url in urls}) == 3
    assert set(open_place(origin).stripes().known) >= {open_place(url).stripes().own for url in urls}


@pytest.mark.usefixtures("drawn_in_turn")
@pytest.mark.parametrize("receiver", ["one", "two"])
def test_clones_with_one_number_part_when_they_meet(tmp_path: Path, receiver: str):
    origin, one, two = (str(tmp_path / name) for name in ("origin", "one", "two"))
    voxels = np.repeat(np.arange(1, 9, dtype=np.uint64), 8)[None, None, :] * np.ones((64, 64, 1), np.uint64)
    with vzarr.create(origin) as repo:
        create(repo.root, "seg", "labelmap").write((0, 0, 0), voxels)
        for body in (1, 3, 5, 7):
            repo.root["seg"].merge(body, [body + 1])
        repo.root.commit()
    for url in (one, two):
        clone(open_place(origin), open_place(url))
        shutil.rmtree(tmp_path / "origin" / "stripes")  # as if the origin could not be written
    assert [open_place(url).stripes().own for url in (one, two)] == [1, 1]
    sender = two if receiver == "one" else one
    with vzarr.open(one) as a, vzarr.open(two) as b:
        tips = [repo["master"].branch(name) for name, repo in (("a", a), ("b", b))]
        before = [tip["seg"].cleave(1, [2]) for tip in tips]
        assert before[0].body == before[1].body
        fetch(open_place(sender), open_place(str(tmp_path / receiver)), "theirs")
        after = [tip["seg"].cleave(3, [4]) for tip in tips]
        assert len({STRIPE_LABELS, *(done.body // STRIPE_LABELS for done in after)}) == 3
        assert after[0].mutation_id != after[1].mutation_id
        assert all(new.mutation_id > old.mutation_id for old, new in zip(before, after, strict=True))
        assert {a.stripe, b.stripe} == {1, 2}
        known = [open_place(url).stripes().known for url in (one, two)]
        assert known[0] == known[1]
        assert set(known[0]) == {1, 2}


@pytest.mark.usefixtures("drawn_in_turn")
def test_a_clone_of_a_clone_has_a_stripe_of_its_own(tmp_path: Path):
    with vzarr.create(str(tmp_path / "a")) as repo:
        repo.root.commit()
    clone(open_place(str(tmp_path / "a")), open_place(str(tmp_path / "b")))
    clone(open_place(str(tmp_path / "b")), open_place(str(tmp_path / "c")))
    stripes = [opening.read_meta(opening.open_objects(tmp_path / n)).get("stripe", 0) for n in "abc"]
    assert len(set(stripes)) == 3


@pytest.mark.usefixtures("drawn_in_turn")
def test_who_takes_another_number_while_the_keys_move_does_not_bring_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    origin, url, keys = str(tmp_path / "origin"), str(tmp_path / "one"), f"sqlite:///{tmp_path}/keys.sqlite"
    with vzarr.create(origin) as repo:
        repo.root.commit()
    clone(open_place(origin), open_place(url))
    objects, theirs, real = opening.open_objects(url), Stripes(0, "", {1: "another"}), opening.reach_authority

    def reach(*given: Any) -> Any:
        monkeypatch.setattr(opening, "reach_authority", real)
        found = real(*given)
        migrate(objects, keys)
        return found

    monkeypatch.setattr(opening, "reach_authority", reach)
    stripes.learn(objects, theirs)
    assert opening.keys_named(opening.read_meta(objects))[0] == keys
    assert stripes.learn(objects, theirs).own == 2
    assert opening.keys_named(opening.read_meta(objects))[0] == keys


@pytest.mark.usefixtures("drawn_in_turn")
def test_who_moves_keys_does_not_bring_back_a_number_that_was_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    origin, url, keys = str(tmp_path / "origin"), str(tmp_path / "one"), f"sqlite:///{tmp_path}/keys.sqlite"
    with vzarr.create(origin) as repo:
        repo.root.commit()
    clone(open_place(origin), open_place(url))
    objects, real = opening.open_objects(url), opening.check_keys

    def check(*given: Any) -> str:
        monkeypatch.setattr(opening, "check_keys", real)
        stripes.learn(objects, Stripes(0, "", {1: "another"}))
        return real(*given)

    monkeypatch.setattr(opening, "check_keys", check)
    migrate(objects, keys)
    assert opening.keys_named(opening.read_meta(objects))[0] == keys
    assert stripes.read(objects).own == 2


@pytest.mark.usefixtures("drawn_in_turn")
def test_a_mirror_that_becomes_a_repo_gives_no_labels_of_another_clone(tmp_path: Path):
    """Its original had the other one's number when the mirror was made, and has given it up since."""
    origin, one, two, copy = (str(tmp_path / name) for name in ("origin", "one", "two", "copy"))
    with vzarr.create(origin) as repo:
        repo.root.commit()
    for url in (one, two):
        clone(open_place(origin), open_place(url))
        shutil.rmtree(tmp_path / "origin" / "stripes")  # as if the origin could not be written
    mirror(open_place(one), open_place(copy))
    push(open_place(two), open_place(one))
    mirror(open_place(one), open_place(copy))
    assert [open_place(url).stripes().own for url in (one, two)] == [2, 1]
    shutil.rmtree(one)
    rebuild(opening.open_objects(copy))
    assert stripes.read(opening.open_objects(copy)).own not in {0, 1}
    with vzarr.open(copy) as again:
        assert again.stripe == stripes.read(again.objects).own
