"""Where supervoxels are in the voxels of a merge, by the indexes of its sides: only blocks in conflict are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vzarr.types import voxels
from vzarr.types.labelmap import index, rows
from vzarr.types.labelmap.rows import Counts, Header, Labels, unpack_blocks
from vzarr.types.labelmap.sides import Sides, owners
from vzarr.types.labelmap.tally import tally

if TYPE_CHECKING:
    from vzarr.types.base import Instance

_NOTHING = Counts(np.empty(0, np.uint64), np.empty(0, np.uint32))


def supervoxels_in_conflict(merged: Instance, heads: Sequence[Instance]) -> set[int]:
    """Supervoxels in blocks that a merge has in conflict, as its parents have them: the index must forget these.

    Whoever writes such a block counts what is new in it, and nothing as lost.
    """
    path = voxels.array_path(merged.folder)
    stuck = merged.version.conflicts(path) if merged.version.has_array(path) else []
    found: set[int] = set()
    for head in heads if stuck else ():
        own = set(head.version.conflicts(path)) if head.version.has_array(path) else set(stuck)
        for _, block in head.version.read_chunks(path, [c for c in stuck if c not in own]):
            if block is not None:
                found.update(np.unique(block).tolist())
    return found - {0}


@dataclass(frozen=True)
class _Origins:
    """From which sides a merge has blocks.

    Parameters
    ----------
    blocks
        Shape (n,): packed, ascending.
    same
        bool, shape (sides, n): whether the merge has a block as a side has it.
    stuck
        bool, shape (n,): whether the block is in conflict.
    """

    blocks: Labels
    same: NDArray[np.bool_]
    stuck: NDArray[np.bool_]

    def chosen(self, counts: Sequence[Counts]) -> Counts:
        """Of what is counted on the sides, what the merge has."""
        kept = [self.same[place][self._at(c)] for place, c in enumerate(counts)]
        blocks = np.concatenate([c.blocks[k] for c, k in zip(counts, kept, strict=True)])
        voxels = np.concatenate([c.voxels[k] for c, k in zip(counts, kept, strict=True)])
        unique, first = np.unique(blocks, return_index=True)
        return Counts(unique, voxels[first])

    def may_have(self, place: int, counts: Counts) -> bool:
        """Whether the merge has something that is counted on a side, or may get it where a block is in conflict."""
        at = self._at(counts)
        return bool((self.same[place][at] | self.stuck[at]).any())

    def _at(self, counts: Counts) -> NDArray[np.intp]:
        return np.searchsorted(self.blocks, counts.blocks)


@dataclass(frozen=True)
class JoinedIndex:
    """The index of what the sides of a merge changed.

    Parameters
    ----------
    sides
        The sides.
    merged
        The labelmap at the version that joins them.
    """

    sides: Sides
    merged: Instance

    def places(self, supervoxel: int) -> list[int]:
        """Places of the sides from which the merge has, or may yet get, a block with a supervoxel."""
        counts = self._at_sides[supervoxel]
        return [place for place, c in enumerate(counts) if self._origins.may_have(place, c)]

    def counts(self, bodies: Mapping[int, int]) -> dict[int, Counts]:
        """Where each supervoxel is in the merged voxels; blocks in conflict hold nothing.

        Parameters
        ----------
        bodies
            Body of each supervoxel in the merge.
        """
        hidden = [self._hidden(place, bodies) for place in range(len(self.sides.sides))]
        if not any(hidden):
            return {sv: self._origins.chosen(counts) for sv, counts in self._at_sides.items()}
        every = {
            sv: [at_side.get(sv, c) for at_side, c in zip(hidden, counts, strict=True)]
            for sv, counts in self._at_sides.items()
        }
        origins = self._origins_of(every)
        return {sv: origins.chosen(counts) for sv, counts in every.items()}

    @cached_property
    def _at_sides(self) -> dict[int, list[Counts]]:
        parts = [
            index.read_parts(side.keys, {sv: body for sv, body in bodies.items() if body})
            for side, bodies in zip(self.sides.sides, self.sides.at_heads, strict=True)
        ]
        return {sv: [part.get(sv, _NOTHING) for part in parts] for sv in self.sides.supervoxels}

    def _hidden(self, place: int, bodies: Mapping[int, int]) -> dict[int, Counts]:
        """Where supervoxels are that are none on a side, and so not in its index, but were posted there.

        Blocks are read only if there may be some.
        """
        side, at = self.sides.sides[place], self.sides.at_heads[place]
        wanted = np.array([sv for sv, body in bodies.items() if body and not at[sv]], np.uint64)
        if not wanted.size or not side.posted:
            return {}
        path, version = voxels.array_path(self.merged.folder), side.head.version
        differing = [p for base in self.sides.bases for p in version.repo.diff(base.version, version).paths]
        changed = {tuple(c) for p in differing if p.path == path and p.chunks for c in p.chunks.coords.tolist()}
        stored = {tuple(c) for c in version.chunk_coords(path).tolist()} - set(version.conflicts(path))
        counted = tally(version.read_chunks(path, sorted(changed & stored)))
        found = {}
        for sv in np.unique(counted.labels[np.isin(counted.labels, wanted)]).tolist():
            own = counted.labels == sv
            found[sv] = Counts.summed(counted.blocks[own], counted.voxels[own])
        return found

    @cached_property
    def _origins(self) -> _Origins:
        return self._origins_of(self._at_sides)

    def _origins_of(self, counts: Mapping[int, Sequence[Counts]]) -> _Origins:
        """Of all blocks in which something is counted on some side."""
        blocks = np.unique(np.concatenate([_NOTHING.blocks, *(c.blocks for sides in counts.values() for c in sides)]))
        path, coords = voxels.array_path(self.merged.folder), [tuple(c) for c in unpack_blocks(blocks).tolist()]
        version = self.merged.version
        conflicts = set(version.conflicts(path)) if coords and version.has_array(path) else set()
        stuck = np.array([c in conflicts for c in coords], np.bool_)
        there = owners(version, path, coords)
        same = [[a == b for a, b in zip(there, side.owners(coords), strict=True)] for side in self.sides.sides]
        return _Origins(blocks, np.array(same, np.bool_) & ~stuck, stuck)

    def headers(self, bodies: Mapping[int, int], counts: Mapping[int, Counts]) -> dict[int, Header]:
        """Headers of all bodies that gained or lost something; those of bodies that are no more say 0 voxels.

        Parameters
        ----------
        bodies
            Body of each supervoxel in the merge.
        counts
            Where each is (see `counts`).
        """
        sides, first = self.sides, self.sides.at_heads[0]
        change: dict[int, int] = {}
        for sv, final in bodies.items():
            change[first[sv]] = change.get(first[sv], 0) - self._at_sides[sv][0].total
            change[final] = change.get(final, 0) + counts[sv].total
        touched = {int.from_bytes(k[1:], "big") for s in sides.sides for k in s.changed if k[:1] == rows.HEADER}
        found = {}
        for body in (touched | change.keys() | {b for at in sides.at_heads for b in at.values()}) - {0}:
            there = [index.read_header(side.keys, body) for side in sides.sides]
            last = max((h for h in there if h is not None), key=lambda h: h.mutation_id, default=Header(0))
            size = (there[0].voxels if there[0] else 0) + change.get(body, 0)
            found[body] = replace(last, voxels=size)
        return found
