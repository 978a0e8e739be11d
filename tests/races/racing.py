"""What racers do, each in a process of its own: a module that a fork server can load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vzarr
from vzarr.errors import VzarrError


def node(n: int) -> str:
    """Id of the version from which a race begins."""
    return f"{n + 1:032x}"


Turn = Callable[[vzarr.Repo, int, int], object]

TURNS: dict[str, Turn] = {
    "commit": lambda repo, n, worker: repo[f"b{n}"].commit(f"by {worker}"),
    "newversion": lambda repo, n, worker: repo[node(n)].newversion(f"by {worker}"),
    "tag": lambda repo, n, worker: repo[f"s{(n + worker) % 2}"].tag(f"t{n}"),
    "branch": lambda repo, n, worker: repo[f"s{worker}"].branch(f"x{n}"),
    "instance": lambda repo, n, worker: repo.record_instance(repo["open"], f"i{n}", "keyvalue"),
}
"""Changes by name: of one repo, in round n; of equal ones in one round one succeeds."""

WON = ""


def attempt(act: Callable[[], object]) -> str:
    """`WON`, or the class of the error with which it was refused."""
    try:
        act()
    except VzarrError as error:
        return type(error).__name__
    return WON


def race(barrier: Any, name: str, url: str, worker: int, rounds: int, send: Callable[[list[str]], object]) -> None:
    """Take part in every round, and send how each ended."""
    found = []
    if name == "create":
        for n in range(rounds):
            barrier.wait(60)
            found.append(attempt(lambda n=n: vzarr.create(f"{url}/{n}", alias=str(worker)).close()))
    else:
        with vzarr.open(url) as repo:
            for n in range(rounds):
                barrier.wait(60)
                found.append(attempt(lambda n=n: TURNS[name](repo, n, worker)))
    send(found)
