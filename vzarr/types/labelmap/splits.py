"""Cutting supervoxels along given voxels: the one edit of bodies that rewrites voxels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vzarr.errors import InvalidInputError
from vzarr.geometry import Coord
from vzarr.overlay.history import dag
from vzarr.types import voxels
from vzarr.types.labelmap import allocate, index, mapping, rows, underway
from vzarr.types.labelmap.cuts import Cut, Split, read_history
from vzarr.types.labelmap.edits import Author
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.rows import Labels, pack_blocks, unpack_blocks
from vzarr.types.labelmap.runs import Runs, clip_runs, join_runs, no_runs, runs_by_block, runs_to_mask
from vzarr.types.labelmap.underway import Decide, Plan, Recut
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn
    from vzarr.types.base import Instance


class Choice(NamedTuple):
    """Ids that a client chose for the parts of a supervoxel; 0 takes new ones."""

    split: int = 0
    remain: int = 0


ANY = Choice()


class SplitSupervoxel(NamedTuple):
    """What a split of a supervoxel made."""

    split: int
    remain: int
    mutation_id: int


class SplitBody(NamedTuple):
    """What a split of a body made."""

    body: int
    mutation_id: int


def split_supervoxel(
    instance: Instance,
    supervoxel: int,
    runs: Runs,
    author: Author,
    *,
    choice: Choice = ANY,
    downres: bool = True,
) -> SplitSupervoxel:
    """Cut a supervoxel into the part under some runs and the rest; both stay in its body.

    Runs in blocks without the supervoxel are passed over, as DVID does.

    Raises
    ------
    InvalidInputError
        If there is no such supervoxel or it was cut before, the runs are empty, hold other voxels than its
        own or all of these, or a chosen id is in use.
    """
    joined = join_runs(runs)

    def plan() -> Plan:
        found = _supervoxel(instance, supervoxel)
        work = _Work.of(instance, found, joined)
        work.check()

        def decide(tx: InstanceTxn) -> Split:
            split = choice.split or allocate.take(tx, instance)
            remain = choice.remain or allocate.take(tx, instance)
            _check_chosen(tx, supervoxel, split, remain)
            allocate.raise_max(tx, instance, max(split, remain))
            return Split((Cut(supervoxel, split, remain),), work.runs, 0, author)

        return work.plan(decide, downres)

    made, number = underway.carry_out(instance, plan)
    assert isinstance(made, Split)
    (cut,) = made.cuts
    return SplitSupervoxel(cut.split, cut.remain, number)


def split_body(instance: Instance, body: int, runs: Runs, author: Author) -> SplitBody:
    """Make the part of a body under some runs a new body; supervoxels that the runs touch are cut.

    Raises
    ------
    InvalidInputError
        If there is no such body, the runs are empty, hold voxels of other bodies, or leave nothing of it.
    """
    joined = join_runs(runs)

    def plan() -> Plan:
        found = index.consistently(instance, lambda keys: index.read_index(keys, body))
        if found is None:
            raise InvalidInputError(f'label {body} does not exist in data "{instance.name}"')
        work = _Work.of(instance, found, joined)
        work.check()
        outside = _voxels(joined) - _voxels(work.runs)
        if outside:
            raise InvalidInputError(f"{outside} voxels of the split volume lie in blocks without label {body}")

        def decide(tx: InstanceTxn) -> Split:
            if index.read_header(tx, body) != found.header:
                raise underway.StaleError  # it may have other supervoxels by now
            new_body = allocate.take(tx, instance)
            touched = sorted(sv for sv in work.counts if sv)
            cuts = [Cut(sv, allocate.take(tx, instance), allocate.take(tx, instance)) for sv in touched]
            return Split(tuple(cuts), work.runs, new_body, author)

        return work.plan(decide, True)

    made, number = underway.carry_out(instance, plan)
    assert isinstance(made, Split)
    return SplitBody(made.new_body, number)


def _voxels(joined: Runs) -> int:
    return int(joined[:, 3].sum(dtype=np.int64))


def _supervoxel(instance: Instance, supervoxel: int) -> LabelIndex:
    def part(keys: InstanceKeys) -> LabelIndex | None:
        body = mapping.bodies_within(keys, [supervoxel])[supervoxel]
        return index.read_part(keys, body, supervoxel) if body else None

    found = index.consistently(instance, part)
    if found is None:
        raise InvalidInputError(f"supervoxel {supervoxel} doesn't exist, or has been split already")
    return found


def _check_chosen(tx: InstanceTxn, supervoxel: int, split: int, remain: int) -> None:
    """Refuse ids for the parts that mean something already."""
    if len({supervoxel, split, remain}) < 3:
        raise InvalidInputError(f"the parts of supervoxel {supervoxel} need ids of their own")
    for label in (split, remain):
        allocate.check_label(label)
        keys = [rows.header_key(label), rows.index_key(label, label)]
        if mapping.is_mapped(tx, label) or any(value is not None for value in tx.get_many(keys)):
            raise InvalidInputError(f"label {label} is in use already")


@dataclass(frozen=True)
class _Work:
    """The blocks of what is split, and what the runs find in them.

    Parameters
    ----------
    found
        What is split.
    runs
        Those parts of the runs that lie in its blocks.
    stored
        The blocks of those of its supervoxels that the runs touch: all that change.
    counts
        Voxels under the runs by supervoxel, background included.
    """

    found: LabelIndex
    shape: Coord
    runs: Runs
    stored: Mapping[Coord, Labels]
    counts: Mapping[int, int]

    @classmethod
    def of(cls, instance: Instance, found: LabelIndex, runs: Runs) -> _Work:
        shape = VoxelGeometry.of(instance.config).block_zyx
        own = _runs_in(runs, found.blocks[0], shape)
        under = _read(instance, [coord for coord, _ in runs_by_block(own, shape)])
        counts = _counts_under(own, under, shape)
        touched = [found.counts[sv].blocks for sv in counts if sv in found.counts]
        coords = map(tuple, unpack_blocks(np.unique(np.concatenate([_NO_BLOCKS, *touched]))).tolist())
        return cls(found, shape, own, _read(instance, coords, under), counts)

    def check(self) -> None:
        """Refuse runs that are empty, hold other voxels, or all voxels."""
        own = set(self.found.counts)
        strange = [sv for sv in self.counts if sv not in own]
        total = sum(self.counts.values())
        if not total:
            raise InvalidInputError(f"no voxel of label {self.found.label} was given to split off")
        if strange:
            raise InvalidInputError(
                f"supervoxel {strange[0]} was part of split volume yet was not part of label {self.found.label}"
            )
        if total >= self.found.header.voxels:
            raise InvalidInputError(f"cannot split all {total} voxels off label {self.found.label}")

    def plan(self, decide: Decide, downres: bool) -> Plan:
        """The write, once the ids are decided."""
        return Plan(self.stored, self._blocks, decide, downres)

    def _blocks(self, split: Recut | None) -> Mapping[Coord, Labels]:
        return self.stored if split is None else split.rewrite(self.stored, self.shape)


_NO_BLOCKS = np.empty(0, np.uint64)


def _read(
    instance: Instance, coords: Iterable[Coord], known: Mapping[Coord, Labels] = MappingProxyType({})
) -> dict[Coord, Labels]:
    """Blocks as far as there are any; those that are `known` are not read again."""
    wanted = list(coords)
    absent = [c for c in wanted if c not in known]
    read = instance.version.read_chunks(voxels.array_path(instance.folder), absent)
    return {c: known[c] for c in wanted if c in known} | {c: b for c, b in read if b is not None}


def _runs_in(runs: Runs, blocks: Labels, shape: Coord) -> Runs:
    """Parts of joined runs in some blocks (packed); costs what lies there, however far the runs reach."""
    coords = unpack_blocks(blocks)
    inside = clip_runs(runs, ((coords.min(0) * shape).tolist(), ((coords.max(0) + 1) * shape).tolist()))
    x, y, z, length = inside.T.astype(np.int64)
    bz, by, bx = shape
    # Packed blocks sort by z, y, x: those between the ends of a run are the ones that it meets.
    first = np.searchsorted(blocks, pack_blocks(np.stack([z // bz, y // by, x // bx], 1)))
    last = np.searchsorted(blocks, pack_blocks(np.stack([z // bz, y // by, (x + length - 1) // bx], 1)), "right")
    times = last - first
    which = np.repeat(np.arange(times.size), times)
    nth = np.arange(which.size) - np.repeat(np.cumsum(times) - times, times)
    low = unpack_blocks(blocks[first[which] + nth])[:, 2] * bx
    begin, end = np.maximum(x[which], low), np.minimum((x + length)[which], low + bx)
    parts = np.stack([begin, y[which], z[which], end - begin], 1).astype(np.int32)
    return join_runs(parts) if parts.size else no_runs()


def _counts_under(runs: Runs, stored: Mapping[Coord, Labels], shape: Coord) -> dict[int, int]:
    labels = [np.empty(0, np.uint64)]
    for coord, part in runs_by_block(runs, shape):
        block = stored.get(coord)
        if block is not None:
            lo = tuple(c * n for c, n in zip(coord, shape, strict=True))
            hi = tuple(a + n for a, n in zip(lo, shape, strict=True))
            labels.append(block[runs_to_mask(part, (lo, hi))])
    svs, counts = np.unique(np.concatenate(labels), return_counts=True)
    return dict(zip(svs.tolist(), counts.tolist(), strict=True))


def history(instance: Instance) -> list[tuple[str, list[list[int]]]]:
    """Supervoxels that were cut, nearest version first (DVID HTTP API, ``GET D/supervoxel-splits``).

    Returns
    -------
    list
        Version and its cuts, each as mutation id, old supervoxel, rest, split-off part.
    """
    found: dict[str, list[list[int]]] = {}
    for uuid, mutation, cut in read_history(instance.keys):
        found.setdefault(uuid, []).append([mutation, cut.supervoxel, cut.remain, cut.split])
    nodes = instance.version.repo.state.nodes
    line = dag.ancestry(instance.version.uuid, lambda node: nodes[node].parents)
    return [(uuid, found[uuid]) for uuid in line if uuid in found]
