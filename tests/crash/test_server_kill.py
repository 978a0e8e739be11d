"""`kill -9` of the server while clients edit: what was acknowledged is there, the rest wholly or not at all."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import vzarr
from tests.crash.proofreader import Proofreader
from tests.serving import TOKEN, Server, start
from vzarr.types.labelmap import verify

KILLS = 10
EDITS = 500
CLIENTS = 4
QUICK = 15
"""Seconds in which a server that was killed must answer again, most of which Python needs for its imports."""


def post(url: str, body: object) -> dict:
    with urlopen(Request(url, json.dumps(body).encode(), method="POST")) as answer:
        return json.loads(answer.read() or b"{}")


def kill(server: Server) -> None:
    server.process.kill()
    server.process.wait()
    server.process.stdout.close()


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
    assert enough.wait(60), "the server stands still"
    time.sleep(delay)
    kill(server)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.crash
def test_edits_survive_the_death_of_the_server(tmp_path: Path):
    server = start(tmp_path)
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
        for _ in range(KILLS):
            edit_and_kill(server, clients, EDITS // KILLS, pause.uniform(0, 0.05))
            started = time.monotonic()
            server = start(tmp_path)
            assert time.monotonic() - started < QUICK
            for client in clients:
                client.check(server.url)
            with vzarr.open(str(tmp_path / root)) as repo:
                assert verify.check_index(repo.root["seg"]) == []
                assert verify.check_scales(repo.root["seg"]) == []
        assert sum(client.acknowledged for client in clients) >= EDITS
    finally:
        kill(server)
        for client in clients:
            client.http.close()
