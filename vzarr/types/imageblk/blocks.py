"""Blocks of images as DVID sends them: rows along x, and streams in the form that the compression names."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.types.bytecodecs import gzip_raw, lz4_raw, varint

_JPEG_QUALITY = 80
_SNAPPY_LITERAL = 1 << 16


def split_row(row: NDArray[Any], count: int) -> NDArray[Any]:
    """Cut a row of blocks along x, shape (bz, by, count * bx), into shape (count, bz, by, bx)."""
    bz, by, width = row.shape
    return row.reshape(bz, by, count, width // count).transpose(2, 0, 1, 3)


def join_row(blocks: NDArray[Any]) -> NDArray[Any]:
    """Inverse of `split_row`."""
    count, bz, by, bx = blocks.shape
    return blocks.transpose(1, 2, 0, 3).reshape(bz, by, count * bx)


def wire_form(compression: str, stored: str) -> str:
    """Form in which an endpoint sends blocks.

    Parameters
    ----------
    compression
        What the request asks for: "" for the stored form, ``uncompressed``, or ``jpeg``.
    stored
        The instance's setting ``Compression``.

    Raises
    ------
    UnsupportedError
        If the request asks for JPEG of an instance that isn't kept as JPEG.
    InvalidInputError
        If it asks for anything else.
    """
    if compression == "uncompressed":
        return "none"
    if compression == "jpeg" and stored != "jpeg":
        raise UnsupportedError("can't encode JPEG: the data are not stored as JPEG; don't set compression")
    if compression not in ("", "jpeg"):
        raise InvalidInputError(f"don't understand 'compression' query string value: {compression}")
    return stored


def encode(block: NDArray[Any], form: str) -> bytes:
    """One block in its wire form.

    Parameters
    ----------
    block
        Voxels, shape (z, y, x), little-endian.
    form
        ``none``: the voxels; ``lz4``: uint32 size and an LZ4 block; ``gzip`` or ``gzip:N``; ``snappy``;
        ``jpeg``: an image nx wide and ny * nz high.
    """
    if form == "jpeg":
        return _jpeg(block)
    raw = np.ascontiguousarray(block).tobytes()
    if form == "none":
        return raw
    if form == "lz4":
        return len(raw).to_bytes(4, "little") + lz4_raw(raw)
    if form == "snappy":
        return _snappy(raw)
    return gzip_raw(raw, int(form.partition(":")[2] or 6))


def _jpeg(block: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    flat = np.ascontiguousarray(block.reshape(-1, block.shape[2]))
    Image.fromarray(flat).save(buffer, "jpeg", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _snappy(raw: bytes) -> bytes:
    """Snappy block format with literals only: valid for every reader, and no library of its own.

    Source: the format description of Snappy: a varint length, then elements; a literal of n <= 65536 bytes
    has the tag 61 << 2 and n - 1 in two bytes.
    """
    out = bytearray(varint(len(raw)))
    for at in range(0, len(raw), _SNAPPY_LITERAL):
        part = raw[at : at + _SNAPPY_LITERAL]
        out += bytes([61 << 2]) + (len(part) - 1).to_bytes(2, "little") + part
    return bytes(out)
