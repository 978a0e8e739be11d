"""Changes of history for a process that kills itself in the middle: at its n-th change of a file or of the keys."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vzarr
from vzarr.overlay.kv import folding
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.types import registry

OPEN, LEFT, RIGHT = "open", "left", "right"
ALIAS = "a repo to be killed"
CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
"""Audit events (Python documentation, "Audit events table") of what changes a folder."""


def prepare(url: str, entries: int = 0) -> None:
    """Make a repo with two sealed branches, and an open version that changed a bit of everything.

    Parameters
    ----------
    entries
        Number of log entries to fill up to, so that the next one makes a checkpoint.
    """
    with vzarr.create(url, alias=ALIAS, root="root") as repo:
        root = repo.root
        root.create_array("a", dtype="u2", chunks=(4, 4, 4))
        root.write("a", (0, 0, 0), np.arange(12**3, dtype="u2").reshape(12, 12, 12))
        notes = registry.create(root, "notes", "keyvalue")
        notes.put("kept", b"1")
        notes.put("gone", b"1")
        root.commit("first")
        for n, name in enumerate((LEFT, RIGHT)):
            side = root.branch(name, uuid=f"{n + 1:032x}")
            side.write("a", (4 * n, 0, 0), np.full((4, 4, 4), n + 1, "u2"))
            side.commit()
        change(root.newversion(uuid=f"{9:032x}"))
        for n in range(len(repo.log()), entries):
            repo.set_info(description=str(n))


def prepare_merged(url: str) -> None:
    """Make a repo whose open version joins two branches and changed a bit of everything since."""
    prepare(url)
    with vzarr.open(url) as repo:
        repo["master"].commit()
        change(repo.merge([LEFT, RIGHT], note="to be committed"))


def change(version: vzarr.Version) -> None:
    """Change, add, delete and grow: what a commit must not lose."""
    version.write("a", (0, 0, 0), np.full((4, 4, 8), 7, "u2"))
    version.delete_chunks("a", [(2, 2, 2)])
    version.write("a", (-4, 0, 0), np.full((4, 4, 4), 8, "u2"))
    version.zarr.create_array("group/b", shape=(3,), chunks=(3,), dtype="i4", fill_value=5)[:2] = 6
    version.zarr.attrs["said"] = "something"
    version["notes"].put("new", b"2")
    version["notes"].delete("gone")


def contents(version: vzarr.Version) -> dict[str, Any]:
    """All that a version holds, as plain values that can be compared."""
    lo, hi = version.bounds("a")
    found = {"a": (lo, hi, version.read("a", lo, hi).tobytes()), "attributes": dict(version.zarr.attrs)}
    if version.has_array("group/b"):
        found["b"] = version.zarr["group/b"][:].tolist()
    notes = version["notes"]
    return {**found, "notes": {key: notes.get(key) for key in notes.list_keys()}}


def _create(url: str) -> None:
    vzarr.create(url, alias=ALIAS, root="root").close()


def _with_repo(act: Callable[[vzarr.Repo], object]) -> Callable[[str], None]:
    def attempt(url: str) -> None:
        with vzarr.open(url) as repo:
            act(repo)

    return attempt


ATTEMPTS: dict[str, Callable[[str], None]] = {
    "create": _create,
    "commit": _with_repo(lambda repo: repo["master"].commit("done", user="ann", log=["a line"])),
    "commit of a merge": _with_repo(lambda repo: repo["master"].commit("done", user="ann", log=["a line"])),
    "newversion": _with_repo(lambda repo: repo[LEFT].newversion("next")),
    "branch": _with_repo(lambda repo: repo[LEFT].branch("third")),
    "tag": _with_repo(lambda repo: repo[LEFT].tag("v1")),
    "merge": _with_repo(lambda repo: repo.merge([repo[LEFT], repo[RIGHT]])),
    "instance": _with_repo(
        lambda repo: registry.create(repo["master"], "gray", "uint8blk", config={"BlockSize": "8,8,8"})
    ),
    "write": _with_repo(lambda repo: repo["master"].write("a", (8, 0, 0), np.full((2, 2, 2), 99, "u2"))),
}


def run(name: str, url: str, deadly: int, counted: str) -> None:
    """Carry out one attempt and die just before its `deadly`-th change; else write down how many there were."""
    folding.BATCH = 1  # so that one may die between two keys
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT):
            count()

    transact = SqliteKV.transact

    def counting(kv: SqliteKV, fn: Callable[..., Any]) -> Any:
        count()
        result = transact(kv, fn)
        count()
        return result

    SqliteKV.transact = counting
    sys.addaudithook(audit)
    ATTEMPTS[name](url)
    Path(counted).write_text(str(seen))
