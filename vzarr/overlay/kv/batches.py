"""Changes of keys, as many at a time as one transaction should take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vzarr.overlay.kv.sidecar import Change

BATCH, WEIGHT = 5000, 4 << 20
"""Keys of one transaction, and bytes of these and their values."""


def batched(rows: Iterable[Change], count: int = BATCH, weight: int = WEIGHT) -> Iterator[list[Change]]:
    """Rows, so many at a time, or fewer that come to so many bytes."""
    part: list[Change] = []
    size = 0
    for key, value in rows:
        part.append((key, value))
        size += len(key) + len(value or b"")
        if len(part) == count or size >= weight:
            yield part
            part, size = [], 0
    if part:
        yield part
