"""What processes do that write into a repo while somebody backs it up; each notes what was acknowledged, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import vzarr
from vzarr.types.registry import create

BLOCK = 16
WORKERS = ("voxels", "volumes", "labels", "keys")
SLOTS = 6
"""Blocks of labels that are written again and again."""


def prepare(url: str, keys: str | None) -> None:
    with vzarr.create(url, root="load", keys=keys) as repo:
        root = repo.root
        seg = create(root, "seg", "labelmap", config={"blocksize": f"{BLOCK},{BLOCK},{BLOCK}", "maxdownreslevel": "1"})
        seg.write((0, 0, 0), label_block(0, SLOTS))
        create(root, "em", "uint8blk", config={"blocksize": f"{BLOCK},{BLOCK},{BLOCK}"})
        create(root, "notes", "keyvalue")
        create(root, "settings", "keyvalue", versioned=False)
        root.create_array("plain", dtype="u4", chunks=(2, 2), shape=(2, 2), dimension_names=None)
        root.commit()
        root.newversion()
        root.branch("side")


def label_block(n: int, slots: int = 1) -> np.ndarray:
    """A row of blocks, each in two halves of labels of its own, which round n makes."""
    labels = np.repeat(np.arange(2 * slots, dtype=np.uint64), BLOCK // 2) + np.uint64(1 + 100 * n)
    return np.broadcast_to(labels, (BLOCK, BLOCK, labels.size)).copy()


def voxels(repo: vzarr.Repo, n: int) -> None:
    """Chunk n of a plain array, which grows, and the same on another branch."""
    for branch in ("master", "side"):
        repo[branch].write("plain", (2 * n, 0), np.full((2, 2), n + 1, "u4"))


def volumes(repo: vzarr.Repo, n: int) -> None:
    """An image of several blocks, all of one value."""
    repo["master"]["em"].write((0, 0, 0), np.full((BLOCK, 2 * BLOCK, 2 * BLOCK), n % 250, np.uint8))


def labels(repo: vzarr.Repo, n: int) -> None:
    """Blocks of labels that are new, then two of them made one body, then parted again."""
    seg, slot = repo["master"]["seg"], n % SLOTS
    block = label_block(n + 1)
    seg.write((0, 0, slot * BLOCK), block)
    a, b = np.unique(block).tolist()
    seg.merge(a, [b])
    if n % 2:
        seg.cleave(a, [b])


def keys(repo: vzarr.Repo, n: int) -> None:
    """A key of its own each time, in a version and outside of all."""
    repo["master"]["notes"].put(f"{n:06}", b"%d" % n)
    repo["side"]["settings"].put(f"{n:06}", b"%d" % n)


WORK: dict[str, Callable[[vzarr.Repo, int], None]] = {
    "voxels": voxels, "volumes": volumes, "labels": labels, "keys": keys,
}  # fmt: skip


def work(url: str, name: str, log: str, stop: str) -> None:
    """Do one kind of work until the file `stop` is there; note number, beginning and end of each round."""
    with vzarr.open(url) as repo, Path(log).open("w") as file:
        n = 0
        while not Path(stop).exists():
            began = time.time()
            WORK[name](repo, n)
            file.write(json.dumps([n, began, time.time()]) + "\n")
            n += 1
