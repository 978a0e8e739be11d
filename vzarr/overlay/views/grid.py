"""The owner pages of one array as any version sees them: a sealed one's own, an open one's with its folder on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError
from vzarr.geometry import Box, Coord, intersect, slices
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.owners.directory import ABSENT, CONFLICT, FIRST_OWNER, Owners, Page, by_page, coords_in, side
from vzarr.overlay.sources.adopted import source_box
from vzarr.overlay.threeway.pages import differing_pages
from vzarr.overlay.views.base import SealedView, View, nothing
from vzarr.overlay.views.commit import array_changes, base_owners
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.rootview import RootView


@dataclass(frozen=True)
class Grid:
    """Who owns each chunk of one array.

    Parameters
    ----------
    array
        Identity of the array.
    ndim
        Number of its axes.
    owners
        Pages of the version, or of what an open one builds on.
    changed
        Pages in which an open version did something, as they are now, by page coordinate.
    source
        Chunks that an adopted array's source may have, upper corner exclusive; they count as stored by the `root`
        as long as no version wrote them, and the source is not asked.
    root
        Id of the root.
    """

    array: ArrayId
    ndim: int
    owners: Owners
    changed: Mapping[Coord, Page] = field(default_factory=dict)
    source: Box | None = None
    root: str = ""

    @classmethod
    def of(cls, view: View, entry: ArrayEntry) -> Grid:
        """Grid of an array that a version has."""
        adopted = source_box(entry), view.storage.root
        if isinstance(view, SealedView):
            return cls(entry.id, entry.spec.ndim, view.owners, {}, *adopted)
        assert isinstance(view, OpenView | RootView)
        owners = view.base.owners if isinstance(view, OpenView) else base_owners(view)
        changed = {}
        for at, local, names in by_page(array_changes(view, entry)):
            page = owners.page(entry.id, at) or Page.empty(entry.spec.ndim)
            changed[at] = page.with_codes(local, names)
        return cls(entry.id, entry.spec.ndim, owners, changed, *adopted)

    @classmethod
    def empty(cls, view: View, entry: ArrayEntry) -> Grid:
        """Grid of an array that a version does not have."""
        return cls(entry.id, entry.spec.ndim, nothing(view.storage, view.node).owners)

    def page(self, at: Coord) -> Page | None:
        """The page at a page coordinate, or None where nothing was ever written."""
        found = self.changed.get(at) or self.owners.page(self.array, at)
        return found if self.source is None else self._with_source(at, found)

    def pages(self) -> Iterator[tuple[Coord, Page]]:
        """Every page that some version wrote: its coordinate, and what it says."""
        for at, page in self._written():
            yield at, page if self.source is None else self._with_source(at, page) or page

    def _written(self) -> Iterator[tuple[Coord, Page]]:
        for at, ref in self.owners.pages(self.array):
            if at not in self.changed:
                yield at, self.owners.reader.page(ref)
        yield from self.changed.items()

    def _with_source(self, at: Coord, page: Page | None) -> Page | None:
        """A page in which the root owns what nobody wrote and the source may have."""
        assert self.source is not None
        n = side(self.ndim)
        lo = tuple(a * n for a in at)
        inside = slices(intersect(self.source, (lo, tuple(a + n for a in lo))), lo)
        mine = np.zeros((n,) * self.ndim, bool)
        mine[tuple(slice(s.start, max(s.start, s.stop)) for s in inside)] = True
        codes = np.zeros(n**self.ndim, np.uint8) if page is None else page.codes
        local = np.flatnonzero(mine.reshape(-1) & (codes == ABSENT))
        return (page or Page.empty(self.ndim)).with_codes(local, [self.root] * local.size) if local.size else page

    def stored(self) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
        """Chunks that versions stored, page by page: global chunk coordinates, shape (n, ndim), and each one's owner.

        Raises
        ------
        ConflictError
            If the array has chunks that merged versions changed differently.
        """
        for at, page in self._written():
            unresolved = np.flatnonzero(page.codes == CONFLICT)
            if unresolved.size:
                coords = [tuple(c) for c in self.coords(at, unresolved).tolist()]
                some = ", ".join(map(str, coords[:3])) + (", ..." if len(coords) > 3 else "")
                raise ConflictError(f"{self.array.path} has chunks in conflict, at chunk coordinates {some}", coords)
            local = np.flatnonzero(page.codes >= FIRST_OWNER)
            if local.size:
                owners = [page.owners[c - FIRST_OWNER] for c in page.codes[local].tolist()]
                yield self.coords(at, local), owners

    def is_unwritten(self, coord: Coord) -> bool:
        """Whether no version ever wrote or deleted a chunk."""
        n = side(self.ndim)
        page = self.changed.get(tuple(c // n for c in coord))
        if page is None:
            return self.owners.owner(self.array, coord) == ABSENT
        local = 0
        for c in coord:
            local = local * n + c % n
        return page.owner(local) == ABSENT

    def conflicts(self) -> list[Coord]:
        """Chunks that merged versions changed differently, and that nobody has written since."""
        return [
            tuple(coord)
            for at, page in self._written()
            for coord in self.coords(at, np.flatnonzero(page.codes == CONFLICT)).tolist()
        ]

    def coords(self, at: Coord, local: NDArray[np.int64]) -> NDArray[np.int64]:
        """Global chunk coordinates, shape (n, ndim), of places in the page at `at`."""
        return coords_in(at, local, side(self.ndim), self.ndim)


def pages_that_differ(a: Grid, b: Grid) -> set[Coord]:
    """Page coordinates at which two versions of one array may differ; what they share is not even opened."""
    return differing_pages(a.array, [a.owners, b.owners]) | a.changed.keys() | b.changed.keys()
