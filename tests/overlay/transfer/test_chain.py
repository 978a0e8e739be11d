"""Proofread segmentations on their way from lab to lab: whole, each version the same, and joined in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vzarr
from tests.proofreading import begin, contents, objects_of, proofread, proofread_once
from tests.serving import TOKEN, serving
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import clone, push
from vzarr.types import registry

VERSIONS = 5


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[vzarr.Repo]:
    labels = np.repeat(np.arange(1, 17, dtype=np.uint64), 8)[None, None, :] * np.ones((64, 64, 1), np.uint64)
    with begin(str(tmp_path / "first"), labels) as repo:
        proofread(repo, VERSIONS)
        yield repo


def test_from_a_folder_over_memory_and_a_server_to_a_folder(origin: vzarr.Repo, tmp_path: Path):
    expected = contents(origin)
    assert (len(expected), origin.branches()) == (VERSIONS, ["master", "side"])
    places = [f"memory://{tmp_path.name}", str(tmp_path / "served" / origin.uuid), str(tmp_path / "last")]
    vzarr.clone(origin.url, places[0]).close()
    with serving(tmp_path / "served") as server:
        with open_place(places[0]) as source, open_place(server.url, TOKEN) as target:
            clone(source, target)
        vzarr.clone(server.url, places[2]).close()
    for url in places:
        assert objects_of(url) == objects_of(origin.url)
        with vzarr.open(url) as repo:
            assert not list(verify(repo.objects))
            assert contents(repo) == expected
            assert repo.root["settings"].get("who") == b"everybody"
            assert list(registry.verify(repo["master"])) == list(registry.verify(repo["side"])) == []


def test_a_push_of_one_version_moves_its_own_objects(origin: vzarr.Repo, tmp_path: Path):
    with serving(tmp_path / "served") as server, open_place(server.url, TOKEN) as target:
        with open_place(origin.url) as source:
            clone(source, target)
        before = objects_of(str(tmp_path / "served" / origin.uuid))
        tip = origin["master"].newversion()
        proofread_once(tip, np.random.default_rng(7), 1)
        tip.commit()
        moved: list[int] = []
        with open_place(origin.url) as source:
            done = push(source, target, progress=lambda _count, size: moved.append(size))
        own = dict(origin.objects.walk(layout.node(tip.uuid)))
        assert objects_of(str(tmp_path / "served" / origin.uuid)).keys() - before.keys() == own.keys()
        assert (len(moved), done.nbytes) == (len(own), sum(own.values()))


def test_both_edit_one_pulls_and_merges_and_no_label_is_given_twice(origin: vzarr.Repo, tmp_path: Path):
    clones = [vzarr.clone(origin.url, str(tmp_path / name)) for name in ("one", "two")]
    made: list[set[int]] = []
    for each, draw in zip([origin, *clones], np.random.default_rng(3).permutation([9, 11, 13]).tolist(), strict=True):
        tip = each["master"].newversion()
        seg = tip["seg"]
        known = {int(body) for body, _ in seg.list_bodies()}
        merged = min(known)
        seg.merge(merged, [draw]) if merged != draw else None
        seg.cleave(merged, [draw])
        seg.reserve_labels(3)
        first, last = seg.reserve_labels(2)
        made.append(({int(body) for body, _ in seg.list_bodies()} - known) | {first, last})
        tip.commit()
    assert all(made)
    assert len(set.union(*made)) == sum(map(len, made)), "no label is given twice"
    for name, other in zip(("one", "two"), clones, strict=True):
        with pytest.raises(vzarr.errors.ConflictError, match=r"vzarr merge .* master theirs-master"):
            origin.pull(other.url)
        origin.fetch(other.url, name)
        other.close()
    merged = origin.merge(["master", "one-master", "two-master"], "ours").commit()
    assert list(registry.verify(merged)) == []
    assert not list(verify(origin.objects))
    with vzarr.open(str(tmp_path / "one")) as one:
        one.pull(origin.url)
        assert one["master"].uuid == merged.uuid


def test_labels_that_a_clone_chose_are_not_given_by_the_origin(origin: vzarr.Repo, tmp_path: Path):
    """They lie in nobody's range: whoever pulls them gives later ones, on whichever branch."""
    with vzarr.clone(origin.url, str(tmp_path / "one")) as one:
        chosen = origin["master"].newversion()["seg"].reserve_labels(1)[0] + 3
        tip = one["side"].newversion()
        tip["seg"].write((0, 0, 128), np.full((64, 64, 64), chosen, np.uint64))
        tip["seg"].post_mappings([(chosen + 2, 1)])
        assert tip["seg"].reserve_labels(1)[0] > layout.STRIPE_LABELS
        tip.commit()
        origin.pull(one.url)
        assert origin["master"]["seg"].reserve_labels(1)[0] == chosen + 3


def test_labels_of_an_instance_that_a_clone_made_are_not_given_by_the_origin(origin: vzarr.Repo, tmp_path: Path):
    """The origin never gave one of them; the largest that it sees lies in the clone's range."""
    with vzarr.clone(origin.url, str(tmp_path / "one")) as one:
        tip = one["master"].newversion()
        labels = registry.create(tip, "theirs", "labelmap")
        labels.write((0, 0, 0), np.full((64, 64, 64), 41, np.uint64))
        labels.post_mappings([(7, 41)])
        given, _ = labels.reserve_labels(5)
        labels.write((0, 0, 64), np.full((64, 64, 64), given, np.uint64))
        tip.commit()
        origin.pull(one.url)
        mine = origin["master"].newversion()["theirs"]
        assert mine.reserve_labels(2) == (42, 43)
        assert labels.at(one["master"].newversion()).reserve_labels(1)[0] == given + 5
