"""Owner pages of several versions joined by the three-way rule, a page at a time; pages that all share aren't read.

What one side alone changed keeps the page that this side has: only pages in which both did something are new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Box, Coord, intersect, is_empty, slices
from vzarr.overlay.hierarchy.tree import ArrayId
from vzarr.overlay.owners.directory import (
    ABSENT,
    CONFLICT,
    DELETED,
    FIRST_OWNER,
    Owners,
    PackWriter,
    Page,
    Ref,
    coords_in,
    encode_block,
    side,
)
from vzarr.overlay.threeway.rule import Clash, History, Tips, latest

Codes = NDArray[np.int64]
Owner = str | int


@dataclass
class Found:
    """What joining one page came to.

    Parameters
    ----------
    codes
        One per chunk, with the palette of the `PageJoin`; below 0 a clash.
    clashes
        Coordinates of chunks in conflict (n, ndim), and for each what it is between.
    """

    codes: Codes
    clashes: list[tuple[Coord, Clash]] = field(default_factory=list)


class PageJoin:
    """The pages of one array in versions that are joined.

    Parameters
    ----------
    history
        The graph.
    array
        Identity of the array.
    ndim
        Number of its axes.
    owners
        Gives the owners of a version.
    source
        Chunks that an adopted array's source may have: there, to delete a chunk is not to never have written it.
    """

    def __init__(
        self,
        history: History,
        array: ArrayId,
        ndim: int,
        owners: Callable[[str], Owners],
        source: Box | None = None,
    ) -> None:
        self.array, self.ndim = array, ndim
        self._source = source
        self._history, self._owners, self._latest = history, owners, latest(history)
        self._place: dict[str, int] = {}
        self._names: list[str] = []
        self._clashes: list[Clash] = []

    def differing(self, nodes: Sequence[str]) -> list[Coord]:
        """Page coordinates at which not all of some versions share one page."""
        return sorted(differing_pages(self.array, [self._owners(n) for n in nodes]))

    def page(self, at: Coord, tips: Tips) -> Found:
        """A page after joining some versions; its clashes are in the order of chunks."""
        codes = self.codes(at, tips)
        # What one version left in conflict, and no other resolved, is one of the merge too.
        kept = (codes == CONFLICT) & ~np.all([self._leaf(at, t) == CONFLICT for t in tips], axis=0)
        stuck = np.flatnonzero((codes < 0) | kept)
        coords = coords_in(at, stuck, side(self.ndim), self.ndim).tolist()
        clashes = [self._clash(c) if c < 0 else Clash((CONFLICT,)) for c in codes[stuck].tolist()]
        return Found(codes, list(zip(map(tuple, coords), clashes, strict=True)))

    def codes(self, at: Coord, tips: Tips) -> Codes:
        """Codes of a page after joining some versions: `ABSENT`, `CONFLICT`, an owner's, or below 0 a clash's."""
        found = self._leaf(at, tips[0])
        for node, bases in self._history.steps(tips):
            other = self._leaf(at, node)
            differ = found != other
            if not differ.any():
                continue
            base = self.codes(at, bases)
            # A version that kept a conflict has in place of the clash itself the code for any conflict.
            as_before = (found == base) | ((found == CONFLICT) & (base < 0))
            other_as_before = (other == base) | ((other == CONFLICT) & (base < 0))
            both = differ & ~as_before & ~other_as_before
            found = np.where(differ & as_before, other, found)
            if both.any():
                pairs, which = np.unique(np.stack([found[both], other[both]]), axis=1, return_inverse=True)
                decided = [self._join(a, b) for a, b in pairs.T.tolist()]
                found[both] = np.array(decided, np.int64)[which.reshape(-1)]
        return found

    def code(self, owner: Owner) -> int:
        """Code of an owner."""
        if isinstance(owner, int):
            return owner
        if owner not in self._place:
            self._place[owner] = FIRST_OWNER + len(self._names)
            self._names.append(owner)
        return self._place[owner]

    def made(self, at: Coord, found: Found, pages: Sequence[Page | None]) -> Page:
        """A page of its own for what was found; what some version has and the merge has not is deleted there."""
        codes = np.where(found.codes < 0, CONFLICT, found.codes)
        gone = (codes == ABSENT) & ~self._hidden(at)
        for page in pages:
            if page is not None:
                codes[gone & (page.codes != ABSENT)] = DELETED
        return Page(tuple(self._names), codes)

    def same_as(self, at: Coord, found: Found, page: Page | None) -> bool:
        """Whether a page that is there already says what was found."""
        return not found.clashes and bool(np.array_equal(found.codes, self._of(at, page)))

    def _leaf(self, at: Coord, node: str) -> Codes:
        return self._of(at, self._owners(node).page(self.array, at))

    def _of(self, at: Coord, page: Page | None) -> Codes:
        if page is None:
            return np.zeros(side(self.ndim) ** self.ndim, np.int64)
        table = np.array([ABSENT, DELETED, CONFLICT, *map(self.code, page.owners)], np.int64)
        codes: Codes = table[page.codes]
        codes[(codes == DELETED) & ~self._hidden(at)] = ABSENT
        return codes

    def _hidden(self, at: Coord) -> NDArray[np.bool_]:
        """Which chunks of a page an adopted array's source may have."""
        n = side(self.ndim)
        found = np.zeros((n,) * self.ndim, bool)
        if self._source is not None:
            lo = tuple(a * n for a in at)
            inside = intersect(self._source, (lo, tuple(a + n for a in lo)))
            if not is_empty(inside):
                found[slices(inside, lo)] = True
        return found.reshape(-1)

    def _join(self, a: int, b: int) -> int:
        values = tuple(dict.fromkeys(v for code in (a, b) for v in self._values(code)))
        joined = self._latest(values)
        if not isinstance(joined, Clash):
            return self.code(joined)
        if joined not in self._clashes:
            self._clashes.append(joined)
        return -1 - self._clashes.index(joined)

    def _values(self, code: int) -> tuple[Owner, ...]:
        if code < 0:
            return self._clash(code).values
        return (code if code < FIRST_OWNER else self._names[code - FIRST_OWNER],)

    def _clash(self, code: int) -> Clash:
        return self._clashes[-1 - code]


def differing_pages(array: ArrayId, sources: Sequence[Owners]) -> set[Coord]:
    """Page coordinates at which not all sources share one page; equal directory blocks are not even opened.

    The pages themselves are read ahead: whoever asks wants them next.
    """
    found: set[Coord] = set()
    ahead: set[Ref] = set()
    for where, opened in _differing_blocks(array, sources):
        n, ndim = side(len(where)), len(where)
        for local in set().union(*opened):
            places = [o.get(local) for o in opened]
            if any(p != places[0] for p in places):
                found.add(_at(where, local, n, ndim))
                ahead.update(p for p in places if p is not None)
    if sources:
        sources[0].reader.expect(ahead)
    return found


def _differing_blocks(array: ArrayId, sources: Sequence[Owners]) -> Iterator[tuple[Coord, list[Mapping[int, Ref]]]]:
    blocks = [s.table.arrays.get(array, {}) for s in sources]
    for where in set().union(*blocks):
        refs = [b.get(where) for b in blocks]
        if any(r != refs[0] for r in refs):
            yield where, [s.reader.block(r) if r is not None else {} for s, r in zip(sources, refs, strict=True)]


def _at(where: Coord, local: int, n: int, ndim: int) -> Coord:
    inside = np.unravel_index(local, (n,) * ndim) if ndim else ()
    return tuple(w * n + int(i) for w, i in zip(where, inside, strict=True))


def common_codes(page: Page | None, order: Mapping[str, int], size: int) -> Codes:
    """Codes of a page's `size` chunks with one palette for several pages: `order` gives each owner's code."""
    if page is None:
        return np.zeros(size, np.int64)
    table = np.array([ABSENT, DELETED, CONFLICT, *(order[o] for o in page.owners)], np.int64)
    return np.asarray(table[page.codes])


Decide = Callable[[Coord, Clash], Owner | None]
"""Owner of a chunk in conflict, or None where it stays in conflict."""


def join_array(
    join: PageJoin, tips: Tips, sources: Sequence[Owners], pack: PackWriter, resolve: Decide
) -> dict[Coord, Ref]:
    """Directory blocks of an array after a merge: those of a version where it has all, new ones in `pack` elsewhere.

    Parameters
    ----------
    tips, sources
        The versions that have the array, and their owners.
    resolve
        Asked about every chunk in conflict.
    """
    first = dict(sources[0].table.arrays.get(join.array, {}))
    for where, opened in sorted(_differing_blocks(join.array, sources), key=lambda item: item[0]):
        block = dict(opened[0])
        n = side(join.ndim)
        for local in sorted(set().union(*opened)):
            refs = [o.get(local) for o in opened]
            if any(r != refs[0] for r in refs):
                block[local] = _joined(join, tips, sources, pack, resolve, _at(where, local, n, join.ndim), refs)
        same = [
            s.table.arrays.get(join.array, {}).get(where) for s, o in zip(sources, opened, strict=True) if o == block
        ]
        first[where] = next((ref for ref in same if ref is not None), None) or pack.add(encode_block(block))
    return first


def _joined(
    join: PageJoin,
    tips: Tips,
    sources: Sequence[Owners],
    pack: PackWriter,
    resolve: Decide,
    at: Coord,
    refs: Sequence[Ref | None],
) -> Ref:
    found = join.page(at, tips)
    n = side(join.ndim)
    left: list[tuple[Coord, Clash]] = []
    for coord, clash in found.clashes:
        owner = resolve(coord, clash)
        if owner is None:
            left.append((coord, clash))
        else:
            found.codes[_local(coord, n)] = join.code(owner)
    found.clashes = left
    pages = [s.page(join.array, at) for s in sources]
    for page, ref in zip(pages, refs, strict=True):
        if ref is not None and join.same_as(at, found, page):
            return ref
    return pack.add(join.made(at, found, pages).encode())


def _local(coord: Coord, n: int) -> int:
    local = 0
    for c in coord:
        local = local * n + c % n
    return local
