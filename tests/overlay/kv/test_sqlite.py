"""SQLite's own duties: several processes, fork, and failures that say what failed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import vzarr
from vzarr.errors import AuthorityUnavailableError, InvalidInputError, StorageError
from vzarr.overlay.kv import sqlitefile, sqliteviews, waiting
from vzarr.overlay.kv.sqlite import SqliteKV

COUNT = """
import sys
from vzarr.overlay.kv.sqlite import SqliteKV
kv = SqliteKV(sys.argv[1])
for _ in range(200):
    kv.transact(lambda txn: txn.put(b"n", b"%d" % (int(txn.get(b"n") or b"0") + 1)))
kv.close()
"""

FORK = """
import os, sys
from vzarr.errors import StorageError
from vzarr.overlay.kv.sqlite import SqliteKV

def add(txn):
    txn.put(b"n", b"%d" % (int(txn.get(b"n") or b"0") + 1))

def in_child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            print(error)
            os._exit(1)
        os._exit(0)
    return pid

def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

kv = SqliteKV(sys.argv[1])
"""


def script(text, path):
    return subprocess.Popen([sys.executable, "-W", "error", "-c", text, path], stderr=subprocess.PIPE, text=True)


def finish(process):
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "keys.db")


def test_processes_lose_no_update(path):
    """Four processes create the store in a race and count in it."""
    processes = [script(COUNT, path) for _ in range(4)]
    for process in processes:
        finish(process)
    kv = SqliteKV(path, create=False)
    assert kv.get(b"n") == b"800"
    kv.close()


def test_opening_a_store_takes_no_lock_from_this_process(path):
    """Who opens and closes the file loses SQLite's locks on it: others then take the journal away."""
    with closing(SqliteKV(path)) as holder:
        holder.transact(lambda txn: txn.put(b"a", b"1"))
        SqliteKV(path, create=False).close()
        other = f"import sqlite3; c = sqlite3.connect({path!r}); c.execute('SELECT * FROM kv'); c.close()"
        subprocess.run([sys.executable, "-c", other], check=True)
        assert Path(f"{path}-wal").exists()
        holder.transact(lambda txn: txn.put(b"b", b"1"))
    with closing(SqliteKV(path, create=False)) as again:
        assert [k for k, _ in again.scan(b"")] == [b"a", b"b"]


def test_a_stamp_tells_what_other_processes_committed(path):
    with closing(SqliteKV(path)) as kv:
        stamps = [kv.stamp()]
        for _ in range(2):
            finish(script(COUNT.replace("200", "1"), path))
            stamps += [kv.stamp(), kv.stamp()]
        assert stamps[1] == stamps[2] != stamps[3] == stamps[4]
        assert len(set(stamps)) == 3


def test_after_a_fork_each_side_has_stamps_of_its_own(path):
    code = """
kv.transact(add)
before = kv.stamp()
def work():
    mine = kv.stamp()
    assert mine == kv.stamp()
    kv.transact(add)
    assert mine != kv.stamp()
assert status(in_child(work)) == 0
assert kv.stamp() != before
"""
    finish(script(FORK + code, path))


def test_racing_creation_leaves_no_drafts(path, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(SqliteKV, [path] * 8))
    for store in stores:
        store.close()
    assert [p.name for p in tmp_path.iterdir()] == ["keys.db"]


def test_fork_gives_each_side_its_own_connections(path):
    """A child goes on writing after its parent closed the store, and nothing of either is lost."""
    code = """
kv.transact(add)
ready, go = os.pipe()
def work():
    assert kv.get(b"n") == b"1"
    kv.transact(add)
    os.read(ready, 1)
    for _ in range(50):
        kv.transact(add)
pid = in_child(work)
while kv.get(b"n") != b"2":
    pass
kv.transact(add)
kv.close()
os.write(go, b"x")
assert status(pid) == 0
kv = SqliteKV(sys.argv[1])
assert kv.get(b"n") == b"53", kv.get(b"n")
"""
    finish(script(FORK + code, path))


@pytest.mark.parametrize("how", ["snapshot", "transaction", "thread"])
def test_fork_within_a_view_is_refused_in_the_child(path, how):
    code = """
def work():
    for use in (lambda: kv.get(b"n"), lambda: kv.transact(add), lambda: SqliteKV(sys.argv[1])):
        try:
            use()
        except StorageError as error:
            assert "forked" in str(error)
        else:
            raise AssertionError("the child used its parent's locks")
    kv.close()
"""
    snapshot = "with kv.snapshot() as view:\n    assert status(in_child(work)) == 0\n"
    transaction = "kv.transact(lambda txn: (add(txn), status(in_child(work)) == 0 or sys.exit(1)))\n"
    thread = """
import threading, warnings, vzarr.overlay.kv.sqliteconnections
warnings.simplefilter("ignore")
vzarr.overlay.kv.sqliteconnections.FORK_SECONDS = 0.01
inside, forked = threading.Event(), threading.Event()
writer = threading.Thread(target=kv.transact, args=(lambda txn: (add(txn), inside.set(), forked.wait()),))
writer.start()
inside.wait()
assert status(in_child(work)) == 0
forked.set()
writer.join()
"""
    end = "kv.transact(add)\nassert int(kv.get(b'n')) == %d\n"
    inside = {
        "snapshot": snapshot + end % 1,
        "transaction": transaction + end % 2,
        "thread": thread + end % 2,
    }
    finish(script(FORK + code + inside[how], path))


def test_killed_within_a_transaction(path):
    code = """
import signal
kv.transact(add)
kv.transact(lambda txn: (add(txn), txn.put(b"half", b""), os.kill(os.getpid(), signal.SIGKILL)))
"""
    process = script(FORK + code, path)
    process.communicate(timeout=60)
    assert process.returncode == -9
    kv = SqliteKV(path)
    assert (kv.get(b"n"), kv.get(b"half")) == (b"1", None)
    kv.close()


def test_not_there(path, tmp_path):
    with pytest.raises(AuthorityUnavailableError, match=r"keys\.db"):
        SqliteKV(path, create=False)
    with pytest.raises(AuthorityUnavailableError, match=r"no/such/keys\.db"):
        SqliteKV(tmp_path / "no" / "such" / "keys.db")


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_no_key_store(path, content):
    Path(path).write_bytes(content)
    with pytest.raises(AuthorityUnavailableError, match=r"keys\.db"):
        SqliteKV(path)


def test_what_only_looked_like_a_key_store_is_noticed_when_it_is_used(path):
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE other (x)")
    raw.close()
    kv = SqliteKV(path)
    with pytest.raises(AuthorityUnavailableError, match=r"keys\.db"):
        kv.get(b"k")
    kv.close()


def test_failure_is_not_absence(path):
    kv = SqliteKV(path)
    assert kv.get(b"k") is None
    raw = sqlite3.connect(path)
    raw.execute("DROP TABLE kv")
    raw.close()
    with pytest.raises(StorageError, match=r"keys\.db"):
        kv.get(b"k")
    with pytest.raises(StorageError, match=r"keys\.db"):
        list(kv.scan(b""))
    with pytest.raises(AuthorityUnavailableError, match=r"keys\.db"):
        kv.transact(lambda txn: txn.put(b"k", b"v"))
    kv.close()


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("fsync", 2)])
def test_durability(path, durability, synchronous):
    kv = SqliteKV(path, durability=durability)
    kv.transact(lambda txn: txn.put(b"k", b"v"))
    assert kv._shared.writer is not None
    assert kv._shared.writer.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert kv._shared.writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    kv.close()


def test_unknown_durability(path):
    with pytest.raises(InvalidInputError, match="process, fsync"):
        SqliteKV(path, durability="hope")


def test_connections_are_reused(path):
    kv = SqliteKV(path)
    for _ in range(20):
        list(kv.scan(b""))
        with kv.snapshot() as view:
            view.get(b"k")
    assert len(kv._shared.idle) == 1
    kv.close()


def test_many_ranges_are_few_statements(path, monkeypatch):
    with closing(SqliteKV(path)) as store:
        store.transact(lambda txn: [txn.put(b"%04d" % n, b"") for n in range(1000)])
        said: list[str] = []
        query = sqliteviews.View._query
        monkeypatch.setattr(sqliteviews.View, "_query", lambda self, sql, *v: said.append(sql) or query(self, sql, *v))
        ranges = [(b"%04d" % n, b"%04d" % (n + 2)) for n in range(300)]
        for limit in (1, None):
            del said[:]
            assert [len(found) for found in store.scan_many(ranges, limit=limit)] == [limit or 2] * 300
            assert len(said) == 2


def test_a_transaction_sends_its_writes_together_and_sees_them(tmp_path: Path):
    kv, said = SqliteKV(tmp_path / "keys.db"), list[str]()
    kv.transact(lambda txn: [txn.put(b"%03d" % n, b"old") for n in range(100)])
    kv._shared.writer.set_trace_callback(said.append)

    def change(txn):
        txn.put(b"000", b"new")
        txn.delete(b"001")
        txn.put(b"zzz", b"x")
        txn.delete(b"zzz")
        assert [txn.get(k) for k in (b"000", b"001", b"002", b"zzz")] == [b"new", None, b"old", None]
        assert txn.get_many([b"001", b"002", b"000", b"zzz"]) == [None, b"old", b"new", None]
        assert list(txn.scan(b"050", b"052")) == [(b"050", b"old"), (b"051", b"old")]
        assert not [sql for sql in said if sql.startswith(("INSERT", "DELETE"))]  # nobody looked there
        assert list(txn.scan(b"0", b"003")) == [(b"000", b"new"), (b"002", b"old")]
        for n in range(100):
            txn.put(b"%03d" % n, b"twice")
        assert txn.scan_many([(b"001", b"002"), (b"zz", b"zzz1")], limit=1) == [[(b"001", b"twice")], []]
        txn.put(b"001", b"thrice")
        assert txn.scan_many([(b"001", b"003"), (b"z", b"zz"), (b"001", b"002")]) == [
            [(b"001", b"thrice"), (b"002", b"twice")], [], [(b"001", b"thrice")],
        ]  # fmt: skip
        txn.put(b"001", b"twice")
        txn.delete(b"099")

    kv.transact(change)
    assert kv.get(b"099") is None
    assert [v for _, v in kv.scan(b"0", b"1")] == [b"twice"] * 99
    kv.close()


def test_a_large_transaction_does_not_wait_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "MOST_WAITING", 1000)
    kv, held = SqliteKV(tmp_path / "keys.db"), list[int]()

    def change(txn):
        for n in range(500):
            txn.put(b"%d" % n, bytes(50))
            held.append(len(txn._waiting.rows))

    kv.transact(change)
    assert max(held) < 30
    assert len(list(kv.scan(b""))) == 500
    kv.close()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    device = tmp_path.stat().st_dev
    row = f"36 35 {os.major(device)}:{os.minor(device)} / / rw shared:1 - nfs4 server:/export rw\n"
    (tmp_path / "mounts").write_text(row)
    with monkeypatch.context() as patch:
        patch.setattr(sqlitefile, "MOUNTS", tmp_path / "mounts")
        with pytest.raises(AuthorityUnavailableError, match=r"network file system \(nfs4\).*postgresql://"):
            SqliteKV(tmp_path / "keys.db")
        with pytest.raises(AuthorityUnavailableError, match="nfs4"):
            vzarr.create(str(tmp_path / "repo"), keys=f"sqlite:///{tmp_path}/keys.db")
    assert not list(tmp_path.glob("keys.db*"))
    assert not (tmp_path / "repo").exists()
    SqliteKV(tmp_path / "keys.db").close()
