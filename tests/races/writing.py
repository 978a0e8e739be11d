"""What one of many processes does that write keys and label edits to one repo: a module that a fork server can load.

Each keeps a number of its own that only it raises, a body of its own, and takes part in one number that all raise.
Whatever was acknowledged to it must be there when it looks again, through a handle that knows nothing of it too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import vzarr
from vzarr.types import registry
from vzarr.types.labelmap import mapping

BLOCK = 16
OWN = 16
"""Supervoxels of each writer."""


def own_labels(worker: int) -> list[int]:
    return list(range(1 + OWN * worker, 1 + OWN * (worker + 1)))


@dataclass
class Report:
    """What a writer did."""

    added: int
    own: int
    edits: int
    labels: list[int]
    bodies: dict[int, int]


def prepare(url: str, workers: int, keys: str | None = None) -> None:
    """A repo with an open version: a counter, and for each writer a block with its supervoxels."""
    with vzarr.create(url, keys=keys) as repo:
        registry.create(repo.root, "notes", "keyvalue")
        settings = {"BlockSize": f"{BLOCK},{BLOCK},{BLOCK}", "MaxDownresLevel": "0"}
        seg = registry.create(repo.root, "seg", "labelmap", config=settings)
        voxels = np.repeat(np.arange(1, OWN * workers + 1, dtype=np.uint64), BLOCK**3 // OWN)
        seg.write((0, 0, 0), voxels.reshape(BLOCK * workers, BLOCK, BLOCK))


def write(barrier: Any, url: str, worker: int, seconds: float, send: Any) -> None:
    """Write and look until the time is over, then report; an assertion that fails is sent as text."""
    try:
        with vzarr.open(url) as repo, vzarr.open(url) as witness:
            barrier.wait(120)
            send(_write(repo.root, witness.root, worker, seconds))
    except Exception as e:  # noqa: BLE001 - the test must hear of it
        send(f"{type(e).__name__}: {e}")


def _write(here: vzarr.Version, there: vzarr.Version, worker: int, seconds: float) -> Report:
    rng = np.random.default_rng(worker)
    report = Report(0, 0, 0, [], {label: label for label in own_labels(worker)})
    end, last = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        n = here.transact("notes", lambda tx: _raise(tx, b"kall"))
        report.added += 1
        assert n > last, f"the common number fell from {last} to {n}"
        last = n
        report.own = here.transact("notes", lambda tx: _raise(tx, b"k%d" % worker))
        seen = there["notes"].get(str(worker)), int(there["notes"].get("all"))
        assert seen[0] == b"%d" % report.own, f"wrote {report.own}, then read {seen[0]!r}"
        assert seen[1] >= last, f"wrote {last}, then read {seen[1]}"
        _edit(here["seg"], there["seg"], report, rng)
    return report


def _raise(tx: Any, key: bytes) -> int:
    n = int(tx.get(key) or b"0") + 1
    tx.put(key, b"%d" % n)
    return n


def _edit(here: Any, there: Any, report: Report, rng: np.random.Generator) -> None:
    """One merge or cleave among one's own bodies, seen at once by another handle."""
    bodies = sorted(set(report.bodies.values()))
    large = [b for b in bodies if list(report.bodies.values()).count(b) > 1]
    if large and (len(bodies) < 3 or rng.random() < 0.5):
        body = int(rng.choice(large))
        part = int(rng.choice([s for s, b in report.bodies.items() if b == body]))
        new = here.cleave(body, [part]).body
        report.labels.append(new)
        report.bodies[part] = new
    else:
        first, second = map(int, rng.choice(bodies, 2, replace=False))
        here.merge(first, [second])
        report.bodies = {s: first if b == second else b for s, b in report.bodies.items()}
    report.edits += 1
    assert bodies_of(there, list(report.bodies)) == list(report.bodies.values()), "an edit is not seen"


def bodies_of(seg: Any, supervoxels: list[int]) -> list[int]:
    """The body of each supervoxel."""
    return list(mapping.lookup(seg, np.array(supervoxels, np.uint64)).tolist())
