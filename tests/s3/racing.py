"""What racers on an object store do, each in a process of its own: a module that a fork server can load."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import vzarr
from tests.races.racing import EVERYBODYS, TURNS, attempt
from vzarr.overlay.objects.remote import RemoteObjects
from vzarr.types.labelmap import allocate

Turn = Callable[[vzarr.Repo, int, int], object]


def take_object(repo: vzarr.Repo, n: int, worker: int) -> None:
    """One exclusive create, all with the same bytes."""
    assert isinstance(repo.objects, RemoteObjects)
    if not repo.objects.create(f"claims/{n}", b"mine"):
        raise vzarr.errors.AlreadyExistsError("somebody else's")


def take_labels(repo: vzarr.Repo, n: int, worker: int) -> None:
    """Label ids: everybody gets some, nobody the same."""
    first, last = allocate.reserve(repo["labels"]["seg"], 3)
    repo.add_log([f"labels {first} {last}"])


def merge(repo: vzarr.Repo, n: int, worker: int) -> None:
    """Merges of one pair: all succeed, each its own version."""
    repo.merge([repo["s0"], repo["s1"]], note=f"round {n} by {worker}")


MORE: dict[str, Turn] = {
    **TURNS,
    **EVERYBODYS,
    "object": take_object,
    "labels": take_labels,
    "merge": merge,
    "log": lambda repo, n, worker: repo.add_log([f"{n} {worker}"]),
}


def race(
    barrier: Any, name: str, url: str, keys: str, worker: int, rounds: int, send: Callable[[list[str]], object]
) -> None:
    """Take part in every round, and send how each ended."""
    found = []
    if name == "create":
        for n in range(rounds):
            barrier.wait(120)
            create = partial(vzarr.create, f"{url}/{n}", alias=str(worker), keys=keys)
            found.append(attempt(lambda create=create: create().close()))
    else:
        with vzarr.open(url) as repo:
            for n in range(rounds):
                barrier.wait(120)
                found.append(attempt(lambda n=n: MORE[name](repo, n, worker)))
    send(found)


def crowd(
    barrier: Any, name: str, url: str, keys: str, first: int, threads: int, rounds: int, send: Callable[[Any], object],
    environment: Mapping[str, str],
) -> None:  # fmt: skip
    """Several racers as threads of one process, which finds the server by `environment`.

    A fork server has that of the moment at which it was started, perhaps by tests that need no object store.
    """
    os.environ.update(environment)
    ends: dict[int, list[str]] = {}
    racers = [
        threading.Thread(target=race, args=(barrier, name, url, keys, w, rounds, partial(ends.__setitem__, w)))
        for w in range(first, first + threads)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    send(ends)
