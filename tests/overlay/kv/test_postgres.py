"""PostgreSQL's own duties: many processes, forks, collisions, and a server that is not there or goes away."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.postgres import database, end_sessions
from vzarr.errors import AuthorityUnavailableError
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.kv.postgres import PostgresKV

pytestmark = pytest.mark.postgres

NOISE = random.Random(1).randbytes(10_000)

COUNT = """
import os, sys
from vzarr.overlay.kv.postgres import PostgresKV
kv = PostgresKV(sys.argv[1])
def add(txn):
    txn.put(b"n", b"%d" % (int(txn.get(b"n") or b"0") + 1))
for _ in range(25):
    kv.transact(add)
child = os.fork()
for _ in range(25):
    kv.transact(add)
if not child:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
kv.close()
"""


@pytest.fixture
def url(postgres_server: str) -> Iterator[str]:
    """An empty database."""
    with database(postgres_server) as found:
        yield found


def test_processes_and_forks_lose_no_update(url: str):
    command = [sys.executable, "-W", "error", "-c", COUNT, url]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    kv = PostgresKV(url, create=False)
    assert kv.get(b"n") == b"300"
    kv.close()


def test_ranges_are_protected_too(url: str):
    """Two who each look whether a range is empty and then write to it: one of them sees the other."""
    kv = PostgresKV(url)
    tries = []

    def second(txn):
        if not list(txn.scan(b"a", b"b")):
            txn.put(b"a2", b"")

    def first(txn):
        tries.append(list(txn.scan(b"a", b"b")))
        if not tries[-1]:
            if len(tries) == 1:
                other = PostgresKV(url)
                other.transact(second)
                other.close()
            txn.put(b"a1", b"")

    kv.transact(first)
    assert [key for key, _ in kv.scan(b"")] == [b"a2"]
    assert len(tries) == 2
    kv.close()


def test_what_led_to_a_long_key_goes_with_it(url: str):
    kv = PostgresKV(url)
    with psycopg.connect(url, autocommit=True) as beside:
        rows = "SELECT (SELECT count(*) FROM vzarr_kv) + (SELECT count(*) FROM vzarr_kv_long)"
        for size in (10_000, 9_000):
            # Bytes that do not compress: PostgreSQL takes longer keys where they do.
            kv.transact(lambda txn, size=size: txn.put(NOISE[:size], b"1"))
        assert kv.get(NOISE[:10_000]) == b"1"
        for size in (10_000, 9_000):
            assert beside.execute(rows).fetchone() != (0,)
            kv.transact(lambda txn, size=size: txn.delete(NOISE[:size]))
        assert beside.execute(rows).fetchone() == (0,)
    kv.close()


def test_a_range_with_long_keys_is_seen_as_of_one_moment(url: str):
    """A pair of keys, one long and one short, that change together."""
    kv, stop = PostgresKV(url), threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            pairs = [(key, b"%d" % n) for key in (b"a", NOISE)]
            kv.transact(lambda txn, pairs=pairs: [txn.put(*pair) for pair in pairs])

    kv.transact(lambda txn: [txn.put(key, b"0") for key in (b"a", NOISE)])
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        try:
            for _ in range(100):
                for found in kv.scan_many([(b"", None), (b"", b"\xff" * 20)]):
                    assert len(found) == 2
                    assert len({value for _, value in found}) == 1
        finally:
            stop.set()
        writing.result()
    kv.close()


def test_a_database_without_keys(url: str):
    with pytest.raises(AuthorityUnavailableError, match="holds no keys"):
        PostgresKV(url, create=False)
    with pytest.raises(AuthorityUnavailableError, match="cannot open"):
        PostgresKV(url + "x")
    with pytest.raises(AuthorityUnavailableError, match="cannot open"):
        PostgresKV("postgresql://vzarr@127.0.0.1:1/nothing")


def test_a_server_that_ends_sessions(url: str):
    kv = PostgresKV(url)
    kv.transact(lambda txn: txn.put(b"a", b"1"))
    end_sessions(url)
    with pytest.raises(AuthorityUnavailableError, match="try again"):
        kv.get(b"a")
    assert kv.get(b"a") == b"1"
    kv.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such option")
def test_a_database_whose_machine_vanished_is_not_waited_for_longer_than_it_waits_for_others(url: str):
    kv = PostgresKV(url)
    with contextlib.closing(kv.connect()) as connection, socket.socket(fileno=os.dup(connection.fileno())) as line:
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
    kv.close()


def test_one_lost_connection_makes_all_others_looked_at(url: str):
    kv = PostgresKV(url)
    with kv.session(), kv.session(), kv.session():
        kv.transact(lambda txn: txn.put(b"a", b"1"))
    assert end_sessions(url) == 4
    with pytest.raises(AuthorityUnavailableError):
        kv.get(b"a")
    with kv.session() as one, kv.session() as other, kv.session() as third:
        assert one.get(b"a") == other.get(b"a") == third.get(b"a") == b"1"
    kv.close()


def test_connections_that_lay_idle_while_the_server_began_anew_are_made_anew(url: str, monkeypatch: pytest.MonkeyPatch):
    """Else each of them would fail once, and a server has one for every request that it once answered at a time."""
    monkeypatch.setattr("vzarr.overlay.kv.postgres.TRUSTED_SECONDS", 0.0)
    kv = PostgresKV(url)
    with kv.session(), kv.session(), kv.session():
        kv.transact(lambda txn: txn.put(b"a", b"1"))
    assert end_sessions(url) == 4
    assert kv.get(b"a") == b"1"
    with kv.session(), kv.session() as view:
        assert view.get(b"a") == b"1"
        kv.transact(lambda txn: txn.put(b"a", b"2"))
    assert kv.get(b"a") == b"2"
    kv.close()


def test_a_long_transaction_does_not_starve_among_short_ones(url: str):
    """Short ones that never wait would change what it looks at during each of its attempts."""
    stop, started = threading.Event(), threading.Barrier(4)
    tries: list[int] = []

    def add(txn: Transaction) -> None:
        txn.put(b"n", b"%d" % (int(txn.get(b"n") or b"0") + 1))

    def hammer() -> int:
        kv, count = PostgresKV(url), 0
        kv.transact(add)
        started.wait()
        while not stop.is_set():
            kv.transact(add)
            count += 1
        kv.close()
        return count

    def long(txn: Transaction) -> None:
        before = txn.get(b"n")
        tries.append(int(before or b"0"))
        time.sleep(0.2)
        add(txn)

    kv = PostgresKV(url)
    with ThreadPoolExecutor(3) as pool:
        hammering = [pool.submit(hammer) for _ in range(3)]
        started.wait()
        try:
            for _ in range(3):
                kv.transact(long)
        finally:
            stop.set()
        short = sum(each.result() for each in hammering)
    assert short > 0
    assert kv.get(b"n") == b"%d" % (short + 3 + 3)
    assert len(tries) <= 3 * 2, "the second time nobody comes between"
    kv.close()
