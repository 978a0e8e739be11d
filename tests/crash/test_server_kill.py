"""`kill -9` of the server while clients edit: what was acknowledged is there, the rest wholly or not at all."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.request import urlopen

import pytest

import vzarr
from tests.crash.proofreader import Proofreader
from tests.serving import TOKEN, Server, kill, post, start
from vzarr.types.labelmap import verify

KILLS = 10
EDITS = 500
CLIENTS = 4
QUICK = 15
"""Seconds in which a server that was killed must answer again, most of which Python needs for its imports."""
LOSS = 1.0
"""Seconds that recovery may take: those until the first answer, beyond what a server over an empty folder needs."""


def edit_and_kill(server: Server, clients: list[Proofreader], edits: int, delay: float) -> None:
    """Let all clients edit, and kill the server in the middle, once it has answered so many edits."""
    lock, enough = threading.Lock(), threading.Event()
    left = edits

    def acknowledge() -> bool:
        nonlocal left
        with lock:
            left -= 1
            if left <= 0:
                enough.set()
        return True

    threads = [threading.Thread(target=client.work, args=(server.url, acknowledge)) for client in clients]
    for thread in threads:
        thread.start()
    assert enough.wait(60 + edits), "the server stands still"
    time.sleep(delay)
    kill(server)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.crash
def test_edits_survive_the_death_of_the_server(tmp_path: Path):
    assert edit_and_kill_often(tmp_path, [EDITS // KILLS] * KILLS).edits >= EDITS


@pytest.mark.crash
@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_twenty_deaths_each_at_a_random_moment_of_two_thousand_edits(tmp_path: Path):
    moments = random.Random(20).choices(range(1, 2001), k=20)
    done = edit_and_kill_often(tmp_path / "edited", moments, patience=60, beside=tmp_path / "nothing")
    assert done.edits >= sum(moments)
    took = [median(seconds) for seconds in (done.starts, done.firsts, done.empty)]
    print(
        "{} edits; start {:.2f} s, first answer {:.3f} s later; start without repos {:.2f} s".format(done.edits, *took)
    )
    assert median(a + b - c for a, b, c in zip(done.starts, done.firsts, done.empty, strict=True)) < LOSS


@dataclass
class Done:
    """What was survived: edits that were acknowledged, and seconds of each restart and of the first answer then.

    `empty` are the seconds of a start beside each, without repos, and of a first answer.
    """

    edits: int = 0
    starts: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    empty: list[float] = field(default_factory=list)


def edit_and_kill_often(folder: Path, moments: list[int], patience: float = QUICK, beside: Path | None = None) -> Done:
    """Let clients edit and kill the server after each of some numbers of edits; look at all that is left each time."""
    folder.mkdir(exist_ok=True)
    server, done = start(folder), Done()
    clients: list[Proofreader] = []
    try:
        root = post(f"{server.url}/api/repos?admintoken={TOKEN}", {"alias": "crash"})["root"]
        settings = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16", "MaxDownresLevel": "1"}
        post(f"{server.url}/api/repo/{root}/instance", settings)
        clients += [Proofreader(n + 1, f"/api/node/{root}/seg") for n in range(CLIENTS)]
        for client in clients:
            client.connect(server.url)
            client.paint_all()
        pause = random.Random(5)
        for edits in moments:
            edit_and_kill(server, clients, edits, pause.uniform(0, 0.05))
            started = time.monotonic()
            server = start(folder)
            done.starts.append(time.monotonic() - started)
            assert done.starts[-1] < patience
            started = time.monotonic()
            with urlopen(f"{server.url}/api/node/{root}/seg/maxlabel"):
                done.firsts.append(time.monotonic() - started)
            if beside is not None:
                started = time.monotonic()
                other = start(beside)
                with urlopen(f"{other.url}/api/server/info"):
                    done.empty.append(time.monotonic() - started)
                kill(other)
            for client in clients:
                client.check(server.url)
            with vzarr.open(str(folder / root)) as repo:
                assert verify.check_index(repo.root["seg"]) == []
                assert verify.check_scales(repo.root["seg"]) == []
        done.edits = sum(client.acknowledged for client in clients)
        return done
    finally:
        kill(server)
        for client in clients:
            client.http.close()
