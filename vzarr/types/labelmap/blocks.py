"""DVID's compressed segmentation block: a label table, a small palette per 8x8x8 sub-block, packed indices.

Layout (all little-endian), as DVID's ``labels.Block`` writes it::

    3 x uint32   sub-blocks along x, y, z
    uint32       N, labels in the table (1: solid, nothing follows the table)
    N x uint64   label table, in any order, repeats allowed
    S x uint16   palette size of each of the S sub-blocks (0: never written, reads as label 0)
    uint32 ...   palettes: indices into the label table
    bytes        per sub-block with two or more labels: 512 values, most significant bit first, each just wide
                 enough for a position in that sub-block's palette

Sub-blocks, and voxels within one, run x fastest, then y, then z.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap.kernels import number_labels

Labels = NDArray[np.uint64]
Local = NDArray[np.uint8] | NDArray[np.uint16]
Shape = tuple[int, int, int]

SUB_BLOCK = 8
SUB_VOXELS = SUB_BLOCK**3
MAX_SIDE = 1024
_HEADER = struct.Struct("<4I")
# Bits per voxel for a palette of k labels, at index k.
_WIDTHS = np.array([max(k - 1, 0).bit_length() for k in range(SUB_VOXELS + 1)], np.uint8)
_MAX_WIDTH = int(_WIDTHS[-1])
# Up to so many pairs of sub-block and label a table of flags is cheaper than sorting.
_LARGEST_GRID = 1 << 22


class Header(NamedTuple):
    """Fixed part of a block: voxel shape (zyx) and the number of entries in the label table."""

    shape_zyx: Shape
    n_labels: int


def encode_block(a: Labels) -> bytes:
    """Compress a label volume; equal volumes give equal bytes.

    Parameters
    ----------
    a
        uint64 zyx array; sides are multiples of 8 between 8 and 1024.

    Raises
    ------
    InvalidInputError
        The array is not three-dimensional or a side does not fit.
    """
    _grid_of(a.shape)
    index, labels = number_labels(a)
    return encode_indexed(index, labels)


def encode_indexed(index: NDArray[Any], labels: Labels) -> bytes:
    """Compress a volume that is given by a number per voxel; the bytes are those of `encode_block`.

    Parameters
    ----------
    index
        Unsigned, zyx; sides as in `encode_block`.
    labels
        uint64: label of each number; no two alike, and each of at least one voxel.

    Raises
    ------
    InvalidInputError
        The array is not three-dimensional or a side does not fit.
    """
    grid = gz, gy, gx = _grid_of(index.shape)
    if labels.size == 1:
        return _HEADER.pack(gx, gy, gz, 1) + int(labels[0]).to_bytes(8, "little")
    table = np.sort(labels)
    voxels = _to_sub_blocks(index, grid).ravel()
    change = np.empty(voxels.size, np.bool_)
    np.not_equal(voxels[1:], voxels[:-1], out=change[1:])
    change[::SUB_VOXELS] = True
    # Labels come in runs: everything else works on one voxel per run, a tenth of them on real data.
    starts = np.flatnonzero(change)
    code = np.searchsorted(table, labels)[voxels[starts]]
    palette, local, sizes = _palettes(starts // SUB_VOXELS, code, gx * gy * gz, table.size)
    values = np.repeat(local, np.diff(starts, append=voxels.size))
    return b"".join(
        (
            _HEADER.pack(gx, gy, gz, table.size),
            table.astype("<u8").tobytes(),
            sizes.astype("<u2").tobytes(),
            palette.astype("<u4").tobytes(),
            _pack_values(values.reshape(-1, SUB_VOXELS), _WIDTHS[sizes]),
        )
    )


def _palettes(
    owner: NDArray[np.int64], code: NDArray[Any], n_sub: int, n_labels: int
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.int64]]:
    """Codes that each sub-block has, ascending; place of every run's code among those of its own; how many each has."""
    key = owner * n_labels + code
    if n_sub * n_labels <= _LARGEST_GRID:
        has = np.zeros(n_sub * n_labels, np.bool_)
        has[key] = True
        pairs = np.flatnonzero(has)
        place = np.cumsum(has, dtype=np.int32)[key] - 1
    else:
        pairs, place = np.unique(key, return_inverse=True)
    sizes = np.bincount(pairs // n_labels, minlength=n_sub)
    return pairs % n_labels, (place - (np.cumsum(sizes) - sizes)[owner]).astype(np.uint16), sizes


def decode_block(data: bytes | memoryview, shape_zyx: Shape | None = None) -> Labels:
    """Expand a compressed block.

    Parameters
    ----------
    data
        The whole block, uncompressed (see `vzarr.types.bytecodecs.gunzip`).
    shape_zyx
        The shape that the block must have. Give it for bytes from outside: a solid block of 24 bytes may
        claim 1024^3 voxels.

    Returns
    -------
    ndarray
        uint64, zyx, freshly allocated.

    Raises
    ------
    InvalidInputError
        Any inconsistency: a size that does not match, an index beyond its table, missing or trailing bytes.
    """
    header = read_header(data)
    if shape_zyx is not None and header.shape_zyx != tuple(shape_zyx):
        raise InvalidInputError(f"block has shape {header.shape_zyx} (zyx), expected {tuple(shape_zyx)}")
    table = block_table(data)
    at = _HEADER.size + table.nbytes
    if header.n_labels == 1:
        if len(data) != at:
            raise InvalidInputError(f"solid block has {len(data) - at} bytes after its label")
        return np.full(header.shape_zyx, table[0], np.uint64)
    grid = _grid_of(header.shape_zyx)
    sizes, labels, values = _sections(data, at, table, grid)
    # Sub-blocks without a palette read the zero appended to the labels.
    first = np.where(sizes > 0, np.cumsum(sizes) - sizes, labels.size)
    local = _from_sub_blocks(_unpack_values(sizes, values), grid)
    return _look_up(np.append(labels, np.uint64(0)), first.reshape(grid), local)


def relabel_block(data: bytes | memoryview, fn: Callable[[Labels], Labels]) -> bytes:
    """Replace the labels of a block without touching its voxels.

    Parameters
    ----------
    data
        A compressed block. Only header and table are looked at; the rest is passed on as it is.
    fn
        Maps the label table (uint64, shape (n,)) to one of the same shape; may map two labels to one.
    """
    table = block_table(data)
    mapped = np.asarray(fn(table), np.uint64)
    if mapped.shape != table.shape:
        raise InvalidInputError(f"relabelling turned {table.size} labels into an array of shape {mapped.shape}")
    view = memoryview(data)
    return b"".join((view[: _HEADER.size], mapped.astype("<u8").tobytes(), view[_HEADER.size + table.nbytes :]))


def block_table(data: bytes | memoryview) -> Labels:
    """Label table of a block: uint64, unsorted, maybe with repeats or labels that no voxel has."""
    n_labels = read_header(data).n_labels
    return np.frombuffer(data, "<u8", n_labels, _HEADER.size).astype(np.uint64, copy=False)


def read_header(data: bytes | memoryview) -> Header:
    """Check and read the fixed part of a block; the label table is known to be complete afterwards."""
    if len(data) < _HEADER.size:
        raise InvalidInputError(f"label block of {len(data)} bytes is shorter than its header")
    gx, gy, gz, n_labels = _HEADER.unpack_from(data)
    if not all(1 <= g <= MAX_SIDE // SUB_BLOCK for g in (gx, gy, gz)):
        raise InvalidInputError(f"label block has {gx} x {gy} x {gz} sub-blocks, allowed are 1 to 128 per axis")
    if n_labels == 0:
        raise InvalidInputError("label block has an empty label table")
    if len(data) < _HEADER.size + 8 * n_labels:
        raise InvalidInputError(f"label block of {len(data)} bytes cannot hold {n_labels} labels")
    return Header((gz * SUB_BLOCK, gy * SUB_BLOCK, gx * SUB_BLOCK), n_labels)


def max_encoded_size(shape_zyx: Shape) -> int:
    """Most bytes that a sensible block of this shape has: every voxel its own label. Bounds an inflation."""
    sub_blocks = int(np.prod(_grid_of(shape_zyx)))
    return _HEADER.size + sub_blocks * (2 + SUB_VOXELS * (8 + 4) + SUB_VOXELS * _MAX_WIDTH // 8)


def _grid_of(shape_zyx: tuple[int, ...]) -> Shape:
    """Sub-blocks along z, y, x."""
    if len(shape_zyx) != 3 or any(n % SUB_BLOCK or not 0 < n <= MAX_SIDE for n in shape_zyx):
        raise InvalidInputError(f"block shape {tuple(shape_zyx)} (zyx): sides must be multiples of 8 up to 1024")
    z, y, x = (n // SUB_BLOCK for n in shape_zyx)
    return z, y, x


def _to_sub_blocks(a: NDArray[Any], grid: Shape) -> NDArray[Any]:
    """A zyx volume in sub-block order, shape (sub-blocks, 512)."""
    gz, gy, gx = grid
    # A row of 8 voxels moves as one item, as in `_from_sub_blocks`.
    rows = np.ascontiguousarray(a).view(np.dtype((np.void, SUB_BLOCK * a.itemsize)))
    parts = rows.reshape(gz, SUB_BLOCK, gy, SUB_BLOCK, gx).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(parts).view(a.dtype).reshape(-1, SUB_VOXELS)


def _from_sub_blocks(local: Local, grid: Shape) -> Local:
    """Palette positions in sub-block order, shape (sub-blocks, 512), as a zyx volume."""
    gz, gy, gx = grid
    # A row of 8 voxels moves as one item, which copies several times faster than voxel by voxel.
    rows = local.view(np.dtype((np.void, SUB_BLOCK * local.itemsize)))
    moved = rows.reshape(gz, gy, gx, SUB_BLOCK, SUB_BLOCK).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(moved).view(local.dtype)


def _sections(
    data: bytes | memoryview, at: int, table: Labels, grid: Shape
) -> tuple[NDArray[np.int64], Labels, NDArray[np.uint8]]:
    """Palette sizes, the labels of all palettes in a row, and the packed values; lengths are checked."""
    n_sub = grid[0] * grid[1] * grid[2]
    if len(data) < at + 2 * n_sub:
        raise InvalidInputError(f"label block of {len(data)} bytes cannot hold {n_sub} sub-blocks")
    sizes = np.frombuffer(data, "<u2", n_sub, at).astype(np.int64)
    at += 2 * n_sub
    if int(sizes.max()) > SUB_VOXELS:
        raise InvalidInputError(f"sub-block claims {int(sizes.max())} labels for {SUB_VOXELS} voxels")
    n_entries = int(sizes.sum())
    n_values = int(_WIDTHS[sizes].sum(dtype=np.int64)) * (SUB_VOXELS // 8)
    if len(data) != at + 4 * n_entries + n_values:
        raise InvalidInputError(f"label block has {len(data)} bytes, expected {at + 4 * n_entries + n_values}")
    entries = np.frombuffer(data, "<u4", n_entries, at)
    if n_entries and int(entries.max()) >= table.size:
        raise InvalidInputError(f"sub-block names label {int(entries.max())} of a table of {table.size}")
    return sizes, table[entries], np.frombuffer(data, np.uint8, n_values, at + 4 * n_entries)


def _unpack_values(sizes: NDArray[np.int64], values: NDArray[np.uint8]) -> Local:
    """Position of every voxel's label in the palette of its sub-block, shape (sub-blocks, 512)."""
    widths = _WIDTHS[sizes]
    local = np.zeros((sizes.size, SUB_VOXELS), np.uint8 if int(widths.max()) <= 8 else np.uint16)
    for width, which, rows in _by_width(widths):
        unpacked = _unpack(values.reshape(-1, SUB_VOXELS // 8)[rows].reshape(which.size, -1), width)
        if (unpacked.max(axis=1) >= sizes[which]).any():
            raise InvalidInputError("voxel points beyond the palette of its sub-block")
        local[which] = unpacked
    return local


def _look_up(labels: Labels, first: NDArray[np.int64], local: Local) -> Labels:
    """Labels of all voxels: the palette of sub-block (z, y, x) starts at ``labels[first[z, y, x]]``."""
    gz, gy, gx = first.shape
    split = (gz, SUB_BLOCK, gy, SUB_BLOCK, gx, SUB_BLOCK)
    parts, starts = local.reshape(split), first.reshape(gz, 1, gy, 1, gx, 1)
    out = np.empty(split, np.uint64)
    # One layer of sub-blocks at a time: the index of a whole block would leave the cache and cost more than
    # the look-up. Positions were checked; "clip" only spares numpy a buffer.
    for z in range(gz):
        labels.take(parts[z] + starts[z], out=out[z], mode="clip")
    return out.reshape(gz * SUB_BLOCK, gy * SUB_BLOCK, gx * SUB_BLOCK)


def _pack_values(values: NDArray[np.uint16], widths: NDArray[np.uint8]) -> bytes:
    """Bit-pack the voxels of each sub-block at its own width; `values` has shape (sub-blocks, 512)."""
    out = np.empty((int(widths.sum(dtype=np.int64)), SUB_VOXELS // 8), np.uint8)
    for width, which, rows in _by_width(widths):
        out[rows] = _pack(values[which], width).reshape(which.size, width, SUB_VOXELS // 8)
    return out.tobytes()


def _by_width(widths: NDArray[np.uint8]) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Group sub-blocks by width: (width, sub-blocks, their 64-byte rows of the values, shape (n, width))."""
    first = np.cumsum(widths, dtype=np.int64) - widths
    groups = []
    for width in np.flatnonzero(np.bincount(widths)).tolist():
        if width:
            which = np.flatnonzero(widths == width)
            groups.append((width, which, first[which, None] + np.arange(width)))
    return groups


# Packing squeezes eight values that sit in the bytes of a word towards its low end in three steps, joining
# neighbours of 8, 16 and 32 bits; unpacking runs the steps backwards. Masks keep upper and lower neighbours.
_STEPS = [
    (8, np.uint64(0xFF00FF00FF00FF00), np.uint64(0x00FF00FF00FF00FF)),
    (16, np.uint64(0xFFFF0000FFFF0000), np.uint64(0x0000FFFF0000FFFF)),
    (32, np.uint64(0xFFFFFFFF00000000), np.uint64(0x00000000FFFFFFFF)),
]


def _pack(values: NDArray[np.uint16], width: int) -> NDArray[np.uint8]:
    """Pack rows of 512 values at `width` bits each, most significant bit first: shape (n, 64 * width)."""
    if width > 8:
        bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
        return np.packbits(bits[:, 16 - width :]).reshape(len(values), -1)
    words = values.astype(np.uint8).view(">u8").astype(np.uint64)
    for lane, upper, lower in _STEPS:
        shift = np.uint64(lane - lane // 8 * width)
        words = (words & upper) >> shift | words & lower
    return words.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :].reshape(len(values), -1)


def _unpack(packed: NDArray[np.uint8], width: int) -> Local:
    """Undo `_pack`: shape (n, 512)."""
    if width > 8:
        bits = np.zeros((len(packed) * SUB_VOXELS, 16), np.uint8)
        bits[:, 16 - width :] = np.unpackbits(packed).reshape(-1, width)
        return np.packbits(bits).view(">u2").astype(np.uint16).reshape(-1, SUB_VOXELS)
    padded = np.zeros((len(packed) * SUB_VOXELS // 8, 8), np.uint8)
    padded[:, 8 - width :] = packed.reshape(-1, width)
    words = padded.view(">u8").astype(np.uint64)
    for lane, upper, lower in reversed(_STEPS):
        bits_low = lane // 8 * width
        low = lower & (lower >> np.uint64(lane - bits_low)) if bits_low < lane else lower
        words = (words << np.uint64(lane - bits_low)) & upper | words & low
    return words.astype(">u8").view(np.uint8).reshape(-1, SUB_VOXELS)
