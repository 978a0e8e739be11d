"""Merging branches: what both sides did to bodies, composed, and the index of what that touched made anew.

**Mapping.**  Three-way, supervoxel by supervoxel: who moved it since the common ancestors wins.  What one side added to
a body that the other made part of something larger goes on there with it; parts of a supervoxel that one side cut
follow to where the other side moved it.  A supervoxel that the sides moved to different bodies is a conflict; so is a
body that both sides made of different supervoxels under one number.

**Index.**  A block of the merged voxels is that of one of the sides, whose index knows what it holds: no voxel is read.

A version that joins others is composed once, by whoever opens it first (`ensure`): the merge itself has checked before
that nothing is in conflict, or was told to keep conflicts, and then the version named first wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError
from vzarr.overlay.history import dag
from vzarr.overlay.keys.mergekeys import Decided
from vzarr.types import voxels
from vzarr.types.atonce import will_wait
from vzarr.types.labelmap import cuts, edits, index, mapping, pages, pyramid, rows
from vzarr.types.labelmap.bodyconflict import BodyConflict
from vzarr.types.labelmap.edits import NOBODY, Edit
from vzarr.types.labelmap.rows import Counts, Header, Labels, unpack_blocks

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.types.base import Instance

_NOTHING = Counts(np.empty(0, np.uint64), np.empty(0, np.uint32))
_UNKNOWN = -1
_COMPOSED = {rows.HEADER, rows.INDEX, rows.MAPPING, rows.PAGE, rows.SPLIT}


class _Side:
    """One of the versions that are joined, and what was changed on the way to it."""

    def __init__(self, head: Instance, changed: Mapping[bytes, bytes | None]) -> None:
        self.head, self.keys, self.changed = head, head.keys, changed
        self.cut: dict[int, tuple[int, int]] = {}
        self.parent: dict[int, int] = {}
        for key, value in changed.items():
            if key[:1] == rows.SPLIT and value is not None:
                _, _, cut = cuts.decode_row(key, value)
                self.cut[cut.supervoxel] = cut.split, cut.remain
                self.parent.update({cut.split: cut.supervoxel, cut.remain: cut.supervoxel})

    def origin(self, supervoxel: int) -> int:
        """What a supervoxel was cut from on this side."""
        while supervoxel in self.parent:
            supervoxel = self.parent[supervoxel]
        return supervoxel

    def has(self, body: int) -> bool:
        """Whether the version has a body."""
        return self.keys.get(rows.header_key(body)) is not None


@dataclass(frozen=True)
class _Merge:
    """A merge of labelmaps: the sides, and the common ancestors."""

    sides: tuple[_Side, ...]
    bases: tuple[Instance, ...]

    @classmethod
    def of(cls, heads: Sequence[Instance]) -> _Merge:
        repo = heads[0].version.repo
        state = repo.state
        tips = dag.independent([h.version.uuid for h in heads], state.parents)
        lines = [set(dag.ancestry(tip, state.parents)) for tip in tips]
        common = set.intersection(*lines)
        found = {h.version.uuid: h for h in heads}
        sides = []
        for tip, line in zip(tips, lines, strict=True):
            # Oldest first, so that what a key holds at the end is what is kept of it.
            alone = sorted(line - common, key=lambda node: state.nodes[node].version_id)
            written = (row for node in alone for row in repo.keys.changes(node, heads[0].info))
            changed = {key: value for key, value in written if key[:1] in _COMPOSED}
            sides.append(_Side(found[tip], changed))
        bases = [heads[0].at(repo[node]) for node in dag.merge_bases(tips, state.parents)]
        return cls(tuple(sides), tuple(bases))

    # ------------------------------------------------------------ mapping

    @cached_property
    def supervoxels(self) -> list[int]:
        """Supervoxels whose body or place some side changed, and what they were cut from."""
        found = set()
        for side in self.sides:
            for key, value in side.changed.items():
                if key[:1] == rows.MAPPING:
                    found.add(int.from_bytes(key[1:], "big"))
                elif key[:1] == rows.PAGE and value is not None:
                    found.update(self._moved_by_page(value))
                elif key[:1] == rows.INDEX:
                    found.add(int.from_bytes(key[9:], "big"))
            found.update(side.cut, side.parent)
        return sorted(found)

    def _moved_by_page(self, value: bytes) -> set[int]:
        """Supervoxels of a page that a side wrote, without those that were mapped so before."""
        supervoxels, bodies = pages.decode(value)
        page = dict(zip(supervoxels.tolist(), bodies.tolist(), strict=True))
        before = [mapping.bodies_within(base.keys, list(page)) for base in self.bases]
        return {sv for sv, body in page.items() if not before or any(known[sv] != body for known in before)}

    @cached_property
    def at_heads(self) -> list[dict[int, int]]:
        """Per side the body of each of `supervoxels`."""
        return [mapping.bodies_within(side.keys, self.supervoxels) for side in self.sides]

    @cached_property
    def at_bases(self) -> list[dict[int, int]]:
        """Per common ancestor the body of each of `supervoxels`."""
        return [mapping.bodies_within(base.keys, self.supervoxels) for base in self.bases]

    def compose(self, places: Mapping[str, int] | None = None) -> tuple[dict[int, int], list[BodyConflict]]:
        """Body of each of `supervoxels` after the merge, and those about which the sides disagree.

        Parameters
        ----------
        places
            Which side is right, by `BodyConflict.name`; else the first that changed something is.
        """
        places, bodies, conflicts = places or {}, {}, []
        for supervoxel in self.supervoxels:
            said, before = self._said(supervoxel)
            final = self._agreed(supervoxel, said, before)
            if final is None:
                conflict = self._conflict(supervoxel, said, before)
                conflicts.append(conflict)
                final = said[places.get(conflict.name, conflict.changed[0])]
                if final == 0:
                    # One side cut it up and another gave it voxels that no part of it has: these stay its own.
                    final = next((b for b in said if b), supervoxel)
            bodies[supervoxel] = final
        twins = list(self._twins(bodies))
        for conflict in twins:
            if conflict.name in places:
                self._part(bodies, conflict, places[conflict.name])
        return bodies, conflicts + twins

    def _conflict(self, supervoxel: int, said: tuple[int, ...], before: set[int]) -> BodyConflict:
        changed = tuple(i for i, body in enumerate(said) if body not in before) or tuple(range(len(said)))
        return BodyConflict(self.sides[0].head.name, min(before, default=supervoxel), supervoxel, said, changed)

    def _part(self, bodies: dict[int, int], conflict: BodyConflict, place: int) -> None:
        """Leave a number to the body that one side made under it; what others made under it is as it was."""
        number = next(b for b in conflict.bodies if b not in self._said(conflict.supervoxel)[1])
        kept = set(index.read_supervoxels(self.sides[place].keys, number))
        for supervoxel, body in bodies.items():
            if body == number and supervoxel not in kept:
                bodies[supervoxel] = min(self._said(supervoxel)[1])

    def _said(self, supervoxel: int) -> tuple[tuple[int, ...], set[int]]:
        """Bodies of a supervoxel on the sides, and before; of what it was cut from where it is not known."""
        origins = [side.origin(supervoxel) for side in self.sides]
        elsewhere = next((o for o in origins if o != supervoxel), supervoxel)
        said = tuple(
            bodies[supervoxel if origin != supervoxel else elsewhere]
            for bodies, origin in zip(self.at_heads, origins, strict=True)
        )
        return said, {bodies[elsewhere] for bodies in self.at_bases} or {supervoxel}

    def _agreed(self, supervoxel: int, said: tuple[int, ...], before: set[int]) -> int | None:
        changed = list(dict.fromkeys(b for b in said if b not in before))
        if not changed:
            return said[0]
        cutters = [side for side in self.sides if supervoxel in side.cut]
        if len(cutters) == 1:
            # Its parts go where the other sides moved it; voxels that these gave it would be nobody's.
            return None if self._written_beside(cutters[0], supervoxel) else 0
        # A supervoxel without a voxel stays where a side left it, though the body went on without it there.
        alive = {b for side, b in zip(self.sides, said, strict=True) if side.has(b)}
        ends = {self._followed(b) if b in alive else b for b in changed}
        return ends.pop() if len(ends) == 1 else None

    def _written_beside(self, cutter: _Side, supervoxel: int) -> bool:
        """Whether a side that did not cut a supervoxel changed its voxels."""
        places = [(b.keys, at[supervoxel]) for b, at in zip(self.bases, self.at_bases, strict=True)]
        for side, at in zip(self.sides, self.at_heads, strict=True):
            if side is not cutter:
                places.append((side.keys, at[supervoxel]))
        parts = [index.read_parts(keys, {supervoxel: body}).get(supervoxel, _NOTHING) for keys, body in places if body]
        return not _same(parts)

    @cached_property
    def _ends(self) -> dict[int, int | None]:
        return {}

    def _followed(self, body: int) -> int | None:
        """Where a body is after all sides; None if it was torn apart on one, or they exchanged bodies."""
        if body not in self._ends:
            self._ends[body] = self._follow(body)
        return self._ends[body]

    def _follow(self, body: int) -> int | None:
        seen = set()
        at: int | None = body
        while at is not None and at not in seen:
            seen.add(at)
            onward = [self._became(side, at) for side in self.sides]
            moved = {target for target in onward if target != at}
            if not moved:
                return at
            at = moved.pop() if len(moved) == 1 else None
        return None

    def _became(self, side: _Side, body: int) -> int | None:
        """What a side made of a body as a whole: itself, another body, or None for several."""
        before = [base for base in self.bases if base.keys.get(rows.header_key(body)) is not None]
        if not before or side.has(body):
            return body
        svs = {sv for base in before for sv in index.read_supervoxels(base.keys, body)}
        while cut := svs & side.cut.keys():
            svs = (svs - cut).union(*(side.cut[sv] for sv in cut))
        targets = set(mapping.bodies_within(side.keys, sorted(svs)).values()) - {0, body}
        if not targets:
            return body
        return targets.pop() if len(targets) == 1 else None

    def _twins(self, bodies: Mapping[int, int]) -> Iterator[BodyConflict]:
        """Bodies that several sides made of different supervoxels under one number."""
        for body in sorted(set(bodies.values()) - {0}):
            if any(base.keys.get(rows.header_key(body)) is not None for base in self.bases):
                continue
            made = [frozenset(index.read_supervoxels(s.keys, body)) for s in self.sides if s.has(body)]
            other = next((svs for svs in made[1:] if svs.isdisjoint(made[0])), None)
            if other is not None:
                stranger = min(other)
                said, before = self._said(stranger)
                makers = tuple(i for i, side in enumerate(self.sides) if side.has(body))
                yield BodyConflict(self.sides[0].head.name, min(before), stranger, said, makers)

    # ------------------------------------------------------------ index

    def counts(self, merged: Instance) -> dict[int, Counts]:
        """Where each of `supervoxels` is in the merged voxels."""
        parts = [
            index.read_parts(side.keys, {sv: body for sv, body in bodies.items() if body})
            for side, bodies in zip(self.sides, self.at_heads, strict=True)
        ]
        every = {sv: [part.get(sv, _NOTHING) for part in parts] for sv in self.supervoxels}
        different = {sv: counts for sv, counts in every.items() if not _same(counts)}
        places = [c.blocks for several in different.values() for c in several]
        blocks = np.unique(np.concatenate([_NOTHING.blocks, *places]))
        source = self._source(merged, blocks)
        return {sv: _chosen(cs, blocks, source) if sv in different else cs[0] for sv, cs in every.items()}

    def _source(self, merged: Instance, blocks: Labels) -> NDArray[np.int64]:
        """From which side the merge has each block; `_UNKNOWN` for a block in conflict."""
        path = voxels.array_path(merged.folder)
        if not blocks.size or not merged.version.has_array(path):
            return np.zeros(blocks.size, np.int64)
        coords = [tuple(c) for c in unpack_blocks(blocks).tolist()]
        stuck = set(merged.version.conflicts(path))
        whole = [c for c in coords if c not in stuck]
        there = dict(zip(whole, merged.version.owners(path, whole), strict=True))
        owned = [
            side.head.version.owners(path, coords) if side.head.version.has_array(path) else [None] * len(coords)
            for side in self.sides
        ]
        found = np.full(blocks.size, _UNKNOWN, np.int64)
        for at, coord in enumerate(coords):
            if coord in there:
                found[at] = next((k for k, owners in enumerate(owned) if owners[at] == there[coord]), _UNKNOWN)
        return found

    def headers(self, bodies: Mapping[int, int], counts: Mapping[int, Counts]) -> dict[int, Header]:
        """Headers of all bodies that gained or lost something; those of bodies that are no more say 0 voxels."""
        first, known = self.sides[0], self.at_heads[0]
        before = index.read_parts(first.keys, {sv: body for sv, body in known.items() if body})
        change: dict[int, int] = {}
        for sv, final in bodies.items():
            change[known[sv]] = change.get(known[sv], 0) - (before[sv].total if sv in before else 0)
            change[final] = change.get(final, 0) + counts[sv].total
        touched = {int.from_bytes(k[1:], "big") for s in self.sides for k in s.changed if k[:1] == rows.HEADER}
        found = {}
        for body in (touched | change.keys() | {b for at in self.at_heads for b in at.values()}) - {0}:
            there = [index.read_header(side.keys, body) for side in self.sides]
            last = max((h for h in there if h is not None), key=lambda h: h.mutation_id, default=Header(0))
            size = (there[0].voxels if there[0] else 0) + change.get(body, 0)
            found[body] = replace(last, voxels=size)
        return found


def _same(counts: Sequence[Counts]) -> bool:
    first = counts[0] if counts else _NOTHING
    return all(np.array_equal(c.blocks, first.blocks) and np.array_equal(c.voxels, first.voxels) for c in counts[1:])


def _chosen(counts: Sequence[Counts], blocks: Labels, source: NDArray[np.int64]) -> Counts:
    """Counts of one supervoxel, each block's from the side whose block the merge has."""
    kept = [source[np.searchsorted(blocks, c.blocks)] == side for side, c in enumerate(counts)]
    return Counts.summed(
        np.concatenate([c.blocks[k] for c, k in zip(counts, kept, strict=True)]),
        np.concatenate([c.voxels[k].astype(np.int64) for c, k in zip(counts, kept, strict=True)]),
    )


# ---------------------------------------------------------------- what a merge asks for


def conflicts(heads: Sequence[Instance]) -> list[BodyConflict]:
    """What the sides of a merge that is about to be made disagree about."""
    return _Merge.of(heads).compose()[1]


def is_derived(path: str) -> bool:
    """Whether an array of a labelmap (path below the instance) is made from others: a coarser scale is."""
    return path.isdigit() and path != "0"


def ensure(instance: Instance) -> None:
    """Compose what a version joins, unless that was done; one look-up then."""
    info = instance.version.info
    if len(info.parents) < 2 or not instance.info.versioned or _is_composed(instance, info.version_id):
        return
    will_wait("composing a merge")
    merge = _Merge.of([instance.at(parent) for parent in instance.version.parents])
    pyramid.mend(instance)
    decided = Decided.load(instance.version.repo.objects, instance.version.uuid)
    bodies, _ = merge.compose(decided.places.get(instance.name))
    counts = merge.counts(instance)
    wanted = dict(_wanted(merge, bodies, counts))

    def change(edit: Edit) -> None:
        if _is_composed(instance, info.version_id):
            return
        for key, value in wanted.items():
            _make(edit.tx, key, value)
        edit.moved.update(bodies)
        edit.touched.update(bodies)
        edit.deed = None

    edits.run(instance, NOBODY, change)


def _is_composed(instance: Instance, version: int) -> bool:
    """Whether the version left a mark of its own."""
    try:
        found = instance.keys.get_with_version(rows.CHANGE)
    except ConflictError:
        return False
    return found is not None and found[0] == version


def _wanted(
    merge: _Merge, bodies: Mapping[int, int], counts: Mapping[int, Counts]
) -> Iterator[tuple[bytes, bytes | None]]:
    """All rows that the merge decides about; None for those that must not be."""
    for side in merge.sides:
        yield from ((key, None) for key in side.changed if key[:1] == rows.INDEX)
    # The pages become those of the first side; what they say of a supervoxel is right, or a row of its own says more.
    first = merge.sides[0].keys
    yield from ((key, first.get(key)) for s in merge.sides for key in s.changed if key[:1] == rows.PAGE)
    paged = pages.lookup(first, list(bodies))
    for sv, body in bodies.items():
        yield rows.mapping_key(sv), None if paged.get(sv, sv) == body else rows.number(body)
        for at in (*merge.at_heads, *merge.at_bases):
            if at[sv] and at[sv] != body:
                yield rows.index_key(at[sv], sv), None
        if body:
            yield rows.index_key(body, sv), counts[sv].encode() if counts[sv].blocks.size else None
    for body, header in merge.headers(bodies, counts).items():
        yield rows.header_key(body), header.encode() if header.voxels > 0 else None


def _make(tx: InstanceTxn, key: bytes, value: bytes | None) -> None:
    """Write a row unless it is so already."""
    with suppress(ConflictError):
        if tx.get(key) == value:
            return
    if value is None:
        tx.delete(key)
    else:
        tx.put(key, value)
