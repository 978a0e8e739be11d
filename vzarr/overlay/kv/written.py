"""What exactly one version wrote, whatever other versions see: for who reads logs version by version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vzarr.overlay.kv.base import Item, OrderedKV
from vzarr.overlay.kv.indexrows import VALUE, firsts, value_prefix


def values(
    kv: OrderedKV, instance: bytes, version: int, start: bytes, end: bytes, *, limit: int | None = None
) -> Iterator[Item]:
    """Keys of a range to which exactly one version gave values, and these, in key order.

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
    prefix = value_prefix(instance, version)
    for row, value in kv.scan(prefix + start, prefix + end, limit=limit):
        if value[:1] == VALUE:
            yield row[len(prefix) :], value[1:]


def any_written(kv: OrderedKV, instance: bytes, ranges: Sequence[tuple[int, bytes, bytes]]) -> list[bool]:
    """Whether a version wrote to a key of a range, for many versions and ranges (version, start, end) at once."""
    rows = [(value_prefix(instance, n) + start, value_prefix(instance, n) + end) for n, start, end in ranges]
    with kv.snapshot() as view:
        return [found is not None for found in firsts(view, rows)]
