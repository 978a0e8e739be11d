"""Locks in PostgreSQL: one at a time across processes, and free at once when their holder is killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

import vzarr
from tests.postgres import database, end_sessions
from vzarr.errors import AuthorityUnavailableError, InvalidInputError
from vzarr.jobs.records import Records
from vzarr.overlay.keys import postgreslocks
from vzarr.overlay.keys.postgreslocks import CHECK_SECONDS, GRACE_SECONDS, PostgresLocks, PostgresPresence
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
            assert (mine is not None) is free
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


def others_view(kv: PostgresKV) -> PostgresPresence:
    """Presence as another process has it."""
    found = PostgresPresence("repo")
    found.connect = kv.connect
    return found


def end_session(url: str, presence: PostgresPresence) -> None:
    """What a restart of the database does to a process that lives on."""
    end_sessions(url, presence._session.info.backend_pid)


def test_who_lost_its_session_comes_back_under_its_name(url: str):
    kv = PostgresKV(url)
    here, there = PostgresLocks(kv, "repo").presence, others_view(kv)
    name = here.name
    end_session(url, here)
    assert not there.is_running(name)
    started = time.monotonic()
    assert not there.is_gone(name)  # it looks after its session by itself
    assert time.monotonic() - started < GRACE_SECONDS
    assert there.is_running(name)
    assert here.name == name
    assert not here.is_gone(there.name)
    kv.close()


def test_who_was_away_for_long_has_another_name(url: str, monkeypatch: pytest.MonkeyPatch):
    kv = PostgresKV(url)
    here, there = PostgresLocks(kv, "repo").presence, others_view(kv)
    name = here.name

    def refuse() -> None:
        raise AuthorityUnavailableError("cut off")

    with monkeypatch.context() as cut:
        cut.setattr(here, "connect", refuse)
        end_session(url, here)
        started = time.monotonic()
        assert there.is_gone(name)
        assert time.monotonic() - started >= GRACE_SECONDS
        with pytest.raises(AuthorityUnavailableError, match="cut off"):
            _ = here.name
    assert here.name != name
    assert there.is_running(here.name)
    assert there.is_gone(name)
    assert time.monotonic() - started < 2 * GRACE_SECONDS  # it is known now
    kv.close()


def test_a_name_whose_lock_the_database_still_holds_for_a_lost_session_is_given_up(url: str):
    kv = PostgresKV(url)
    here = PostgresLocks(kv, "repo").presence
    name = here.name
    with psycopg.connect(url, autocommit=True) as zombie:
        end_session(url, here)
        zombie.execute("SELECT pg_advisory_lock(%s)", (here._number(name),))
        time.sleep(CHECK_SECONDS)
        assert here.name != name
    kv.close()


def test_presence_needs_no_handle_that_is_closed(url: str):
    first, second = PostgresKV(url), PostgresKV(url)
    presence = PostgresLocks(first, "repo").presence
    assert PostgresLocks(second, "repo").presence is presence
    second.close()
    assert not presence.is_running("nobody")
    assert presence.is_running(presence.name)
    first.close()


def test_nobody_looks_after_a_presence_that_is_no_more(url: str):
    kv = PostgresKV(url)
    name = PostgresLocks(kv, "repo").presence.name
    end = time.monotonic() + 10
    while any(thread.name.endswith(name) for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert others_view(kv).is_gone(name)
    kv.close()


def test_many_that_are_gone_are_waited_for_at_once(url: str):
    kv = PostgresKV(url)
    there = others_view(kv)
    started = time.monotonic()
    assert there.gone(["a", "b", "c", there.name]) == {"a", "b", "c"}
    assert GRACE_SECONDS <= time.monotonic() - started < 2 * GRACE_SECONDS
    kv.close()


def test_who_stood_still_meanwhile_takes_nobody_for_dead(url: str, monkeypatch: pytest.MonkeyPatch):
    """Somebody may have come and gone, and may come again."""
    kv = PostgresKV(url)
    there = others_view(kv)
    with monkeypatch.context() as slow:
        slow.setattr(postgreslocks, "POLL_SECONDS", CHECK_SECONDS)
        assert not there.is_gone("somebody")
    assert there.is_gone("somebody")
    kv.close()


def test_who_only_shows_up_for_moments_gets_another_name(url: str):
    """Others may have missed each of them."""
    kv = PostgresKV(url)
    here = PostgresLocks(kv, "repo").presence
    name, end = here.name, time.monotonic() + 2 * GRACE_SECONDS
    while here.name == name:
        assert time.monotonic() < end
        for _ in range(2):  # comes back, and looks at once whether its session is there
            here._checked = 0.0
            _ = here.name
        end_session(url, here)
        time.sleep(CHECK_SECONDS / 4)
    kv.close()


def test_who_asks_while_the_database_does_not_answer_waits_once(url: str, monkeypatch: pytest.MonkeyPatch):
    kv = PostgresKV(url)
    here = PostgresLocks(kv, "repo").presence
    _ = here.name
    refused: list[str] = []

    def hang() -> None:
        time.sleep(0.5)
        raise AuthorityUnavailableError("cut off")

    def ask() -> None:
        try:
            _ = here.name
        except AuthorityUnavailableError as error:
            refused.append(str(error))

    monkeypatch.setattr(here, "connect", hang)
    end_session(url, here)
    time.sleep(CHECK_SECONDS)
    threads = [threading.Thread(target=ask) for _ in range(10)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["cut off"] * 10
    assert time.monotonic() - started < 2
    kv.close()


def test_a_session_that_ends_as_it_begins_is_an_error_of_ours_and_costs_no_name(url: str):
    kv = PostgresKV(url)
    here = others_view(kv)

    def lost() -> object:
        session = kv.connect()
        end_sessions(url, session.info.backend_pid)
        return session

    here.connect = lost
    with pytest.raises(AuthorityUnavailableError, match="try again"):
        _ = here.name
    here.connect = kv.connect
    name = here.name
    here.connect = lost
    end_session(url, here)
    time.sleep(CHECK_SECONDS)
    with pytest.raises(AuthorityUnavailableError, match="try again"):
        _ = here.name
    here.connect = kv.connect
    assert here.name == name
    kv.close()


def test_a_job_is_not_told_to_be_over_because_a_session_was_lost(url: str):
    kv = PostgresKV(url)
    here, there = PostgresLocks(kv, "repo").presence, others_view(kv)
    job = Records(kv, here).add("repo", "push", {})
    end_session(url, here)
    assert not there.is_running(here._name)
    assert Records(kv, there).get(job.id).active
    end_session(url, here)
    assert [j.active for j in Records(kv, there).all()] == [True]
    kv.close()
