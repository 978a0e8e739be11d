"""A key store as somebody else would write one for vzarr, in one short file; found by an entry point (`conftest`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from threading import RLock
from typing import TypeVar

from vzarr.errors import InvalidInputError, StorageError
from vzarr.overlay.kv.base import ByViews, Item, Paging

T = TypeVar("T")


class Shelf:
    """What all handles of a path share; `rows` is never changed, but replaced."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.writing = RLock()
        self.within = False


SHELVES: defaultdict[str, Shelf] = defaultdict(Shelf)


class View(Paging):
    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self.rows: dict[bytes, bytes] | None = rows

    def look(self) -> dict[bytes, bytes]:
        if self.rows is None:
            raise InvalidInputError("this snapshot or transaction has ended")
        return self.rows

    def get(self, key: bytes) -> bytes | None:
        return self.look().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.look().get(key) for key in keys]

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        rows = self.look()
        inside = sorted((k for k in rows if start <= k and (end is None or k < end)), reverse=reverse)
        return [(key, rows[key]) for key in islice(inside, count)]


class Txn(View):
    def put(self, key: bytes, value: bytes) -> None:
        self.look()[key] = bytes(value)

    def delete(self, key: bytes) -> None:
        self.look().pop(key, None)


class ShelfKV(ByViews):
    def __init__(self, url: str) -> None:
        self.shelf = SHELVES[url]
        self.closed = False

    @contextmanager
    def reading(self) -> Iterator[View]:
        if self.closed:
            raise StorageError("the shelf is closed")
        view = View(self.shelf.rows)
        try:
            yield view
        finally:
            view.rows = None

    snapshot = reading

    def transact(self, fn: Callable[[Txn], T]) -> T:
        with self.shelf.writing, self.reading() as before:
            if self.shelf.within:
                raise InvalidInputError("transactions don't nest")
            self.shelf.within, txn = True, Txn(dict(before.look()))
            try:
                result = fn(txn)
                self.shelf.rows = txn.look()
                return result
            finally:
                txn.rows, self.shelf.within = None, False

    def close(self) -> None:
        self.closed = True


def open_shelf(url: str, *, create: bool, durability: str) -> ShelfKV:
    """What the entry point names."""
    return ShelfKV(url)
