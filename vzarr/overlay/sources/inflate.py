"""Decompressors that never make more than the caller can use, however large their input claims to be.

Every function raises `StorageError` for bytes that are no whole stream of their format, and for more output than `limit`.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import lz4.block
import numcodecs
import numpy as np

from vzarr.errors import StorageError
from vzarr.overlay import blosc

GZIP_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB = 31, 15
_LZ4_HEAD = struct.Struct("<8sBIII")
_LZ4_MAGIC = b"LZ4Block"
_LZ4_STORED, _LZ4_PACKED = 0x10, 0x20
_ZSTD_STEP = 1 << 17


class _Stream(Protocol):
    """What the standard library's decompressors have in common."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """More output, at most `max_length` bytes."""


def gunzip(data: memoryview | bytes, limit: int) -> bytes:
    """Expand gzip (RFC 1952) of one or several members."""
    return _members(lambda: zlib.decompressobj(_GZIP), data, limit, "gzip")


def unzlib(data: memoryview | bytes, limit: int) -> bytes:
    """Expand one zlib stream (RFC 1950)."""
    return _members(lambda: zlib.decompressobj(_ZLIB), data, limit, "zlib")


def unbz2(data: memoryview | bytes, limit: int) -> bytes:
    """Expand bzip2 of one or several streams."""
    return _members(bz2.BZ2Decompressor, data, limit, "bzip2")


def unxz(data: memoryview | bytes, limit: int) -> bytes:
    """Expand xz of one or several streams, with a dictionary of at most 256 MiB."""
    return _members(lambda: lzma.LZMADecompressor(memlimit=1 << 28), data, limit, "xz")


def unzstd(data: memoryview | bytes, limit: int) -> bytes:
    """Expand one Zstandard frame (RFC 8878)."""
    held = bytes(data)
    out = np.empty(limit, np.uint8)
    try:
        done = numcodecs.Zstd().decode(held, out=out)
    except (RuntimeError, ValueError) as e:
        raise StorageError(f"not a zstd frame of at most {limit} bytes: {e}") from e
    return bytes(memoryview(done)[: _zstd_length(held, done)])


def unblosc(data: memoryview | bytes, limit: int) -> bytes:
    """Expand one Blosc frame of version 1."""
    size = blosc.content_size(data)
    if size is None or not blosc.is_whole(data):
        raise StorageError("not a whole blosc frame")
    if size > limit:
        raise StorageError(f"a blosc frame of {size} bytes, where {limit} are the most")
    try:
        return bytes(numcodecs.Blosc().decode(bytes(data)))
    except (RuntimeError, ValueError) as e:
        raise StorageError(f"not a blosc frame: {e}") from e
