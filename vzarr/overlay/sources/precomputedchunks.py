"""Encodings of chunks of neuroglancer precomputed volumes, bytes to numpy (neuroglancer, "Precomputed volume format").

Chunks come out as ``(channel, z, y, x)``.  Nothing is believed: every offset is checked before it is followed, and no
more memory is taken than the chunk's extent allows.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vzarr.errors import StorageError
from vzarr.geometry import Coord
from vzarr.overlay.chunks import inflate

_BITS = (0, 1, 2, 4, 8, 16, 32)
_MODES = {1: ("L",), 2: ("LA",), 3: ("RGB",), 4: ("RGBA",)}
_DEEP_MODES = ("I;16", "I;16B", "I")
# Pillow lets the errors of its decoders through as they are.
_IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    IndexError,
    OverflowError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def decode_chunk(
    data: bytes, encoding: str, size: Coord, channels: int, dtype: np.dtype[Any], block: Coord = ()
) -> NDArray[Any]:
    """Voxels of a chunk.

    Parameters
    ----------
    data
        Its bytes, perhaps wrapped in gzip.
    encoding
        ``raw``, ``compressed_segmentation``, ``jpeg`` or ``png``.
    size
        Its extent, zyx.
    channels, dtype
        Of the volume.
    block
        Edges of a block of compressed_segmentation, zyx.

    Returns
    -------
    ndarray
        Shape ``(channels, *size)``.

    Raises
    ------
    StorageError
        If the bytes are no such chunk.
    """
    limit = chunk_limit(encoding, size, channels, dtype, block)
    if encoding == "raw":
        return _raw(data, limit, (channels, *size), dtype)
    if data[:2] == inflate.GZIP_MAGIC:
        data = inflate.gunzip(data, limit)
    if encoding == "compressed_segmentation":
        return decode_segmentation(data, size, channels, dtype, block)
    return _image(data, encoding, size, channels, dtype)


def chunk_limit(encoding: str, size: Coord, channels: int, dtype: np.dtype[Any], block: Coord = ()) -> int:
    """Most bytes that an encoded chunk can have."""
    plain = int(np.prod(size, dtype=object)) * channels * dtype.itemsize
    if encoding == "raw":
        return plain
    if encoding == "compressed_segmentation":
        grid = _grid(size, block)
        blocks = int(np.prod(grid, dtype=object))
        # Per voxel at most an entry of a table and a whole word of its index.
        return channels * (4 + blocks * (8 + int(np.prod(block, dtype=object)) * (dtype.itemsize + 4)))
    return 2 * plain + (1 << 20)


def _raw(data: bytes, nbytes: int, shape: Coord, dtype: np.dtype[Any]) -> NDArray[Any]:
    if data[:2] == inflate.GZIP_MAGIC:
        # Voxels may begin like gzip by chance; then they are not gzip as a whole.
        try:
            expanded = inflate.gunzip(data, nbytes)
        except StorageError:
            if len(data) != nbytes:
                raise
            expanded = data
        data = expanded
    if len(data) != nbytes:
        raise StorageError(f"{len(data)} bytes of voxels, where {nbytes} should be")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _image(data: bytes, encoding: str, size: Coord, channels: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """One image whose rows one after the other are the chunk, x fastest."""
    count = int(np.prod(size, dtype=object))
    try:
        with Image.open(BytesIO(data), formats=[encoding.upper()]) as image:
            modes = _DEEP_MODES if dtype.itemsize == 2 else _MODES[channels]
            if image.width * image.height != count or image.mode not in modes:
                found = f"{image.width} x {image.height} {image.mode}"
                raise StorageError(f"an image of {found}, where {count} pixels of {modes[0]} belong")
            pixels = np.asarray(image)
    except _IMAGE_ERRORS as e:
        raise e if isinstance(e, StorageError) else StorageError(f"not a {encoding} image: {e}") from e
    return np.moveaxis(pixels.reshape(*size, channels).astype(dtype, copy=False), -1, 0)


def decode_segmentation(
    data: bytes, size: Coord, channels: int, dtype: np.dtype[Any], block: Coord
) -> NDArray[np.unsignedinteger[Any]]:
    """Labels in ``compressed_segmentation`` (neuroglancer, "Compressed segmentation format").

    Per block a header of two words (24 bits of where its table is, 8 of how many bits an index has, 32 of where the
    indices are, all in words), indices packed into words, and a table of labels.  The field's own library trusts these
    numbers, so that damaged bytes end the process; this one checks them.

    Raises
    ------
    StorageError
        If the bytes are no such chunk.
    """
    if len(data) % 4 or len(data) < 4 * channels:
        raise StorageError(f"compressed_segmentation of {len(data)} bytes")
    words = np.frombuffer(data, "<u4")
    out = np.empty((channels, *size), dtype)
    for channel in range(channels):
        start = int(words[channel])
        if start > words.size:
            raise StorageError(f"channel {channel} of compressed_segmentation begins beyond its end")
        out[channel] = _channel(words[start:], size, dtype, block)
    return out


def _channel(words: NDArray[np.uint32], size: Coord, dtype: np.dtype[Any], block: Coord) -> NDArray[Any]:
    grid = _grid(size, block)
    count, volume = int(np.prod(grid)), int(np.prod(block))
    if words.size < 2 * count:
        raise StorageError("the headers of compressed_segmentation are cut short")
    heads = words[: 2 * count].reshape(count, 2).astype(np.int64)
    tables, bits, values = heads[:, 0] & 0xFFFFFF, heads[:, 0] >> 24, heads[:, 1]
    if not np.isin(bits, _BITS).all():
        raise StorageError("compressed_segmentation with indices of an odd number of bits")
    labels = np.empty((count, volume), dtype)
    for width in np.unique(bits).tolist():
        which = np.flatnonzero(bits == width)
        indices = _indices(words, values[which], width, volume)
        labels[which] = _labels(words, tables[which, None] + indices * (dtype.itemsize // 4), dtype)
    # From (blocks, voxels in a block) to voxels, without what fills up the last blocks.
    whole = labels.reshape(*grid, *block).transpose(0, 3, 1, 4, 2, 5)
    padded = whole.reshape([g * b for g, b in zip(grid, block, strict=True)])
    return padded[tuple(slice(0, n) for n in size)]


def _indices(words: NDArray[np.uint32], starts: NDArray[np.int64], width: int, volume: int) -> NDArray[np.int64]:
    """Indices of blocks, shape (blocks, volume)."""
    if not width:
        return np.zeros((starts.size, volume), np.int64)
    each = 32 // width
    count = -(-volume // each)
    if int(starts.max()) + count > words.size:
        raise StorageError("the indices of compressed_segmentation lie beyond its end")
    packed = words[starts[:, None] + np.arange(count)]
    shifts = np.arange(each, dtype=np.uint32) * np.uint32(width)
    mask = np.uint32((1 << width) - 1)
    found: NDArray[np.uint32] = (packed[..., None] >> shifts) & mask
    return found.reshape(starts.size, -1)[:, :volume].astype(np.int64)


def _labels(words: NDArray[np.uint32], at: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Entries of tables, by the word at which they begin."""
    step = dtype.itemsize // 4
    if int(at.max()) + step > words.size:
        raise StorageError("the tables of compressed_segmentation lie beyond its end")
    low = words[at].astype(dtype)
    return low if step == 1 else low | words[at + 1].astype(dtype) << np.uint64(32)


def _grid(size: Coord, block: Coord) -> Coord:
    return tuple(-(-n // b) for n, b in zip(size, block, strict=True))
