"""Writers of any process wait while somebody looks at an open version whole; neither side waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr.errors import ConflictError, InvalidInputError, SealedError, VzarrError
from vzarr.overlay import layout
from vzarr.overlay.keys import pause, writers
from vzarr.overlay.keys.pause import paused
from vzarr.overlay.views.moves import move

CHUNK = np.ones((4, 4), "u2")


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LEASE_SECONDS", 3.0), ("MARGIN_SECONDS", 0.5), ("RENEW_SECONDS", 0.2)):
        monkeypatch.setattr(writers, name, seconds)
    monkeypatch.setattr(pause, "LONGEST_SECONDS", 2.0)


@pytest.fixture
def painted(file_repo: vzarr.Repo) -> vzarr.Version:
    root = file_repo.root
    root.create_array("a", dtype="u2", chunks=(4, 4), shape=(400, 400), dimension_names=None)
    return root.commit().newversion()


def stored(version: vzarr.Version) -> dict[str, int]:
    return dict(version.repo.objects.walk(layout.zarr(version.uuid)))


def goes_on(written: list[int]) -> None:
    """Wait until every writer has written something more."""
    before, end = list(written), time.monotonic() + 30
    while not all(a > b for a, b in zip(written, before, strict=True)):
        assert time.monotonic() < end, "a writer does not go on"
        time.sleep(0.02)


def test_nothing_changes_in_a_pause_and_nothing_is_refused(painted: vzarr.Version):
    """Threads of this handle and of another one write chunk after chunk."""
    stop, refused, written = threading.Event(), [], [0] * 4

    def write(worker: int, at: vzarr.Version) -> None:
        while not stop.is_set():
            try:
                at.write_chunks("a", {(worker, written[worker] % 100): CHUNK})
                written[worker] += 1
            except VzarrError as error:
                refused.append(error)

    with vzarr.open(painted.url) as other:
        handles = [painted, painted, other[painted.uuid], other[painted.uuid]]
        threads = [threading.Thread(target=write, args=item) for item in enumerate(handles)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                goes_on(written)
                with paused(painted.repo.authority, [painted.uuid]):
                    before, counts = stored(painted), list(written)
                    assert not painted.repo.authority.leases(painted.uuid)
                    time.sleep(0.4)
                    assert stored(painted) == before
                    assert written == counts
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert not refused
    assert painted.repo.authority.kv.get(layout.row_pause(painted.uuid)) is None


def test_a_write_of_several_steps_is_whole_or_not_there(painted: vzarr.Version):
    info = painted.repo.record_instance(painted, "n", "keyvalue")
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            with painted.writing():
                painted.write_chunks("a", {(0, 0): np.full((4, 4), n % 60000, "u2")})
                time.sleep(0.01)
                painted.transact(info, lambda tx, n=n: tx.put(b"n", b"%d" % (n % 60000)))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            time.sleep(0.1)
            with paused(painted.repo.authority, [painted.uuid]), painted.repo.authority.kv.snapshot():
                assert painted.read("a", (0, 0), (1, 1)).item() == int(painted.keys(info).get(b"n") or 0)
    finally:
        stop.set()
        thread.join()


def test_a_commit_waits_for_the_end_of_a_pause(painted: vzarr.Version):
    done: list[float] = []
    thread = threading.Thread(target=lambda: done.append((painted.commit(), time.monotonic())[1]))
    with paused(painted.repo.authority, [painted.uuid]):
        thread.start()
        time.sleep(0.4)
        ended = time.monotonic()
        assert not done
    thread.join()
    assert done[0] > ended
    with pytest.raises(SealedError):
        painted.write_chunks("a", {(0, 0): CHUNK})


def test_a_long_write_is_not_waited_for(painted: vzarr.Version):
    with vzarr.open(painted.url) as other, other[painted.uuid].writing():
        started = time.monotonic()
        with pytest.raises(ConflictError, match="without a pause"), paused(painted.repo.authority, [painted.uuid]):
            pass
        assert time.monotonic() - started < 5
        other[painted.uuid].write_chunks("a", {(0, 0): CHUNK})
    with paused(painted.repo.authority, [painted.uuid]):
        pass
    with painted.writing(), pytest.raises(InvalidInputError, match="from within"):
        paused(painted.repo.authority, [painted.uuid]).__enter__()


def test_a_pause_does_not_wait_for_who_waits_for_a_rename(file_repo: vzarr.Repo):
    """The rename, already alone in the root, waits for nobody; the pause comes once both are done."""
    root = file_repo.root
    root.create_array("a", dtype="u2", chunks=(4, 4), shape=(4, 4), dimension_names=None)
    view, authority = root.view, file_repo.authority
    alone, asked = threading.Event(), threading.Event()

    def check() -> None:
        alone.set()
        assert asked.wait(5)
        time.sleep(0.3)

    with vzarr.open(file_repo.url) as other:
        grown = threading.Thread(target=other.root.view.grow, args=("a", ((0, 0), (8, 8))))
        moved = threading.Thread(target=move, args=(authority, file_repo.objects, root.uuid, "a", "b", check))
        moved.start()
        assert alone.wait(5)
        grown.start()
        time.sleep(0.3)
        threading.Timer(0.2, asked.set).start()
        with paused(authority, [root.uuid]):
            assert not authority.leases(root.uuid)
        moved.join()
        grown.join()
    assert [entry for entry in view.entries if entry] == ["b"]


def test_a_pause_that_lasts_too_long_is_none(painted: vzarr.Version):
    """A writer gives up waiting; whoever asked it to is told."""
    done: list[float] = []

    def write() -> None:
        painted.write_chunks("a", {(0, 0): CHUNK})
        done.append(time.monotonic())

    thread = threading.Thread(target=write)
    pausing = paused(painted.repo.authority, [painted.uuid])
    pausing.__enter__()
    thread.start()
    thread.join()
    assert done
    with pytest.raises(ConflictError, match="went on"):
        pausing.__exit__(None, None, None)


PAUSER = """
import sys, time, vzarr
from vzarr.overlay.keys.pause import paused
from vzarr.overlay.views.moves import move
repo = vzarr.open(sys.argv[1])
with paused(repo.authority, [sys.argv[2]]):
    print("paused", flush=True)
    time.sleep(60)
"""


def test_who_is_killed_in_a_pause_holds_nobody_up(painted: vzarr.Version):
    command = [sys.executable, "-c", PAUSER, painted.url, painted.uuid]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "paused\n"
        os.kill(process.pid, signal.SIGKILL)
    started = time.monotonic()
    painted.write_chunks("a", {(0, 0): CHUNK})
    assert time.monotonic() - started < 1
    assert painted.repo.authority.kv.get(layout.row_pause(painted.uuid)) is None
    with paused(painted.repo.authority, [painted.uuid]):
        pass


def test_whether_the_asker_lives_is_not_asked_within_a_transaction(
    painted: vzarr.Version, monkeypatch: pytest.MonkeyPatch
):
    """It may take seconds, for which others would wait."""
    authority = painted.repo.authority
    authority.kv.transact(lambda txn: txn.put(layout.row_pause(painted.uuid), b"somebody 00"))
    asked: list[str] = []

    def gone(_presence: object, names: Iterable[str]) -> set[str]:
        asked.extend(names)
        authority.kv.transact(lambda txn: txn.get(b""))  # transactions don't nest
        return set(asked)

    monkeypatch.setattr(type(authority.presence), "gone", gone)
    painted.write_chunks("a", {(0, 0): CHUNK})
    assert asked == ["somebody"]


def test_writers_of_another_process_wait_too(painted: vzarr.Version):
    writer = "import sys, vzarr\nv = vzarr.open(sys.argv[1])[sys.argv[2]]\nimport numpy as np\nn = 0\n" + (
        "print('began', flush=True)\nwhile n < 400:\n"
        "    v.write_chunks('a', {(n // 100, n % 100): np.full((4, 4), 1 + n, 'u2')})\n    n += 1\n"
    )
    command = [sys.executable, "-c", writer, painted.url, painted.uuid]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None:
            time.sleep(0.05)
            with paused(painted.repo.authority, [painted.uuid]):
                before = stored(painted)
                time.sleep(0.1)
                assert stored(painted) == before
    assert process.returncode == 0
    assert len(stored(painted)) == 400
