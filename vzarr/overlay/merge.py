"""Joining versions: a three-way merge of owner pages, metadata trees and loose keys; cost by what differs.

A chunk that one side changed since the common ancestors takes that side's owner.  Changed on both, it takes the owner
that descends from the other, if one does; else it is a conflict, and so is a deletion against a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError
from vzarr.geometry import Box, Coord
from vzarr.overlay import layout, seal
from vzarr.overlay.adopted import covers, source_box
from vzarr.overlay.dag import Parents, independent, merge_bases
from vzarr.overlay.objects import Objects
from vzarr.overlay.owners import (
    ABSENT,
    CONFLICT,
    DELETED,
    FIRST_OWNER,
    Owners,
    PackWriter,
    Page,
    Table,
    side,
)
from vzarr.overlay.tree import ArrayEntry, ArrayId, Entry, Tree, with_window
from vzarr.overlay.views import SealedView

if TYPE_CHECKING:
    from vzarr.overlay.state import State
    from vzarr.overlay.version import Version

Conflict = tuple[str, Box | None]
"""Path of an array (or group) and voxel box (zyx) of a chunk in conflict; no box for the metadata themselves."""

Owner = str | int

_SHOWN = 5
_SOURCE = -1
"""Owner, while deciding, of what no version wrote and an adopted source may have."""


class Joiner(NamedTuple):
    """What a merge asks those who know the datatypes.

    Parameters
    ----------
    derived
        Whether the array at a path is made from others.
    conflicts
        What versions, about to be merged, disagree about beyond chunks.
    join
        Lets the instances of the new version join what it brought together; whoever opens one may do it too.
    """

    derived: Callable[[State, str], bool]
    conflicts: Callable[[Sequence[Version]], Sequence[Any]]
    join: Callable[[Version], None]


@dataclass
class Joined:
    """What a merge comes to: the tree, the owner table, and the pages that only this merge has."""

    tree: Tree
    table: Table
    pack: PackWriter
    conflicts: list[Conflict] = field(default_factory=list)


def merge_views(
    child: str,
    heads: Sequence[str],
    parents: Parents,
    load: Callable[[str], SealedView],
    *,
    keep_conflicts: bool,
    derived: Callable[[str], bool] = lambda _path: False,
) -> Joined:
    """Join sealed versions.

    Parameters
    ----------
    child
        Id of the version that the merge will make.
    heads
        Ids of the versions to join; the first one's metadata win where conflicts are kept.
    parents
        Gives a version's parents.
    load
        Gives a version's view.
    keep_conflicts
        Record conflicting chunks as such instead of raising.
    derived
        Whether the array at a path is made from others: its chunks in conflict are recorded as such, but do not
        count as conflicts, since somebody will make them anew.

    Raises
    ------
    ConflictError
        If there are conflicts and they are not to be kept.
    """
    tips = independent(heads, parents)
    views = [load(h) for h in tips]
    bases = [load(b) for b in merge_bases(tips, parents)]
    rule = Rule(parents)
    joined = Joined(Tree(), Table(), PackWriter(child))
    joined.tree = _merge_trees(views, bases, rule, joined.conflicts)
    changes: dict[ArrayId, dict[Coord, Owner]] = {}
    for path, entry in joined.tree.arrays().items():
        found: list[Conflict] = []
        changes[entry.id] = _merge_array(path, entry, views, bases, rule, found)
        joined.conflicts += [] if derived(path) else found
    if not keep_conflicts:
        refuse(joined.conflicts, [f"{p} {b}" if b else p for p, b in joined.conflicts[:_SHOWN]])
    # Pages that differ from the first head's are the merge's own; all others are shared with it.
    joined.table = joined.pack.update(views[0].owners, changes, changes)
    return joined


def refuse(conflicts: Sequence[Any], named: Sequence[str] | None = None) -> None:
    """Raise when there are conflicts; `named` says what to call the first few."""
    if conflicts:
        shown = ", ".join(named or [str(c) for c in conflicts[:_SHOWN]])
        raise ConflictError(f"{len(conflicts)} conflicts: {shown}{' …' if len(conflicts) > _SHOWN else ''}", conflicts)


def write_base(objects: Objects, child: str, parents: Sequence[str], joined: Joined) -> seal.Record:
    """Write what a merge came to as the base of the version `child`, and give its record."""
    if joined.pack.parts:
        objects.put(layout.owner_pages(child), b"".join(joined.pack.parts))
    tree = seal.write_part(objects, child, layout.tree, joined.tree.to_bytes(), None)
    table = seal.write_part(objects, child, layout.owner_table, joined.table.to_bytes(), None)
    return seal.Record(tuple(parents), tree, table, pages=joined.pack.size)


@dataclass(frozen=True)
class Rule:
    """The merge rule for one chunk or loose key; `parents` gives a version's parents."""

    parents: Parents

    def decide(self, heads: Sequence[Owner], bases: Sequence[Owner]) -> Owner:
        """Owner after the merge, given the owners in the heads and in the common ancestors."""
        distinct = list(dict.fromkeys(heads))
        if len(distinct) == 1:
            return distinct[0]
        before = {ABSENT if b == DELETED else b for b in bases} or {ABSENT}
        changed = [o for o in distinct if (ABSENT if o == DELETED else o) not in before]
        if not changed:
            return distinct[0]
        if len(changed) == 1:
            return changed[0]
        owners = [o for o in changed if isinstance(o, str)]
        if len(owners) == len(changed):
            last = independent(owners, self.parents)
            if len(last) == 1:
                return last[0]
        return CONFLICT


def _merge_array(
    path: str,
    entry: ArrayEntry,
    views: Sequence[SealedView],
    bases: Sequence[SealedView],
    rule: Rule,
    conflicts: list[Conflict],
) -> dict[Coord, Owner]:
    """Chunks in which the merge differs from the first head."""
    changes: dict[Coord, Owner] = {}
    sources = [v.owners for v in views]
    adopted = source_box(entry)
    for at in sorted(differing_pages(entry.id, sources)):
        pages = [o.page(entry.id, at) for o in sources]
        old = [b.owners.page(entry.id, at) for b in bases]
        for coord, local in _differing_chunks(pages, at, entry.spec.ndim):
            nobody = _SOURCE if adopted is not None and covers(adopted, coord) else ABSENT
            owner = rule.decide([_owner(p, local, nobody) for p in pages], [_owner(p, local, nobody) for p in old])
            owner = ABSENT if owner == _SOURCE else owner
            if owner != _owner(pages[0], local, ABSENT):
                changes[coord] = owner
            if owner == CONFLICT:
                conflicts.append((path, _box(coord, entry)))
    return changes


def differing_pages(array: ArrayId, sources: Sequence[Owners]) -> set[Coord]:
    """Page coordinates at which not all sources share one page; equal directory blocks are not even opened."""
    blocks = [s.table.arrays.get(array, {}) for s in sources]
    found: set[Coord] = set()
    for where in set().union(*blocks):
        refs = [b.get(where) for b in blocks]
        if all(r == refs[0] for r in refs):
            continue
        opened = [s.reader.block(r) if r is not None else {} for s, r in zip(sources, refs, strict=True)]
        n, ndim = side(len(where)), len(where)
        for local in set().union(*opened):
            places = [o.get(local) for o in opened]
            if any(p != places[0] for p in places):
                inside = np.unravel_index(local, (n,) * ndim) if ndim else ()
                found.add(tuple(w * n + int(i) for w, i in zip(where, inside, strict=True)))
    return found


def _differing_chunks(pages: Sequence[Page | None], at: Coord, ndim: int) -> list[tuple[Coord, int]]:
    n = side(ndim)
    names = {o for p in pages if p is not None for o in p.owners}
    order = {o: i + FIRST_OWNER for i, o in enumerate(sorted(names))}
    columns = [common_codes(p, order, n**ndim) for p in pages]
    differs = np.zeros(n**ndim, bool)
    for column in columns[1:]:
        differs |= column != columns[0]
    found = []
    for local in np.flatnonzero(differs).tolist():
        inside = np.unravel_index(local, (n,) * ndim) if ndim else ()
        found.append((tuple(a * n + int(i) for a, i in zip(at, inside, strict=True)), local))
    return found


def common_codes(page: Page | None, order: Mapping[str, int], size: int) -> NDArray[np.int64]:
    """Codes of a page's `size` chunks with one palette for several pages: `order` gives each owner's code."""
    if page is None:
        return np.zeros(size, np.int64)
    table = np.array([ABSENT, DELETED, CONFLICT, *(order[o] for o in page.owners)], np.int64)
    return np.asarray(table[page.codes])


def _owner(page: Page | None, local: int, nobody: Owner) -> Owner:
    owner = ABSENT if page is None else page.owner(local)
    return nobody if owner == ABSENT else owner


def _box(coord: Coord, entry: ArrayEntry) -> Box | None:
    chunks = entry.spec.chunks
    if chunks is None:
        return None
    lo = tuple(c * n for c, n in zip(coord, chunks, strict=True))
    return lo, tuple(a + n for a, n in zip(lo, chunks, strict=True))


def _merge_trees(
    views: Sequence[SealedView], bases: Sequence[SealedView], rule: Rule, conflicts: list[Conflict]
) -> Tree:
    entries: dict[str, Entry] = {}
    for path in sorted(set().union(*(v.entries for v in views))):
        sides = [v.entries.get(path) for v in views]
        entry = _merge_entry(path, sides, [b.entries.get(path) for b in bases], conflicts)
        if entry is None and any(_chunks_changed(s, views, bases) for s in sides if s is not None):
            conflicts.append((path, None))
            entry = next(s for s in sides if s is not None)
        if entry is not None:
            entries[path] = entry
    loose: dict[str, str] = {}
    for key in sorted(set().union(*(v.loose() for v in views))):
        owner = rule.decide([v.loose().get(key, ABSENT) for v in views], [b.loose().get(key, ABSENT) for b in bases])
        if owner == CONFLICT:
            conflicts.append((key, None))
            owner = next(v.loose()[key] for v in views if key in v.loose())
        if isinstance(owner, str):
            loose[key] = owner
    return Tree(entries, loose)


def _merge_entry(
    path: str, sides: Sequence[Entry | None], bases: Sequence[Entry | None], conflicts: list[Conflict]
) -> Entry | None:
    distinct = [s for i, s in enumerate(sides) if s not in sides[:i]]
    changed = [s for s in distinct if s not in bases] if bases else distinct
    if len(distinct) == 1 or not changed:
        return distinct[0]
    if len(changed) == 1:
        return changed[0]
    joined = _join_windows([s for s in changed if s is not None])
    if joined is None or None in changed:
        conflicts.append((path, None))
        return next(s for s in sides if s is not None)
    return joined


def _join_windows(changed: Sequence[Entry]) -> Entry | None:
    """One entry for several that differ in nothing but the space they cover, or None."""
    joined = changed[0]
    for other in changed[1:]:
        if not isinstance(joined, ArrayEntry) or not isinstance(other, ArrayEntry) or joined.id != other.id:
            return None
        grown, back = with_window(joined, other.window), with_window(other, joined.window)
        if grown != back:
            return None
        joined = grown
    return joined if isinstance(joined, ArrayEntry) else None


def _chunks_changed(entry: Entry, views: Iterable[SealedView], bases: Sequence[SealedView]) -> bool:
    """Whether some head's chunks of an array are not those of any common ancestor."""
    if not isinstance(entry, ArrayEntry):
        return False
    known = [b.owners.table.arrays.get(entry.id, {}) for b in bases]
    return any(v.owners.table.arrays[entry.id] not in known for v in views if entry.id in v.owners.table.arrays)
