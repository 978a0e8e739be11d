"""LZ4, gzip and varints as DVID's wire uses them, never inflating more than the caller allows.

DVID's LZ4 is the bare block format without a size prefix, so a reader must know the size beforehand. Both
directions take any contiguous buffer: bytes, a memoryview or an array.
"""

from __future__ import annotations

import gzip
import zlib
from typing import Any, cast

import lz4.block
import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError

# Any contiguous buffer; `collections.abc.Buffer` is younger than our oldest Python.
Buffer = bytes | bytearray | memoryview | NDArray[Any]

LZ4_MAX_INPUT = 0x7E000000
# The longest match costs one byte per 255 bytes of output, so no valid LZ4 block inflates more than this.
_LZ4_MAX_RATIO = 255
_GZIP_WBITS = 31


def lz4_raw(data: Buffer) -> bytes:
    """Compress to one LZ4 block without a size prefix.

    Raises
    ------
    InvalidInputError
        More than 2,113,929,216 bytes, the most that one LZ4 block holds.
    """
    view = _view(data)
    if view.nbytes > LZ4_MAX_INPUT:
        raise InvalidInputError(f"{view.nbytes} bytes are too many for one LZ4 block of {LZ4_MAX_INPUT}")
    return cast(bytes, lz4.block.compress(view, store_size=False))


def unlz4_raw(body: Buffer, nbytes: int) -> bytes:
    """Expand an LZ4 block that must yield exactly `nbytes` bytes.

    Raises
    ------
    InvalidInputError
        Not an LZ4 block, or one of another size.
    """
    view = _view(body)
    if nbytes > _LZ4_MAX_RATIO * view.nbytes or nbytes > LZ4_MAX_INPUT:
        raise InvalidInputError(f"{view.nbytes} bytes of LZ4 cannot hold {nbytes} bytes")
    try:
        out = cast(bytes, lz4.block.decompress(view, uncompressed_size=nbytes))
    except lz4.block.LZ4BlockError as e:
        raise InvalidInputError(f"not an LZ4 block of {nbytes} bytes: {e}") from e
    if len(out) != nbytes:
        raise InvalidInputError(f"LZ4 block holds {len(out)} bytes, expected {nbytes}")
    return out


def gzip_raw(data: Buffer, level: int = 1) -> bytes:
    """Compress to one gzip member; equal input gives equal bytes (no time stamp)."""
    return gzip.compress(_view(data), level, mtime=0)


def ungzip_raw(body: Buffer, nbytes: int) -> bytes:
    """Inflate a gzip member that must yield exactly `nbytes` bytes.

    Raises
    ------
    InvalidInputError
        Not a gzip member, or one of another size.
    """
    out = gunzip(body, nbytes)
    if len(out) != nbytes:
        raise InvalidInputError(f"gzip data hold {len(out)} bytes, expected {nbytes}")
    return out


def gunzip(body: Buffer, limit: int) -> bytes:
    """Inflate one gzip member of at most `limit` bytes; never holds more than that in memory.

    Raises
    ------
    InvalidInputError
        Damaged, cut short, followed by other bytes, or more than `limit` bytes inside.
    """
    inflate = zlib.decompressobj(_GZIP_WBITS)
    try:
        out = inflate.decompress(_view(body), limit + 1)
    except zlib.error as e:
        raise InvalidInputError(f"not gzip data: {e}") from e
    if len(out) > limit:
        raise InvalidInputError(f"gzip data hold more than the {limit} bytes allowed here")
    if not inflate.eof:
        raise InvalidInputError("gzip data are cut short")
    if inflate.unused_data:
        raise InvalidInputError(f"{len(inflate.unused_data)} bytes follow the gzip data")
    return out


def _view(data: Buffer) -> memoryview:
    return data.data if isinstance(data, np.ndarray) else memoryview(data)


def varint(number: int) -> bytes:
    """A number as protobuf and Snappy write it: 7 bits a byte, the lowest first, the upper bit set but in the last."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
