"""From supervoxels to bodies: look-ups of unique ids, with a cache that one row of the keys keeps honest.

Only supervoxels whose body has another number have a row, or an entry in a page (`pages`) where a table mapped them;
body 0 stands for an id that is no supervoxel any more.  Nothing is read at start-up: what was not asked for is not in
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from vzarr.types.labelmap import caches, pages, rows
from vzarr.types.labelmap.index import with_mark
from vzarr.types.labelmap.rows import Labels

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn
    from vzarr.types.base import Instance


def lookup(instance: Instance, supervoxels: Labels) -> Labels:
    """Bodies of supervoxels; an id without a mapping is its own body, 0 stays 0.

    Parameters
    ----------
    supervoxels
        uint64, shape (n,); better unique, as every one costs a look-up.
    """
    return _lookup(instance, supervoxels.tolist(), existing=False)


def lookup_existing(instance: Instance, supervoxels: Labels) -> Labels:
    """As `lookup`, but 0 for an id that is neither mapped nor a supervoxel of the body of its number.

    DVID HTTP API, ``GET D/mapping`` without ``nolookup``.
    """
    return _lookup(instance, supervoxels.tolist(), existing=True)


def _lookup(instance: Instance, ids: list[int], existing: bool) -> Labels:
    cache, mark = caches.of(instance), caches.mark_of(instance)
    known = cache.at(mark)[existing]
    try:
        bodies = np.fromiter(map(known.__getitem__, ids), np.uint64, len(ids))
    except KeyError:
        there = {sv: body for sv in dict.fromkeys(ids) if (body := known.get(sv)) is not None}
        seen, found = _find(instance, [sv for sv in dict.fromkeys(ids) if sv not in there], existing)
        if seen == mark:
            cache.keep(mark, *(({}, found) if existing else (found, {})))
            found.update(there)
        elif there:  # what is known is of another change than what was found
            _, found = _find(instance, [*dict.fromkeys(ids)], existing)
        bodies = np.array([found[sv] for sv in ids], np.uint64)
    # An edit of this process that came meanwhile may have changed some of what is known, but not yet all.
    return bodies if cache.mark == mark else _lookup(instance, ids, existing)


def _find(instance: Instance, ids: list[int], existing: bool) -> tuple[bytes, dict[int, int]]:
    """Bodies of ids at one moment, and the mark of the last change before it."""
    return with_mark(instance, lambda keys: (_read_existing if existing else _read)(keys, ids))


def body_of(instance: Instance, supervoxel: int) -> int:
    """`lookup` of one id."""
    known, _ = caches.of(instance).at(caches.mark_of(instance))
    found = known.get(supervoxel)
    return int(lookup(instance, np.array([supervoxel], np.uint64))[0]) if found is None else found


def bodies_within(tx: InstanceKeys, supervoxels: Sequence[int]) -> dict[int, int]:
    """Bodies of supervoxels as `lookup` gives them, in a transaction or snapshot."""
    return _read(tx, supervoxels)


def _read(keys: InstanceKeys, supervoxels: Sequence[int]) -> dict[int, int]:
    values = keys.get_many([rows.mapping_key(sv) for sv in supervoxels])
    paged = pages.lookup(keys, [sv for sv, value in zip(supervoxels, values, strict=True) if value is None])
    return {
        sv: paged.get(sv, sv) if value is None else int.from_bytes(value, "big")
        for sv, value in zip(supervoxels, values, strict=True)
    }


def existing_within(keys: InstanceKeys, supervoxels: Sequence[int]) -> dict[int, int]:
    """Bodies of supervoxels as `lookup_existing` gives them, in a transaction or snapshot."""
    return _read_existing(keys, supervoxels)


def is_mapped(keys: InstanceKeys, supervoxel: int) -> bool:
    """Whether anything is said of an id, be it that it is no supervoxel."""
    return keys.get(rows.mapping_key(supervoxel)) is not None or bool(pages.lookup(keys, [supervoxel]))


def _read_existing(keys: InstanceKeys, supervoxels: Sequence[int]) -> dict[int, int]:
    bodies = _read(keys, supervoxels)
    unmapped = [sv for sv, body in bodies.items() if sv == body != 0]
    values = keys.get_many([rows.index_key(sv, sv) for sv in unmapped])
    return {**bodies, **{sv: 0 for sv, value in zip(unmapped, values, strict=True) if value is None}}


def list_mappings(keys: InstanceKeys) -> Iterator[tuple[int, int]]:
    """All supervoxels whose body has another number, ascending, and their bodies."""
    own = ((int.from_bytes(k[1:], "big"), int.from_bytes(v, "big")) for k, v in _own_rows(keys))
    ranked = merge(((sv, 0, body) for sv, body in own), ((sv, 1, body) for sv, body in pages.entries(keys)))
    for supervoxel, said in groupby(ranked, key=itemgetter(0)):
        body = next(said)[2]  # a row of its own counts more
        if body != supervoxel:
            yield supervoxel, body


def _own_rows(keys: InstanceKeys) -> Iterator[tuple[bytes, bytes]]:
    return keys.scan(*rows.class_range(rows.MAPPING))


def put(tx: InstanceTxn, supervoxels: Iterable[int], body: int) -> None:
    """Map supervoxels to a body."""
    said = dict.fromkeys(map(rows.mapping_key, supervoxels), rows.number(body))
    itself = rows.mapping_key(body)
    if itself in said and not pages.lookup(tx, [body]):
        del said[itself]
        tx.delete(itself)
    tx.put_many(said)


def put_many(tx: InstanceTxn, supervoxels: Labels, bodies: Labels) -> None:
    """Map many supervoxels, each named once: into pages, but those that have rows of their own into these."""
    if not (supervoxels[1:] > supervoxels[:-1]).all():
        order = np.argsort(supervoxels)
        supervoxels, bodies = supervoxels[order], bodies[order]
    has_row = np.isin(supervoxels, np.array([int.from_bytes(k[1:], "big") for k, _ in _own_rows(tx)], np.uint64))
    for supervoxel, body in zip(supervoxels[has_row].tolist(), bodies[has_row].tolist(), strict=True):
        tx.put(rows.mapping_key(supervoxel), rows.number(body))
    pages.put(tx, supervoxels[~has_row], bodies[~has_row])


def by_lookup(instance: Instance) -> Callable[[Labels], Labels]:
    """`lookup` on one instance, as a function of supervoxels alone."""
    return lambda supervoxels: lookup(instance, supervoxels)
