"""Decompressors that never make more than the caller can use, however large their input claims to be.

Every function raises `StorageError` for bytes that are no whole stream of their format, and where these would make more
than `limit` bytes.
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
from vzarr.overlay.chunks import blosc

GZIP_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB = 31, 15
_LZ4_HEAD = struct.Struct("<8sBIII")
_LZ4_MAGIC = b"LZ4Block"
_LZ4_STORED, _LZ4_PACKED = 0x10, 0x20


class _Stream(Protocol):
    """What the standard library's decompressors have in common."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: memoryview | bytes, max_length: int, /) -> bytes:
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
    """Expand one Zstandard frame (RFC 8878); one that does not state its size must hold exactly `limit` bytes."""
    held = bytes(data)
    size = zstd_size(held)
    if size is not None and size > limit:
        raise StorageError(f"a zstd frame of {size} bytes, where {limit} are the most")
    out = np.empty(limit if size is None else size, np.uint8)
    try:
        numcodecs.Zstd().decode(held, out=out)
    except (RuntimeError, ValueError) as e:
        raise StorageError(f"not a zstd frame of at most {limit} bytes: {e}") from e
    return out.tobytes()


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


def unlz4(data: memoryview | bytes, limit: int) -> bytes:
    """Expand the block stream of the Java library net.jpountz (``LZ4BlockOutputStream``), which N5 calls lz4.

    A block is ``LZ4Block``, a token (method in its upper four bits), the packed and the plain length and an xxHash-32,
    little-endian; one of length 0 ends the stream.  The lengths are checked, the hashes are not.  Without that word the
    data are one bare block of exactly `limit` bytes, as z5 writes them.
    """
    if bytes(data[: len(_LZ4_MAGIC)]) != _LZ4_MAGIC:
        return _lz4_block(_LZ4_PACKED, memoryview(data), limit)
    view, total = memoryview(data), 0
    parts: list[bytes] = []
    while len(view) >= _LZ4_HEAD.size:
        magic, token, packed, plain, _ = _LZ4_HEAD.unpack_from(view)
        body, view = view[_LZ4_HEAD.size :][:packed], view[_LZ4_HEAD.size + packed :]
        total += plain
        if magic != _LZ4_MAGIC or len(body) != packed or total > limit:
            raise StorageError(f"not a stream of LZ4 blocks of at most {limit} bytes")
        if not plain:
            return b"".join(parts)
        parts.append(_lz4_block(token & 0xF0, body, plain))
    raise StorageError("a stream of LZ4 blocks without an end")


def zstd_size(frame: memoryview | bytes) -> int | None:
    """Decompressed size that a Zstandard frame states (RFC 8878, section 3.1.1.1), or None where it does not."""
    if len(frame) < 6:
        return None
    flags = frame[4]
    single = flags >> 5 & 1
    width = (single, 2, 4, 8)[flags >> 6]
    at = 6 - single + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(frame[at : at + width], "little")
    return size + 256 if width == 2 else size if width else None


def _lz4_block(method: int, body: memoryview, plain: int) -> bytes:
    if method == _LZ4_STORED and len(body) == plain:
        return bytes(body)
    if method != _LZ4_PACKED or plain > 255 * len(body):
        raise StorageError(f"an LZ4 block of {plain} bytes that are not there")
    try:
        found: bytes = lz4.block.decompress(body, uncompressed_size=plain)
    except lz4.block.LZ4BlockError as e:
        raise StorageError(f"not an LZ4 block: {e}") from e
    if len(found) != plain:
        raise StorageError(f"an LZ4 block of {len(found)} bytes that states {plain}")
    return found


def _members(make: Callable[[], Any], data: memoryview | bytes, limit: int, name: str) -> bytes:
    """Expand streams that follow each other, and nothing else."""
    left, total = data, 0
    parts: list[bytes] = []
    try:
        while len(left) or not parts:
            stream: _Stream = make()
            # One byte more than allowed tells a stream that ends there from one that goes on.
            part = stream.decompress(left, limit - total + 1)
            total += len(part)
            if total > limit:
                raise StorageError(f"{name} data of more than {limit} bytes")
            if not stream.eof:
                raise StorageError(f"{name} data that are cut short")
            parts.append(part)
            # Writers to tapes and blocks fill up with zeros, which every reader of gzip and xz skips.
            left = stream.unused_data.lstrip(b"\0")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as e:
        raise e if isinstance(e, StorageError) else StorageError(f"not {name} data: {e}") from e
    return b"".join(parts)
