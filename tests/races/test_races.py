"""Two who create, commit, branch, tag or name at once: 2,000 creations and commits, 1,000 others, one winner each.

Processes race on files, threads in memory.
"""

from __future__ import annotations

import multiprocessing
import threading
import uuid
from pathlib import Path

import pytest

import vzarr
from tests.races import racing
from tests.races.racing import WON, node
from vzarr.overlay import layout
from vzarr.overlay.sealing import seal

RACERS = 2
ON_FILES = {"create": 400, "commit": 400, "newversion": 150, "tag": 150, "branch": 100, "instance": 100}
IN_MEMORY = {"create": 600, "commit": 600, "newversion": 150, "tag": 150, "branch": 100, "instance": 100}
REFUSALS = {"commit": "SealedError"}
"""Errors of the losers; `AlreadyExistsError` where nothing is said."""


def prepare(name: str, url: str, rounds: int) -> None:
    """A repo with what a race needs: an open version, and open or sealed branches ``b0``, ``s0``, ..."""
    with vzarr.create(url) as repo:
        root = repo.root
        root.zarr.create_array("a", shape=(4,), chunks=(2,), dtype="u1")[:] = 1
        root.commit()
        root.branch("open")
        for n in range(rounds if name in ("commit", "newversion") else 2):
            if name == "commit":
                root.branch(f"b{n}")
            else:
                root.branch(f"s{n}", uuid=node(n)).commit()


def check(name: str, url: str, ends: list[tuple[str, ...]]) -> None:
    """One winner a round, the losers told why, and the repo whole."""
    refusal = REFUSALS.get(name, "AlreadyExistsError")
    wrong = {n: end for n, end in enumerate(ends) if sorted(end) != [WON, *[refusal] * (RACERS - 1)]}
    assert not wrong
    winners = [end.index(WON) for end in ends]
    if name == "create":
        for n, winner in enumerate(winners):
            with vzarr.open(f"{url}/{n}") as repo:
                assert (repo.state.alias, len(repo.log())) == (str(winner), 1)
        return
    with vzarr.open(url) as repo:
        for n, winner in enumerate(winners):
            if name == "commit":
                assert repo[f"b{n}"].note == f"by {winner}"
            elif name == "newversion":
                assert [child.note for child in repo[node(n)].children] == [f"by {winner}"]
            elif name == "tag":
                assert repo[f"t{n}"].parents[0].branch_name == f"s{(n + winner) % 2}"
            elif name == "branch":
                assert repo[f"x{n}"].parents[0].branch_name == f"s{winner}"
        for version in repo.versions():
            if version.sealed:
                record = seal.load_record(repo.objects, layout.seal(version.uuid), version.info.seal)
                assert seal.sha256(repo.objects.get(layout.sums(version.uuid)) or b"") == record.sums
                assert version.zarr["a"][:].tolist() == [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_FILES)
def test_processes_race_on_files(tmp_path: Path, name: str):
    url, rounds = str(tmp_path / "repo"), ON_FILES[name]
    if name != "create":
        prepare(name, url, rounds)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.races.racing"])
    barrier = processes.Barrier(RACERS)
    pipes = [processes.Pipe(duplex=False) for _ in range(RACERS)]
    racers = [
        processes.Process(target=racing.race, args=(barrier, name, url, worker, rounds, pipe[1].send))
        for worker, pipe in enumerate(pipes)
    ]
    for racer in racers:
        racer.start()
    for _, sender in pipes:
        sender.close()
    found = [receiver.recv() for receiver, _ in pipes]
    for racer, (receiver, _) in zip(racers, pipes, strict=True):
        receiver.close()
        racer.join()
        racer.close()
    check(name, url, list(zip(*found, strict=True)))


@pytest.mark.parametrize("name", IN_MEMORY)
def test_threads_race_in_memory(name: str):
    url, rounds = f"memory://{uuid.uuid4().hex}", IN_MEMORY[name]
    if name != "create":
        prepare(name, url, rounds)
    found: list[list[str]] = [[] for _ in range(RACERS)]
    barrier = threading.Barrier(RACERS)
    racers = [
        threading.Thread(target=racing.race, args=(barrier, name, url, worker, rounds, found[worker].extend))
        for worker in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    check(name, url, list(zip(*found, strict=True)))
