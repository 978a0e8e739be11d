"""The label index: of every body its size, its supervoxels, and in which blocks they are.

A body's index is one row per supervoxel (`vzarr.types.labelmap.rows`), so that a merge or cleave moves the
rows of what changes bodies and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError, InvalidInputError
from vzarr.types.labelmap import rows
from vzarr.types.labelmap.rows import Counts, Header, Labels

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn
    from vzarr.types.base import Instance

T = TypeVar("T")
_ATTEMPTS = 4
_NO_BLOCKS = np.empty(0, np.uint64)


@dataclass(frozen=True)
class LabelIndex:
    """Where a body or a supervoxel is.

    Parameters
    ----------
    label
        Its number.
    header
        Its size and last change.
    counts
        Supervoxel -> where it is.
    """

    label: int
    header: Header
    counts: Mapping[int, Counts]

    @property
    def supervoxels(self) -> Labels:
        """Its supervoxels, ascending."""
        return np.array(sorted(self.counts), np.uint64)

    @cached_property
    def blocks(self) -> tuple[Labels, NDArray[np.int64]]:
        """Packed blocks that hold a voxel of it, ascending, and how many of its voxels each holds."""
        parts = list(self.counts.values())
        if len(parts) == 1:
            return parts[0].blocks, parts[0].voxels.astype(np.int64)
        packed = np.concatenate([c.blocks for c in parts]) if parts else _NO_BLOCKS
        unique, where = np.unique(packed, return_inverse=True)
        sums = np.zeros(unique.size, np.int64)
        np.add.at(sums, where, np.concatenate([c.voxels for c in parts]) if parts else [])
        return unique, sums

    @cached_property
    def coarse(self) -> NDArray[np.int32]:
        """Its blocks as runs along x, in block coordinates (see `rows.packed_runs`)."""
        runs = rows.packed_runs(self.blocks[0])
        runs.flags.writeable = False
        return runs


def read_change(keys: InstanceKeys) -> bytes:
    """Mark of the last change that a version saw; equal marks mean equal indices and mappings.

    A merge node without edits of its own has none: what it inherits does not change.
    """
    return _mark(keys, rows.CHANGE)


def read_voxel_change(keys: InstanceKeys) -> bytes:
    """As `read_change`, of changes that may concern what voxels hold: all but those that only move supervoxels."""
    return _mark(keys, rows.VOXELS)


def _mark(keys: InstanceKeys, row: bytes) -> bytes:
    try:
        return keys.get(row) or b""
    except ConflictError:
        return b""


def consistently(instance: Instance, read: Callable[[InstanceKeys], T]) -> T:
    """What `read` gives for one moment: tried again when a change came between, at last in a snapshot."""
    return with_mark(instance, read)[1]


def with_mark(instance: Instance, read: Callable[[InstanceKeys], T]) -> tuple[bytes, T]:
    """Mark of the last change (`read_change`) at some moment, and what `read` gives for that moment."""
    keys = instance.keys
    for _ in range(_ATTEMPTS):
        before = read_change(keys)
        found = read(keys)
        if read_change(keys) == before:
            return before, found
    with keys.at_one_moment() as same:
        return read_change(same), read(same)


def read_header(keys: InstanceKeys, body: int) -> Header | None:
    """Header of a body, None when there is no such body."""
    value = keys.get(rows.header_key(body))
    return None if value is None else Header.decode(value)


def read_sizes(keys: InstanceKeys, bodies: Sequence[int]) -> list[int]:
    """Voxels of bodies, 0 for one that there is not."""
    if len(bodies) == 1:
        return [rows.voxels_of(keys.get(rows.header_key(bodies[0])))]
    return [rows.voxels_of(v) for v in keys.get_many([rows.header_key(b) for b in bodies])]


def read_counts(keys: InstanceKeys, body: int) -> dict[int, Counts]:
    """Supervoxels of a body and where they are; empty when there is no such body."""
    return {_supervoxel(k): Counts.decode(v) for k, v in keys.scan(*rows.index_range(body))}


def read_rows_of(tx: InstanceTxn, bodies: Sequence[int]) -> dict[int, dict[int, bytes]]:
    """`read_counts` of several bodies, looked up together and left as they are stored."""
    found = tx.scan_many([rows.index_range(body) for body in bodies])
    return {body: {_supervoxel(k): value for k, value in items} for body, items in zip(bodies, found, strict=True)}


def read_index(keys: InstanceKeys, body: int) -> LabelIndex | None:
    """The whole index of a body, None when there is no such body."""
    header = read_header(keys, body)
    return None if header is None else LabelIndex(body, header, read_counts(keys, body))


def read_supervoxels(keys: InstanceKeys, body: int) -> list[int]:
    """Supervoxels of a body, ascending."""
    return [_supervoxel(k) for k in keys.scan_keys(*rows.index_range(body))]


def read_part(keys: InstanceKeys, body: int, supervoxel: int) -> LabelIndex | None:
    """Index of one supervoxel, looked up in the body that it is mapped to."""
    value = keys.get(rows.index_key(body, supervoxel))
    if value is None:
        return None
    counts = Counts.decode(value)
    return LabelIndex(supervoxel, Header(counts.total), {supervoxel: counts})


def read_parts(keys: InstanceKeys, bodies: Mapping[int, int]) -> dict[int, Counts]:
    """Where supervoxels are, of those that have voxels; `bodies` says in which body each is looked up."""
    values = keys.get_many([rows.index_key(body, sv) for sv, body in bodies.items()])
    return {sv: Counts.decode(v) for sv, v in zip(bodies, values, strict=True) if v is not None}


def stored_at(instance: Instance, body: int) -> str:
    """Id of the version where a body's index was last stored.

    Raises
    ------
    InvalidInputError
        If there is no such body.
    """
    found = instance.keys.get_with_version(rows.header_key(body)) if body else None
    if found is None:
        raise InvalidInputError(f'no index of label {body} in data "{instance.name}"')
    return instance.version.repo.state.nodes.numbered(found[0]).id


def list_bodies(
    keys: InstanceKeys, start: int = 0, end: int | None = None, limit: int | None = None
) -> Iterator[tuple[int, int]]:
    """Bodies from `start` to `end` (exclusive) in ascending order, and their sizes."""
    stop = rows.class_range(rows.HEADER)[1] if end is None or end >> 64 else rows.header_key(end)
    for key, value in keys.scan(rows.header_key(start), stop, limit=limit):
        yield int.from_bytes(key[1:], "big"), rows.voxels_of(value)


def _supervoxel(key: bytes) -> int:
    return int.from_bytes(key[9:], "big")


# ---------------------------------------------------------------- changes, within a transaction


def put_header(tx: InstanceTxn, body: int, header: Header) -> None:
    """Write a body's header; a body without voxels has none."""
    if header.voxels > 0:
        tx.put(rows.header_key(body), header.encode())
    else:
        tx.delete(rows.header_key(body))


def put_counts(tx: InstanceTxn, body: int, supervoxel: int, counts: Counts) -> None:
    """Write where a supervoxel of a body is; one without voxels has no row."""
    key = rows.index_key(body, supervoxel)
    if counts.blocks.size:
        tx.put(key, counts.encode())
    else:
        tx.delete(key)


def put_index(tx: InstanceTxn, index: LabelIndex) -> None:
    """Replace the whole index of a body, that is remove it when `index` is empty."""
    for supervoxel in read_supervoxels(tx, index.label):
        if supervoxel not in index.counts:
            tx.delete(rows.index_key(index.label, supervoxel))
    for supervoxel, counts in index.counts.items():
        put_counts(tx, index.label, supervoxel, counts)
    put_header(tx, index.label, index.header)


def move_rows(tx: InstanceTxn, parts: Mapping[int, Mapping[int, bytes]], target: int) -> None:
    """Move supervoxels from some bodies' indices to another's; headers are the caller's.

    Parameters
    ----------
    parts
        Body -> those of its supervoxels that move, and their encoded `Counts`.
    """
    moved: dict[int, bytes] = {}
    for counts in parts.values():
        for supervoxel, where in counts.items():
            moved[supervoxel] = _joined(moved.get(supervoxel), where)
    keys = [rows.index_key(target, sv) for sv in moved]
    there = tx.get_many(keys)
    tx.delete_many([rows.index_key(source, sv) for source, counts in parts.items() for sv in counts])
    tx.put_many({key: _joined(old, where) for key, where, old in zip(keys, moved.values(), there, strict=True)})


def _joined(known: bytes | None, where: bytes) -> bytes:
    """Both rows of a supervoxel as one: it has several only after indices were posted by hand."""
    if known is None:
        return where
    more = Counts.decode(where)
    return Counts.decode(known).plus(more.blocks, more.voxels.astype(np.int64)).encode()
