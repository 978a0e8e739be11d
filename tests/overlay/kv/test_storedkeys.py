"""Keys that others write while they are looked up: each call sees one moment of an open version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from vzarr.errors import FormatError
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv import storedkeys
from vzarr.overlay.kv.base import Item, Range, Reader
from vzarr.overlay.kv.memory import MemoryKV
from vzarr.overlay.kv.versioned import InstanceTxn, VersionedKV

INSTANCE = b"i" * 16
BIG, OTHER = bytes(1000), b"\1" * 2000
FIRST, SECOND = Position(1, 1), Position(1, 2)


class Meddled(MemoryKV):
    """A store in which something happens once, right after a look at it or after a snapshot was taken."""

    then: Callable[[], object] | None = None

    def _meddle(self) -> None:
        then, self.then = self.then, None
        if then is not None:
            then()

    def get(self, key: bytes) -> bytes | None:
        found = super().get(key)
        self._meddle()
        return found

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found = super().get_many(keys)
        self._meddle()
        return found

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        found = super().scan_many(ranges, limit=limit, reverse=reverse)
        self._meddle()
        return found

    def fetch(self, *args: Any) -> list[Item]:
        found = super().fetch(*args)
        self._meddle()
        return found

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        with super().snapshot() as view:
            self._meddle()
            yield view


class Keys:
    """Keys of one instance at an open version and its sealed parent."""

    def __init__(self) -> None:
        self.kv = Meddled()
        self.store = VersionedKV(self.kv, lambda a, b: a <= b)

    def write(self, change: Callable[[InstanceTxn], object], at: Position = SECOND) -> None:
        self.kv.transact(lambda txn: change(self.store.within(txn, INSTANCE, at)))

    def meanwhile(self, change: Callable[[InstanceTxn], object], *, fold: bool = False) -> None:
        def then() -> None:
            self.write(change)
            if fold:
                self.store.fold(INSTANCE, SECOND)

        self.kv.then = then

    @property
    def at(self) -> storedkeys.StoredKeys:
        return self.store.at(INSTANCE, SECOND)


@pytest.fixture
def keys() -> Keys:
    made = Keys()
    made.write(lambda tx: [tx.put(b"below%03d" % n, b"old") for n in range(storedkeys.TOGETHER)], FIRST)
    made.store.fold(INSTANCE, FIRST)
    made.write(lambda tx: (tx.put(b"big", BIG), tx.put(b"small", b"old")))
    return made


LOOKS: dict[str, Callable[[Keys], bytes | None]] = {
    "get": lambda keys: keys.at.get(b"big"),
    "get_many": lambda keys: keys.at.get_many([b"big"])[0],
    "get_with_version": lambda keys: (keys.at.get_with_version(b"big") or (2, None))[1],
    "scan": lambda keys: dict(keys.at.scan(b"big", b"bih")).get(b"big"),
    "scan_many": lambda keys: dict(keys.at.scan_many([(b"big", b"bih")])[0]).get(b"big"),
    "changes": lambda keys: dict(keys.store.changes(INSTANCE, 2)).get(b"big"),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    ("change", "fold", "new"),
    [
        (lambda tx: tx.delete(b"big"), False, None),
        (lambda tx: (tx.delete(b"big"), tx.put(b"big", b"new")), False, b"new"),
        (lambda tx: tx.put(b"big", b"new"), True, b"new"),
        (lambda tx: tx.put(b"big", OTHER), False, OTHER),
    ],
    ids=["deleted", "rewritten", "sealed", "grown"],
)
def test_a_large_value_that_is_written_meanwhile_is_the_old_or_the_new_one(
    keys: Keys, look: str, change: Callable[[InstanceTxn], object], fold: bool, new: bytes | None
):
    keys.meanwhile(change, fold=fold)
    assert LOOKS[look](keys) in (BIG, new)
    assert keys.kv.then is None
    assert LOOKS[look](keys) == new


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("more", [[], [b"below%03d" % n for n in range(storedkeys.TOGETHER)]])
def test_keys_that_are_looked_up_together_are_of_one_moment(keys: Keys, more: list[bytes], fold: bool):
    asked = [*more, b"big", b"small"]
    before = keys.at.get_many(asked)
    keys.meanwhile(lambda tx: [tx.put(key, OTHER if key == b"big" else b"new") for key in asked], fold=fold)
    first = keys.at.get_many(asked)
    after = keys.at.get_many(asked)
    assert after == [b"new"] * len(more) + [OTHER, b"new"]
    assert first in (before, after)


def test_ranges_that_are_looked_up_together_are_of_one_moment(keys: Keys):
    ranges = [(b"big", b"bih"), (b"small", b"smalm")]
    before = keys.at.scan_many(ranges)
    keys.meanwhile(lambda tx: (tx.put(b"big", OTHER), tx.put(b"small", b"new")))
    assert keys.at.scan_many(ranges) in (before, [[(b"big", OTHER)], [(b"small", b"new")]])


@pytest.mark.parametrize("look", LOOKS)
def test_a_value_that_is_gone_for_good_is_damage(keys: Keys, look: str):
    keys.kv.transact(lambda txn: [txn.delete(key) for key, _ in list(txn.scan(b"B", b"C"))])
    with pytest.raises(FormatError, match="'big'"):
        LOOKS[look](keys)


def test_few_small_keys_need_no_moment(keys: Keys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Meddled, "snapshot", lambda self: pytest.fail("a snapshot"))
    assert keys.at.get_many([b"small", b"below001", b"none"]) == [b"old", b"old", None]
    assert keys.at.get(b"big") == BIG
    assert list(keys.at.scan(b"big", b"bih")) == [(b"big", BIG)]
