"""DVID's sparse volumes as bytes: ``rles``, ``srles``, binary ``blocks`` and coarse streams.

Everything is little-endian and xyz. ``rles`` is a header of 12 bytes and spans of four int32 (x, y, z,
length); ``srles`` is the spans alone; a coarse volume is ``rles`` in block coordinates.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.geometry import reverse
from vzarr.types.labelmap.blocks import MAX_SIDE, SUB_BLOCK, SUB_VOXELS, Shape
from vzarr.types.labelmap.runs import Mask, Runs

# Payload descriptor, dimensions, axis of the runs, reserved; voxels (DVID writes 0); spans.
_RLES = struct.Struct("<4B2I")
_SPAN = 16
_COARSE = struct.Struct("<QI")
_MASKS = struct.Struct("<3IQ")
_MASK = struct.Struct("<3iB")
_NONE, _ALL, _SOME = 0, 1, 2
_BITMAP = SUB_VOXELS // 8


class BinaryBlocks(NamedTuple):
    """A sparse volume as masks: the label asked for, the block shape, and (first voxel zyx, mask) pairs."""

    label: int
    shape_zyx: Shape
    blocks: list[tuple[Shape, Mask]]


def encode_rles(*parts: Runs) -> memoryview:
    """Runs, in the order given, with the legacy header; also the body of a split."""
    return _joined(_RLES.pack(0, 3, 0, 0, 0, sum(map(len, parts))), parts)


def decode_rles(body: bytes | memoryview) -> Runs:
    """Read a legacy sparse volume, for example a posted split.

    The voxel count and the reserved byte mean nothing to DVID either and are skipped.

    Raises
    ------
    InvalidInputError
        A header of another kind, a span count that does not match the size, an empty or negative span, or one
        that leaves the int32 range.
    """
    if len(body) < _RLES.size:
        raise InvalidInputError(f"sparse volume of {len(body)} bytes is shorter than its header")
    payload, dims, axis, _, _, n_spans = _RLES.unpack_from(body)
    if (payload, dims, axis) != (0, 3, 0):
        raise InvalidInputError(
            f"sparse volume has payload {payload}, {dims} axes, runs along axis {axis}; expected 0, 3, 0"
        )
    if len(body) != _RLES.size + _SPAN * n_spans:
        raise InvalidInputError(f"sparse volume of {len(body)} bytes claims {n_spans} spans")
    return decode_spans(memoryview(body)[_RLES.size :])


def decode_posted(body: bytes | memoryview) -> Runs:
    """Read a sparse volume that says which voxels to split off.

    Raises
    ------
    InvalidInputError
        As `decode_rles`; or runs that are not sorted by z, y, x, or name a voxel twice: whoever sends them does not
        know what is to be split.
    """
    runs = decode_rles(body)
    x, y, z, length = runs.T.astype(np.int64)
    same = (z[1:] == z[:-1]) & (y[1:] == y[:-1])
    later = (z[1:] > z[:-1]) | (z[1:] == z[:-1]) & (y[1:] > y[:-1]) | same & (x[1:] > x[:-1])
    twice = same & (x[1:] < x[:-1] + length[:-1])
    if not later.all() or twice.any():
        at = int(np.flatnonzero(~later | twice)[0]) + 1
        what = "overlaps" if same[at - 1] and twice[at - 1] else "does not come after"
        raise InvalidInputError(
            f"runs should be sorted by z, y, x and not overlap: {runs[at].tolist()} {what} {runs[at - 1].tolist()}"
        )
    return runs


def encode_spans(*parts: Runs) -> memoryview:
    """Runs alone, without a header (``srles``)."""
    return _joined(b"", parts)


def _joined(head: bytes, parts: Sequence[Runs]) -> memoryview:
    # numpy's memory comes in large pages, with which a large volume is put together in a quarter of the time.
    out = np.empty(len(head) + _SPAN * sum(map(len, parts)), np.uint8)
    out[: len(head)] = np.frombuffer(head, np.uint8)
    at = len(head)
    for part in parts:
        octets = np.ascontiguousarray(part, "<i4").reshape(-1).view(np.uint8)
        out[at : at + octets.size] = octets
        at += octets.size
    return out.data


def decode_spans(body: bytes | memoryview) -> Runs:
    """Read runs without a header; the same checks as in `decode_rles`."""
    if len(body) % _SPAN:
        raise InvalidInputError(f"{len(body)} bytes are no whole number of spans of {_SPAN} bytes")
    runs = np.frombuffer(body, "<i4").reshape(-1, 4).astype(np.int32, copy=False)
    if len(runs):
        if int(runs[:, 3].min()) <= 0:
            raise InvalidInputError(f"span of length {int(runs[:, 3].min())}: lengths must be positive")
        if int((runs[:, 0].astype(np.int64) + runs[:, 3]).max()) > 2**31:
            raise InvalidInputError("span leaves the range of 32-bit coordinates")
    return runs


def encode_coarse(label: int, runs: Runs) -> bytes:
    """One item of ``sparsevols-coarse``: label, number of spans, spans in block coordinates."""
    return b"".join((_COARSE.pack(label, len(runs)), encode_spans(runs)))


def decode_coarse(body: bytes | memoryview) -> list[tuple[int, Runs]]:
    """Read a whole ``sparsevols-coarse`` stream into (label, runs) pairs, in its order."""
    view = memoryview(body)
    out, at = [], 0
    while at < len(view):
        if len(view) - at < _COARSE.size:
            raise InvalidInputError("coarse stream ends inside a header")
        label, n_spans = _COARSE.unpack_from(view, at)
        at += _COARSE.size
        if len(view) - at < _SPAN * n_spans:
            raise InvalidInputError(f"coarse volume of label {label} claims {n_spans} spans and is cut short")
        out.append((label, decode_spans(view[at : at + _SPAN * n_spans])))
        at += _SPAN * n_spans
    return out


def encode_binary_blocks(label: int, shape_zyx: Shape, blocks: Iterable[tuple[Sequence[int], Mask]]) -> bytes:
    """Binary block stream of one label.

    Parameters
    ----------
    label
        Label for the header: the one asked for.
    shape_zyx
        Block shape; sides are multiples of 8.
    blocks
        (block coordinate zyx, mask of that shape) pairs.
    """
    return b"".join([binary_header(label, shape_zyx), *(binary_block(coord, mask) for coord, mask in blocks)])


def binary_header(label: int, shape_zyx: Shape) -> bytes:
    """Start of a binary block stream."""
    gx, gy, gz = reverse([n // SUB_BLOCK for n in shape_zyx])
    return _MASKS.pack(gx, gy, gz, label)


def binary_block(coord_zyx: Sequence[int], mask: Mask) -> bytes:
    """One block of a binary block stream; uniform blocks and sub-blocks take one byte each."""
    offset = reverse([c * n for c, n in zip(coord_zyx, mask.shape, strict=True)])
    if mask.all() or not mask.any():
        return _MASK.pack(*offset, _ALL if mask.flat[0] else _NONE)
    gz, gy, gx = (n // SUB_BLOCK for n in mask.shape)
    parts = mask.reshape(gz, SUB_BLOCK, gy, SUB_BLOCK, gx, SUB_BLOCK).transpose(0, 2, 4, 1, 3, 5)
    bitmaps = np.packbits(parts.reshape(-1, SUB_VOXELS), axis=1, bitorder="little")
    flags = np.full(len(bitmaps), _SOME, np.uint8)
    flags[(bitmaps == 0).all(axis=1)] = _NONE
    flags[(bitmaps == 255).all(axis=1)] = _ALL
    mixed = flags == _SOME
    sizes = 1 + _BITMAP * mixed
    first = np.cumsum(sizes) - sizes
    out = np.empty(int(sizes.sum()), np.uint8)
    out[first] = flags
    out[first[mixed, None] + 1 + np.arange(_BITMAP)] = bitmaps[mixed]
    return _MASK.pack(*offset, _SOME) + out.tobytes()


def decode_binary_blocks(body: bytes | memoryview) -> BinaryBlocks:
    """Read a binary block stream.

    Raises
    ------
    InvalidInputError
        Unknown flags, a block shape out of range, or missing bytes.
    """
    if len(body) < _MASKS.size:
        raise InvalidInputError(f"binary blocks of {len(body)} bytes are shorter than their header")
    gx, gy, gz, label = _MASKS.unpack_from(body)
    if not all(1 <= g <= MAX_SIDE // SUB_BLOCK for g in (gx, gy, gz)):
        raise InvalidInputError(f"binary blocks of {gx} x {gy} x {gz} sub-blocks, allowed are 1 to 128 per axis")
    grid, at, blocks = (gz, gy, gx), _MASKS.size, []
    shape = (gz * SUB_BLOCK, gy * SUB_BLOCK, gx * SUB_BLOCK)
    while at < len(body):
        if len(body) - at < _MASK.size:
            raise InvalidInputError("binary blocks end inside the header of a block")
        x, y, z, flag = _MASK.unpack_from(body, at)
        at += _MASK.size
        if flag == _SOME:
            mask, at = _read_sub_blocks(body, at, grid)
        elif flag in {_NONE, _ALL}:
            mask = np.full(shape, flag == _ALL)
        else:
            raise InvalidInputError(f"binary block has flag {flag}, expected 0, 1 or 2")
        blocks.append(((z, y, x), mask))
    return BinaryBlocks(label, shape, blocks)


def _read_sub_blocks(body: bytes | memoryview, at: int, grid: Shape) -> tuple[Mask, int]:
    """Mask of one mixed block and the position after it."""
    data: NDArray[np.uint8] = np.frombuffer(body, np.uint8)
    bitmaps = np.zeros((grid[0] * grid[1] * grid[2], _BITMAP), np.uint8)
    for bitmap in bitmaps:
        flag = int(data[at]) if at < len(data) else None
        size = _BITMAP if flag == _SOME else 0
        if flag not in {_NONE, _ALL, _SOME} or at + 1 + size > len(data):
            raise InvalidInputError("binary block has an unknown flag or is cut short")
        bitmap[:] = data[at + 1 : at + 1 + size] if size else 255 * (flag == _ALL)
        at += 1 + size
    bits = np.unpackbits(bitmaps, bitorder="little").reshape(*grid, SUB_BLOCK, SUB_BLOCK, SUB_BLOCK)
    gz, gy, gx = (g * SUB_BLOCK for g in grid)
    return bits.transpose(0, 3, 1, 4, 2, 5).reshape(gz, gy, gx).view(np.bool_), at
