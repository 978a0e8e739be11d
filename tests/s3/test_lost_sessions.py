"""A writer whose database began anew, with objects on a store that takes whatever comes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

import vzarr
from tests.postgres import database, end_sessions
from vzarr.errors import AuthorityUnavailableError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.keys.postgreslocks import GRACE_SECONDS, _number
from vzarr.overlay.kv.mutationids import next_mutation_id
from vzarr.overlay.reading import regions
from vzarr.overlay.sealing import seal

pytestmark = pytest.mark.postgres

ROOM = Path(__file__).parents[2]
ONE = np.ones(4, "u1")
COMMIT = """
import sys
import vzarr
with vzarr.open(sys.argv[1]) as repo:
    print("ready", flush=True)
    sys.stdin.readline()
    repo.root.commit()
"""


@pytest.fixture
def keys(postgres_server: str) -> Iterator[str]:
    with database(postgres_server) as url:
        yield url


@pytest.fixture
def committer(url: str, keys: str) -> Iterator[subprocess.Popen[str]]:
    """A process that commits the root of a repo with an array, once it is told to."""
    with vzarr.create(url, keys=keys) as repo:
        repo.root.create_array("a", dtype="u1", chunks=(4,), shape=(8,))
    with subprocess.Popen(
        [sys.executable, "-c", COMMIT, url], cwd=ROOM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def go(committer: subprocess.Popen[str]) -> None:
    assert committer.stdin is not None
    committer.stdin.write("\n")
    committer.stdin.flush()


def end_sessions_of_this_process(keys: str, repo: vzarr.Repo) -> None:
    """What a restart of the database does to all who use it."""
    end_sessions(keys, repo.authority.presence._session.info.backend_pid)


def test_a_commit_waits_for_a_writer_whose_session_ended(url: str, keys: str, committer: subprocess.Popen[str]):
    with vzarr.open(url) as repo:
        view = repo.root.view
        entry = view.array("a")
        with repo.root.writing():
            repo.root.write_chunks("a", {(0,): ONE})
            name = repo.authority.presence.name
            end_sessions_of_this_process(keys, repo)
            go(committer)
            with pytest.raises(subprocess.TimeoutExpired):
                committer.wait(GRACE_SECONDS + 2)
            regions.write_chunks(view, entry, {(1,): ONE * 3})
        assert committer.wait(20) == 0
        assert repo.authority.presence.name == name
        assert repo.root.sealed
        assert repo.root.read("a", (0,), (8,)).tolist() == [1, 1, 1, 1, 3, 3, 3, 3]


def test_who_was_taken_for_dead_does_not_write_into_what_was_sealed_meanwhile(
    url: str, keys: str, committer: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    """It is cut off from the database, and from nothing else, for longer than others wait."""

    def refuse() -> None:
        raise AuthorityUnavailableError("cut off")

    with vzarr.open(url) as repo:
        version = repo.root
        view = version.view
        entry = view.array("a")

        def write_while_another_commits() -> None:
            with version.writing():
                version.write_chunks("a", {(0,): ONE})
                with monkeypatch.context() as cut:
                    cut.setattr(repo.authority.presence, "connect", refuse)
                    end_sessions_of_this_process(keys, repo)
                    began = time.monotonic()
                    go(committer)
                    assert committer.wait(30) == 0
                    assert time.monotonic() - began >= GRACE_SECONDS
                    with pytest.raises(AuthorityUnavailableError, match="cut off"):
                        regions.write_chunks(view, entry, {(0,): ONE * 2})
                with pytest.raises(SealedError):
                    regions.write_chunks(view, entry, {(0,): ONE * 3})

        with pytest.raises(SealedError):
            write_while_another_commits()
        assert version.read("a", (0,), (4,)).tolist() == [1, 1, 1, 1]
        later = version.newversion()
        later.write("a", (0,), ONE * 2)  # under its new name
        assert later.read("a", (0,), (4,)).tolist() == [2, 2, 2, 2]


def test_who_lost_its_lock_does_not_seal_what_another_has_sealed(
    url: str, keys: str, committer: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    """The record of the version names what the log names: it was written by who wrote that."""
    write_sums = seal.write_sums

    def while_another_commits(*given: object) -> str:
        number = _number(repo.authority.number, layout.node(repo.uuid))
        with psycopg.connect(keys, autocommit=True) as admin:
            holder = (
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE (classid::bigint << 32) + objid::bigint"
            )
            assert admin.execute(f"{holder} = %s", (number,)).fetchall() == [(True,)]
        repo.authority.kv.transact(next_mutation_id)
        go(committer)
        assert committer.wait(30) == 0
        return write_sums(*given)

    with vzarr.open(url) as repo:
        repo.root.write("a", (0,), ONE)
        monkeypatch.setattr(seal, "write_sums", while_another_commits)
        with pytest.raises((AuthorityUnavailableError, SealedError)):
            repo.root.commit()
        assert repo.root.sealed
        assert [f for f in verify(repo.objects) if f.damage] == []
        assert repo.root.read("a", (0,), (4,)).tolist() == [1, 1, 1, 1]


def test_a_commit_waits_for_what_a_writer_that_was_cut_off_has_sent(
    url: str, keys: str, committer: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    """It lives, and its last request is slow."""

    def refuse() -> None:
        raise AuthorityUnavailableError("cut off")

    with vzarr.open(url) as repo:
        view, driver = repo.root.view, repo.objects.driver
        entry, write = view.array("a"), driver.write

        def slowly(*given: object, **named: object) -> bool:
            monkeypatch.setattr(repo.authority.presence, "connect", refuse)
            end_sessions_of_this_process(keys, repo)
            go(committer)
            time.sleep(GRACE_SECONDS + 2)
            return write(*given, **named)

        repo.root.write("a", (0,), ONE)
        monkeypatch.setattr(driver, "write", slowly)
        with pytest.raises(AuthorityUnavailableError, match="cut off"), repo.root.writing():
            regions.write_chunks(view, entry, {(0,): ONE * 2})
        assert committer.poll() is None
        assert committer.wait(30) == 0
        monkeypatch.undo()
        assert [f for f in verify(repo.objects) if f.damage] == []
