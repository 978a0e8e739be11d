"""Eight processes that write keys and edit labels in one repo: no update is lost, and no read is stale."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path

import pytest

import vzarr
from tests.races import writing
from tests.races.writing import Report
from vzarr.types import mutations
from vzarr.types.labelmap import verify

WRITERS = 8


def test_writers_at_once(tmp_path: Path, keys: str | None):
    assert write_at_once(tmp_path, keys, 3) > WRITERS


@pytest.mark.exhaustive
def test_writers_at_once_for_a_minute(tmp_path: Path, keys: str | None):
    write_at_once(tmp_path, keys, 60)


def write_at_once(folder: Path, keys: str | None, seconds: float) -> int:
    """Let all write, and look at what is left; how often they raised the common number."""
    url = str(folder / "repo")
    writing.prepare(url, WRITERS, keys)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.races.writing"])
    barrier = processes.Barrier(WRITERS)
    pipes = [processes.Pipe(duplex=False) for _ in range(WRITERS)]
    writers = [
        processes.Process(target=writing.write, args=(barrier, url, n, seconds, pipe[1].send))
        for n, pipe in enumerate(pipes)
    ]
    for writer in writers:
        writer.start()
    for _, sender in pipes:
        sender.close()
    reports: list[Report] = [receiver.recv() for receiver, _ in pipes]
    for writer, (receiver, _) in zip(writers, pipes, strict=True):
        receiver.close()
        writer.join()
        writer.close()
    assert not [r for r in reports if isinstance(r, str)]
    with vzarr.open(url) as repo:
        _check(repo.root, reports)
        _check(repo.root.commit(), reports)
    return sum(r.added for r in reports)


def _check(version: vzarr.Version, reports: list[Report]) -> None:
    notes, seg = version["notes"], version["seg"]
    assert int(notes.get("all")) == sum(r.added for r in reports)
    assert [int(notes.get(str(n))) for n in range(WRITERS)] == [r.own for r in reports]
    given = Counter(label for r in reports for label in r.labels)
    assert set(given.values()) <= {1}, "one label was given twice"
    expected = {s: b for r in reports for s, b in r.bodies.items()}
    assert writing.bodies_of(seg, list(expected)) == list(expected.values())
    assert verify.check_index(seg) == []
    logged = [json.loads(record)["MutationID"] for record in mutations.read(seg, version.uuid)]
    assert len(set(logged)) == len(logged) >= sum(r.edits for r in reports)
