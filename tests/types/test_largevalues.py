"""Values of several rows: whole, in pieces, replaced, cut off, in other versions; and what only looks like one."""

from __future__ import annotations

import tracemalloc
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vzarr
from vzarr.errors import ConflictError, SealedError, StorageError
from vzarr.overlay import layout
from vzarr.types import keyvalue, largevalues, registry
from vzarr.types.keyvalue import KeyValue, Wanted
from vzarr.types.largevalues import MARK

PART = 10


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(largevalues, "PART", PART)


@pytest.fixture
def kv(repo: vzarr.Repo) -> KeyValue:
    return registry.create(repo.root, "kv", "keyvalue")


def _open(version: vzarr.Version) -> KeyValue:
    return registry.open_instance(version, "kv")


def _rows(kv: KeyValue) -> int:
    """How many rows of parts and uploads there are."""
    return sum(1 for row in kv.keys.scan_keys() if row[:1] in (b"p", b"u"))


def test_values_of_every_size_are_found_again_whole_and_in_parts(kv: KeyValue):
    for size in (0, 1, 9, 10, 11, 19, 20, 21, 35):
        value = bytes(range(size))
        kv.put("a", value)
        found = kv.find("a")
        assert (found.whole(), found.size, found.large) == (value, size, size > PART)
        for first in range(size):
            for end in range(first, size + 1):
                assert b"".join(found.read(first, end)) == value[first:end]
    assert list(kv.items("a", "b")) == [("a", bytes(range(35)))]
    asked = list(kv.select([Wanted("a", 8, 12), Wanted("a"), Wanted("b")]))
    assert asked == [("a", bytes(range(8, 13))), ("a", bytes(range(35))), ("b", None)]
    assert kv.to_frame()["value"].to_dict() == {"a": bytes(range(35))}
    assert kv.to_frame("mutations")["details"].tolist()[-1] == {"Key": "a", "Bytes": 35}


def test_what_begins_with_the_mark_is_a_value_like_any_other(kv: KeyValue):
    for value in (MARK, MARK + b"{}", MARK + b'{"upload": "x", "size": 1, "part": 1}'):
        kv.put("a", value)
        assert kv.get("a") == value
        with kv.writer("b") as writer:
            writer.write(value)
        assert kv.get("b") == value


@given(st.lists(st.binary(max_size=25), max_size=6))
def test_it_does_not_matter_in_which_pieces_a_value_arrives(pieces: list[bytes]):
    # Hypothesis calls this often within one test, so the repo is made here.
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        kv = registry.create(repo.root, "kv", "keyvalue")
        with kv.writer("a", user="u") as writer:
            for piece in pieces:
                writer.write(piece)
        assert kv.get("a") == b"".join(pieces)


def test_replacing_and_deleting_leaves_no_parts_behind(kv: KeyValue):
    for value in (b"x" * 35, b"y" * 25, b"z"):
        kv.put("a", value)
        assert _rows(kv) == (0 if len(value) <= PART else -(-len(value) // PART))
    kv.put("a", b"x" * 35)
    kv.delete("a")
    assert (_rows(kv), kv.list_keys()) == (0, [])


def test_of_a_key_that_a_batch_names_twice_the_last_value_is_all_that_is_kept(kv: KeyValue):
    kv.put_many([("a", b"x" * 35), ("b", b"1"), ("a", b"y" * 25), ("b", b"2")])
    assert (kv.get("a"), kv.get("b"), _rows(kv)) == (b"y" * 25, b"2", 3)
    kv.put_many([("a", b"x" * 35), ("a", b"z")])
    assert (kv.get("a"), _rows(kv)) == (b"z", 0)


def test_older_versions_keep_their_values(repo, kv: KeyValue):
    kv.put("a", b"x" * 35)
    repo.root.commit()
    child = repo.root.newversion()
    _open(child).put("a", b"y" * 15)
    assert (_open(child).get("a"), kv.get("a")) == (b"y" * 15, b"x" * 35)
    _open(child).delete("a")
    assert (_open(child).list_keys(), kv.get("a")) == ([], b"x" * 35)


def test_both_sides_of_a_merge_keep_theirs_until_one_is_written(repo, kv: KeyValue):
    kv.put("a", b"x" * 35)
    repo.root.commit()
    left, right = repo.root.newversion(), repo.root.branch("right")
    _open(left).put("a", b"l" * 25)
    _open(right).put("a", b"r" * 35)
    for side in (left, right):
        side.commit()
    assert _open(repo.merge([left.uuid, right.uuid], strategy="theirs")).get("a") == b"r" * 35
    open_ = _open(repo.merge([left.uuid, right.uuid], keep_conflicts=True))
    with pytest.raises(ConflictError, match="kv: key 'a'"):
        open_.get("a")
    open_.put("a", b"n" * 12)
    assert open_.get("a") == b"n" * 12


def _write_and_fail(kv: KeyValue, writer: largevalues.ValueWriter) -> None:
    writer.write(b"x" * 35)
    assert _rows(kv) > 0
    writer.write("text")


def test_a_value_that_is_not_completed_is_never_seen(kv: KeyValue):
    kv.put("a", b"old")
    with pytest.raises(TypeError), kv.writer("a") as writer:
        _write_and_fail(kv, writer)
    assert (kv.get("a"), _rows(kv)) == (b"old", 0)
    with pytest.raises(Exception, match="key"):
        kv.put_many([("b", b"x" * 35), ("", b"")])
    assert (_rows(kv), kv.list_keys()) == (0, ["a"])


def test_a_commit_ends_what_is_being_written(repo, kv: KeyValue):
    writer = kv.writer("a")
    writer.write(b"x" * 35)
    # A writer that is gone leaves the same behind.
    repo.root.commit()
    assert _rows(kv) == 0
    for late in (lambda: writer.write(b"y" * 35), writer.close):
        with pytest.raises(SealedError):
            late()
    writer.abort()
    assert kv.list_keys() == []


def test_a_commit_that_failed_afterwards_leaves_a_clear_error(repo, kv: KeyValue):
    writer = kv.writer("a")
    writer.write(b"x" * 35)
    largevalues.settle(kv)
    with pytest.raises(ConflictError, match="write it again"):
        writer.close()
    assert kv.list_keys() == []


def test_a_value_that_is_complete_stays_though_its_writer_is_aborted_afterwards(kv: KeyValue):
    writer = kv.writer("a")
    writer.write(b"x" * 35)
    writer.close()
    writer.abort()
    assert kv.get("a") == b"x" * 35


def test_a_value_stays_whose_commit_is_reported_as_failed(kv: KeyValue, monkeypatch: pytest.MonkeyPatch):
    transact = KeyValue.transact

    def lost(handle: KeyValue, change) -> None:
        transact(handle, change)
        if handle.list_keys():
            raise StorageError("the connection was lost while the answer was on its way")

    monkeypatch.setattr(KeyValue, "transact", lost)
    with pytest.raises(StorageError, match="was lost"):
        kv.put("a", b"x" * 35)
    assert kv.get("a") == b"x" * 35


def test_a_value_stays_that_is_completed_while_a_commit_looks_for_what_is_not(
    kv: KeyValue, monkeypatch: pytest.MonkeyPatch
):
    writer = kv.writer("a")
    writer.write(b"x" * 35)
    transact = KeyValue.transact

    def first_complete(handle: KeyValue, change) -> object:
        monkeypatch.setattr(KeyValue, "transact", transact)
        writer.close()
        return transact(handle, change)

    monkeypatch.setattr(KeyValue, "transact", first_complete)
    largevalues.settle(kv)
    assert kv.get("a") == b"x" * 35


def test_an_unversioned_value_is_left_alone_by_commits_for_a_day(repo, monkeypatch: pytest.MonkeyPatch):
    flat = registry.create(repo.root, "flat", "keyvalue", versioned=False)
    with flat.writer("a") as writer:
        writer.write(b"x" * 35)
        repo.root.commit()
    child = registry.open_instance(repo.root.newversion(), "flat")
    assert child.get("a") == b"x" * 35
    child.put("a", b"y" * 15)
    assert _rows(child) == 2
    child.writer("b").write(b"z" * 35)
    largevalues.settle(child)
    assert _rows(child) > 2
    monkeypatch.setattr(largevalues, "_FORGOTTEN", -1.0)
    largevalues.settle(child)
    assert (_rows(child), child.get("a")) == (2, b"y" * 15)


def test_a_value_that_is_replaced_while_it_is_read_is_an_error(kv: KeyValue):
    kv.put("a", b"x" * 35)
    found = kv.find("a").read(0, 35)
    assert next(found) == b"x" * 10
    kv.put("a", b"y" * 35)
    with pytest.raises(StorageError, match="read it again"):
        next(found)


def test_get_reads_again_what_was_replaced_meanwhile(kv: KeyValue, monkeypatch: pytest.MonkeyPatch):
    kv.put("a", b"x" * 35)
    whole, times = largevalues.Stored.whole, iter(range(100))

    def late(found: largevalues.Stored) -> bytes:
        if next(times) < most:
            kv.put("a", b"y" * 35)
        return whole(found)

    monkeypatch.setattr(largevalues.Stored, "whole", late)
    most = 3
    assert kv.get("a") == b"y" * 35
    most = 100
    with pytest.raises(StorageError, match="read it again"):
        kv.get("a")


def test_folders_alone_give_large_values(tmp_path: Path):
    place = tmp_path / "repo"
    with vzarr.create(str(place)) as repo:
        registry.create(repo.root, "kv", "keyvalue").put("a", bytes(range(35)))
        repo.root.commit()
    (place / layout.database()).unlink()
    with vzarr.open(str(place)) as repo:
        assert _open(repo.root).get("a") == bytes(range(35))


def test_a_part_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(largevalues, "PART", 1 << 20)
    piece = bytes(1 << 16)
    with vzarr.create(str(tmp_path / "repo")) as repo:
        kv = registry.create(repo.root, "kv", "keyvalue")
        tracemalloc.start()
        try:
            with kv.writer("a") as writer:
                for _ in range(512):
                    writer.write(piece)
            assert sum(map(len, kv.find("a").read(0, 1 << 25))) == 1 << 25
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20


def test_ranges_are_checked(kv: KeyValue):
    kv.put("a", b"x" * 35)
    keyvalue.check_range(kv.find("a"), 0, 34)
    for first, last in ((0, 35), (5, 4), (-1, 3)):
        with pytest.raises(ValueError, match="do not lie inside of a value of 35 bytes"):
            keyvalue.check_range(kv.find("a"), first, last)
