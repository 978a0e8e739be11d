"""Ranges of rows read side by side: span after span of keys, of each range all rows within it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from vzarr.overlay.kv.base import Item, Reader, prefix_end
from vzarr.overlay.kv.rows import PREFIX

FIRST_SPAN, GROWTH, LARGEST_SPAN = 16, 4, 1024
"""Rows of each range that are read first, how many times more each time, and at most."""


def spans(
    view: Reader, prefixes: Sequence[bytes], start: bytes, end: bytes | None, *, limit: int | None, reverse: bool
) -> Iterator[list[list[Item]]]:
    """Rows with ``start <= key < end`` below several prefixes.

    Parameters
    ----------
    view
        Where the rows are.
    prefixes
        Each of `PREFIX` bytes.
    start, end
        Keys, without the prefix.
    limit
        How many keys are wanted, as far as is known.
    reverse
        Whether to begin with the last.

    Yields
    ------
    list of list of Item
        Rows by prefix.
    """
    sources = [_Source(prefix, start, end) for prefix in prefixes]
    size = FIRST_SPAN if limit is None else max(1, min(limit, LARGEST_SPAN))
    while True:
        hungry = [source for source in sources if source.more and not source.rows]
        found = view.scan_many([(s.low, s.high) for s in hungry], limit=size, reverse=reverse) if hungry else ()
        for source, rows in zip(hungry, found, strict=True):
            source.take_in(rows, size, reverse)
        lasts = [source.rows[-1][0][PREFIX:] for source in sources if source.more]
        if not lasts:
            yield [source.rows for source in sources]
            return
        bound = max(lasts) if reverse else min(lasts)
        yield [source.until(bound, reverse) for source in sources]
        size = min(size * GROWTH, LARGEST_SPAN)


class _Source:
    """One of the ranges: what was read of it and not yet given, and what is left."""

    def __init__(self, prefix: bytes, start: bytes, end: bytes | None) -> None:
        self.low = prefix + start
        self.high = prefix_end(prefix) if end is None else prefix + end
        self.rows: list[Item] = []
        self.more = True

    def take_in(self, rows: list[Item], size: int, reverse: bool) -> None:
        self.rows, self.more = rows, len(rows) == size
        if self.more and reverse:
            self.high = rows[-1][0]
        elif self.more:
            self.low = rows[-1][0] + b"\0"

    def until(self, bound: bytes, reverse: bool) -> list[Item]:
        """Give the rows up to a key, and keep those behind it."""
        rows, key = self.rows, PREFIX
        if reverse:
            end = bisect_left(range(len(rows)), True, key=lambda i: rows[i][0][key:] < bound)
        else:
            end = bisect_left(range(len(rows)), True, key=lambda i: rows[i][0][key:] > bound)
        self.rows = rows[end:]
        return rows[:end]
