"""What racers do, each in a process or thread of its own: a module that a fork server can load."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import vzarr
from vzarr.errors import VzarrError

SIDE = 2
DTYPES = ["u1", "u2", "i4", "f4"]
ROOT = "root"
"""What the names of races in an open root begin with."""


def node(n: int) -> str:
    """Id of the version from which a race begins."""
    return f"{n + 1:032x}"


Turn = Callable[[vzarr.Repo, int, int], object]


def of(name: str, repo: vzarr.Repo) -> vzarr.Version:
    """The open version in which a race happens."""
    return repo.root if name.startswith(ROOT) else repo["open"]


def rename(name: str, repo: vzarr.Repo, n: int, worker: int) -> None:
    """Everybody wants one group for another name."""
    of(name, repo).rename(f"r{n}", f"r{n}-{worker}")


def occupy(name: str, repo: vzarr.Repo, n: int, worker: int) -> None:
    """Everybody wants one name for another group."""
    of(name, repo).rename(f"g{n}-{worker}", f"g{n}")


def adopt(repo: vzarr.Repo, n: int, worker: int) -> None:
    """Everybody wants one name for another volume."""
    repo.adopt(f"em{n}", source(repo.state.description, worker), typename="zarr")


def source(folder: str, worker: int) -> str:
    return f"{folder}/source{worker}.zarr"


def make_array(repo: vzarr.Repo, n: int, worker: int) -> None:
    """Everybody makes one array: the first one's is the array."""
    dtype = DTYPES[worker % len(DTYPES)]
    repo["open"].create_array(f"a{n}", dtype=dtype, chunks=(SIDE,), fill_value=worker, dimension_names=None)


def paint(name: str, repo: vzarr.Repo, n: int, worker: int) -> None:
    """Everybody writes a chunk of their own, on either side of voxel 0, and one that all write."""
    own = worker + 1 if worker % 2 else -worker - 1
    chunk = np.full(SIDE, worker + 1, "u2")
    of(name, repo).write_chunks(f"p{n}", {(own,): chunk, (0,): chunk})


def set_up(repo: vzarr.Repo, n: int, worker: int) -> None:
    """Everybody changes one of an instance's settings."""
    changes: list[dict[str, Any]] = [{"tags": {"by": str(worker)}}, {"config": {"by": str(worker)}}]
    repo.update_instance(f"i{n}", **changes[worker % 2])


def add_one(key: bytes, tx: Any) -> None:
    tx.put(key, (tx.get(key) or b"") + b".")


TURNS: dict[str, Turn] = {
    "commit": lambda repo, n, worker: repo[f"b{n}"].commit(f"by {worker}"),
    "newversion": lambda repo, n, worker: repo[node(n)].newversion(f"by {worker}"),
    "tag": lambda repo, n, worker: repo[f"s{(n + worker) % 2}"].tag(f"t{n}"),
    "branch": lambda repo, n, worker: repo[f"s{worker}"].branch(f"x{n}"),
    "instance": lambda repo, n, worker: repo.record_instance(repo["open"], f"i{n}", "keyvalue"),
    "forget": lambda repo, n, worker: repo.remove_instance(f"i{n}"),
    "rename": partial(rename, "rename"),
    "occupy": partial(occupy, "occupy"),
    "root rename": partial(rename, "root rename"),
    "root occupy": partial(occupy, "root occupy"),
    "root adopt": adopt,
}
"""Changes by name: of one repo, in round n; of equal ones in one round one succeeds."""
EVERYBODYS: dict[str, Turn] = {
    "array": make_array,
    "paint": partial(paint, "paint"),
    "root paint": partial(paint, "root paint"),
    "settings": set_up,
    "note": lambda repo, n, worker: repo[f"b{n}"].set_note(f"by {worker}"),
    "lines": lambda repo, n, worker: repo[f"b{n}"].add_log([f"by {worker}"]),
    "info": lambda repo, n, worker: repo.set_info(**{["alias", "description"][worker % 2]: f"{n} by {worker}"}),
    "count": lambda repo, n, worker: repo["open"].transact("i0", partial(add_one, b"%d" % n)),
}
"""Changes in which all succeed."""

WON = ""


def attempt(act: Callable[[], object]) -> str:
    """`WON`, or the class of the error with which it was refused."""
    try:
        act()
    except VzarrError as error:
        return type(error).__name__
    return WON


def prepare(name: str, repo: vzarr.Repo, rounds: int, racers: int, folder: Path) -> None:
    """Give a new repo what a race needs: open or sealed branches ``b0``, ``s0``, ..., and something in versions.

    Parameters
    ----------
    folder
        Where volumes can lie that are adopted.
    """
    root = repo.root
    root.zarr.create_array("a", shape=(4,), chunks=(2,), dtype="u1")[:] = 1
    for n in range(rounds):
        if "rename" in name:
            root.create_group(f"r{n}", {"n": n})
        elif "occupy" in name:
            for worker in range(racers):
                root.create_group(f"g{n}-{worker}", {"of": worker})
        elif "paint" in name:
            root.create_array(f"p{n}", dtype="u2", chunks=(SIDE,), dimension_names=None)
        elif name in ("forget", "settings") or (name == "count" and n == 0):
            repo.record_instance(root, f"i{n}", "keyvalue")
    if name == "root adopt":
        repo.set_info(description=str(folder))
        for worker in range(racers):
            zarr.create_array(source(str(folder), worker), shape=(4,), chunks=(2,), dtype="u1")[:] = worker
    if name.startswith(ROOT):
        return
    root.commit()
    root.branch("open")
    for n in range(rounds if name in ("commit", "newversion", "note", "lines") else racers):
        if name in ("commit", "note", "lines"):
            root.branch(f"b{n}")
        else:
            root.branch(f"s{n}", uuid=node(n)).commit()


def check(name: str, repo: vzarr.Repo, n: int, end: tuple[str, ...]) -> None:
    """What the winner of a round did is there, and nothing of the losers; of what all did, what must be."""
    if name in EVERYBODYS:
        assert set(end) == {WON}
        _check_all(name, repo, n, len(end))
        return
    refusal = {"commit": "SealedError", "rename": "NotFoundError", "root rename": "NotFoundError"}
    lost = {**refusal, "forget": "NotFoundError"}.get(name, "AlreadyExistsError")
    assert sorted(end) == [WON, *[lost] * (len(end) - 1)]
    winner = end.index(WON)
    if name == "commit":
        assert repo[f"b{n}"].note == f"by {winner}"
    elif name == "newversion":
        assert [child.note for child in repo[node(n)].children] == [f"by {winner}"]
    elif name == "tag":
        assert repo[f"t{n}"].parents[0].branch_name == f"s{(n + winner) % 2}"
    elif name == "branch":
        assert repo[f"x{n}"].parents[0].branch_name == f"s{winner}"
    elif name == "forget":
        assert f"i{n}" not in repo.state.instances
    elif "rename" in name:
        groups = {p: of(name, repo).attributes(p) for p in of(name, repo).view.entries if p.startswith(f"r{n}-")}
        assert groups == {f"r{n}-{winner}": {"n": n}}
        assert f"r{n}" not in of(name, repo).view.entries
    elif "occupy" in name:
        assert of(name, repo).attributes(f"g{n}") == {"of": winner}
        left = sorted(p for p in of(name, repo).view.entries if p.startswith(f"g{n}-"))
        assert left == sorted(f"g{n}-{w}" for w in range(len(end)) if w != winner)
    elif name == "root adopt":
        assert repo.root.zarr[f"em{n}/0"][:].tolist() == [winner] * 4


def _check_all(name: str, repo: vzarr.Repo, n: int, racers: int) -> None:
    if name == "array":
        array = repo["open"].zarr[f"a{n}"]
        assert array.dtype == DTYPES[int(array.fill_value) % len(DTYPES)]
    elif "paint" in name:
        version = of(name, repo)
        found = {c[0]: v.tolist() for c, v in version.read_chunks(f"p{n}", version.chunk_coords(f"p{n}").tolist())}
        shared = found.pop(0)
        assert shared in [[w + 1] * SIDE for w in range(racers)]
        assert found == {w + 1 if w % 2 else -w - 1: [w + 1] * SIDE for w in range(racers)}
        below, above = (max(w + 1 for w in range(racers) if w % 2 == side) for side in (0, 1))
        assert version.bounds(f"p{n}") == ((-below * SIDE,), ((above + 1) * SIDE,))
    elif name == "settings":
        info = repo.state.instances[f"i{n}"]
        assert set(info.tags) == set(info.config) == {"by"}
        assert (int(info.tags["by"]) % 2, int(info.config["by"]) % 2) == (0, 1)
    elif name == "note":
        assert repo[f"b{n}"].note in [f"by {w}" for w in range(racers)]
    elif name == "lines":
        assert sorted(line.split("  ")[1] for line in repo[f"b{n}"].info.log) == sorted(
            f"by {w}" for w in range(racers)
        )
    elif name == "count":
        assert repo["open"].keys("i0").get(b"%d" % n) == b"." * racers
    elif name == "info":
        assert [int(text.split()[-1]) % 2 for text in (repo.state.alias, repo.state.description)] == [0, 1]


def race(barrier: Any, name: str, url: str, worker: int, rounds: int, send: Callable[[list[str]], object]) -> None:
    """Take part in every round, and send how each ended."""
    found = []
    if name == "create":
        for n in range(rounds):
            barrier.wait(60)
            found.append(attempt(lambda n=n: vzarr.create(f"{url}/{n}", alias=str(worker)).close()))
    else:
        turn = {**TURNS, **EVERYBODYS}[name]
        with vzarr.open(url) as repo:
            for n in range(rounds):
                barrier.wait(60)
                found.append(attempt(lambda n=n: turn(repo, n, worker)))
    send(found)
