"""Joining versions: metadata trees, owner pages and loose keys by the three-way rule; cost by what differs.

A chunk that one side changed since the common ancestors takes that side's owner.  Changed on both, it takes the owner
that descends from the other, if one does; else it is a conflict, and so is a deletion against a change.  Where both
stored the same bytes the first named is right: neither would see a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, partial
from typing import Any

import numpy as np

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.geometry import Box, Coord, intersect, is_empty
from vzarr.overlay import layout
from vzarr.overlay.chunks.codec import codec_of
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Tree
from vzarr.overlay.hierarchy.windows import with_window
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.owners.directory import ABSENT, CONFLICT, DELETED, PackWriter, Ref, Table
from vzarr.overlay.reading import regions
from vzarr.overlay.sealing import seal
from vzarr.overlay.sources.adopted import covers, source_box
from vzarr.overlay.threeway.disputes import Conflict, Dispute, Held, Judge, Value, first_places
from vzarr.overlay.threeway.pages import Owner, PageJoin, join_array
from vzarr.overlay.threeway.rule import Clash, History, Tips, decide, latest
from vzarr.overlay.threeway.trees import Placed, TreeJoin
from vzarr.overlay.views.base import SealedView, loose_place


class Kind(Enum):
    """What a datatype makes of an array: itself, something made from others, something that is counted elsewhere.

    Chunks of a derived array in conflict are recorded as such, but do not count as conflicts, since somebody will make
    them anew; those of an indexed one can be taken from a side, but not be made.
    """

    PLAIN, DERIVED, INDEXED = range(3)


@dataclass
class Joined:
    """What a merge comes to: the tree, the owner table, the pages that only this merge has, and what was decided.

    Parameters
    ----------
    made
        Objects of the new version itself, by key: what a resolver made.
    """

    tree: Tree
    table: Table
    pack: PackWriter
    made: Mapping[str, bytes] = field(default_factory=dict)


class Merger:
    """One merge of sealed versions.

    Parameters
    ----------
    child
        Id of the version that the merge will make.
    tips
        Versions to join, none of which descends from another.
    history
        The graph.
    load
        Gives a version's view.
    judge
        Decides about conflicts.
    kind
        What the array at a path is.
    """

    def __init__(
        self,
        child: str,
        tips: Tips,
        history: History,
        load: Callable[[str], SealedView],
        judge: Judge,
        kind: Callable[[str], Kind] = lambda _path: Kind.PLAIN,
    ) -> None:
        self._child, self._tips, self._history, self._load = child, tips, history, load
        self._judge, self._kind = judge, kind
        self._bases = history.bases(tips)
        self._made: dict[str, bytes] = {}
        self._storage = load(tips[0]).storage
        self._digests = cache(partial(seal.object_digests, self._storage.objects))

    def join(self) -> Joined:
        """Join everything; nothing is written.

        Raises
        ------
        InvalidInputError
            If a resolver answered something that cannot be.
        """
        pack = PackWriter(self._child)
        tree = TreeJoin(self._history, self._tips, lambda n: self._load(n).entries, self._same_chunks, self._judge)
        placed = tree.join()
        blocks: dict[ArrayId, Mapping[Coord, Ref]] = {}
        entries = {path: held.entry for path, held in placed.items()}
        for path, held in placed.items():
            if isinstance(held.entry, ArrayEntry):
                chosen: dict[Coord, Owner | None] = {}
                found = self._join_chunks(path, held.entry, held, pack, chosen)
                if found:
                    blocks[held.entry.id] = found
                entries[path] = self._showing(held.entry, held.tips, chosen)
        return Joined(Tree(entries, self._loose()), Table(blocks), pack, self._made)

    # -- chunks

    def _pages(self, entry: ArrayEntry) -> PageJoin:
        return PageJoin(self._history, entry.id, entry.spec.ndim, lambda n: self._load(n).owners, source_box(entry))

    def _same_chunks(self, entry: ArrayEntry, one: Tips, other: Tips) -> bool:
        pages = self._pages(entry)
        differing = pages.differing([*one, *other])
        return all(np.array_equal(pages.codes(at, one), pages.codes(at, other)) for at in differing)

    def _join_chunks(
        self, path: str, entry: ArrayEntry, held: Placed, pack: PackWriter, chosen: dict[Coord, Owner | None]
    ) -> Mapping[Coord, Ref]:
        def resolve(coord: Coord, clash: Clash) -> Owner | None:
            if kind == Kind.DERIVED:
                return None
            chosen[coord] = self._decide_chunk(path, entry, held.tips, coord, clash)
            return chosen[coord]

        kind = self._kind(path)
        sources = [self._load(t).owners for t in held.tips]
        return join_array(self._pages(entry), held.tips, sources, pack, resolve)

    def _showing(self, entry: ArrayEntry, tips: Tips, chosen: Mapping[Coord, Owner | None]) -> ArrayEntry:
        """An array whose window holds what it would not show of the chunks that were in conflict.

        One version cut off what another changed: if the change was right, so was the window in which it was seen.
        """
        windows = {t: e.window for t in tips for e in self._load(t).tree.arrays().values() if e.id == entry.id}
        for coord, owner in sorted(chosen.items()):
            box = box_of(coord, entry)
            if box is None or owner in (ABSENT, DELETED) or not is_empty(intersect(box, entry.window)):
                continue
            made = owner is None or owner == self._child
            for tip, window in windows.items():
                shown = intersect(box, window)
                if not is_empty(shown) and (made or self._owner(tip, entry, coord) == owner):
                    entry = with_window(entry, shown)
        return entry

    def _decide_chunk(self, path: str, entry: ArrayEntry, tips: Tips, coord: Coord, clash: Clash) -> Owner | None:
        # A side that was left in conflict itself can decide nothing.
        values = [v for v in clash.values if v != CONFLICT]
        owners = [self._owner(t, entry, coord) for t in tips]
        if self._alike(clash, lambda n: self._storage.chunk_key(n, entry, coord)):
            return next(o for o in owners if o in clash.values)
        changed = tuple(self._tips.index(tips[i]) for i in first_places(owners, values or clash.values))
        conflict = Conflict.at(path, box_of(coord, entry))
        held = [tuple(self._held(n, entry, coord) for n in nodes) for nodes in (self._tips, self._bases)]
        answer = self._judge.decide(Dispute(conflict, held[0], held[1], changed))
        if isinstance(answer, Value):
            if self._kind(path) == Kind.INDEXED:
                raise UnsupportedError(f"{conflict}: answer with one of the sides; what its chunks hold is counted")
            return self._make_chunk(conflict, entry, coord, answer.value)
        if answer is None:
            return None
        owner = self._owner(self._tips[answer], entry, coord)
        return None if owner == CONFLICT else owner

    def _owner(self, node: str, entry: ArrayEntry, coord: Coord) -> Owner:
        owner = self._load(node).owners.owner(entry.id, coord)
        adopted = source_box(entry)
        hides = adopted is not None and covers(adopted, coord)
        return ABSENT if owner == DELETED and not hides else owner

    def _held(self, node: str, entry: ArrayEntry, coord: Coord) -> Held:
        def load() -> Any:
            view = self._load(node)
            own = next((e for e in view.tree.arrays().values() if e.id == entry.id), None)
            return None if own is None else next(iter(regions.read_chunks(view, own, [coord])))[1]

        return Held(node, load)

    def _make_chunk(self, conflict: Conflict, entry: ArrayEntry, coord: Coord, value: Any) -> Owner:
        codec = codec_of(entry)
        try:
            given = np.asarray(value)
            with np.errstate(invalid="ignore"):  # NaN and the like as integers: seen by comparing
                voxels = np.ascontiguousarray(given, codec.dtype)
        except (TypeError, ValueError, OverflowError) as e:
            raise InvalidInputError(f"{conflict}: no {codec.dtype} can be made of the answer: {e}") from e
        if codec.dtype.kind in "iu" and not np.array_equal(voxels, given):
            raise InvalidInputError(f"{conflict}: the answer has values that no {codec.dtype} is equal to")
        if voxels.shape != codec.shape:
            raise InvalidInputError(f"{conflict}: the answer has shape {voxels.shape}, the chunk {codec.shape}")
        self._made[self._storage.chunk_key(self._child, entry, coord)] = codec.encode(voxels)
        return self._child

    def _alike(self, clash: Clash, place: Callable[[str], str]) -> bool:
        """Whether what is in conflict are objects of the same bytes, by the lists of checksums."""
        nodes = [v for v in clash.values if isinstance(v, str)]
        found = {self._digests(node).get(place(node)) for node in nodes}
        return len(nodes) == len(clash.values) and len(found) == 1 and None not in found

    # -- loose keys

    def _loose(self) -> dict[str, str]:
        views = [self._load(t) for t in self._tips]
        found: dict[str, str] = {}
        for key in sorted(set().union(*(v.loose() for v in views))):
            owner = decide(self._history, self._tips, partial(self._loose_owner, key), latest(self._history))
            if isinstance(owner, Clash):
                owner = self._decide_loose(key, owner)
            if owner is not None:
                found[key] = owner
        return found

    def _loose_owner(self, key: str, node: str) -> str | None:
        return self._load(node).loose().get(key)

    def _decide_loose(self, key: str, clash: Clash) -> str | None:
        owners = [self._loose_owner(key, t) for t in self._tips]
        if self._alike(clash, lambda n: loose_place(self._storage, n, key)):
            return next(o for o in owners if o in clash.values)
        held = [tuple(self._held_loose(n, key) for n in nodes) for nodes in (self._tips, self._bases)]
        dispute = Dispute(
            Conflict.at(key, None, "a key beside arrays"), held[0], held[1], first_places(owners, clash.values)
        )
        answer = self._judge.decide(dispute)
        if isinstance(answer, Value):
            if not isinstance(answer.value, bytes):
                raise InvalidInputError(f"{key}: answer with bytes, not {type(answer.value).__name__}")
            self._made[layout.loose(self._child, key)] = answer.value
            return self._child
        return owners[answer] if answer is not None else next(o for o in owners if o is not None)

    def _held_loose(self, node: str, key: str) -> Held:
        def load() -> bytes | None:
            found = self._load(node).read_loose(key)
            return None if found is None else found[0]

        return Held(node, load)


def write_base(objects: Objects, child: str, parents: Sequence[str], joined: Joined) -> seal.Record:
    """Write what a merge came to as the base of the version `child`, and give its record."""
    for key, data in joined.made.items():
        objects.put(key, data)
    if joined.pack.parts:
        objects.put(layout.owner_pages(child), b"".join(joined.pack.parts))
    place = layout.of_base(child)
    tree = seal.write_part(objects, place, layout.tree, joined.tree.to_bytes(), None)
    table = seal.write_part(objects, place, layout.owner_table, joined.table.to_bytes(), None)
    return seal.Record(tuple(parents), tree, table, pages=joined.pack.size)


def box_of(coord: Coord, entry: ArrayEntry) -> Box | None:
    """Voxels of a chunk; None where the chunk grid is not regular."""
    chunks = entry.spec.chunks
    if chunks is None:
        return None
    lo = tuple(c * n for c, n in zip(coord, chunks, strict=True))
    return lo, tuple(a + n for a, n in zip(lo, chunks, strict=True))
