"""Blocks of N5 datasets, bytes to numpy and back.

A block is a header, big-endian: uint16 mode, uint16 number of axes, uint32 size per axis (xyz), in mode 1 a uint32
number of elements; then the compressed voxels, big-endian, x fastest (N5 specification 4.0.0, "Block storage").  A
Fortran-ordered xyz array is a C-ordered zyx one, so nothing is ever transposed.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from vzarr.errors import FormatError, StorageError, UnsupportedError
from vzarr.geometry import Coord, reverse
from vzarr.overlay.chunks import inflate

DEFAULT, VARLENGTH, OBJECT = 0, 1, 2
"""Block modes: fixed size, stated number of elements, serialised objects (refused)."""

_EXPAND: dict[str, Callable[[memoryview | bytes, int], bytes]] = {
    "gzip": inflate.gunzip,
    "zlib": inflate.unzlib,
    "bzip2": inflate.unbz2,
    "xz": inflate.unxz,
    "lz4": inflate.unlz4,
    "zstd": inflate.unzstd,
    "blosc": inflate.unblosc,
}
_RANGES = {
    "level": (-(1 << 17), 22),
    "clevel": (0, 9),
    "shuffle": (-1, 2),
    "blocksize": (0, 1 << 31),
    "blockSize": (1, 1 << 31),
    "preset": (0, 9),
}
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


@dataclass(frozen=True)
class Compression:
    """How the voxels of blocks are compressed.

    Parameters
    ----------
    kind
        ``raw``, ``gzip``, ``bzip2``, ``xz``, ``lz4``, ``zstd`` or ``blosc``.
    options
        Its settings by N5's names.
    """

    kind: str = "raw"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Compression:
        """Compression that a dataset's attributes name: an object, a word, or the word of N5 before 2.0.

        Raises
        ------
        FormatError
            If they name none.
        UnsupportedError
            If they name one that is unknown here.
        """
        found = attributes.get("compression", attributes.get("compressionType"))
        options = dict(found) if isinstance(found, dict) else {"type": found}
        kind = options.pop("type", None)
        if not isinstance(kind, str):
            raise FormatError(f"N5 attributes with a compression of {found!r}, which should be like {{'type': 'gzip'}}")
        if kind != "raw" and kind not in _EXPAND:
            raise UnsupportedError(f"N5 compression {kind!r} is unknown; known are raw, {', '.join(sorted(_EXPAND))}")
        for name, (least, most) in _RANGES.items():
            value = options.get(name, least)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise FormatError(f"N5 compression {found!r}: {name} should be an integer of {least} to {most}")
        return cls(kind, options)

    def to_json(self) -> dict[str, Any]:
        """As in ``attributes.json``."""
        return {"type": self.kind, **self.options}

    @property
    def stream(self) -> str:
        """What the bytes are: `kind`, except that gzip may be asked to be plain zlib."""
        return "zlib" if self.kind == "gzip" and self.options.get("useZlib") else self.kind

    def expand(self, payload: memoryview | bytes, nbytes: int) -> bytes:
        """Decompress exactly `nbytes` bytes.

        Raises
        ------
        StorageError
            If the payload is damaged or of another size; no more than `nbytes` are ever made.
        """
        found = bytes(payload) if self.stream == "raw" else _EXPAND[self.stream](payload, nbytes)
        if len(found) != nbytes:
            raise StorageError(f"{len(found)} bytes of voxels, where {nbytes} should be")
        return found

    def pack(self, data: bytes, itemsize: int) -> bytes:
        """Compress.

        Raises
        ------
        UnsupportedError
            For lz4, which is only read: its checksums need a library that is not here.
        """
        options, kind = self.options, self.stream
        if kind == "raw":
            return data
        if kind in ("gzip", "zlib"):
            packer = zlib.compressobj(
                max(-1, min(9, options.get("level", -1))), zlib.DEFLATED, 31 if kind == "gzip" else 15
            )
            return packer.compress(data) + packer.flush()
        if kind == "bzip2":
            return bz2.compress(data, int(options.get("blockSize", 9)))
        if kind == "xz":
            return lzma.compress(data, preset=int(options.get("preset", 6)))
        if kind == "zstd":
            return bytes(numcodecs.Zstd(level=int(options.get("level", 3))).encode(data))
        if kind == "blosc":
            view = np.frombuffer(data, f"V{itemsize}" if itemsize > 1 else "u1")
            return bytes(_blosc(options).encode(view))
        raise UnsupportedError("N5 blocks in lz4 are read, not written; choose zstd, which is smaller and as fast")

    def zarr_codecs(self, itemsize: int) -> list[dict[str, Any]] | None:
        """Codecs of Zarr 3 that read a payload as it is, or None where there are none."""
        endian = {"configuration": {"endian": "big"}} if itemsize > 1 else {}
        chain: list[dict[str, Any]] = [{"name": "bytes", **endian}]
        options, kind = self.options, self.stream
        if kind == "gzip":
            level = int(options.get("level", -1))
            chain.append({"name": "gzip", "configuration": {"level": level if 0 <= level <= 9 else 6}})
        elif kind == "zstd":
            level = int(options.get("level", 3))
            chain.append({"name": "zstd", "configuration": {"level": level, "checksum": False}})
        elif kind == "blosc":
            packer = _blosc(options)
            config = {
                "cname": packer.cname,
                "clevel": packer.clevel,
                "shuffle": _SHUFFLES[packer.shuffle],
                "typesize": itemsize,
                "blocksize": packer.blocksize,
            }
            chain.append({"name": "blosc", "configuration": config})
        elif kind != "raw":
            return None
        return chain


def _blosc(options: Mapping[str, Any]) -> Any:
    shuffle = int(options.get("shuffle", 1))
    return numcodecs.Blosc(
        str(options.get("cname", "lz4")),
        int(options.get("clevel", 5)),
        shuffle if shuffle in (0, 1, 2) else 1,
        max(0, int(options.get("blocksize", 0))),
    )


@dataclass(frozen=True)
class Header:
    """What a block says of itself.

    Parameters
    ----------
    size_zyx
        Its extent in voxels.
    mode
        `DEFAULT` or `VARLENGTH`.
    length
        Bytes of the header: the payload begins there.
    """

    size_zyx: Coord
    mode: int
    length: int


def parse_header(data: memoryview | bytes, chunk_zyx: Coord) -> Header:
    """Read the header of a block that may be as large as `chunk_zyx`.

    Raises
    ------
    StorageError
        If it is cut short, of another number of axes, larger than a block, or of a size other than it states.
    UnsupportedError
        If the block holds serialised objects.
    """
    ndim = len(chunk_zyx)
    if len(data) < 4:
        raise StorageError("the header is cut short")
    mode, axes = struct.unpack_from(">HH", data)
    if mode == OBJECT:
        raise UnsupportedError("mode 2, serialised objects, which are no array")
    if mode not in (DEFAULT, VARLENGTH):
        raise StorageError(f"mode {mode}, which is neither 0 (default) nor 1 (varlength)")
    if axes != ndim:
        raise StorageError(f"{axes} axes, where the dataset has {ndim}")
    length = 4 + 4 * ndim + 4 * mode
    if len(data) < length:
        raise StorageError("the header is cut short")
    size_xyz = struct.unpack_from(f">{ndim}I", data, 4)
    size_zyx = reverse(size_xyz)
    if any(not 0 < n <= most for n, most in zip(size_zyx, chunk_zyx, strict=True)):
        raise StorageError(f"a size of {size_xyz}, where blocks have at most {chunk_zyx[::-1]} (xyz)")
    if mode == VARLENGTH:
        (count,) = struct.unpack_from(">I", data, length - 4)
        if count != int(np.prod(size_zyx, dtype=object)):
            raise StorageError(f"{count} elements in a block of {size_xyz}: no array of voxels")
    return Header(size_zyx, mode, length)


def write_header(size_zyx: Coord, mode: int = DEFAULT) -> bytes:
    """Header of a block.

    Parameters
    ----------
    size_zyx
        Its extent in voxels.
    mode
        `DEFAULT` or `VARLENGTH`.
    """
    head = struct.pack(f">HH{len(size_zyx)}I", mode, len(size_zyx), *reverse(size_zyx))
    return head + struct.pack(">I", int(np.prod(size_zyx, dtype=np.int64))) if mode == VARLENGTH else head


def decode_block(
    data: memoryview | bytes, chunk_zyx: Coord, dtype: np.dtype[Any], compression: Compression
) -> NDArray[Any]:
    """Voxels of a block, zyx, in native byte order, as many as it has.

    Raises
    ------
    StorageError
        If the block is damaged; nothing larger than a whole block is ever made.
    """
    head = parse_header(data, chunk_zyx)
    big = dtype.newbyteorder(">")
    nbytes = int(np.prod(head.size_zyx, dtype=object)) * dtype.itemsize
    flat = np.frombuffer(compression.expand(memoryview(data)[head.length :], nbytes), big)
    return flat.astype(dtype.newbyteorder("="), copy=False).reshape(head.size_zyx)


def encode_block(voxels: NDArray[Any], compression: Compression, mode: int = DEFAULT) -> bytes:
    """A block of voxels (zyx), of their own size: blocks at the far edge are cut by who calls."""
    big = voxels.dtype.newbyteorder(">")
    payload = compression.pack(voxels.astype(big, copy=False).tobytes(), voxels.dtype.itemsize)
    return write_header(voxels.shape, mode) + payload
