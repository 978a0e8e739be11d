"""Twelve writers, threads of several processes, fifteen rounds of every contended operation: one winner each."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

import vzarr
from tests.races.racing import WON
from tests.s3 import racing
from tests.s3.racing import node
from vzarr.overlay import layout
from vzarr.overlay.sealing import seal
from vzarr.types import registry

PROCESSES, THREADS, ROUNDS = 4, 3, 15
RACERS = PROCESSES * THREADS
REFUSALS = {"commit": "SealedError"}
"""Errors of the losers; `AlreadyExistsError` where nothing is said."""
EVERYBODY = {"merge", "labels", "log"}
"""Operations that all succeed in, each with a result of its own."""


@pytest.mark.parametrize("name", ["create", *racing.MORE])
def test_twelve_race(url: str, keys: str, name: str):
    if name != "create":
        prepare(name, url, keys)
    ends = run(name, url, keys)
    if name in EVERYBODY:
        assert all(end == [WON] * RACERS for end in ends)
    else:
        lost = REFUSALS.get(name, "AlreadyExistsError")
        wrong = {n: end for n, end in enumerate(ends) if sorted(end) != [WON, *[lost] * (RACERS - 1)]}
        assert not wrong
    check(name, url, ends)


def prepare(name: str, url: str, keys: str) -> None:
    """A repo with what a race needs: an open version, and open or sealed branches ``b0``, ``s0``, ..."""
    with vzarr.create(url, keys=keys) as repo:
        root = repo.root
        root.zarr.create_array("a", shape=(4,), chunks=(2,), dtype="u1")[:] = 1
        root.commit()
        root.branch("open")
        if name == "labels":
            registry.create(root.branch("labels"), "seg", "labelmap")
        for n in range(max(ROUNDS, RACERS)):
            if name == "commit":
                root.branch(f"b{n}")
            else:
                root.branch(f"s{n}", uuid=node(n)).commit()


def run(name: str, url: str, keys: str) -> list[list[str]]:
    """How each round ended for each racer."""
    processes = multiprocessing.get_context("forkserver")
    manager = processes.Manager()
    barrier = manager.Barrier(RACERS)
    pipes = [processes.Pipe(duplex=False) for _ in range(PROCESSES)]
    crowds = [
        processes.Process(
            target=racing.crowd, args=(barrier, name, url, keys, i * THREADS, THREADS, ROUNDS, pipe[1].send)
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
            with vzarr.open(f"{url}/{n}") as repo:
                assert (repo.state.alias, len(repo.log())) == (str(end.index(WON)), 1)
        return
    with vzarr.open(url) as repo:
        for n, end in enumerate(ends):
            _check_round(name, repo, n, end)
        if name == "labels":
            spans = [tuple(map(int, line.split()[-2:])) for line in repo.state.log if "labels" in line.split()]
            given = [label for first, last in spans for label in range(first, last + 1)]
            assert len(given) == len(set(given)) == 3 * RACERS * ROUNDS
        for version in repo.versions():
            if version.sealed:
                record = seal.load_record(repo.objects, layout.seal(version.uuid), version.info.seal)
                assert seal.sha256(repo.objects.get(layout.sums(version.uuid)) or b"") == record.sums


def _check_round(name: str, repo: vzarr.Repo, n: int, end: list[str]) -> None:
    winner: Any = end.index(WON)
    if name == "commit":
        assert repo[f"b{n}"].note == f"by {winner}"
    elif name == "newversion":
        assert [child.note for child in repo[node(n)].children] == [f"by {winner}"]
    elif name == "tag":
        assert repo[f"t{n}"].parents[0].branch_name == f"s{(n + winner) % 2}"
    elif name == "branch":
        assert repo[f"x{n}"].parents[0].branch_name == f"s{winner}"
    elif name == "merge":
        notes = {v.note for v in repo.versions() if len(v.parents) == 2}
        assert {f"round {n} by {w}" for w in range(RACERS)} <= notes
    elif name == "log":
        lines = [line.split("  ", 1)[1] for line in repo.state.log]
        assert all(lines.count(f"{n} {w}") == 1 for w in range(RACERS))
