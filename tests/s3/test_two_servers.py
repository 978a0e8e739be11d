"""Two API servers on one PostgreSQL and one bucket: what one acknowledged the other shows; `kill -9` loses nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

import vzarr
from tests.postgres import database
from tests.s3.twoservers import Client, prepare, run
from tests.serving import kill, start
from vzarr.types.labelmap import verify

pytestmark = [pytest.mark.postgres, pytest.mark.crash]


@pytest.fixture
def keys(postgres_server: str) -> Iterator[str]:
    """An empty database."""
    with database(postgres_server) as url:
        yield url


def test_two_servers_are_one(url: str, keys: str):
    assert live_and_die(url, keys, edits=30, deaths=2) >= 60


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_two_servers_are_one_through_twenty_deaths(url: str, keys: str):
    assert live_and_die(url, keys, edits=60, deaths=20) >= 1200


def live_and_die(url: str, keys: str, edits: int, deaths: int) -> int:
    """Let clients work through two servers, kill one of these at random moments; how often they edited."""
    folder, chance = url.rsplit("/", 1)[0], random.Random(7)
    servers = [start(folder, "--keys", keys, patience=120) for _ in range(2)]
    clients: list[Client] = []
    try:
        node, made = prepare(servers)
        clients += made
        for _ in range(deaths):
            enough, count = threading.Event(), [0]
            failures: list[BaseException] = []
            threads = [threading.Thread(target=run, args=(c, enough, count, failures)) for c in clients]
            for thread in threads:
                thread.start()
            end = time.monotonic() + 120
            while count[0] < edits and time.monotonic() < end and not failures:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.1))
            dies = chance.randrange(2)
            kill(servers[dies])
            enough.set()
            for thread in threads:
                thread.join(120)
                assert not thread.is_alive(), "a client hangs"
            if failures:
                raise failures[0]
            assert count[0] >= edits, "the servers stand still"
            servers[dies] = start(folder, "--keys", keys, patience=120)
            for client in clients:
                client.servers[:] = [s.url for s in servers]
                client.look()
        with vzarr.open(f"{folder}/{node}") as repo:
            assert verify.check_index(repo.root["seg"]) == []
            assert verify.check_scales(repo.root["seg"]) == []
        return sum(c.acknowledged for c in clients)
    finally:
        for client in clients:
            client.connect("")
        for server in servers:
            kill(server)
