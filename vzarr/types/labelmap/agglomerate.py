"""Re-mapping many supervoxels at once: one edit, one transaction, however large the table.

What has to be moved is looked up before the transaction and only written in it, so that others wait as short as can
be; when somebody else edited meanwhile it is looked up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import allocate, index, mapping, rows, underway
from vzarr.types.labelmap.deeds import Deed
from vzarr.types.labelmap.edits import NOBODY, Author, Edit
from vzarr.types.labelmap.index import read_change
from vzarr.types.labelmap.rows import Counts, Labels
from vzarr.types.labelmap.tables import components

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys
    from vzarr.types.base import Instance

_ATTEMPTS = 3
"""How often the table is looked up outside of the transaction before it is done inside."""
_SHOWN = 5
_BATCH = 50_000


class Agglomerated(NamedTuple):
    """What an agglomeration did: its mutation id, supervoxels that changed bodies, bodies that gained some."""

    mutation_id: int
    supervoxels: int
    bodies: int


class _Stale(Exception):
    """Somebody edited since the table was looked up."""


@dataclass(frozen=True)
class _Plan:
    """Supervoxels that change bodies.

    Parameters
    ----------
    mark
        The last change that was seen.
    supervoxels, sources, targets
        Shape (n,): sorted by target, source, supervoxel.
    counts
        Rows of the index of each, as they are stored.
    """

    mark: bytes
    supervoxels: Labels
    sources: Labels
    targets: Labels
    counts: Sequence[bytes]

    @classmethod
    def of(cls, keys: InstanceKeys, table: Labels) -> _Plan:
        mark = read_change(keys)
        supervoxels, targets = table.T
        known = mapping.bodies_within(keys, supervoxels.tolist())
        sources = np.fromiter(known.values(), np.uint64, len(known))
        counts = _counts(keys, sources, supervoxels)
        moves = np.flatnonzero(sources != targets)
        moves = moves[np.lexsort((sources[moves], targets[moves]))]
        return cls(mark, supervoxels[moves], sources[moves], targets[moves], [counts[i] for i in moves.tolist()])

    def groups(self) -> list[tuple[int, int, list[int]]]:
        """Supervoxels by the body that they leave and the one that they come to."""
        if not self.supervoxels.size:
            return []
        new = (self.sources[1:] != self.sources[:-1]) | (self.targets[1:] != self.targets[:-1])
        first = np.flatnonzero(np.concatenate(([True], new)))
        parts = np.split(self.supervoxels, first[1:])
        ends = zip(self.sources[first].tolist(), self.targets[first].tolist(), strict=True)
        return [(*pair, part.tolist()) for pair, part in zip(ends, parts, strict=True)]


def _counts(keys: InstanceKeys, bodies: Labels, supervoxels: Labels) -> list[bytes]:
    """Rows of the index; refuses supervoxels that have none."""
    found: list[bytes | None] = []
    for start in range(0, len(bodies), _BATCH):
        pairs = zip(bodies[start : start + _BATCH].tolist(), supervoxels[start : start + _BATCH].tolist(), strict=True)
        found += keys.get_many([rows.index_key(*pair) for pair in pairs])
    unknown = [int(sv) for sv, value in zip(supervoxels, found, strict=True) if value is None]
    if unknown:
        shown = ", ".join(map(str, unknown[:_SHOWN])) + (", …" if len(unknown) > _SHOWN else "")
        raise InvalidInputError(f"the table names {len(unknown)} supervoxels that there are not: {shown}")
    return [value for value in found if value is not None]


def agglomerate(instance: Instance, table: Labels, author: Author = NOBODY, *, edges: bool = False) -> Agglomerated:
    """Move supervoxels to the bodies of a table, as one edit.

    Parameters
    ----------
    table
        Shape (n, 2), as `tables.check_mapping` gives it: supervoxel and its body; supervoxels that are not named stay
        where they are.  Or, if `edges`, as `tables.check_edges`: supervoxels whose bodies become one, that of the
        smallest number.

    Raises
    ------
    InvalidInputError
        If a supervoxel does not exist, or was cut up, or a body's number is no label; nothing has changed then.
    """
    allocate.check_label(int(table[:, 1].max(initial=0)))
    for attempt in range(_ATTEMPTS + 1):
        inside = attempt == _ATTEMPTS
        plan = None if inside else _plan(instance.keys, table, edges)

        def change(edit: Edit, plan: _Plan | None = plan) -> Agglomerated:
            if plan is None:
                plan = _plan(edit.tx, table, edges)
            elif plan.mark != edit.before:
                raise _Stale
            return _carry_out(edit, plan)

        try:
            return underway.run(instance, author, change)
        except _Stale:
            continue
    raise AssertionError("the last attempt looks the table up itself")


def _plan(keys: InstanceKeys, table: Labels, edges: bool) -> _Plan:
    return _Plan.of(keys, _unions(keys, table) if edges else table)


def _unions(keys: InstanceKeys, pairs: Labels) -> Labels:
    """All supervoxels of the bodies that pairs join, and the body that these become."""
    supervoxels, where = np.unique(pairs, return_inverse=True)
    known = mapping.bodies_within(keys, supervoxels.tolist())
    bodies = np.fromiter(known.values(), np.uint64, len(known))
    _counts(keys, bodies, supervoxels)
    joined, targets = components(bodies[where].reshape(-1, 2))
    table = [np.empty((0, 2), np.uint64)]
    for body, target in zip(joined.tolist(), targets.tolist(), strict=True):
        if body != target:
            svs = np.array(index.read_supervoxels(keys, body), np.uint64)
            table.append(np.stack([svs, np.full_like(svs, target)], 1))
    found = np.concatenate(table)
    return found[np.argsort(found[:, 0])]


def _carry_out(edit: Edit, plan: _Plan) -> Agglomerated:
    sizes = np.array([_size(value) for value in plan.counts], np.int64)
    targets = np.unique(plan.targets).tolist()
    _retire_names(edit, targets, set(plan.supervoxels.tolist()))
    _move_rows(edit, plan, {body for body in targets if index.read_header(edit.tx, body) is not None})
    left = _change_headers(edit, plan, sizes)
    if targets:
        allocate.raise_max(edit.tx, edit.instance, targets[-1])
    moves = tuple((source, target, tuple(svs)) for source, target, svs in plan.groups())
    edit.deed = Deed(moves=moves, left=tuple(left))
    edit.log({"Action": "agglomerate-complete", "Supervoxels": len(plan.counts), "Bodies": len(targets)})
    return Agglomerated(edit.number, len(plan.counts), len(targets))


def _size(counts: bytes) -> int:
    return Counts.decode(counts).total


def _retire_names(edit: Edit, bodies: Sequence[int], moved: set[int]) -> None:
    """Note which numbers of new bodies are no supervoxels, as a renumbering does."""
    for body in bodies:
        is_new = body not in moved and index.read_header(edit.tx, body) is None
        if is_new and not mapping.is_mapped(edit.tx, body):
            edit.retire(body)


def _move_rows(edit: Edit, plan: _Plan, existing: set[int]) -> None:
    tx = edit.tx
    columns = (plan.supervoxels.tolist(), plan.sources.tolist(), plan.targets.tolist(), plan.counts)
    for supervoxel, source, target, counts in zip(*columns, strict=True):
        key = rows.index_key(target, supervoxel)
        there = tx.get(key) if target in existing else None
        if there is not None:  # only after an index was posted by hand
            moved = Counts.decode(counts)
            counts = Counts.decode(there).plus(moved.blocks, moved.voxels.astype(np.int64)).encode()
        tx.delete(rows.index_key(source, supervoxel))
        tx.put(key, counts)
    edit.map_many(plan.supervoxels, plan.targets)


def _change_headers(edit: Edit, plan: _Plan, sizes: NDArray[np.int64]) -> list[int]:
    """Give bodies their new sizes; those that lost something and kept something."""
    lost, gained = _sums(plan.sources, sizes), _sums(plan.targets, sizes)
    bodies = list(lost | gained)
    before = dict(zip(bodies, index.read_sizes(edit.tx, bodies), strict=True))
    for body in bodies:
        edit.put_header(body, before[body] - lost.get(body, 0) + gained.get(body, 0))
    return [body for body, size in lost.items() if size < before[body]]


def _sums(bodies: Labels, sizes: NDArray[np.int64]) -> dict[int, int]:
    unique, where = np.unique(bodies, return_inverse=True)
    sums = np.zeros(len(unique), np.int64)
    np.add.at(sums, where, sizes)
    return dict(zip(unique.tolist(), sums.tolist(), strict=True))
