"""Repos that name their keys: where these lie, who keeps whom out, and what is left to see without them."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import orjson
import pytest

import vzarr
from vzarr.errors import (
    AlreadyExistsError,
    AuthorityUnavailableError,
    InvalidInputError,
    NotFoundError,
    UnsupportedError,
)
from vzarr.overlay import layout
from vzarr.overlay.keys.locks import FileLocks, ProcessLocks
from vzarr.overlay.opening import open_objects

CHUNK = np.full((4, 4), 7, "u2")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "keys.sqlite"


@pytest.fixture
def keys(database: Path) -> str:
    database.parent.mkdir()
    return f"sqlite:///{database}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "repo")


@pytest.fixture
def history(url: str, keys: str) -> tuple[str, str]:
    """Ids of a sealed version and its open child, in a repo whose keys lie elsewhere."""
    with vzarr.create(url, keys=keys) as repo:
        repo.root.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
        repo.root.write("a", (0, 0), CHUNK)
        repo.root.commit()
        child = repo.root.newversion()
        child.write("a", (0, 0), CHUNK * 2)
        return repo.uuid, child.uuid


def test_keys_are_recorded_and_lie_where_they_were_said_to(url: str, database: Path, keys: str, history):
    meta = orjson.loads((Path(url) / layout.REPO).read_bytes())
    assert meta["keys"]["url"] == f"sqlite:///{database}"
    assert not (Path(url) / "keys").exists()
    with vzarr.open(url) as repo:
        assert np.array_equal(repo["master"].read("a", (0, 0), (4, 4)), CHUNK * 2)
        repo["master"].write("a", (0, 0), CHUNK * 3)
        repo["master"].commit()
    assert sorted(p.name for p in (Path(f"{database}.locks") / meta["keys"]["id"]).iterdir()) == ["keys"]


def test_one_database_serves_many_repos(tmp_path: Path, keys: str):
    repos = [vzarr.create(str(tmp_path / name), root="root", keys=keys) for name in ("one", "two")]
    for n, repo in enumerate(repos):
        repo.root.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
        repo.root.write("a", (-4, 0), CHUNK * n)
        info = repo.record_instance(repo.root, "kv", "keyvalue")
        repo.root.transact(info, lambda tx, n=n: tx.put(b"k", bytes([n])))
    repos[0].root.commit()
    assert not repos[1].root.sealed
    repos[1].root.write("a", (0, 0), CHUNK)
    for n, repo in enumerate(repos):
        assert repo.root.keys("kv").get(b"k") == bytes([n])
        assert np.array_equal(repo.root.read("a", (-4, 0), (0, 4)), CHUNK * n)
        repo.close()


def test_relative_paths_mean_the_place_from_which_they_were_given(url: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vzarr.create(url, keys="sqlite:///near.sqlite").close()
    monkeypatch.chdir("/")
    with vzarr.open(url) as repo:
        repo.root.commit()
    assert (tmp_path / "near.sqlite").is_file()


@pytest.mark.parametrize("keys", ["memory://x", "nope://x", "sqlite:", "/a/path"])
def test_unfit_keys_leave_nothing_behind(url: str, keys: str):
    with pytest.raises(InvalidInputError):
        vzarr.create(url, keys=keys)
    assert not Path(url).exists()


def test_keys_that_cannot_be_made_leave_nothing_behind(url: str):
    with pytest.raises(AuthorityUnavailableError):
        vzarr.create(url, keys="sqlite:////no/such/folder/keys.sqlite")
    assert not Path(url).exists()


def test_a_second_creation_takes_no_keys(url: str, database: Path, keys: str, history):
    with pytest.raises(AlreadyExistsError):
        vzarr.create(url, keys=keys)
    with vzarr.open(url) as repo:
        assert repo["master"].read("a", (0, 0), (1, 1)) == 14


def lose(database: Path, how: str) -> None:
    """Another machine: no such file there, or another one of that name."""
    database.rename(f"{database}.away")
    for rest in ("-wal", "-shm"):
        Path(f"{database}{rest}").unlink(missing_ok=True)
    if how == "another":
        vzarr.create(str(database.parent / "other"), keys=f"sqlite:///{database}").close()


@pytest.mark.parametrize("how", ["absent", "another"])
def test_without_keys_sealed_versions_can_be_read(url: str, database: Path, history, how: str):
    sealed, opened = history
    lose(database, how)
    before = dict(open_objects(url).walk())
    with vzarr.open(url) as repo:
        assert repo["master@sealed"].uuid == sealed
        assert np.array_equal(repo[sealed].read("a", (0, 0), (4, 4)), CHUNK)
        assert repo[sealed].zarr["a"][0, 0] == 7
        for ref in ("master", opened, opened[:8]):
            with pytest.raises(AuthorityUnavailableError, match=f"{opened} is open.*{sealed}, {ref}@sealed"):
                repo[ref]
        version = repo.versions()[-1]
        for use in (
            lambda: version.read("a", (0, 0), (4, 4)),
            lambda: version.write("a", (0, 0), CHUNK),
            lambda: version.commit(),
            lambda: version.set_note("x"),
            lambda: repo[sealed].branch("side"),
            lambda: repo[sealed].tag("v1"),
            lambda: repo.add_log(["x"]),
            lambda: repo.record_instance(version, "kv", "keyvalue"),
            lambda: repo.merge([repo[sealed], repo[sealed]]),
        ):
            with pytest.raises((AuthorityUnavailableError, InvalidInputError)):
                use()
    assert dict(open_objects(url).walk()) == before
    assert database.exists() == (how == "another")


def test_without_keys_nothing_of_an_open_root_can_be_seen(url: str, database: Path, keys: str):
    vzarr.create(url, keys=keys).close()
    lose(database, "absent")
    with vzarr.open(url) as repo:
        with pytest.raises(AuthorityUnavailableError, match="nothing is sealed yet"):
            repo["master"]
        with pytest.raises(NotFoundError, match="no sealed ancestor"):
            repo["master@sealed"]


def test_a_creation_begun_on_another_machine_is_finished_there(url: str, database: Path, keys: str):
    vzarr.create(url, keys=keys).close()
    (Path(url) / layout.log_entry(0)).unlink()
    lose(database, "another")
    with pytest.raises(AuthorityUnavailableError):
        vzarr.create(url, keys=keys)
    database.unlink()
    Path(f"{database}.away").rename(database)
    with vzarr.create(url, alias="finished", keys=keys) as repo:
        assert repo.state.alias == "finished"


LOCKED = """
import sys, time
from vzarr.overlay.keys.locks import FileLocks
locks = FileLocks(sys.argv[1], keep=sys.argv[2] == "True")
print(locks.presence.name, flush=True)
with locks.alone("nodes/x"):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("keep", [True, False])
def test_locks_keep_processes_out_and_end_with_them(tmp_path: Path, keep: bool):
    locks = FileLocks(str(tmp_path), keep=keep)
    other = subprocess.Popen(
        [sys.executable, "-c", LOCKED, str(tmp_path), str(keep)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    with other, other.stdout as lines:
        name = lines.readline().strip()
        assert lines.readline() == "in\n"
        assert locks.presence.is_running(name)
        entered = threading.Event()

        def enter() -> None:
            with locks.alone("nodes/x"):
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        with locks.attempt("nodes/x") as mine:
            assert not mine
        with locks.attempt("nodes/y") as mine:
            assert mine
            assert not entered.wait(0.2)
            with FileLocks(str(tmp_path), keep=keep).attempt("nodes/y") as second:
                assert not second
        other.kill()
        other.wait()
        thread.join(10)
        assert entered.is_set()
        assert not locks.presence.is_running(name)
    assert locks.presence.is_running(locks.presence.name)


def test_lock_files_that_are_removed_after_use_have_one_holder_at_a_time(tmp_path: Path):
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        # Each with locks of its own, as processes have: what is named by another text is not held in common.
        locks = FileLocks(f"{tmp_path}/./{threading.get_ident()}/..", keep=False)
        (tmp_path / str(threading.get_ident())).mkdir(exist_ok=True)
        for _ in range(50):
            with locks.alone("x"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not list(tmp_path.glob("*.lock"))


def test_names_of_presences():
    assert ProcessLocks("a").presence is ProcessLocks("a").presence
    assert ProcessLocks("a").presence.name != ProcessLocks("b").presence.name


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_over_http_a_repo_can_be_read_and_nothing_else(url: str, history, tmp_path: Path):
    sealed, _ = history
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            with vzarr.open(f"{address}/repo") as repo:
                assert repo.objects.url == f"{address}/repo"
                assert np.array_equal(repo[sealed].read("a", (0, 0), (4, 4)), CHUNK)
                assert repo.objects.fetch(layout.REPO, 2, 8)[0] == (Path(url) / layout.REPO).read_bytes()[2:10]
            with pytest.raises(NotFoundError):
                vzarr.open(f"{address}/nothing")
            with pytest.raises(UnsupportedError, match="only be read"):
                vzarr.create(f"{address}/new", keys=f"sqlite:///{tmp_path}/k.sqlite")
            with pytest.raises(UnsupportedError, match="only be read"):
                open_objects(address).put("x", b"1")
        finally:
            server.shutdown()
            thread.join()
