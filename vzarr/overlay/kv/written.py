"""What exactly one version wrote, whatever other versions see: for who reads logs version by version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vzarr.overlay.kv.base import Item, OrderedKV
from vzarr.overlay.kv.rows import PREFIX, own_prefix
from vzarr.overlay.kv.rule import Write
from vzarr.overlay.kv.seen import Seen
from vzarr.overlay.kv.spans import spans


def values(
    kv: OrderedKV, instance: bytes, version: int, start: bytes, end: bytes, *, limit: int | None = None
) -> Iterator[Item]:
    """Keys of a range to which exactly one version gave values, and these, in key order.

    The values are read as they are asked for, so they must be such that nobody writes twice.

    Parameters
    ----------
    kv
        The store of a `vzarr.overlay.kv.versioned.VersionedKV`.
    instance, version
        Whose keys, written where; version 0 is outside of versions.
    start, end
        The range, half-open.
    limit
        How many rows to look at; deletions among them count, and are left out.
    """
    left = limit
    for [rows] in spans(kv, [own_prefix(instance, version)], start, end, limit=limit, reverse=False):
        some, seen = rows[:left], Seen(instance)
        for row, own in some:
            seen.note(row[PREFIX:], Write(version, own))
        found = seen.in_order(kv, [row[PREFIX:] for row, _ in some])
        yield from ((key, value) for key, value in found if value is not None)
        if left is not None:
            left -= len(some)
            if not left:
                return


def any_written(kv: OrderedKV, instance: bytes, ranges: Sequence[tuple[int, bytes, bytes]]) -> list[bool]:
    """Whether a version wrote to a key of a range, for many versions and ranges (version, start, end) at once."""
    rows = [(own_prefix(instance, n) + start, own_prefix(instance, n) + end) for n, start, end in ranges]
    with kv.snapshot() as view:
        return [bool(found) for found in view.scan_many(rows, limit=1)]
