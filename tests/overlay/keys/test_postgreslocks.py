"""Locks in PostgreSQL: one at a time across processes, and free at once when their holder is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vzarr
from tests.postgres import database
from vzarr.errors import InvalidInputError
from vzarr.overlay.keys.postgreslocks import PostgresLocks
from vzarr.overlay.kv.postgres import PostgresKV

pytestmark = pytest.mark.postgres

HOLD = """
import sys, time
from vzarr.overlay.kv.postgres import PostgresKV
from vzarr.overlay.keys.postgreslocks import PostgresLocks
locks = PostgresLocks(PostgresKV(sys.argv[1]), "repo")
with locks.alone("nodes/a"):
    print(locks.presence.name, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def url(postgres_server: str) -> Iterator[str]:
    """An empty database."""
    with database(postgres_server) as found:
        yield found


def test_a_killed_holder_is_known_to_be_gone(url: str):
    kv = PostgresKV(url)
    locks = PostgresLocks(kv, "repo")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    name = holder.stdout.readline().strip()
    assert locks.presence.is_running(name)
    assert locks.presence.is_running(locks.presence.name)
    with locks.alone("nodes/b"), PostgresLocks(kv, "repo").attempt("nodes/b") as second:
        assert not second
    for name_of_lock, free in (("nodes/a", False), ("nodes/b", True)):
        with locks.attempt(name_of_lock) as mine:
            assert mine is free
    holder.kill()
    holder.communicate()
    started = time.monotonic()
    with locks.alone("nodes/a"):
        pass
    while locks.presence.is_running(name):  # by another connection, whose end the database sees by itself
        assert time.monotonic() - started < 5
        time.sleep(0.01)
    kv.close()


def test_a_repo_keeps_its_keys_there(url: str, tmp_path: Path):
    with vzarr.create(str(tmp_path / "repo"), keys=url) as repo:
        repo.root.create_array("a", dtype="u1", chunks=(4,), shape=(8,), dimension_names=None)
        repo.root.write("a", (0,), np.arange(8, dtype="u1"))
        child = repo.root.commit().newversion()
        info = repo.record_instance(child, "notes", "keyvalue")
        child.transact(info, lambda tx: tx.put(b"k", b"v"))
        child.write("a", (2,), np.full(3, 9, "u1"))
        with vzarr.open(str(tmp_path / "repo")) as other:
            assert other[child.uuid].read("a", (0,), (8,)).tolist() == [0, 1, 9, 9, 9, 5, 6, 7]
            other[child.uuid].commit()
        assert child.sealed
        assert child.keys("notes").get(b"k") == b"v"
    assert not (tmp_path / "repo" / "keys").exists()


def test_two_repos_share_a_database(url: str, tmp_path: Path):
    for name in ("one", "two"):
        with vzarr.create(str(tmp_path / name), keys=url, root="same") as repo:
            info = repo.record_instance(repo.root, "notes", "keyvalue")
            assert list(repo.root.keys(info).scan()) == []
            repo.root.transact(info, lambda tx: tx.put(b"k", b"v"))


def test_a_password_is_not_recorded(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="password"):
        vzarr.create(str(tmp_path / "repo"), keys="postgresql://vzarr:secret@127.0.0.1/keys")
    assert not (tmp_path / "repo").exists()
