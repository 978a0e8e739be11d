"""The owner pages of one array as any version sees them: a sealed one's own, an open one's with its folder on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError
from vzarr.geometry import Coord
from vzarr.overlay.commit import array_changes, base_owners
from vzarr.overlay.merge import differing_pages
from vzarr.overlay.openview import OpenView
from vzarr.overlay.owners import CONFLICT, FIRST_OWNER, Owners, Page, by_page, coords_in, side
from vzarr.overlay.rootview import RootView
from vzarr.overlay.tree import ArrayEntry, ArrayId
from vzarr.overlay.views import SealedView, View, nothing


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
    """

    array: ArrayId
    ndim: int
    owners: Owners
    changed: Mapping[Coord, Page] = field(default_factory=dict)

    @classmethod
    def of(cls, view: View, entry: ArrayEntry) -> Grid:
        """Grid of an array that a version has."""
        if isinstance(view, SealedView):
            return cls(entry.id, entry.spec.ndim, view.owners)
        assert isinstance(view, OpenView | RootView)
        owners = view.base.owners if isinstance(view, OpenView) else base_owners(view)
        changed = {}
        for at, local, names in by_page(array_changes(view, entry)):
            page = owners.page(entry.id, at) or Page.empty(entry.spec.ndim)
            changed[at] = page.with_codes(local, names)
        return cls(entry.id, entry.spec.ndim, owners, changed)

    @classmethod
    def empty(cls, view: View, entry: ArrayEntry) -> Grid:
        """Grid of an array that a version does not have."""
        return cls(entry.id, entry.spec.ndim, nothing(view.storage, view.node).owners)

    def page(self, at: Coord) -> Page | None:
        """The page at a page coordinate, or None where nothing was ever written."""
        return self.changed.get(at) or self.owners.page(self.array, at)

    def pages(self) -> Iterator[tuple[Coord, Page]]:
        """Every page: its coordinate, and what it says."""
        for at, ref in self.owners.pages(self.array):
            if at not in self.changed:
                yield at, self.owners.reader.page(ref)
        yield from self.changed.items()

    def stored(self) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
        """Stored chunks page by page: global chunk coordinates, shape (n, ndim), and the owner of each.

        Raises
        ------
        ConflictError
            If the array has chunks that merged versions changed differently.
        """
        for at, page in self.pages():
            unresolved = np.flatnonzero(page.codes == CONFLICT)
            if unresolved.size:
                coords = [tuple(c) for c in self.coords(at, unresolved).tolist()]
                raise ConflictError(f"{self.array.path} has {len(coords)} or more chunks in conflict", coords)
            local = np.flatnonzero(page.codes >= FIRST_OWNER)
            if local.size:
                owners = [page.owners[c - FIRST_OWNER] for c in page.codes[local].tolist()]
                yield self.coords(at, local), owners

    def conflicts(self) -> list[Coord]:
        """Chunks that merged versions changed differently, and that nobody has written since."""
        return [
            tuple(coord)
            for at, page in self.pages()
            for coord in self.coords(at, np.flatnonzero(page.codes == CONFLICT)).tolist()
        ]

    def coords(self, at: Coord, local: NDArray[np.int64]) -> NDArray[np.int64]:
        """Global chunk coordinates, shape (n, ndim), of places in the page at `at`."""
        return coords_in(at, local, side(self.ndim), self.ndim)


def pages_that_differ(a: Grid, b: Grid) -> set[Coord]:
    """Page coordinates at which two versions of one array may differ; what they share is not even opened."""
    return differing_pages(a.array, [a.owners, b.owners]) | a.changed.keys() | b.changed.keys()
