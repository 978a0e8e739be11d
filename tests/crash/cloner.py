"""Clones a repo again and again, each time in a process that kills itself at a random change of a file, then whole."""

from __future__ import annotations

import json
import os
import random
import signal
import sys

from vzarr.cli import main
from vzarr.errors import VzarrError
from vzarr.overlay.opening import open_objects
from vzarr.overlay.repo import Repo

CHANGES = {"os.rename", "os.link"}
"""Audit events (Python documentation, "Audit events table") by which an object appears."""


def die_at(count: int) -> None:
    left = count

    def look(event: str, _args: object) -> None:
        nonlocal left
        if event in CHANGES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def attempt(source: str, target: str, options: list[str], count: int) -> int:
    """Wait status of a process that clones until it dies."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if count:
            die_at(count)
        os._exit(main(["clone", source, target, *options]))
    return os.waitpid(child, 0)[1]


def is_seen(target: str) -> bool:
    """Whether anything of a clone can be opened."""
    try:
        Repo.open(target).close()
    except VzarrError:
        return False
    return True


def run(source: str, target: str, seed: int, times: int, *options: str) -> None:
    draw, told = random.Random(seed), []
    for _ in range(times):
        status = attempt(source, target, list(options), draw.randint(1, 12))
        objects = sum(1 for key, _ in open_objects(target).walk() if key.startswith(("nodes/", "open/")))
        told.append([os.WIFSIGNALED(status), is_seen(target), objects])
    status = attempt(source, target, list(options), 0)
    sys.stdout.write(json.dumps({"killed": told, "status": status}))


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
