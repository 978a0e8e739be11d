"""Rows of sealed versions: stores of earlier releases, folds that were cut off, and who has to wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import vzarr
from vzarr.overlay import layout
from vzarr.overlay.keys import upkeep
from vzarr.overlay.keys.repokeys import RepoKeys
from vzarr.overlay.kv import folding
from vzarr.overlay.kv.rows import APART, VALUE, stem_of

NAMES = [b"a", b"b\0c", b"", b"\xff"]
BIG = bytes(range(256)) * 10


class KilledError(Exception):
    """In place of `kill -9`."""


def history(repo: vzarr.Repo) -> None:
    """Four versions on a line, a branch and a merge; small and large values, deletions, and an open version."""
    info = repo.record_instance(repo.root, "notes", "keyvalue")
    repo.record_instance(repo.root, "loose", "keyvalue", versioned=False)
    repo.root.transact("loose", lambda tx: (tx.put(b"x", b"1"), tx.put(b"y", BIG)))
    version = repo.root
    for n in range(4):
        version.transact(info, lambda tx, n=n: [tx.put(key, b"%d" % n) for key in NAMES[n % 2 :]])
        version.transact(info, lambda tx, n=n: (tx.put(b"big", BIG + b"%d" % n), tx.put(b"%d" % n, b"own")))
        version = version.commit().newversion()
    version.transact(info, lambda tx: (tx.delete(b"a"), tx.put(b"big", b"small"), tx.put(b"open", BIG)))
    side = repo["master~3"].branch("side")
    side.transact(info, lambda tx: (tx.delete(b"b\0c"), tx.put(b"side", b"1")))
    repo.merge([side.commit(), repo["master~2"]])


def said(repo: vzarr.Repo) -> dict[str, Any]:
    """What every version says of its keys, and that of no version."""
    found: dict[str, Any] = {v.uuid: dict(v.keys("notes").scan()) for v in repo.versions()}
    changes = {v.uuid: list(repo.keys.changes(v.uuid, repo.root.instance_info("notes"))) for v in repo.versions()}
    return {**found, "changes": changes, "loose": dict(repo.root.keys("loose").scan())}


def rows(repo: vzarr.Repo) -> dict[bytes, bytes]:
    """All rows of keys."""
    return {key: value for key, value in repo.authority.kv.scan(b"") if key[:1] in b"VBHPIL"}


def age(repo: vzarr.Repo) -> None:
    """Give a store the rows of earlier releases: values beside an index of all writes."""
    state = repo.state
    lines = {info.version_id: info.line for info in state.nodes.values()} | {0: 0}

    def change(txn: Any) -> None:
        found = dict(txn.scan(b""))
        for key, row in found.items():
            if key[:1] in b"BHPL":
                txn.delete(key)
            if key[:1] == b"V":
                version = int.from_bytes(key[17:21], "big")
                value = found[b"B" + key[1:]] if row[:1] == APART else row[1:]
                flag = VALUE if row[:1] == APART else row[:1]
                txn.put(key, flag + value)
                stem = b"I" + stem_of(key[1:17], key[21:])[1:]
                txn.put(stem + lines[version].to_bytes(4, "big") + (0xFFFF_FFFF - version).to_bytes(4, "big"), flag)

    repo.authority.kv.transact(change)


@pytest.fixture
def old(repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch) -> tuple[vzarr.Repo, dict[str, Any], dict[bytes, bytes]]:
    """A repo as an earlier release left it, what it said before, and the rows that it had."""
    monkeypatch.setattr(folding, "BATCH", 2)
    monkeypatch.setattr(upkeep, "BATCH", 3)
    history(repo)
    repo.keys.arrive()
    before = said(repo), rows(repo)
    age(repo)
    assert {key[:1] for key in rows(repo)} == {b"V", b"I"}
    return repo, *before


def test_a_store_of_an_earlier_release_gets_the_rows_of_this_one(old: tuple[Any, ...]):
    repo, before, had = old
    with vzarr.open(repo.url) as again:
        assert said(again) == before
        again.keys.arrive()
        # A large value of an open version or of none stays in its own row until that is written anew or folded.
        differing = {key for key in {*had, *rows(again)} if had.get(key) != rows(again).get(key)}
        unfolded = {b"\0\0\0\0", *(v.info.version_id.to_bytes(4, "big") for v in again.versions() if not v.sealed)}
        assert {key[17:21] for key in differing} <= unfolded
        assert {key[:1] for key in differing} <= {b"V", b"B"}
        (tip,) = (v for v in again.versions() if not v.sealed and len(v.parents) == 1)
        again.keys.transact(tip.uuid, tip.instance_info("notes"), lambda tx: tx.put(b"a", b"after"))
        tip.commit()
        assert tip.newversion().keys("notes").get(b"open") == BIG


def test_who_renews_a_store_may_be_killed_at_any_point(old: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch):
    repo, before, _ = old
    kv, transact = repo.authority.kv, type(repo.authority.kv).transact
    killed = 0
    while True:
        left = killed

        def dying(self: Any, change: Callable[[Any], Any]) -> Any:
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1
            return transact(self, change)

        monkeypatch.setattr(type(kv), "transact", dying)
        with vzarr.open(repo.url) as again:
            try:
                again.keys.arrive()
            except KilledError:
                killed += 1
                continue
            break
    monkeypatch.setattr(type(kv), "transact", transact)
    assert killed > 3
    with vzarr.open(repo.url) as again:
        assert said(again) == before
    assert not list(kv.scan(b"I", b"J"))


def test_a_new_store_is_marked_and_nothing_else(repo: vzarr.Repo):
    repo.record_instance(repo.root, "notes", "keyvalue")
    assert list(repo.root.keys("notes").scan()) == []
    assert rows(repo) == {layout.PENDING: upkeep.ROWS}


@pytest.fixture
def unfolded(repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch) -> tuple[vzarr.Version, vzarr.Version]:
    """A version whose committer was killed before it folded anything, and one beside it."""
    repo.record_instance(repo.root, "notes", "keyvalue")
    repo.root.transact("notes", lambda tx: [tx.put(key, b"root") for key in NAMES])
    repo.root.commit()
    sealed, side = repo.root.newversion(), repo.root.branch("side")
    sealed.transact("notes", lambda tx: [tx.put(key, b"sealed") for key in NAMES[:2]])
    monkeypatch.setattr(repo.authority, "finish_close", lambda node, **_kw: (_ for _ in ()).throw(KilledError))
    with pytest.raises(KilledError):
        sealed.commit()
    monkeypatch.undo()
    return sealed, side


def test_the_next_one_folds_what_a_committer_did_not(unfolded: tuple[vzarr.Version, vzarr.Version]):
    sealed, _ = unfolded
    row = layout.row_pending(sealed.uuid)
    with vzarr.open(sealed.repo.url) as again:
        assert dict(again[sealed.uuid].keys("notes").scan()) == dict.fromkeys(NAMES, b"root") | dict.fromkeys(
            NAMES[:2], b"sealed"
        )
        assert again.authority.kv.get(row) == layout.UNFOLDED
        child = again[sealed.uuid].newversion()
        assert child.keys("notes").get(NAMES[0]) == b"sealed"
        assert again.authority.kv.get(row) is None
        assert again.authority.node_state(sealed.uuid)[0] == "sealed"
        assert again.root.keys("notes").get_many(NAMES) == [b"root"] * 4
        assert again.garbage(0) == []


@pytest.mark.parametrize("who_first", ["looks", "commits"])
def test_a_commit_may_leave_folding_for_later(repo: vzarr.Repo, who_first: str):
    repo.record_instance(repo.root, "notes", "keyvalue")
    repo.root.transact("notes", lambda tx: [tx.put(key, b"root") for key in NAMES])
    left: list[Callable[[], object]] = []
    repo.commit(repo.uuid, later=left.append)
    row = layout.row_pending(repo.uuid)
    assert repo.authority.kv.get(row) == layout.UNFOLDED
    assert repo.authority.node_state(repo.uuid)[0] == "sealed"
    child = repo.root.newversion()
    if who_first == "commits":
        left.pop()()
        assert repo.authority.kv.get(row) is None
    assert child.keys("notes").get_many(NAMES) == [b"root"] * 4
    assert repo.authority.kv.get(row) is None
    before = rows(repo)
    for late in left:
        late()
    assert rows(repo) == before
    repo.commit(child.uuid, later=left.append)
    assert len(left) == (who_first == "looks"), "nothing was left of a version that changed no keys"


def test_only_who_comes_after_a_version_waits_for_its_fold(unfolded: tuple[vzarr.Version, vzarr.Version]):
    sealed, side = unfolded
    got: list[bytes | None] = []

    def look(*versions: vzarr.Version) -> threading.Thread:
        def run() -> None:
            with vzarr.open(sealed.repo.url) as again:
                got.extend(again[v.uuid].keys("notes").get(NAMES[0]) for v in versions)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(1)
        return thread

    child = sealed.newversion()
    with sealed.repo.authority.locks.alone(layout.node(sealed.uuid)):
        assert not look(side, sealed, sealed.repo.root).is_alive()
        assert got == [b"root", b"sealed", b"root"]
        waiting = look(child)
        assert waiting.is_alive()
    waiting.join(10)
    assert got[3:] == [b"sealed"]


def test_what_is_left_is_asked_once_a_change_of_history(repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    info, asked = repo.record_instance(repo.root, "notes", "keyvalue"), list[int]()
    pending = upkeep._pending_rows
    monkeypatch.setattr(upkeep, "_pending_rows", lambda kv: asked.append(1) or pending(kv))
    repo.root.transact(info, lambda tx: tx.put(b"a", b"1"))
    del asked[:]
    for _ in range(5):
        repo.root.transact(info, lambda tx: tx.put(b"a", b"1"))
        assert repo.root.keys(info).get(b"a") == b"1"
    assert not asked
    child = repo.root.commit().newversion()
    for _ in range(5):
        child.transact(info, lambda tx: tx.put(b"a", b"2"))
        assert child.keys(info).get(b"a") == b"2"
    assert len(asked) <= 2


def test_a_sealed_version_is_read_by_heads_alone(repo: vzarr.Repo):
    info = repo.record_instance(repo.root, "notes", "keyvalue")
    repo.root.transact(info, lambda tx: tx.put(b"a", b"1"))
    repo.root.commit()
    assert repo.root.keys(info)._own == b""
    assert repo.root.newversion().keys(info)._own != b""
    assert isinstance(repo.keys, RepoKeys)


def test_what_arrived_is_taken_in_whichever_version_is_looked_at(repo: vzarr.Repo):
    info = repo.record_instance(repo.root, "notes", "keyvalue")
    repo.root.commit()
    side = repo.root.branch("side")
    side.transact(info, lambda tx: tx.put(b"a", b"side"))
    side.commit()
    child = repo.root.newversion()
    assert child.keys(info).get(b"a") is None
    # As a push leaves it, whose sender did not come to the end.
    upkeep.mark_pending(repo.authority, [side.uuid])
    repo.authority.kv.transact(lambda txn: [txn.delete(key) for key in rows(repo) if key[:1] in b"VHP"])
    repo.root.branch("other")
    assert child.keys(info).get(b"a") is None
    assert not [row for row in rows(repo) if row[:1] == b"L" and row != layout.PENDING]
    assert side.keys(info).get(b"a") == b"side"
