"""What a server admits of what it is sent: objects of new versions, and of others those that it knows to have left out.

Whoever sends may be mistaken, or cut off at any moment.  So nothing that a version has can change, and no version is
published that is said to have what has not arrived.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache

from vzarr.overlay import layout
from vzarr.overlay.sealing import leftout, seal
from vzarr.overlay.transfer import exchange
from vzarr.overlay.transfer.copying import Row, list_nodes
from vzarr.overlay.transfer.partial import is_content
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.transfer.plans import Arrival


def may_put(place: StoredPlace, rows: Sequence[Row]) -> list[Row]:
    """Those of some objects that may be written: just these bytes there, whatever happens."""
    left: dict[str, Collection[Row] | None] = {}

    def may(row: Row) -> bool:
        if exchange.is_waiting(row.key):
            return row.key == layout.arrived(row.digest)
        node = row.key.split("/")[1]
        if node not in left:
            left[node] = _left_out(place, node) if place.knows(node) else None
        known = left[node]
        return known is None or row in known

    return [row for row in rows if may(row)]


def _left_out(place: StoredPlace, node: str) -> Collection[Row]:
    """What a partial clone left out of a version; of a whole repo that is nothing."""
    bits = place.objects.get(layout.left_out(node)) if place.limits() else None
    return () if bits is None else _named(place, node, bits)


@lru_cache(maxsize=4)
def _named(place: StoredPlace, node: str, _bits: bytes) -> Collection[Row]:
    """The same; remembered, for objects come one by one."""
    keys, sums = leftout.read(place.objects, node), place.objects.get(layout.sums(node)) or b""
    found = (Row(f"{layout.node(node)}/{key}", size, digest) for key, size, digest in seal.read_sums(sums))
    return frozenset(row for row in found if row.key in keys)


def settle(place: StoredPlace, arrival: Arrival) -> None:
    """Refuse versions of which not everything has arrived that the repo is to have; note what a partial one has not.

    Raises
    ------
    StorageError, FormatError
        Naming the first object that is missing, or another one.
    """
    there = place.state()
    new = [node for node in arrival.nodes if node not in there.nodes]
    rows = list_nodes(place, arrival.source, new)
    if not place.limits():
        place.check_whole(rows)
        return
    place.check_whole([row for row in rows if not is_content(row.key)])
    wanted = place.wanted(arrival)
    older = {key.split("/")[1] for key in wanted} - {*new}
    rows += list_nodes(place, there, sorted(older))
    # What nobody asked for may lie there all the same: it is right, or in the way of what was left out.
    come = {*wanted, *(key for node in new for key, _size in place.objects.walk(layout.node(node)))}
    place.check_whole([row for row in rows if is_content(row.key) and row.key in come])
    place.leave_out(replace(arrival, nodes=new), come)
