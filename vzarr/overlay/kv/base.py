"""The protocol of an ordered key/value backend: what the rest of vzarr may ask of one, and nothing else.

Keys and values are bytes; keys are ordered bytewise.  A backend offers three ways to look: straight at the
store (each call sees what is committed at that moment), through a snapshot (every call sees the same moment),
and through a transaction (every call sees the moment of its start plus its own writes).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

T = TypeVar("T")
Item = tuple[bytes, bytes]
Range = tuple[bytes, bytes | None]
"""Keys from the first to before the second; to the last where that is None."""

FIRST_PAGE = 16
LARGEST_PAGE = 1024
HEAVY_PAGE = 1 << 20


class Reader(Protocol):
    """The read verbs, which stores, snapshots and transactions share."""

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order, all as of one moment."""

    def scan(
        self, start: bytes, end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """Pairs with ``start <= key < end`` in key order, or from the last to the first if `reverse`.

        An iteration holds no lock, and keys strictly rise (or fall).  In a snapshot it sees the snapshot.  On
        a store or in a transaction, a pair that is there throughout is met exactly once; one that is written
        or deleted ahead of the iteration may or may not be met.
        """

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """Pairs of each of many ranges, as `scan` gives them: so many of each, all in memory.

        Each range is seen as of one moment.
        """


class Transaction(Reader, Protocol):
    """Read and write verbs of one atomic change."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""

    def delete(self, key: bytes) -> None:
        """Remove `key`; nothing happens where it is absent."""


class OrderedKV(Reader, Protocol):
    """An ordered key/value store.

    Safe for threads.  Failures raise `StorageError` and never look like an absent key.
    """

    def snapshot(self) -> AbstractContextManager[Reader]:
        """A view of one moment, for as long as the context lasts; writers go on meanwhile."""

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        """Run ``fn(txn)`` as one serialisable transaction and give its result.

        What `fn` wrote is committed at once when it returns and undone when it raises.  A backend that finds
        a collision only at commit runs `fn` again, so `fn` must have no effect outside `txn`.  Transactions
        don't nest.

        Raises
        ------
        InvalidInputError
            From within another transaction of the same store and thread.
        """

    def close(self) -> None:
        """Let go of files and connections; using the store afterwards raises `StorageError`."""


def stamp_of(kv: OrderedKV) -> Hashable | None:
    """What is equal for as long as nothing is committed, whoever would commit; None where the store cannot tell.

    A store that can tell for next to nothing has the method ``stamp()``.  It covers what was committed before the call;
    what two handles of a process say, one after the other, is equal only if nothing was committed between.
    """
    stamp: Callable[[], Hashable] | None = getattr(kv, "stamp", None)
    return None if stamp is None else stamp()


def prefix_end(prefix: bytes) -> bytes | None:
    """The least key above every key that begins with `prefix`, or None where there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def paged(
    fetch: Callable[[bytes, bytes | None, int | None, bool], list[Item]],
    start: bytes,
    end: bytes | None,
    limit: int | None,
    reverse: bool,
) -> Iterator[Item]:
    """Iterate a range in pages, so that nothing is held open between two of them.

    Parameters
    ----------
    fetch
        ``fetch(start, end, count, reverse)`` gives the first `count` pairs of a range, or fewer.
    start, end, limit, reverse
        As in `Reader.scan`.
    """
    if limit is not None and limit <= FIRST_PAGE:
        return iter(fetch(start, end, limit, reverse) if limit > 0 else ())
    return _pages(fetch, start, end, limit, reverse)


def _pages(
    fetch: Callable[[bytes, bytes | None, int | None, bool], list[Item]],
    start: bytes,
    end: bytes | None,
    limit: int | None,
    reverse: bool,
) -> Iterator[Item]:
    size, left = FIRST_PAGE, limit
    while left is None or left > 0:
        count = size if left is None else min(size, left)
        page = fetch(start, end, count, reverse)
        yield from page
        if len(page) < count:
            return
        if left is not None:
            left -= count
        if reverse:
            end = page[-1][0]
        else:
            start = page[-1][0] + b"\0"
        # Pages grow to make round trips rare, unless the values are so large that memory matters more.
        heavy = sum(len(value) for _, value in page) > HEAVY_PAGE
        size = max(1, size // 2) if heavy else min(LARGEST_PAGE, size * 2)


class Paging(ABC):
    """Scans of a view by pages of a range."""

    @abstractmethod
    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        """The first `count` pairs of a range, or fewer; all where that is None."""

    def scan(
        self, start: bytes, end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """Pairs of a range in key order, as `Reader.scan` defines."""
        return paged(self.fetch, start, end, limit, reverse)

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """Pairs of each of many ranges, as `Reader.scan_many` defines."""
        return [self.fetch(start, end, limit, reverse) for start, end in ranges]


class PagingReader(Reader, Protocol):
    """A reader that scans by `fetch`."""

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        """See `Paging.fetch`."""


class ByViews(Paging):
    """The read verbs of a store each of whose reads goes through a view of its own."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[PagingReader]:
        """A view for one read, of the moment of its beginning or of its statement."""

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        with self.reading() as view:
            return view.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order, all as of one moment."""
        with self.reading() as view:
            return view.get_many(keys)

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """Pairs of each of many ranges, as `Reader.scan_many` defines."""
        with self.reading() as view:
            return view.scan_many(ranges, limit=limit, reverse=reverse)

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        """See `Paging.fetch`."""
        with self.reading() as view:
            return view.fetch(start, end, count, reverse)
