"""Open nodes: states, leases, and writers that stall, die or come late."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import vzarr
from vzarr.errors import InvalidInputError, SealedError, StorageError, VzarrError
from vzarr.overlay import layout
from vzarr.overlay.keys import writers

CHUNK = np.ones((4, 4), "u2")


@pytest.fixture
def painted(version: vzarr.Version) -> vzarr.Version:
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.write("a", (0, 0), CHUNK)
    return version


def test_an_idle_lease_ends_by_itself(painted: vzarr.Version, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writers, "RENEW_SECONDS", 0.02)
    prefix = layout.row_lease(painted.uuid, "")
    kv = painted.repo.authority.kv
    painted.repo.authority.writer(painted.uuid).finish()
    assert not list(kv.scan(prefix, layout.after(prefix)))
    painted.write("a", (4, 4), CHUNK)
    assert len(list(kv.scan(prefix, layout.after(prefix)))) == 1
    deadline = time.monotonic() + 10
    while list(kv.scan(prefix, layout.after(prefix))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    painted.write("a", (8, 8), CHUNK)
    assert painted.bounds("a") == ((0, 0), (12, 12))


def test_a_commit_waits_for_a_write_under_way(painted: vzarr.Version):
    writer = painted.repo.authority.writer(painted.uuid)
    began, committed = threading.Event(), []

    def commit() -> None:
        began.wait()
        painted.commit()
        committed.append(time.monotonic())

    thread = threading.Thread(target=commit)
    thread.start()
    with writer.write() as stage:
        began.set()
        time.sleep(0.3)
        painted.repo.objects.put(f"{layout.zarr(painted.uuid)}/late", b"1", stage=stage)
        wrote = time.monotonic()
    thread.join(10)
    assert committed
    assert committed[0] > wrote


def test_a_write_after_the_close_is_refused_and_leaves_nothing(painted: vzarr.Version):
    painted.commit()
    before = dict(painted.repo.objects.walk())
    store = vzarr.VersionStore(painted)
    for write in (
        lambda: painted.write("a", (0, 0), CHUNK * 2),
        lambda: painted.create_array("b", dtype="u1", chunks=(4,), dimension_names=None),
        lambda: painted.delete_chunks("a", [(0, 0)]),
        lambda: painted.grow("a", (0, 0), (4, 4)),
        lambda: painted.rename("a", "b"),
        lambda: painted.set_note("late"),
        lambda: painted.add_log(["late"]),
        lambda: store.write("x", b"1"),
        lambda: store.delete_sync("a/c/0/0"),
        lambda: store.delete_below("a"),
        painted.commit,
    ):
        with pytest.raises(SealedError):
            write()
    assert dict(painted.repo.objects.walk()) == before


def test_a_stalled_writer_is_not_acknowledged_and_changes_nothing(
    file_repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch
):
    """It stages before the commit, is taken for dead, and renames after it."""
    monkeypatch.setattr(writers, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(writers, "MARGIN_SECONDS", 0.1)
    version = file_repo.root
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.write("a", (0, 0), CHUNK)
    stalled = vzarr.open(file_repo.url)
    outcome: list[object] = []
    go = threading.Event()

    def write() -> None:
        try:
            with stalled.authority.writer(version.uuid).write() as stage:
                staged = stalled.objects._stage(b"late", stage)
                outcome.append("staged")
                go.wait(20)
                assert staged
                stalled.objects.put(f"{layout.zarr(version.uuid)}/a/c/0/0", b"late", stage=stage)
            outcome.append("acknowledged")
        except VzarrError as e:
            outcome.append(e)

    thread = threading.Thread(target=write)
    thread.start()
    while not outcome:
        time.sleep(0.01)
    version.commit()
    go.set()
    thread.join(20)
    stalled.close()
    assert isinstance(outcome[-1], StorageError | SealedError)
    assert "acknowledged" not in outcome
    assert np.array_equal(version.read("a", (0, 0), (4, 4)), CHUNK)
    assert version.store.read("a/c/0/0")[0] != b"late"


def test_whoever_comes_next_finishes_an_interrupted_commit(painted: vzarr.Version):
    painted.repo.authority.begin_close(painted.uuid)
    with vzarr.open(painted.url) as repo:
        version = repo[painted.uuid]
        with pytest.raises(SealedError, match="commit it again"):
            version.write("a", (0, 0), CHUNK * 2)
        version.commit("again")
        assert version.sealed
        assert np.array_equal(version.read("a", (0, 0), (4, 4)), CHUNK)


def test_the_log_wins_over_the_keys(painted: vzarr.Version, monkeypatch: pytest.MonkeyPatch):
    """A committer dies between its log entry and its last word to the keys."""
    monkeypatch.setattr(painted.repo.authority, "finish_close", lambda _node, **_kw: None)
    painted.commit()
    with vzarr.open(painted.url) as repo:
        version = repo[painted.uuid]
        assert version.sealed
        with pytest.raises(SealedError):
            version.write("a", (0, 0), CHUNK * 2)
        child = version.newversion()
        child.write("a", (0, 0), CHUNK * 3)
        assert np.array_equal(version.read("a", (0, 0), (4, 4)), CHUNK)


def test_a_commit_from_within_a_write_is_refused(painted: vzarr.Version):
    with painted.repo.authority.writer(painted.uuid).write(), pytest.raises(InvalidInputError, match="within"):
        painted.commit()


def test_nothing_of_an_open_node_stays_in_the_keys(painted: vzarr.Version):
    painted.commit()
    prefix = layout.node_rows(painted.uuid)
    rows = [k for k, _ in painted.repo.authority.kv.scan(prefix, layout.after(prefix))]
    assert rows == [layout.row_state(painted.uuid)]


@pytest.mark.slow
def test_commits_lose_no_acknowledged_write(version: vzarr.Version):
    """Threads write while others commit: each write that returned is there, each that was refused is not."""
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.grow("a", (0, 0), (400, 400))
    for _ in range(5):
        kept: dict[tuple[int, int], int] = {}
        lost: dict[tuple[int, int], int] = {}
        before = {tuple(c) for c in version.chunk_coords("a").tolist()}

        def write(worker: int, at=version, kept=kept, lost=lost) -> None:
            for n in range(100):
                coord, value = (worker, n), 1 + (id(at) + n) % 60000
                try:
                    at.write_chunks("a", {coord: np.full((4, 4), value, "u2")})
                    kept[coord] = value
                except SealedError:
                    lost[coord] = value
                    return

        threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        version.commit()
        for thread in threads:
            thread.join()
        found = dict(version.read_chunks("a", list(kept)))
        assert {c: int(v[0, 0]) for c, v in found.items()} == kept
        assert {tuple(c) for c in version.chunk_coords("a").tolist()} == before | set(kept)
        version = version.newversion()


def test_the_state_of_a_version_is_read_again_only_after_a_commit(painted: vzarr.Version, tmp_path):
    kept, node = painted.repo.authority, painted.uuid
    reads: list[bytes] = []
    kv = kept.kv
    stamp = getattr(kv, "stamp", None)
    assert stamp is not None
    get = kv.get
    kv.get = lambda key: reads.append(key) or get(key)  # type: ignore[method-assign]
    first = kept.node_state(node)
    del reads[:]
    assert kept.node_state(node) == first
    assert not reads
    kv.transact(lambda txn: txn.put(b"anything", b""))
    assert kept.node_state(node) == first
    assert reads == [layout.row_state(node)]
    painted.grow("a", (0, 0), (4, 4))
    assert kept.node_state(node)[1] == first[1] + 1
