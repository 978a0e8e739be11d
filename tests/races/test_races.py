"""Two who change one thing at once: 2,000 creations and commits, 1,000 other changes of history, some of all else.

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
from tests.races.racing import WON
from vzarr.overlay import layout
from vzarr.overlay.sealing import seal

RACERS = 2
ROUNDS = {"create": 400, "commit": 400, "newversion": 150, "tag": 150, "branch": 100, "instance": 100}
IN_MEMORY = {"create": 600, "commit": 600}
FEW = 30
"""Rounds of all other changes."""
NAMES = ["create", *racing.TURNS, *racing.EVERYBODYS]


def prepare(name: str, url: str, rounds: int, folder: Path) -> None:
    with vzarr.create(url) as repo:
        racing.prepare(name, repo, rounds, RACERS, folder)


def check(name: str, url: str, ends: list[tuple[str, ...]]) -> None:
    """One winner a round, the losers told why, and the repo whole."""
    if name == "create":
        for n, end in enumerate(ends):
            assert sorted(end) == [WON, "AlreadyExistsError"]
            with vzarr.open(f"{url}/{n}") as repo:
                assert (repo.state.alias, len(repo.log())) == (str(end.index(WON)), 1)
        return
    with vzarr.open(url) as repo:
        for n, end in enumerate(ends):
            racing.check(name, repo, n, end)
        for version in repo.versions():
            if version.sealed:
                record = seal.load_record(repo.objects, layout.seal(version.uuid), version.info.seal)
                assert seal.sha256(repo.objects.get(layout.sums(version.uuid)) or b"") == record.sums
                assert version.zarr["a"][:].tolist() == [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_processes_race_on_files(tmp_path: Path, name: str):
    url, rounds = str(tmp_path / "repo"), ROUNDS.get(name, FEW)
    if name != "create":
        prepare(name, url, rounds, tmp_path)
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


@pytest.mark.parametrize("name", NAMES)
def test_threads_race_in_memory(tmp_path: Path, name: str):
    url, rounds = f"memory://{uuid.uuid4().hex}", {**ROUNDS, **IN_MEMORY}.get(name, FEW)
    if name != "create":
        prepare(name, url, rounds, tmp_path)
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
