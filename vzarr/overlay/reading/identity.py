"""What names the bytes of a chunk as they are now, so that who remembers them knows when they are others.

What a sealed version stored never changes, so its object key is enough.  What an open version stored may be replaced
at any moment, by other processes and other tools too: there a stamp of the file is part of the name.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.files import SETTLED_NS
from vzarr.overlay.reading import regions
from vzarr.overlay.views.base import View
from vzarr.overlay.views.openview import OpenView

T = TypeVar("T")
Name = tuple[Any, ...]
"""Equal names mean equal bytes, for as long as the process lives."""

_serials: WeakKeyDictionary[Objects, int] = WeakKeyDictionary()
_next_serial = itertools.count()


class Chunk(NamedTuple):
    """A chunk as it was found.

    Parameters
    ----------
    name
        Name of its bytes.
    view
        The view that has them.
    entry, coord
        Its array, and its global chunk coordinates.
    """

    name: Name
    view: View
    entry: ArrayEntry
    coord: Coord

    def visit(self, work: Callable[[NDArray[Any]], T]) -> T | None:
        """Result of `work` on its voxels, which are lent; None if the chunk is gone or other bytes are there now."""
        found = regions.visit_chunks(
            self.view, self.entry, [self.coord], lambda _, voxels: None if voxels is None else work(voxels)
        )[0]
        # A sealed view gives what it names. From an open one it must be the same before and after.
        if found is None or self.view.sealed or identify(self.view, self.entry, self.coord) == self:
            return found
        return None


def identify(view: View, entry: ArrayEntry, coord: Coord) -> Chunk | None:
    """Name a chunk's bytes; None where there is none, or where nothing cheap and certain can be said.

    Raises
    ------
    ConflictError
        If merged versions changed the chunk differently.
    """
    places = view.chunk_places(entry, coord)
    if view.sealed:
        return Chunk(_name(view, places[0]), view, entry, coord) if places else None
    path = view.storage.objects.path(places[0])
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path costs more than the call, and this is done per chunk
    except FileNotFoundError:
        if isinstance(view, OpenView) and len(places) > 1:
            return Chunk(_name(view, places[1]), view.base, entry, coord)
        return None
    except OSError:
        return None  # whoever reads it will say what is wrong
    if time.time_ns() - found.st_ctime_ns < SETTLED_NS:
        return None  # it could change without another name
    return Chunk((*_name(view, places[0]), *_stamp(found)), view, entry, coord)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_ctime_ns, found.st_mtime_ns


def digest_of(view: View, entry: ArrayEntry, coords: Iterable[Coord]) -> str:
    """What is another one, for other processes too, once another tool has written one of some chunks.

    It tells of files: what lies on an object store, or in an adopted source, would have to be asked for one by one.

    Raises
    ------
    ConflictError
        If merged versions changed one of the chunks differently.
    """
    digest = sha256()
    for coord in coords:
        places = view.chunk_places(entry, coord)
        path = None if view.sealed or not places else view.storage.objects.path(places[0])
        stamp: tuple[int, ...] = ()
        if path is not None:
            with suppress(FileNotFoundError):
                stamp = _stamp(os.stat(path))  # noqa: PTH116 - as above
        digest.update(repr((places, stamp)).encode())
    return digest.hexdigest()


def identify_all(view: View, entry: ArrayEntry, coords: Sequence[Coord]) -> list[Chunk | None]:
    """`identify` for chunks that are asked for together: an open version without any of its own is asked once."""
    lasting = lasting_view(view, entry) if len(coords) > 1 else None
    return [identify(lasting or view, entry, coord) for coord in coords]


def lasting_view(view: View, entry: ArrayEntry) -> View | None:
    """The sealed view of which all chunks of an array are, as of now: then their names stay as they are."""
    if view.sealed:
        return view
    if not isinstance(view, OpenView) or view.base.node == view.node:
        return None  # what a merge begins with has the name of what it will be sealed as
    return view.base if view.only_inherits(entry) else None


def name_of(view: View) -> Name:
    """Name of a sealed view: equal ones have equal chunks for as long as the process lives."""
    return _name(view, view.node)


def _name(view: View, place: str) -> Name:
    objects = view.storage.objects
    serial = _serials.get(objects)
    if serial is None:
        # By the object, not by its URL: another repo may be made where one was.
        serial = _serials.setdefault(objects, next(_next_serial))
    return serial, place
