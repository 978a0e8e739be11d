"""What every backend promises."""

from __future__ import annotations

import threading
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.errors import InvalidInputError, StorageError
from vzarr.overlay.kv import open_kv
from vzarr.overlay.kv.base import stamp_of
from vzarr.overlay.kv.section import Section

ITEMS = {bytes([i]): bytes([i]) * i for i in range(1, 101)}


def put_all(kv, items):
    def fn(txn):
        for key, value in items.items():
            txn.put(key, value)

    kv.transact(fn)


@pytest.fixture
def full(kv):
    put_all(kv, ITEMS)
    return kv


def test_absent_and_empty_differ(kv):
    assert kv.get(b"k") is None
    put_all(kv, {b"k": b""})
    assert kv.get(b"k") == b""


def test_get_many_keeps_order_and_repeats(full):
    assert full.get_many([b"\2", b"none", b"\1", b"\2"]) == [b"\2\2", None, b"\1", b"\2\2"]


def test_many_ranges_are_what_one_at_a_time_gives(kv):
    keys = [bytes([1, n % 7, 255 - n % 251, n // 251]) for n in range(600)]
    put_all(kv, {key: key[::-1] for key in keys[::2]})
    part = Section(kv, b"\1")
    ranges = [(key[1:], key[1:] + b"\xff") for key in keys]
    # The second and the last begin where others do, and hold nothing.
    ranges += [(b"", b"\6"), (b"", b"\0"), (b"\3", None), (b"\xfe", None), (b"\3", b"\3\0")]

    def check(reader):
        for some in (ranges, ranges[-5:-3], ranges[:1], []):
            for limit in (1, 3, None):
                for reverse in (False, True):
                    one_by_one = [list(reader.scan(*each, limit=limit, reverse=reverse)) for each in some]
                    assert reader.scan_many(some, limit=limit, reverse=reverse) == one_by_one
        assert reader.get_many([key[1:] for key in keys]) == [reader.get(key[1:]) for key in keys]

    def change(txn):
        txn.delete(keys[0][1:])
        txn.put(b"\6", b"new")
        check(txn)

    check(part)
    with part.snapshot() as view:
        check(view)
    part.transact(change)


def test_transact_gives_result_and_overwrites(full):
    def fn(txn):
        txn.put(b"\1", b"new")
        txn.delete(b"\2")
        txn.delete(b"never there")
        return "done"

    assert full.transact(fn) == "done"
    assert full.get_many([b"\1", b"\2", b"\3"]) == [b"new", None, b"\3\3\3"]


def test_exception_undoes(full):
    def fn(txn):
        txn.put(b"\1", b"new")
        txn.delete(b"\2")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        full.transact(fn)
    assert dict(full.scan(b"")) == ITEMS


def test_transaction_sees_its_own_writes_only(full):
    def fn(txn):
        txn.put(b"\1", b"new")
        txn.delete(b"\2")
        txn.put(b"zz", b"z")
        assert txn.get_many([b"\1", b"\2", b"zz"]) == [b"new", None, b"z"]
        assert [k for k, _ in txn.scan(b"")] == [b"\1", *sorted(ITEMS)[2:], b"zz"]
        assert list(txn.scan(b"", limit=1, reverse=True)) == [(b"zz", b"z")]
        assert full.get_many([b"\1", b"\2", b"zz"]) == [b"\1", b"\2\2", None]
        assert len(list(full.scan(b""))) == len(ITEMS)

    full.transact(fn)


def test_transactions_do_not_nest(kv):
    with pytest.raises(InvalidInputError, match="nest"):
        kv.transact(lambda txn: kv.transact(lambda inner: None))
    put_all(kv, {b"k": b"v"})
    assert kv.get(b"k") == b"v"


def test_views_end(kv):
    put_all(kv, {b"k": b"v"})
    with kv.snapshot() as view:
        assert view.get(b"k") == b"v"
    txn = kv.transact(lambda txn: txn)
    with pytest.raises(InvalidInputError, match="ended"):
        view.get(b"k")
    with pytest.raises(InvalidInputError, match="ended"):
        txn.put(b"k", b"v")


def test_snapshots_stand_still(full):
    with full.snapshot() as before:
        put_all(full, {b"\1": b"new", b"zz": b"z"})
        with full.snapshot() as after:
            put_all(full, {b"\1": b"newer"})
            assert after.get(b"\1") == b"new"
        assert before.get(b"\1") == b"\1"
        assert dict(before.scan(b"")) == ITEMS
        assert before.get_many([b"\1", b"zz"]) == [b"\1", None]
    assert full.get(b"\1") == b"newer"


def test_reopen_and_close(kv, kv_url):
    put_all(kv, ITEMS)
    kv.close()
    with pytest.raises(StorageError, match="closed"):
        kv.get(b"k")
    with pytest.raises(StorageError, match="closed"):
        kv.transact(lambda txn: None)
    again = open_kv(kv_url)
    assert dict(again.scan(b"")) == ITEMS
    again.close()


def test_a_stamp_tells_whether_anybody_committed(kv, kv_url):
    stamps = [stamp_of(kv)]
    if stamps[0] is None:
        pytest.skip("this backend cannot tell")
    other = open_kv(kv_url)
    for commit in (lambda: put_all(kv, {b"a": b"1"}), lambda: put_all(other, {b"b": b"2"}), lambda: put_all(kv, {})):
        commit()
        stamps.append(stamp_of(kv))
        assert stamp_of(kv) == stamps[-1]
        kv.get(b"a")
        list(kv.scan(b""))
        with pytest.raises(ZeroDivisionError):
            kv.transact(lambda txn: txn.put(b"a", b"%d" % (1 // 0)))
        assert stamp_of(kv) == stamps[-1]
    assert len(set(stamps[:3])) == 3
    other.close()
    kv.close()
    with pytest.raises(StorageError, match="closed"):
        stamp_of(kv)


def test_handles_never_give_the_stamps_of_others(kv_url):
    stamps = []
    for _ in range(3):
        store = open_kv(kv_url)
        stamps.append(stamp_of(store))
        put_all(store, {b"a": b"1"})
        store.close()
    assert stamps[0] is None or len(set(stamps)) == 3


def test_handles_share(kv, kv_url):
    other = open_kv(kv_url)
    put_all(kv, {b"k": b"v"})
    assert other.get(b"k") == b"v"
    other.close()
    assert kv.get(b"k") == b"v"


def test_scan_while_writing(kv):
    """Pairs that stay are met once, in order, although the iteration spans pages and others come and go."""
    stay = {b"%06d" % i: b"stay" for i in range(0, 3000, 2)}
    put_all(kv, stay)
    met = []
    for i, (key, _) in enumerate(kv.scan(b"")):
        met.append(key)
        if i < 400:
            put_all(kv, {b"%06d" % (7 * i % 3000 | 1): b"passing"})
    assert met == sorted(set(met))
    assert set(stay) <= set(met)


def test_scan_in_transaction_while_writing(kv):
    put_all(kv, ITEMS)

    def fn(txn):
        for key, _ in txn.scan(b""):
            txn.delete(key)

    kv.transact(fn)
    assert list(kv.scan(b"")) == []


def test_abandoned_scan_holds_nothing(full):
    scan = full.scan(b"")
    assert len(list(islice(scan, 3))) == 3
    put_all(full, {b"zz": b"z"})
    assert full.get(b"zz") == b"z"


def test_threads_lose_no_update(kv):
    def count(n):
        for _ in range(n):
            kv.transact(lambda txn: txn.put(b"n", b"%d" % (int(txn.get(b"n") or b"0") + 1)))

    threads = [threading.Thread(target=count, args=(50,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kv.get(b"n") == b"400"


def test_threads_read_whole_transactions(kv):
    """Two keys that change together never differ in a snapshot or a get_many."""
    stop = threading.Event()
    torn = []

    def read():
        while not stop.is_set():
            a, b = kv.get_many([b"a", b"b"])
            with kv.snapshot() as view:
                pair = view.get(b"a"), view.get(b"b")
            if a != b or pair[0] != pair[1]:
                torn.append((a, b, pair))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(200):
        put_all(kv, {b"a": b"%d" % i, b"b": b"%d" % i})
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


tails = st.binary(max_size=3)
# Some stores cut keys after so many bytes; a few that begin alike must still be told apart, and be in order.
cuts = st.sampled_from([508, 509, 510, 511, 985, 986, 987, 2599, 2600, 2601, 5167, 5168, 5169, 10_000])
keys = tails | st.builds(lambda n, tail: b"x" * n + tail, cuts, tails)
writes = st.lists(st.tuples(keys, st.none() | st.binary(max_size=2)), max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(writes, max_size=3),
    writes,
    keys,
    st.none() | keys,
    st.none() | st.integers(0, 20),
    st.booleans(),
)
def test_model(kv, committed, open_writes, start, end, limit, reverse):
    """Scans of a store and of a transaction agree with a dict, in both directions."""
    model: dict[bytes, bytes] = {}

    def apply(txn, ops):
        for key, value in ops:
            if value is None:
                txn.delete(key)
                model.pop(key, None)
            else:
                txn.put(key, value)
                model[key] = value

    def check(reader):
        inside = sorted(k for k in model if start <= k and (end is None or k < end))
        wanted = inside[::-1] if reverse else inside
        found = list(reader.scan(start, end, limit=limit, reverse=reverse))
        assert found == [(k, model[k]) for k in wanted][:limit]

    kv.transact(lambda txn: [txn.delete(k) for k, _ in txn.scan(b"")])
    for ops in committed:
        kv.transact(lambda txn, ops=ops: apply(txn, ops))
    check(kv)
    kv.transact(lambda txn: (apply(txn, open_writes), check(txn)))
    check(kv)


def test_long_keys_leave_nothing_behind(kv):
    """Keys of 10 kB that begin alike, read and scanned in every way, and deleted one by one."""
    long = {b"x" * n + tail: b"%d" % n for n in (600, 2600, 9_999, 10_000) for tail in (b"", b"\0", b"y", b"\xff")}
    short = {b"w": b"1", b"x" * 100: b"2", b"x" * 509: b"3", b"y": b"4"}
    put_all(kv, {**short, **long})
    wanted = sorted({**short, **long}.items())
    names = [key for key, _ in wanted]

    def check(reader):
        assert list(reader.scan(b"")) == wanted
        assert list(reader.scan(b"", reverse=True)) == wanted[::-1]
        assert reader.get_many([*names, b"x" * 10_002]) == [*(value for _, value in wanted), None]
        ranges = [(name, names[-1]) for name in names]
        assert reader.scan_many(ranges, limit=2) == [wanted[n : min(n + 2, len(wanted) - 1)] for n in range(len(names))]

    check(kv)
    with kv.snapshot() as view:
        check(view)
    kv.transact(check)
    for n, name in enumerate(sorted(long)):
        kv.transact(lambda txn, name=name: txn.delete(name))
        assert [key for key, _ in kv.scan(b"")] == sorted({*short, *sorted(long)[n + 1 :]})
    assert dict(kv.scan(b"")) == short


def test_a_key_of_a_megabyte_is_one_among_others(kv):
    """Cut thousands of times by some: more than functions may call each other."""
    deep = b"x" * 1_000_000
    wanted = [(b"w", b"1"), (deep[:3000], b"2"), (deep, b"3"), (deep[:-1] + b"y", b"4"), (b"y", b"5")]
    put_all(kv, dict(wanted))
    assert list(kv.scan(b"")) == wanted
    assert list(kv.scan(b"", reverse=True)) == wanted[::-1]
    assert list(kv.scan(deep, deep + b"\0")) == wanted[2:3]
    assert list(kv.scan(deep[:-1], b"y")) == wanted[2:4]
    assert kv.get(deep) == b"3"
    kv.transact(lambda txn: txn.delete(deep))
    assert list(kv.scan(b"")) == wanted[:2] + wanted[3:]


@pytest.mark.parametrize(
    "url", ["memory://", "sqlite:///", "sqlite://keys.db", "lmdb:///", "postgresql://", "mysql://x/y", "keys.db"]
)
def test_bad_url(url):
    with pytest.raises(InvalidInputError):
        open_kv(url)


@pytest.mark.usefixtures("installed")
def test_a_repo_has_its_keys_in_a_store_from_outside(tmp_path):
    with vzarr.create(str(tmp_path / "repo"), keys=f"shelf:///{tmp_path}/keys") as repo:
        notes = repo.record_instance(repo.root, "notes", "keyvalue")
        repo.root.transact(notes, lambda tx: tx.put(b"a", b"1"))
        child = repo.root.commit().newversion()
        child.transact(notes, lambda tx: tx.put(b"b", b"2"))
    with vzarr.open(str(tmp_path / "repo")) as repo:
        assert dict(repo["master"].keys("notes").scan()) == {b"a": b"1", b"b": b"2"}
    with pytest.raises(InvalidInputError, match="SCHEME:///PATH"):
        vzarr.create(str(tmp_path / "other"), keys="shelf://host/keys")
    assert not (tmp_path / "other" / "vzarr.json").exists()
