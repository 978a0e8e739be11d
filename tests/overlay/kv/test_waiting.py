"""What a transaction wrote, what it read, and what is stored look like one, whatever is sent and remembered when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vzarr.overlay.kv import waiting
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.overlay.kv.sqliteviews import View

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.binary(max_size=3)),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("get_many"), st.lists(keys, max_size=4)),
        st.tuples(st.just("scan"), keys, keys),
        st.tuples(st.just("scan_many"), st.lists(st.tuples(keys, keys), max_size=3)),
    ),
    max_size=25,
)


@pytest.fixture
def kv(tmp_path: Path) -> Iterator[SqliteKV]:
    store = SqliteKV(tmp_path / "keys.db")
    yield store
    store.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Statements that read."""
    found: list[str] = []
    query = View._query
    monkeypatch.setattr(View, "_query", lambda self, sql, *values: found.append(sql) or query(self, sql, *values))
    return found


@contextmanager
def crowded() -> Iterator[None]:
    """Little is remembered and little waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "MOST_KNOWN", 3)
        patch.setattr(waiting, "_SHORT", 2)
        patch.setattr(waiting, "_FEW", 2)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteKV]:
    store = SqliteKV(tmp_path_factory.mktemp("keys") / "keys.db")
    yield store
    store.close()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, st.binary(max_size=3)), operations)
def test_a_transaction_sees_its_own_writes_over_what_is_stored(store: SqliteKV, before, ops):
    model = dict(before)

    def begin(txn) -> None:
        for key, _ in list(txn.scan(b"")):
            txn.delete(key)
        for key, value in before.items():
            txn.put(key, value)

    def inside(low: bytes, high: bytes) -> list[tuple[bytes, bytes]]:
        return sorted((key, value) for key, value in model.items() if low <= key < high)

    def change(txn) -> None:
        for verb, *asked in ops:
            found = getattr(txn, verb)(*asked)
            match verb:
                case "put":
                    model[asked[0]] = asked[1]
                case "delete":
                    model.pop(asked[0], None)
                case "get":
                    assert found == model.get(asked[0])
                case "get_many":
                    assert found == [model.get(key) for key in asked[0]]
                case "scan":
                    assert list(found) == inside(*asked)
                case "scan_many":
                    assert found == [inside(*bounds) for bounds in asked[0]]

    store.transact(begin)
    with crowded():
        store.transact(change)
    assert dict(store.scan(b"")) == model


def test_a_transaction_reads_no_row_twice(kv: SqliteKV, said: list[str]):
    kv.transact(lambda txn: [txn.put(b"%d" % n, b"old") for n in range(3)])

    def change(txn) -> None:
        del said[:]
        assert txn.get_many([b"0", b"1", b"7"]) == [b"old", b"old", None]
        assert txn.scan_many([(b"2", b"3"), (b"4", b"5")]) == [[(b"2", b"old")], []]
        assert len(said) == 2
        assert (txn.get(b"0"), txn.get(b"7"), txn.get_many([b"1", b"2"])) == (b"old", None, [b"old", b"old"])
        assert len(said) == 2
        assert txn.get_many([b"1", b"4"]) == [b"old", None]
        assert len(said) == 3

    kv.transact(change)


def test_what_was_read_is_forgotten_when_writes_are_sent(kv: SqliteKV):
    kv.transact(lambda txn: txn.put(b"a", b"old"))

    def change(txn) -> None:
        assert (txn.get(b"a"), txn.get(b"b")) == (b"old", None)
        txn.put(b"a", b"new")
        txn.put(b"b", b"new")
        assert [value for _, value in txn.scan(b"a", b"c")] == [b"new", b"new"]  # which sends them
        assert (txn.get(b"a"), txn.get(b"b")) == (b"new", b"new")

    kv.transact(change)
