"""Twelve writers, threads of several processes, fifteen rounds of every contended operation: one winner each."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

import vzarr
from tests.races import racing as races
from tests.races.racing import WON
from tests.s3 import racing
from vzarr.overlay import layout
from vzarr.overlay.sealing import seal
from vzarr.types import registry

PROCESSES, THREADS, ROUNDS = 4, 3, 15
RACERS = PROCESSES * THREADS
EVERYBODYS = {"merge", "labels", "log"}
"""Operations of this file in which all succeed, each with a result of its own."""


@pytest.mark.parametrize("name", ["create", *racing.MORE])
def test_twelve_race(url: str, keys: str, tmp_path: Path, name: str):
    if name != "create":
        prepare(name, url, keys, tmp_path)
    check(name, url, run(name, url, keys))


def prepare(name: str, url: str, keys: str, folder: Path) -> None:
    with vzarr.create(url, keys=keys) as repo:
        races.prepare(name, repo, ROUNDS, RACERS, folder)
        if name == "labels":
            registry.create(repo.root.branch("labels"), "seg", "labelmap")


def run(name: str, url: str, keys: str) -> list[list[str]]:
    """How each round ended for each racer."""
    processes = multiprocessing.get_context("forkserver")
    manager = processes.Manager()
    barrier = manager.Barrier(RACERS)
    pipes = [processes.Pipe(duplex=False) for _ in range(PROCESSES)]
    crowds = [
        processes.Process(
            target=racing.crowd,
            args=(barrier, name, url, keys, i * THREADS, THREADS, ROUNDS, pipe[1].send, dict(os.environ)),
        )
        for i, pipe in enumerate(pipes)
    ]
    for crowd in crowds:
        crowd.start()
    for _, sender in pipes:
        sender.close()
    found: dict[int, list[str]] = {}
    for receiver, _ in pipes:
        found |= receiver.recv()
        receiver.close()
    for crowd in crowds:
        crowd.join()
        assert crowd.exitcode == 0
        crowd.close()
    manager.shutdown()
    return [[found[w][n] for w in range(RACERS)] for n in range(ROUNDS)]


def check(name: str, url: str, ends: list[list[str]]) -> None:
    """What the winners did is there, and nothing of the losers."""
    if name == "create":
        for n, end in enumerate(ends):
            assert sorted(end) == [WON, *["AlreadyExistsError"] * (RACERS - 1)]
            with vzarr.open(f"{url}/{n}") as repo:
                assert (repo.state.alias, len(repo.log())) == (str(end.index(WON)), 1)
        return
    with vzarr.open(url) as repo:
        for n, end in enumerate(ends):
            if name in EVERYBODYS:
                assert end == [WON] * RACERS
            elif name == "object":
                assert sorted(end) == [WON, *["AlreadyExistsError"] * (RACERS - 1)]
            else:
                races.check(name, repo, n, tuple(end))
        _check_own(name, repo)
        for version in repo.versions():
            if version.sealed:
                record = seal.load_record(repo.objects, layout.seal(version.uuid), version.info.seal)
                assert seal.sha256(repo.objects.get(layout.sums(version.uuid)) or b"") == record.sums


def _check_own(name: str, repo: vzarr.Repo) -> None:
    each = [(n, w) for n in range(ROUNDS) for w in range(RACERS)]
    if name == "labels":
        spans = [tuple(map(int, line.split()[-2:])) for line in repo.state.log if "labels" in line.split()]
        given = [label for first, last in spans for label in range(first, last + 1)]
        assert len(given) == len(set(given)) == 3 * len(each)
    elif name == "merge":
        notes = [v.note for v in repo.versions() if len(v.parents) == 2]
        assert sorted(notes) == sorted(f"round {n} by {w}" for n, w in each)
    elif name == "log":
        assert sorted(line.split("  ", 1)[1] for line in repo.state.log) == sorted(f"{n} {w}" for n, w in each)
