"""Clones go on by themselves: labels and mutation ids of two never meet, and a merge brings their edits together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import vzarr
from vzarr.overlay import opening
from vzarr.overlay.layout import STRIPE_LABELS
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import clone, fetch
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


def test_a_clone_of_a_clone_has_a_stripe_of_its_own(tmp_path: Path):
    with vzarr.create(str(tmp_path / "a")) as repo:
        repo.root.commit()
    clone(open_place(str(tmp_path / "a")), open_place(str(tmp_path / "b")))
    clone(open_place(str(tmp_path / "b")), open_place(str(tmp_path / "c")))
    stripes = [opening.read_meta(opening.open_objects(tmp_path / n)).get("stripe", 0) for n in "abc"]
    assert len(set(stripes)) == 3
