"""Changes of keys, as many at a time as one transaction should take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Change = tuple[bytes, bytes | None]
"""A key and its value; None where it was deleted."""

BATCH, WEIGHT = 5000, 4 << 20
"""Keys of one transaction, and bytes of these and their values."""


def batched(rows: Iterable[Change], count: int = BATCH, weight: int = WEIGHT) -> Iterator[list[Change]]:
    """Rows, so many at a time, or fewer that come to so many bytes."""
    part: list[Change] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row[0]) + len(row[1] or b"")
        if len(part) == count or size >= weight:
            yield part
            part, size = [], 0
    if part:
        yield part
