"""What one walk through an open version's folder finds: chunks by array, what lies beside them, checksums of all.

The walk is the truth for pages and checksums alike.  A folder may hold millions of chunks, so of each nothing is kept
but its coordinates and its line in the list of checksums.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from vzarr.errors import InvalidInputError
from vzarr.geometry import Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.objects.base import LINK, Objects
from vzarr.overlay.owners.directory import Written
from vzarr.overlay.sealing import seal
from vzarr.overlay.views.paths import is_key

BATCH = 4096
"""Objects that are hashed at a time."""
_DELETED = seal.sha256(layout.MARKER)

Row = tuple[str, int]
"""Key of an object and its size, as `Objects.walk` gives them."""
Place = tuple[ArrayEntry, Coord | None]
"""The array in whose folder an object lies, and its coordinate there if it is a chunk."""


def sealable(rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows, up to the first that cannot be sealed.

    Raises
    ------
    InvalidInputError
        At the end, naming symbolic links, or files whose names are no keys.
    """
    links: list[str] = []
    odd: list[str] = []
    for key, size in rows:
        if size == LINK:
            links.append(key)
        elif not is_key(key):
            odd.append(key)
        elif not (links or odd):
            yield key, size
    if links:
        advice = "put what they lead to in their place, or adopt it (vzarr adopt), and commit again"
        raise InvalidInputError(f"symbolic links cannot be sealed: {_some(links)}; {advice}")
    if odd:
        advice = "they have line breaks, or are no UTF-8; rename them, and commit again"
        raise InvalidInputError(f"files of these names cannot be sealed: {_some(odd)}; {advice}")


class Places:
    """Says of objects of a version to which array they belong.

    Parameters
    ----------
    node
        Id of the version.
    folders
        Its arrays by their folder below ``zarr/``.
    may_be
        Whether an array may have a chunk at a coordinate.
    """

    def __init__(
        self, node: str, folders: Mapping[str, ArrayEntry], may_be: Callable[[ArrayEntry, Coord], bool]
    ) -> None:
        self._cut = len(layout.zarr(node)) + 1
        self._folders, self._may_be = folders, may_be
        self._last: tuple[str, tuple[str, ArrayEntry] | None] = "", self._above("")

    def name(self, key: str) -> str:
        """An object's key below ``zarr/``."""
        return key[self._cut :]

    def of(self, key: str) -> Place | None:
        """Where an object belongs; None for what lies in no array's folder.  Asking in the order of keys is cheap."""
        name = key[self._cut :]
        folder = name.rpartition("/")[0]
        if folder != self._last[0]:
            self._last = folder, self._above(folder)
        if self._last[1] is None:
            return None
        above, entry = self._last[1]
        coord = entry.spec.coord(name[len(above) + 1 :] if above else name)
        return entry, coord if coord is not None and self._may_be(entry, coord) else None

    def _above(self, folder: str) -> tuple[str, ArrayEntry] | None:
        """The innermost array in whose folder a folder lies, and that array's folder."""
        at = folder
        while at not in self._folders:
            if not at:
                return None
            at = at.rpartition("/")[0]
        return at, self._folders[at]


class Inventory:
    """Objects of a version, taken stock of.

    Parameters
    ----------
    objects, node
        Where they are.
    rows
        What there is below ``zarr/``, in the order of keys.
    places
        Says where each belongs.
    """

    def __init__(self, objects: Objects, node: str, rows: Iterable[Row], places: Places) -> None:
        self.beside: list[str] = []
        """Keys below ``zarr/`` of what is no chunk."""
        self.sums: list[bytes] = []
        """Lines of the list of checksums, in the order of keys."""
        self._node = node
        self._coords: dict[ArrayId, tuple[int, array[int]]] = {}
        self._gone: dict[ArrayId, bytearray] = {}
        rest = iter(rows)
        while batch := [key for key, _size in islice(rest, BATCH)]:
            hashes = seal.digests(objects, batch)
            self.sums.append(seal.sum_lines(node, batch, hashes))
            for key, (digest, _size) in zip(batch, hashes, strict=True):
                place = places.of(key)
                if place is None or place[1] is None:
                    self.beside.append(places.name(key))
                else:
                    self._add(place[0], place[1], gone=digest == _DELETED)

    def _add(self, entry: ArrayEntry, coord: Coord, *, gone: bool) -> None:
        if entry.id not in self._coords:
            self._coords[entry.id], self._gone[entry.id] = (entry.spec.ndim, array("q")), bytearray()
        self._coords[entry.id][1].extend(coord)
        self._gone[entry.id].append(gone)

    def chunks(self, array: ArrayId) -> Written | None:
        """What the folder says of an array's chunks; None where it has none."""
        if array not in self._coords:
            return None
        ndim, flat = self._coords[array]
        gone = np.frombuffer(self._gone[array], bool)
        return Written(np.frombuffer(flat, np.int64).reshape(len(gone), ndim), gone, self._node)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(ascii(key)[1:-1] for key in keys[:3]) + more
