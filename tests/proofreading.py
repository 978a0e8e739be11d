"""A history of proofreading for tests: rounds of merges, cleaves, voxels and keys on two branches."""

from __future__ import annotations

import hashlib

import numpy as np

import vzarr
from vzarr.overlay import layout, opening
from vzarr.overlay.export.standalone import documents, place_bytes, places
from vzarr.types.registry import create

BRANCHES = ("master", "side")


def begin(url: str, labels: np.ndarray) -> vzarr.Repo:
    """A repo with a segmentation, notes and settings, and its root sealed."""
    repo = vzarr.create(url, alias="fib25")
    root = repo.root
    seg, notes = create(root, "seg", "labelmap"), create(root, "notes", "keyvalue")
    create(root, "settings", "keyvalue", versioned=False).put("who", b"everybody")
    seg.write((0, 0, 0), labels.astype(np.uint64))
    notes.put("0", b"as segmented")
    root.commit("as segmented")
    return repo


def proofread(repo: vzarr.Repo, versions: int) -> None:
    """Rounds on both branches in turn, each sealed, until there are so many versions."""
    draw = np.random.default_rng(1)
    tips = {"master": repo.root.newversion(), "side": repo.root.branch("side")}
    for n in range(1, versions):
        name = BRANCHES[n % 2]
        proofread_once(tips[name], draw, n)
        sealed = tips[name].commit(f"round {n}")
        if n + 2 < versions:
            tips[name] = sealed.newversion()


def proofread_once(version: vzarr.Version, draw: np.random.Generator, n: int) -> None:
    """A merge of bodies, a cleave, some voxels, and a key."""
    seg = version["seg"]
    bodies = [body for body, _ in seg.list_bodies()]
    target, other = draw.choice(bodies, 2, replace=False).tolist()
    seg.merge(target, [other])
    if n % 3 == 0:
        seg.cleave(target, [other])
    seg.write((0, 0, 64 * (n % 2)), np.full((64, 64, 64), target, np.uint64))
    version["notes"].put(str(n), b"round")


def contents(repo: vzarr.Repo) -> dict[str, object]:
    """Each sealed version: hash of every key of its Zarr hierarchy, and of all keys of its instances."""
    found: dict[str, object] = {}
    for version in (v for v in repo.versions() if v.sealed):
        view = version.view
        zarr = {key: hashlib.sha256(data).hexdigest() for key, data in documents(view)}
        zarr |= {key: hashlib.sha256(place_bytes(view, place)).hexdigest() for key, place in places(view)}
        keys = {
            name: hashlib.sha256(b"".join(k + b"\0" + v for k, v in version.keys(name).scan())).hexdigest()
            for name in repo.state.instances
        }
        found[version.uuid] = (version.info.parents, version.note, zarr, keys)
    return found


def objects_of(url: str) -> dict[str, int]:
    """Everything that versions stored: what belongs to none stays with each repo."""
    found = opening.open_objects(url).walk("nodes")
    return {key: size for key, size in found if not key.startswith(layout.node(layout.UNVERSIONED))}
