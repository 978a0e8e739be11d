"""LMDB's own duties: one folder for all handles and processes, forks, and limits that are told."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from vzarr.errors import AuthorityUnavailableError, StorageError
from vzarr.overlay.kv.lmdb import LmdbKV

COUNT = """
import os, sys
from vzarr.overlay.kv.lmdb import LmdbKV
kv = LmdbKV(sys.argv[1])
def add(txn):
    txn.put(b"n", b"%d" % (int(txn.get(b"n") or b"0") + 1))
for _ in range(100):
    kv.transact(add)
child = os.fork()
for _ in range(100):
    kv.transact(add)
if not child:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
kv.close()
"""


def test_processes_and_forks_lose_no_update(tmp_path: Path):
    LmdbKV(tmp_path / "keys").close()
    command = [sys.executable, "-W", "error", "-c", COUNT, str(tmp_path / "keys")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    kv = LmdbKV(tmp_path / "keys", create=False)
    assert kv.get(b"n") == b"600"
    kv.close()


def test_what_led_to_a_long_key_goes_with_it(tmp_path: Path):
    kv = LmdbKV(tmp_path / "keys")
    for write in (lambda txn: txn.put(b"x" * 10_000, b"1"), lambda txn: txn.put(b"x" * 9_000, b"1")):
        kv.transact(write)
    for size in (10_000, 9_000):
        kv.transact(lambda txn, size=size: txn.delete(b"x" * size))
    kv.close()
    env = lmdb.open(str(tmp_path / "keys"))
    assert env.stat()["entries"] == 0
    env.close()


FORK = """
import os, sys
from vzarr.overlay.kv.lmdb import LmdbKV
strict, lax = LmdbKV(sys.argv[1], durability="fsync"), LmdbKV(sys.argv[1])
child = os.fork()
for kv in (lax, strict):
    kv.transact(lambda txn: txn.put(b"a", b"1"))
    assert kv._env.flags()["sync"]
if not child:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_who_asks_for_less_durability_gets_that_of_who_opened_first(tmp_path: Path):
    with closing(LmdbKV(tmp_path / "keys", durability="fsync")), closing(LmdbKV(tmp_path / "keys")) as kv:
        assert kv._env.flags()["sync"]
    subprocess.run([sys.executable, "-W", "error", "-c", FORK, str(tmp_path / "keys")], check=True, timeout=60)


def test_who_asks_for_more_durability_than_there_is_is_refused(tmp_path: Path):
    with closing(LmdbKV(tmp_path / "keys")) as kv:
        with pytest.raises(AuthorityUnavailableError, match="without; close that first"):
            LmdbKV(tmp_path / "keys", durability="fsync")
        kv.transact(lambda txn: txn.put(b"a", b"1"))
    with closing(LmdbKV(tmp_path / "keys", durability="fsync")) as kv:
        assert (kv.get(b"a"), kv._env.flags()["sync"]) == (b"1", True)


def test_a_store_that_is_not_there(tmp_path: Path):
    with pytest.raises(AuthorityUnavailableError, match="there is none"):
        LmdbKV(tmp_path / "keys", create=False)
    (tmp_path / "keys").write_text("no folder")
    with pytest.raises(AuthorityUnavailableError):
        LmdbKV(tmp_path / "keys")


def test_a_handle_outlives_another(tmp_path: Path):
    one, two = LmdbKV(tmp_path / "keys"), LmdbKV(tmp_path / "keys")
    one.close()
    one.close()
    two.transact(lambda txn: txn.put(b"a", b"1"))
    assert two.get(b"a") == b"1"
    with pytest.raises(StorageError, match="closed"):
        one.get(b"a")
    two.close()


READ = """
import sys, time
from vzarr.overlay.kv.lmdb import LmdbKV
with LmdbKV(sys.argv[1]).snapshot() as view:
    print(view.get(b"a"), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("again", [True, False])
def test_what_a_killed_reader_saw_is_not_kept_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool):
    """Else the file grows by all that is written from then on, as long as any process has it open."""
    monkeypatch.setattr("vzarr.overlay.kv.lmdb.LOOK_SECONDS", 60.0 if again else 0.0)
    path = tmp_path / "keys"
    kv = LmdbKV(path)
    kv.transact(lambda txn: txn.put(b"a", bytes(1 << 16)))
    reader = subprocess.Popen([sys.executable, "-c", READ, str(path)], stdout=subprocess.PIPE)
    reader.stdout.readline()
    reader.kill()
    reader.communicate()
    if again:
        command = [sys.executable, "-c", "import sys; from vzarr.overlay.kv.lmdb import LmdbKV; LmdbKV(sys.argv[1])"]
        subprocess.run([*command, str(path)], check=True)
    for n in range(32):
        kv.transact(lambda txn, n=n: txn.put(b"a", bytes([n]) * (1 << 16)))
    kv.close()
    assert (path / "data.mdb").stat().st_size < 1 << 20
