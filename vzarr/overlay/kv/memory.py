"""An ordered key/value store in memory: for ``memory://`` repos and for trying things out.

Stores of one name are one store within a process.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from operator import itemgetter
from threading import Lock, RLock
from typing import TypeVar

from vzarr.errors import InvalidInputError, StorageError
from vzarr.overlay.kv.base import Item, Paging, Reader, Transaction, paged

T = TypeVar("T")
_numbers = count(1)


class _Table:
    """A sorted mapping; ``None`` values stand for keys that a transaction deleted."""

    def __init__(self, values: dict[bytes, bytes | None] | None = None, order: list[bytes] | None = None) -> None:
        self.values: dict[bytes, bytes | None] = values or {}
        self.order: list[bytes] = order or []

    def copy(self) -> _Table:
        return _Table(self.values.copy(), self.order.copy())

    def put(self, key: bytes, value: bytes | None) -> None:
        if key not in self.values:
            insort(self.order, key)
        self.values[key] = value

    def remove(self, key: bytes) -> None:
        if key in self.values:
            del self.values[key], self.order[bisect_left(self.order, key)]

    def keys(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[bytes]:
        low = bisect_left(self.order, start)
        high = len(self.order) if end is None else bisect_left(self.order, end)
        count = len(self.order) if count is None else count
        if reverse:
            return self.order[max(low, high - count) : high][::-1]
        return self.order[low : min(high, low + count)]


class _View(Paging):
    """Read verbs over a table; whoever makes one sees to it that the table holds still meanwhile."""

    def __init__(self, table: _Table) -> None:
        self._table: _Table | None = table

    def _rows(self) -> _Table:
        if self._table is None:
            raise InvalidInputError("this snapshot or transaction has ended")
        return self._table

    def get(self, key: bytes) -> bytes | None:
        return self._rows().values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        table = self._rows()
        found = ((key, table.values[key]) for key in table.keys(start, end, count, reverse))
        return [(key, value) for key, value in found if value is not None]

    def end(self) -> None:
        self._table = None


class _Txn(_View):
    """A view plus its own writes, which wait in a second table until the commit."""

    def __init__(self, table: _Table) -> None:
        super().__init__(table)
        self.writes = _Table()

    def get(self, key: bytes) -> bytes | None:
        below = super().get(key)
        return self.writes.values.get(key, below)

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        own = self.writes.values
        below = (item for item in paged(super().fetch, start, end, None, reverse) if item[0] not in own)
        mine = self._own(start, end, reverse)
        merged = heapq.merge(below, mine, key=itemgetter(0), reverse=reverse)
        return list(islice(merged, count))

    def _own(self, start: bytes, end: bytes | None, reverse: bool) -> Iterator[Item]:
        for key in self.writes.keys(start, end, len(self.writes.order), reverse):
            value = self.writes.values[key]
            if value is not None:
                yield key, value

    def put(self, key: bytes, value: bytes) -> None:
        self._rows()
        self.writes.put(bytes(key), bytes(value))

    def delete(self, key: bytes) -> None:
        self._rows()
        self.writes.put(bytes(key), None)


class _Store:
    """What all handles of one store share."""

    def __init__(self) -> None:
        self.table = _Table()
        self.snapshots = 0
        self.commits = 0
        self.number = next(_numbers)
        self.lock = Lock()
        self.writing = RLock()
        self.txn: _Txn | None = None

    def commit(self, writes: _Table) -> None:
        with self.lock:
            self.commits += 1
            if self.snapshots:
                self.table, self.snapshots = self.table.copy(), 0
            for key, value in writes.values.items():
                if value is None:
                    self.table.remove(key)
                else:
                    self.table.put(key, value)


_named: defaultdict[str, _Store] = defaultdict(_Store)
_naming = Lock()


class MemoryKV(Paging):
    """A handle of an `OrderedKV` that lives in this process.

    Snapshots cost nothing until the next commit, which then copies the table.

    Parameters
    ----------
    name
        Handles of one name show one store, which lasts until `forget`; one without has a store of its own.
    """

    def __init__(self, name: str | None = None) -> None:
        with _naming:
            self._shared = _Store() if name is None else _named[name]
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        with self._shared.lock:
            return self._view().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order, all as of one moment."""
        with self._shared.lock:
            return self._view().get_many(keys)

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        """See `Paging.fetch`."""
        with self._shared.lock:
            return self._view().fetch(start, end, count, reverse)

    def _view(self) -> _View:
        if self._closed:
            raise StorageError("the key store in memory is closed")
        return _View(self._shared.table)

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """A view of this moment, for as long as the context lasts."""
        shared = self._shared
        with shared.lock:
            view, table = self._view(), shared.table
            shared.snapshots += 1
        try:
            yield view
        finally:
            view.end()
            with shared.lock:
                # A commit since then left this table to its snapshots and counts for the new one from 0.
                shared.snapshots -= table is shared.table

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        """Run ``fn(txn)`` as one serialisable transaction, as `OrderedKV.transact` defines."""
        shared = self._shared
        with shared.writing:
            if shared.txn is not None:
                raise InvalidInputError("transactions don't nest")
            with shared.lock:
                self._view()
                txn = shared.txn = _Txn(shared.table)
            try:
                result = fn(txn)
                shared.commit(txn.writes)
            finally:
                txn.end()
                shared.txn = None
            return result

    def stamp(self) -> Hashable:
        """What stays equal until somebody commits (see `stamp_of`)."""
        with self._shared.lock:
            self._view()
            return self._shared.number, self._shared.commits

    def close(self) -> None:
        """End this handle; a named store stays."""
        self._closed = True


def forget(name: str) -> None:
    """Drop the store called `name` and what it holds; nothing happens where there is none."""
    with _naming:
        _named.pop(name, None)
