"""Parts of a Blosc frame: a reader that needs a few planes of a chunk decompresses only the blocks they lie in.

A frame is a header of 16 bytes (format version, compressor version, flags, item size, then little-endian uint32:
bytes of the whole, of one block, and of the frame), one uint32 per block that says where it starts, and the blocks,
each compressed by itself (c-blosc 1, README_CHUNK_FORMAT).
"""

from __future__ import annotations

import struct
from itertools import pairwise

_HEAD = struct.Struct("<BBBBIII")
_STORED = 0x2
"""Flag of a frame that holds its bytes as they are, without blocks."""


def is_whole(frame: memoryview | bytes) -> bool:
    """Whether a frame has the length that it states; decompressors read on beyond the end of a shorter one."""
    return len(frame) >= _HEAD.size and _HEAD.unpack_from(frame)[-1] == len(frame)


def content_size(frame: memoryview | bytes) -> int | None:
    """Number of bytes that a frame states to hold, or None for what is too short for a frame."""
    return _HEAD.unpack_from(frame)[4] if len(frame) >= _HEAD.size else None


def cut(frame: memoryview | bytes, nbytes: int, start: int, stop: int) -> tuple[bytes, int, int] | None:
    """A smaller frame with the blocks that hold some of the decompressed bytes.

    Parameters
    ----------
    frame
        A frame that `is_whole`.
    nbytes
        Size of what it should decompress to.
    start, stop
        The bytes of it that are needed.

    Returns
    -------
    tuple of bytes, int and int, or None
        The smaller frame, and which decompressed bytes it holds; None where nothing would be saved, or the frame is
        not laid out plainly (its blocks in order, all of one size): then it takes the whole.
    """
    *kind, whole, block, size = _HEAD.unpack_from(frame)
    if kind[2] & _STORED or whole != nbytes or not block or whole % block:
        return None
    count = whole // block
    first, last = start // block, -(-stop // block)
    if last - first >= count or len(frame) < _HEAD.size + 4 * count:
        return None
    starts = (*struct.unpack_from(f"<{count}I", frame, _HEAD.size), size)
    if any(a >= b for a, b in pairwise(starts)):
        return None
    body = frame[starts[first] : starts[last]]
    table = _HEAD.size + 4 * (last - first)
    moved = [s - starts[first] + table for s in starts[first:last]]
    head = _HEAD.pack(*kind, (last - first) * block, block, table + len(body))
    return head + struct.pack(f"<{len(moved)}I", *moved) + body, first * block, last * block
