"""Who opens one file shares its connections, by whatever path; who opens another, never."""

from __future__ import annotations

import gc
import sqlite3
import sys
import threading
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from vzarr.errors import AuthorityUnavailableError, StorageError
from vzarr.overlay.kv.sqlite import SqliteKV


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one row, which nobody has open."""
    with closing(SqliteKV(tmp_path / "keys.db")) as kv:
        kv.transact(lambda txn: txn.put(b"a", b"1"))
    return tmp_path / "keys.db"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files to which a connection is opened meanwhile."""
    found: list[str] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda url, **options: found.append(url) or connect(url, **options))
    return found


def test_a_store_that_is_open_elsewhere_needs_no_connection(path: Path, made: list[str]):
    with closing(SqliteKV(path)) as first:
        assert first.get(b"a") == b"1"
        assert len(made) == 1
        with closing(SqliteKV(path)) as second:
            assert second.get(b"a") == b"1"
            second.transact(lambda txn: txn.put(b"b", b"2"))
            first.transact(lambda txn: txn.put(b"c", b"3"))
            assert [k for k, _ in second.scan(b"")] == [b"a", b"b", b"c"]
        assert first.get(b"b") == b"2"
    assert len(made) == 2, "one that reads and one that writes"


def test_a_link_leads_to_the_same_file(path: Path, made: list[str], tmp_path: Path):
    (tmp_path / "link").symlink_to(path)
    with closing(SqliteKV(path)) as first, closing(SqliteKV(tmp_path / "link")) as second:
        assert (first.get(b"a"), second.get(b"a")) == (b"1", b"1")
    assert len(made) == 1


def test_the_last_to_close_leaves_nothing_open(path: Path):
    first, second = SqliteKV(path), SqliteKV(path)
    for kv in (first, second):
        kv.transact(lambda txn: txn.put(b"b", b"2"))
        kv.get(b"a")
    first.close()
    with pytest.raises(StorageError, match="closed"):
        first.get(b"a")
    assert Path(f"{path}-wal").exists()
    assert second.get(b"b") == b"2"
    second.close()
    assert (second._shared.idle, second._shared.writer) == ([], None)
    assert [p.name for p in path.parent.iterdir()] == ["keys.db"]


def test_a_read_under_way_when_the_last_closes_goes_on_to_its_end(path: Path):
    kv, inside, closed = SqliteKV(path), threading.Event(), threading.Event()

    def end() -> None:
        inside.wait()
        kv.close()
        closed.set()

    thread = threading.Thread(target=end)
    thread.start()
    with kv.snapshot() as view:
        inside.set()
        closed.wait()
        assert view.get(b"a") == b"1"
    thread.join()
    assert kv._shared.idle == []
    assert not Path(f"{path}-wal").exists()


def test_a_file_that_was_moved_is_opened_where_it_is(path: Path, tmp_path: Path):
    old = SqliteKV(path)
    old.get(b"a")
    old.close()
    path.rename(tmp_path / "moved.db")
    with closing(SqliteKV(tmp_path / "moved.db", create=False)) as kv:
        assert kv.get(b"a") == b"1"
    assert old._shared is kv._shared, "or the test shows nothing"


def test_a_file_in_the_place_of_another_is_not_taken_for_it(path: Path, tmp_path: Path):
    with closing(SqliteKV(tmp_path / "other.db")) as other:
        other.transact(lambda txn: txn.put(b"a", b"2"))
    with closing(SqliteKV(path)) as old:
        path.rename(tmp_path / "aside.db")
        (tmp_path / "other.db").rename(path)
        with closing(SqliteKV(path)) as new:
            assert new.get(b"a") == b"2"
            with pytest.raises(AuthorityUnavailableError, match="replaced"):
                old.get(b"a")
            assert new.get(b"a") == b"2"


@pytest.mark.parametrize("durability", ["process", "fsync"])
def test_who_asks_for_more_durability_gets_it(path: Path, durability: str):
    other = "fsync" if durability == "process" else "process"
    with closing(SqliteKV(path, durability=other)) as first, closing(SqliteKV(path, durability=durability)) as kv:
        for store in (first, kv):
            store.transact(lambda txn: txn.put(b"b", b"2"))
        assert kv._shared.writer is not None
        assert kv._shared.writer.execute("PRAGMA synchronous").fetchone() == (1 + (durability == "fsync"),)


def test_a_store_may_be_dropped_without_being_closed(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Python 3.13 and later warn of a connection that ends open."""
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kv = SqliteKV(path)
        kv.get(b"a")
        kv.transact(lambda txn: txn.put(b"b", b"2"))
        kv.stamp()
        del kv
        gc.collect()
    assert not seen
