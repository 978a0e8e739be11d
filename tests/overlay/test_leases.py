"""Writers and a committer without a common clock or fate: who stalls is refused, who writes is waited for."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest

import vzarr
from vzarr.errors import SealedError, VzarrError
from vzarr.overlay.keys import writers

CHUNK = np.ones((4, 4), "u2")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def shared(file_repo: vzarr.Repo) -> vzarr.Version:
    """An open child with an array of 16 chunks."""
    root = file_repo.root
    root.create_array("a", dtype="u2", chunks=(4, 4), shape=(16, 16), dimension_names=None)
    return root.commit().newversion()


def start(work: Callable[..., Any], *args: Any) -> tuple[Any, Connection]:
    here, there = FORK.Pipe()
    process = FORK.Process(target=work, args=(there, *args))
    process.start()
    there.close()
    return process, here


def attempt(pipe: Connection, write: Callable[[], object]) -> None:
    try:
        write()
        pipe.send("acknowledged")
    except VzarrError as error:
        pipe.send(type(error).__name__)


def write_slowly(pipe: Connection, url: str, node: str) -> None:
    """Begin a write, say so, and go on when asked."""
    writers.LEASE_SECONDS, writers.MARGIN_SECONDS, writers.RENEW_SECONDS = 1.0, 0.4, 0.1
    version = vzarr.open(url)[node]

    def write() -> None:
        with version.writing():
            version.write_chunks("a", {(0, 0): CHUNK})
            pipe.send("began")
            pipe.recv()
            version.write_chunks("a", {(1, 1): CHUNK * 2})

    attempt(pipe, write)


def test_a_process_that_stalls_past_its_lease_is_refused(shared: vzarr.Version, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writers, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(writers, "RENEW_SECONDS", 0.1)
    process, pipe = start(write_slowly, shared.url, shared.uuid)
    assert pipe.recv() == "began"
    os.kill(process.pid, signal.SIGSTOP)
    started = time.monotonic()
    shared.commit()
    assert 0.9 < time.monotonic() - started < 5
    before = dict(shared.repo.objects.walk(f"nodes/{shared.uuid}"))
    os.kill(process.pid, signal.SIGCONT)
    pipe.send("go on")
    assert pipe.recv() in ("SealedError", "StorageError")
    process.join()
    assert dict(shared.repo.objects.walk(f"nodes/{shared.uuid}")) == before
    assert not shared.read("a", (4, 4), (8, 8)).any()


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_wall_clock_that_jumps_changes_nothing(shared: vzarr.Version, jump: float, monkeypatch: pytest.MonkeyPatch):
    """A write under way is waited for, and one that stalls is not, whatever time it is said to be."""
    for name, seconds in (("LEASE_SECONDS", 0.8), ("MARGIN_SECONDS", 0.2), ("RENEW_SECONDS", 0.1)):
        monkeypatch.setattr(writers, name, seconds)
    other = vzarr.open(shared.url)
    wall = time.time
    done: list[float] = []

    def write() -> None:
        with other[shared.uuid].writing():
            began.set()
            time.sleep(1.6)  # twice as long as a lease lasts without renewal
            other[shared.uuid].write_chunks("a", {(2, 2): CHUNK})
            done.append(time.monotonic())

    began = threading.Event()
    thread = threading.Thread(target=write)
    thread.start()
    began.wait(10)
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    shared.commit()
    assert done
    thread.join()
    other.close()
    assert (shared.read("a", (8, 8), (12, 12)) == 1).all()
    child = shared.newversion()
    with vzarr.open(shared.url) as dead:
        writer = dead.authority.writer(child.uuid)
        write = writer.write()
        write.__enter__()
        writer._released.set()  # it stops renewing, as if it were stopped
        started = time.monotonic()
        child.commit()
        assert 0.6 < time.monotonic() - started < 5
        with pytest.raises(SealedError):
            write.__exit__(None, None, None)


def paint(pipe: Connection, version: bytes, worker: int) -> None:
    """Write chunks of one's own, and one that all write, through a store that was pickled."""
    at = pickle.loads(version)
    for n in range(8):
        at.write_chunks("a", {(worker, n): np.full((4, 4), 1 + worker * 10 + n, "u2")})
        at.write_chunks("a", {(9, 9): np.full((4, 4), 1000 + worker, "u2")})
    pipe.send("done")


@pytest.mark.parametrize("method", ["fork", pytest.param("forkserver", marks=pytest.mark.exhaustive)])
def test_processes_write_into_one_version(shared: vzarr.Version, method: str):
    shared.grow("a", (0, 0), (32, 32))
    shared.write_chunks("a", {(9, 9): CHUNK})  # the parent holds a lease, connections and locks while it forks
    processes = multiprocessing.get_context(method)
    pipes = [processes.Pipe() for _ in range(3)]
    workers = [processes.Process(target=paint, args=(p[1], pickle.dumps(shared), n)) for n, p in enumerate(pipes)]
    for worker in workers:
        worker.start()
    torn = 0
    while any(w.is_alive() for w in workers):
        torn += len(np.unique(shared.read("a", (36, 36), (40, 40)))) != 1
    for worker, (here, there) in zip(workers, pipes, strict=True):
        worker.join()
        assert (worker.exitcode, here.recv()) == (0, "done")
        here.close()
        there.close()
        worker.close()
    assert torn == 0
    shared.commit()
    for worker in range(3):
        for n in range(8):
            assert (shared.read("a", (4 * worker, 4 * n), (4 * worker + 4, 4 * n + 4)) == 1 + worker * 10 + n).all()
    assert shared.read("a", (36, 36), (37, 37)).item() in (1000, 1001, 1002)


@pytest.mark.exhaustive
def test_dask_processes_write_through_the_store(shared: vzarr.Version):
    array = pytest.importorskip("dask.array")
    shared.grow("a", (0, 0), (16, 16))
    values = np.arange(32 * 32, dtype="u2").reshape(32, 32)
    target = shared.zarr["a"]
    array.from_array(values, chunks=(8, 8)).store(target, lock=False, scheduler="processes", num_workers=2)
    assert np.array_equal(shared.commit().zarr["a"][:], values)


def test_two_handles_of_one_process(shared: vzarr.Version):
    with vzarr.open(shared.url) as other:
        again = other[shared.uuid]
        shared.write_chunks("a", {(0, 0): CHUNK})
        again.write_chunks("a", {(0, 1): CHUNK * 2, (0, 0): CHUNK * 3})
        assert np.array_equal(shared.read("a", (0, 0), (4, 8)), np.hstack([CHUNK * 3, CHUNK * 2]))
        again.zarr["a"].attrs["said"] = 1
        assert shared.zarr["a"].attrs["said"] == 1
        started = time.monotonic()
        shared.commit()
        assert time.monotonic() - started < writers.RENEW_SECONDS + 3
        with pytest.raises(SealedError):
            again.write_chunks("a", {(0, 0): CHUNK})
        assert np.array_equal(again.read("a", (0, 0), (4, 4)), CHUNK * 3)


def test_threads_write_different_chunks_without_waiting(shared: vzarr.Version, monkeypatch: pytest.MonkeyPatch):
    """Each of four holds its put until all four are inside."""
    meeting = threading.Barrier(4)
    objects = type(shared.repo.objects)
    put = objects.put

    def late(self: Any, key: str, data: bytes, **more: Any) -> None:
        if "/zarr/a" in key:
            meeting.wait(10)
        put(self, key, data, **more)

    monkeypatch.setattr(objects, "put", late)
    threads = [threading.Thread(target=shared.write_chunks, args=("a", {(n, 0): CHUNK * n})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.read("a", (0, 0), (16, 1)).reshape(4, 4)[:, 0].tolist() == [0, 1, 2, 3]


def test_a_lease_that_ends_while_its_holder_asks_for_its_name_is_not_trusted(
    shared: vzarr.Version, monkeypatch: pytest.MonkeyPatch
):
    """A database that does not answer may be what it waits for."""
    authority = shared.repo.authority
    writer, real = authority.writer(shared.uuid), type(authority.presence).name

    def slow(presence: object) -> str:
        writer._valid_until = 0.0
        return real.fget(presence)

    with pytest.raises(SealedError), writer.write():
        monkeypatch.setattr(type(authority.presence), "name", property(slow))
