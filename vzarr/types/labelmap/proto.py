"""DVID's label index and mappings as protobuf bytes, and block coordinates as its index spells them.

The messages are in `vzarr.types.messages`; here they meet the arrays of `vzarr.types.labelmap.rows`. Source:
DVID HTTP API, ``index``, ``indices``, ``indices-compressed`` and ``mappings``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.types import messages
from vzarr.types.bytecodecs import lz4_raw, unlz4_raw
from vzarr.types.labelmap.rows import Counts, Header, Labels, pack_blocks, unpack_blocks

_AXIS_BITS = 21
_SIGN = 1 << (_AXIS_BITS - 1)
_SHIFTS = np.array([2 * _AXIS_BITS, _AXIS_BITS, 0], np.uint64)
_ITEM = struct.Struct("<2Q")
# DVID's stored values begin with compression << 5 | checksum << 3; LZ4 is 4 and followed by the raw size.
_LZ4_VALUE = 4 << 5
_VALUE = struct.Struct("<BI")


class AnyIndex(Protocol):
    """What can be written as a ``LabelIndex``: whatever has the attributes of an `IndexMessage`."""

    @property
    def label(self) -> int:
        """Number of the body."""

    @property
    def header(self) -> Header:
        """Its last change."""

    @property
    def counts(self) -> Mapping[int, Counts]:
        """Supervoxel -> where it is."""


class IndexMessage(NamedTuple):
    """A ``LabelIndex``: body, size and last change, and where each supervoxel is; no counts: no such body."""

    label: int
    header: Header
    counts: dict[int, Counts]


class MappingOp(NamedTuple):
    """Supervoxels (uint64) that a mutation assigned to a body."""

    mutation_id: int
    mapped: int
    originals: Labels


def keys_of_coords(coords_zyx: NDArray[np.int64]) -> Labels:
    """Block coordinates as keys of an index: per axis 20 bits and a sign above them, z highest.

    Parameters
    ----------
    coords_zyx
        Shape (n, 3).

    Raises
    ------
    InvalidInputError
        A coordinate is 2^20 or more away from 0.
    """
    coords = np.asarray(coords_zyx, np.int64).reshape(-1, 3)
    size = np.abs(coords)
    if size.size and int(size.max()) >= _SIGN:
        raise InvalidInputError("block coordinates of labels must lie between -(2^20 - 1) and 2^20 - 1")
    signed = (size | np.where(coords < 0, _SIGN, 0)).astype(np.uint64)
    keys: Labels = np.bitwise_or.reduce(signed << _SHIFTS, axis=1)
    return keys


def coords_of_keys(keys: Labels) -> NDArray[np.int64]:
    """Inverse of `keys_of_coords`: int64, shape (n, 3), zyx.

    Raises
    ------
    InvalidInputError
        The topmost bit is set, or a coordinate is a negative zero: two keys would mean one block.
    """
    keys = np.asarray(keys, np.uint64).reshape(-1)
    parts = (keys[:, None] >> _SHIFTS).astype(np.int64)
    size = parts & (_SIGN - 1)
    negative = (parts & _SIGN) != 0
    if (keys >> np.uint64(3 * _AXIS_BITS)).any() or (negative & (size == 0)).any():
        raise InvalidInputError("key of a label index is no block coordinate")
    return np.where(negative, -size, size)


def encode_index(index: AnyIndex) -> bytes:
    """One ``LabelIndex``; equal indices give equal bytes."""
    return bytes(_to_message(index).SerializeToString(deterministic=True))


def decode_index(body: bytes) -> IndexMessage:
    """Read one ``LabelIndex``; counts of 0 are left out.

    Raises
    ------
    InvalidInputError
        No such message, a key that is no block coordinate, or supervoxel 0.
    """
    return _from_message(messages.parse(messages.LabelIndex, body))


def encode_indices(indices: Iterable[AnyIndex]) -> Iterator[bytes]:
    """One ``LabelIndices`` in pieces, an index each: messages with repeated fields join by concatenation."""
    for index in indices:
        yield bytes(messages.LabelIndices(indices=[_to_message(index)]).SerializeToString(deterministic=True))


def decode_indices(body: bytes) -> list[IndexMessage]:
    """Read ``LabelIndices``, in their order; the same checks as in `decode_index`."""
    return [_from_message(m) for m in messages.parse(messages.LabelIndices, body).indices]


def encode_mappings(ops: Iterable[MappingOp]) -> bytes:
    """One ``MappingOps``."""
    message = messages.MappingOps()
    for op in ops:
        message.mappings.add(mutid=op.mutation_id, mapped=op.mapped, original=op.originals.tolist())
    return bytes(message.SerializeToString(deterministic=True))


def decode_mappings(body: bytes) -> list[MappingOp]:
    """Read ``MappingOps``, in their order.

    Raises
    ------
    InvalidInputError
        No such message.
    """
    ops = messages.parse(messages.MappingOps, body).mappings
    return [MappingOp(op.mutid, op.mapped, np.array(op.original, np.uint64)) for op in ops]


def encode_compressed(label: int, index: bytes | None) -> bytes:
    """One item of ``indices-compressed``: uint64 size and label, then the index as DVID would store it.

    Parameters
    ----------
    index
        An encoded ``LabelIndex``; None or nothing where there is no such body.
    """
    value = _VALUE.pack(_LZ4_VALUE, len(index)) + lz4_raw(index) if index else b""
    return _ITEM.pack(len(value), label) + value


def decode_compressed(body: bytes | memoryview) -> list[tuple[int, bytes | None]]:
    """Read ``indices-compressed`` into (label, encoded ``LabelIndex`` or None), in their order.

    Raises
    ------
    InvalidInputError
        Cut short, or not LZ4; `UnsupportedError` for stored forms other than LZ4 without a checksum.
    """
    view = memoryview(body)
    out: list[tuple[int, bytes | None]] = []
    at = 0
    while at < len(view):
        if len(view) - at < _ITEM.size:
            raise InvalidInputError("compressed indices end inside the header of an item")
        size, label = _ITEM.unpack_from(view, at)
        at += _ITEM.size
        if len(view) - at < size:
            raise InvalidInputError(f"compressed index of label {label} is cut short")
        out.append((label, _decode_value(view[at : at + size]) if size else None))
        at += size
    return out


def _decode_value(value: memoryview) -> bytes:
    if value[0] != _LZ4_VALUE:
        raise UnsupportedError(f"stored label index of form {value[0]:#x}, only LZ4 ({_LZ4_VALUE:#x}) is read")
    if len(value) < _VALUE.size:
        raise InvalidInputError("compressed label index is cut short")
    return unlz4_raw(value[_VALUE.size :], _VALUE.unpack_from(value)[1])


def _to_message(index: AnyIndex) -> Any:
    header = index.header
    message = messages.LabelIndex(
        label=index.label,
        last_mutid=header.mutation_id,
        last_mod_time=header.time,
        last_mod_user=header.user,
        last_mod_app=header.app,
    )
    blocks = message.blocks
    for supervoxel, counts in index.counts.items():
        keys = keys_of_coords(unpack_blocks(counts.blocks)).tolist()
        for key, voxels in zip(keys, counts.voxels.tolist(), strict=True):
            blocks[key].counts[supervoxel] = voxels
    return message


def _from_message(message: Any) -> IndexMessage:
    keys: list[int] = []
    supervoxels: list[int] = []
    voxels: list[int] = []
    for key, block in message.blocks.items():
        for supervoxel, n in block.counts.items():
            keys.append(key)
            supervoxels.append(supervoxel)
            voxels.append(n)
    counts = _group(keys, supervoxels, voxels)
    header = Header(
        voxels=sum(c.total for c in counts.values()),
        mutation_id=message.last_mutid,
        time=message.last_mod_time,
        user=message.last_mod_user,
        app=message.last_mod_app,
    )
    return IndexMessage(message.label, header, counts)


def _group(keys: Sequence[int], supervoxels: Sequence[int], voxels: Sequence[int]) -> dict[int, Counts]:
    """Rows of an index message as one `Counts` per supervoxel."""
    number = np.array(voxels, np.uint32)
    there = number > 0
    owner, number = np.array(supervoxels, np.uint64)[there], number[there]
    blocks = pack_blocks(coords_of_keys(np.array(keys, np.uint64)))[there]
    if (owner == 0).any():
        raise InvalidInputError("label index counts voxels of supervoxel 0, which is background")
    order = np.lexsort((blocks, owner))
    owner, blocks, number = owner[order], blocks[order], number[order]
    labels, first = np.unique(owner, return_index=True)
    parts = zip(np.split(blocks, first[1:]), np.split(number, first[1:]), strict=True)
    return {int(label): Counts(*part) for label, part in zip(labels, parts, strict=False)}
