"""Pages of the mapping: what a table of millions of supervoxels leaves, beside the rows that single edits leave.

A page is one row: ``q`` + its first supervoxel (8 bytes, big-endian); its value is all supervoxels, ascending, then all
their bodies, as little-endian uint64.  The pages of a version do not overlap, so the page that may hold a supervoxel is
the last one that begins at or before it.  A supervoxel's own row (class ``p``) counts more than a page, and nothing but
a page or such a row maps it: a look-up is one row, then one page, however many supervoxels are mapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from vzarr.errors import FormatError
from vzarr.types.labelmap import rows
from vzarr.types.labelmap.rows import Labels

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn

PAGE = 1024
"""Supervoxels of a new page; one that grew beyond twice as many is cut up."""
BULK = 4096
"""Mappings made at once that are put into pages rather than rows."""

Entries = tuple[Labels, Labels]
"""Supervoxels, ascending, and their bodies."""


def page_key(first: int) -> bytes:
    """Key of the page that begins with a supervoxel."""
    return rows.PAGE + rows.number(first)


def encode(entries: Entries) -> bytes:
    """Value of a page."""
    return b"".join(column.astype("<u8", copy=False).tobytes() for column in entries)


def decode(value: bytes) -> Entries:
    """Inverse of `encode`."""
    if len(value) % 16 or not value:
        raise FormatError(f"{len(value)} bytes are no page of a mapping")
    supervoxels, bodies = np.frombuffer(value, "<u8").reshape(2, -1)
    return supervoxels, bodies


def exist(keys: InstanceKeys) -> bool:
    """Whether a version has any page."""
    return next(keys.scan_keys(*rows.class_range(rows.PAGE), limit=1), None) is not None


def _page_before(keys: InstanceKeys, supervoxel: int) -> Entries | None:
    """The last page that begins at or before a supervoxel."""
    found = next(keys.scan(rows.PAGE, page_key(supervoxel) + b"\0", limit=1, reverse=True), None)
    return None if found is None else decode(found[1])


def _next_first(keys: InstanceKeys, supervoxel: int) -> int | None:
    """First supervoxel of the next page that begins behind a supervoxel."""
    key = next(keys.scan_keys(page_key(supervoxel) + b"\0", rows.class_range(rows.PAGE)[1], limit=1), None)
    return None if key is None else int.from_bytes(key[1:], "big")


def lookup(keys: InstanceKeys, supervoxels: Sequence[int]) -> dict[int, int]:
    """Bodies of supervoxels, of those that pages hold."""
    found: dict[int, int] = {}
    if not supervoxels or not exist(keys):
        return found
    ids = np.unique(np.array(supervoxels, np.uint64))
    at = 0
    while at < len(ids):
        page = _page_before(keys, int(ids[at]))
        if page is None or ids[at] > page[0][-1]:
            following = _next_first(keys, int(ids[at]))
            if following is None:
                break
            at = int(np.searchsorted(ids, np.uint64(following)))
            continue
        end = int(np.searchsorted(ids, page[0][-1], side="right"))
        wanted = ids[at:end]
        places = np.searchsorted(page[0], wanted)
        held = page[0][places] == wanted
        found.update(zip(wanted[held].tolist(), page[1][places[held]].tolist(), strict=True))
        at = end
    return found


def entries(keys: InstanceKeys) -> Iterator[tuple[int, int]]:
    """All supervoxels that pages hold, ascending, and their bodies there."""
    for _, value in keys.scan(*rows.class_range(rows.PAGE)):
        supervoxels, bodies = decode(value)
        yield from zip(supervoxels.tolist(), bodies.tolist(), strict=True)


def size(keys: InstanceKeys) -> int:
    """How many supervoxels pages hold."""
    return sum(len(value) // 16 for _, value in keys.scan(*rows.class_range(rows.PAGE)))


def put(tx: InstanceTxn, supervoxels: Labels, bodies: Labels) -> None:
    """Put mappings into pages; the pages that they fall into are rewritten.

    Parameters
    ----------
    supervoxels, bodies
        Shape (n,), ascending and unique supervoxels; none of them has a row of its own.
    """
    at = 0
    while at < len(supervoxels):
        page = _page_before(tx, int(supervoxels[at]))
        following = _next_first(tx, int(supervoxels[at]))
        end = len(supervoxels) if following is None else int(np.searchsorted(supervoxels, np.uint64(following)))
        new = supervoxels[at:end], bodies[at:end]
        _write(tx, new if page is None else _joined(page, new))
        at = end


def _joined(old: Entries, new: Entries) -> Entries:
    """Two sets of mappings as one; the new ones count."""
    kept = ~np.isin(old[0], new[0])
    supervoxels = np.concatenate([old[0][kept], new[0]])
    bodies = np.concatenate([old[1][kept], new[1]])
    order = np.argsort(supervoxels)
    return supervoxels[order], bodies[order]


def _write(tx: InstanceTxn, mapped: Entries) -> None:
    supervoxels, bodies = mapped
    step = len(supervoxels) if len(supervoxels) <= 2 * PAGE else PAGE
    for start in count(0, step):
        part = slice(start, start + step)
        if start >= len(supervoxels):
            return
        tx.put(page_key(int(supervoxels[start])), encode((supervoxels[part], bodies[part])))
