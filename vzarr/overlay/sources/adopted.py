"""Sources of adopted arrays: where a chunk is that no version ever wrote, and whether its source still is what it was.

An adopted array's entry carries ``source``: the locator that opens it again, the box of chunks that it may have, a
hash of its metadata and, where it was pinned, the name of its pins.  Absent in the source means absent only as long
as the source itself is there and its metadata are what they were: a vanished or changed source is an error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import StorageError
from vzarr.geometry import Box, Coord, intersect, is_empty, iter_coords
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal
from vzarr.overlay.sources.base import Found, SourceArray
from vzarr.overlay.sources.files import Files
from vzarr.overlay.sources.formats import open_array
from vzarr.overlay.sources.pins import PinnedFiles, Pins

RECHECK_SECONDS = 10.0
"""How long a source whose chunks are found goes without its metadata being looked at again."""
PROBED = 512
"""Most chunks of a box that are asked for one by one instead of listing their source."""


class Adopted:
    """One adopted array's source, opened when it is first needed.

    Parameters
    ----------
    about
        What the array's entry says of it.
    objects
        The repo, which keeps the pins.
    """

    def __init__(self, about: Mapping[str, Any], objects: Objects) -> None:
        self.about, self._objects = about, objects
        self.box: Box = (tuple(about["chunks"][0]), tuple(about["chunks"][1]))
        self._lock = threading.Lock()
        self._array: SourceArray | None = None
        self._checked = 0.0

    @property
    def url(self) -> str:
        """Where it is, for messages."""
        return str(self.about["url"])

    @property
    def concurrency(self) -> int:
        """How many chunks are worth asking for at once."""
        return 2 if self.url.startswith("file://") else 32

    @property
    def array(self) -> SourceArray:
        """The array, opened; its metadata were what they were at adoption.

        Raises
        ------
        StorageError
            If the source is gone or has changed.
        """
        if self._array is None:
            with self._lock:
                if self._array is None:
                    array = open_array(self.about, self._guarded)
                    self._compare(array)
                    self._checked = time.monotonic()
                    self._array = array
        return self._array

    def covers(self, coord: Coord) -> bool:
        """Whether a chunk lies where the source may have one."""
        return covers(self.box, coord)

    def fetch(self, coord: Coord, offset: int = 0, length: int | None = None, *, check: bool = True) -> Found | None:
        """Bytes of a chunk (global coordinates), or None when the source has none.

        Parameters
        ----------
        offset, length
            As in `Files.read`.
        check
            Whether to make sure, before None is given, that the source itself is there; who says no has to `check`
            before he takes anything for absent.

        Raises
        ------
        StorageError
            If it could not be read, or the source is gone or has changed.
        """
        found = self._fresh().fetch(coord, offset, length)
        if found is None and check:
            self.check()
        return found

    def has(self, coord: Coord) -> bool:
        """Whether the source has a chunk."""
        return self.fetch(coord, 0, 0) is not None

    def voxels(self, coord: Coord, *, check: bool = True) -> NDArray[Any] | None:
        """A chunk decoded, of a source that decodes (see `SourceArray.voxels`); otherwise as `fetch`."""
        found = self._fresh().voxels(coord)
        if found is None and check:
            self.check()
        return found

    def coords(self, box: Box | None = None) -> Iterator[Coord]:
        """Chunks that the source has, in a box of chunks if given: a small one is probed, else the source listed."""
        inside = self.box if box is None else intersect(self.box, box)
        if is_empty(inside):
            return
        self.check()
        count = int(np.prod([b - a for a, b in zip(*inside, strict=True)], dtype=object))
        if count <= PROBED:
            yield from (c for c in iter_coords(inside) if self.has(c))
            return
        yield from (c for c in self.array.coords() if covers(inside, c))

    def check(self) -> None:
        """Make sure that the source is there and unchanged; of several who ask at once, one looks.

        Raises
        ------
        StorageError
            If it is gone or has changed.
        """
        array, since = self.array, time.monotonic()
        with self._lock:
            if self._checked < since:
                now = time.monotonic()
                self._compare(array)
                self._checked = now

    def _guarded(self, files: Files) -> Files:
        place = self.about.get("pins")
        return files if place is None else PinnedFiles(files, Pins(self._objects, place))

    def _fresh(self) -> SourceArray:
        array = self.array
        if time.monotonic() - self._checked > RECHECK_SECONDS:
            self.check()
        return array

    def _compare(self, array: SourceArray) -> None:
        if seal.sha256(array.metadata()) != self.about["sha256"]:
            raise StorageError(f"{self.url} is not what was adopted: its metadata have changed")


class Sources:
    """Sources of a repo's adopted arrays, kept open.

    Parameters
    ----------
    objects
        The repo.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._kept: dict[ArrayId, Adopted] = {}

    def of(self, entry: ArrayEntry) -> Adopted | None:
        """Source of an array, or None when it was not adopted."""
        if entry.source is None:
            return None
        kept = self._kept.get(entry.id)
        if kept is None or (kept.about is not entry.source and kept.about != entry.source):
            kept = self._kept[entry.id] = Adopted(entry.source, self._objects)
        return kept


def covers(box: Box, coord: Coord) -> bool:
    """Whether a coordinate lies in a box."""
    return all(a <= c < b for c, a, b in zip(coord, *box, strict=True))


def source_box(entry: ArrayEntry) -> Box | None:
    """Chunks that an array's source may have (global coordinates), or None when it was not adopted."""
    if entry.source is None:
        return None
    lo, hi = entry.source["chunks"]
    return tuple(lo), tuple(hi)
