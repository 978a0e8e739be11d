"""What the ``info`` of a neuroglancer precomputed volume says (neuroglancer, "Precomputed volume format"); pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vzarr.errors import FormatError, UnsupportedError
from vzarr.geometry import Coord, reverse
from vzarr.overlay.sources.precomputedshards import Sharding

ENCODINGS = ("raw", "compressed_segmentation", "jpeg", "png")
DTYPES = frozenset({"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32"})
_MOST = 1 << 31


@dataclass(frozen=True)
class Scale:
    """One scale, in array order (zyx).

    Parameters
    ----------
    key
        Folder of its chunks.
    shape, chunks, offset
        Extent, that of a chunk, and first voxel.
    voxel
        Size of a voxel in nanometers.
    encoding
        One of `ENCODINGS`.
    block
        Edges of a block of compressed_segmentation; () for the others.
    sharding
        How chunks lie in shards; None where each is a file.
    """

    key: str
    shape: Coord
    chunks: Coord
    offset: Coord
    voxel: tuple[float, ...]
    encoding: str
    block: Coord
    sharding: Sharding | None

    @property
    def grid(self) -> Coord:
        """Number of chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    def size(self, coord: Coord) -> Coord:
        """Extent of a chunk, cut at the volume's end."""
        return tuple(min(c, n - i * c) for i, c, n in zip(coord, self.chunks, self.shape, strict=True))

    def name(self, coord: Coord) -> str:
        """Name of a chunk that is a file."""
        lo = [o + i * c for o, i, c in zip(self.offset, coord, self.chunks, strict=True)]
        spans = [f"{a}-{a + n}" for a, n in zip(lo, self.size(coord), strict=True)]
        return "_".join(reversed(spans))

    def coord(self, name: str) -> Coord | None:
        """Inverse of `name`; None for what is no chunk."""
        try:
            starts = [int(span.split("-", 1)[0] or "-" + span.split("-")[1]) for span in name.split("_")]
        except (ValueError, IndexError):
            return None
        if len(starts) != len(self.shape):
            return None
        triples = zip(reverse(starts), self.offset, self.chunks, strict=True)
        coord = tuple((a - o) // c for a, o, c in triples)
        inside = all(0 <= c < n for c, n in zip(coord, self.grid, strict=True))
        return coord if inside and self.name(coord) == name else None


@dataclass(frozen=True)
class Info:
    """A volume.

    Parameters
    ----------
    dtype
        In native byte order.
    channels
        Number of channels.
    labels
        Whether it is a segmentation.
    scales
        Finest first.
    """

    dtype: np.dtype[Any]
    channels: int
    labels: bool
    scales: Sequence[Scale]

    @classmethod
    def parse(cls, info: Mapping[str, Any]) -> Info:
        """Volume that an ``info`` describes.

        Raises
        ------
        FormatError
            If it describes none.
        UnsupportedError
            If it is of a type or encoding that is not read here, or its chunks are of 2 GiB or more.
        """
        if info.get("@type", "neuroglancer_multiscale_volume") != "neuroglancer_multiscale_volume":
            raise UnsupportedError(f"a precomputed {info['@type']!r}, which is no volume")
        name, channels = str(info.get("data_type")).lower(), info.get("num_channels", 1)
        if name not in DTYPES:
            raise UnsupportedError(f"precomputed data type {name!r}; read are {', '.join(sorted(DTYPES))}")
        if not isinstance(channels, int) or isinstance(channels, bool) or not 1 <= channels <= 1024:
            raise FormatError(f"num_channels {channels!r}, which should be an integer of 1 to 1024")
        scales = info.get("scales")
        if not isinstance(scales, list) or not scales or not all(isinstance(s, dict) for s in scales):
            raise FormatError("an info without scales")
        dtype = np.dtype(name)
        parsed = [_scale(s, dtype, channels) for s in scales]
        return cls(dtype, channels, info.get("type") == "segmentation", parsed)


def _scale(scale: Mapping[str, Any], dtype: np.dtype[Any], channels: int) -> Scale:
    key, encoding = scale.get("key"), str(scale.get("encoding")).lower()
    if not isinstance(key, str) or not key.strip("/"):
        raise FormatError(f"a scale with key {key!r}, which should be the name of a folder")
    if "://" in key or key.startswith("/") or ".." in key.split("/"):
        raise UnsupportedError(f"a scale in {key!r}, outside of the volume's own folder")
    if encoding not in ENCODINGS:
        raise UnsupportedError(f"precomputed encoding {encoding!r}; read are {', '.join(ENCODINGS)}")
    _check_type(encoding, dtype, channels)
    shape = _integers(scale.get("size"), "size", 0)
    offset = _integers(scale.get("voxel_offset") or [0, 0, 0], "voxel_offset", -(1 << 62))
    sizes = scale.get("chunk_sizes")
    if not isinstance(sizes, list) or not sizes:
        raise FormatError("a scale without chunk_sizes")
    chunks = _integers(sizes[0], "chunk_sizes", 1)
    if int(np.prod(chunks, dtype=object)) * dtype.itemsize * channels >= _MOST:
        raise UnsupportedError(f"precomputed chunks of {chunks[::-1]} {dtype}: 2 GiB or more")
    block = _block(scale, chunks) if encoding == "compressed_segmentation" else ()
    sharding = scale.get("sharding")
    parts = key.strip("/"), shape, chunks, offset, _resolution(scale.get("resolution")), encoding, block
    return Scale(*parts, None if sharding is None else Sharding.parse(sharding))


def _check_type(encoding: str, dtype: np.dtype[Any], channels: int) -> None:
    fits = {
        "raw": True,
        "compressed_segmentation": dtype.name in ("uint32", "uint64"),
        "jpeg": dtype.name == "uint8" and channels in (1, 3),
        "png": (dtype.name == "uint8" and channels <= 4) or (dtype.name == "uint16" and channels == 1),
    }
    if not fits[encoding]:
        raise UnsupportedError(f"precomputed {encoding} of {dtype.name} in {channels} channels")


def _block(scale: Mapping[str, Any], chunks: Coord) -> Coord:
    block = _integers(scale.get("compressed_segmentation_block_size"), "compressed_segmentation_block_size", 1)
    padded = [-(-c // b) * b for c, b in zip(chunks, block, strict=True)]
    if int(np.prod(padded, dtype=object)) > max(_MOST >> 5, 8 * int(np.prod(chunks, dtype=object))):
        raise UnsupportedError(f"blocks of {block[::-1]} in chunks of {chunks[::-1]}")
    return block


def _integers(found: Any, name: str, least: int) -> Coord:
    good = isinstance(found, list) and len(found) == 3
    if not good or not all(isinstance(n, int) and not isinstance(n, bool) and least <= n < 1 << 62 for n in found):
        raise FormatError(f"{name} {found!r}, which should be 3 integers")
    return reverse(found)


def _resolution(found: Any) -> tuple[float, ...]:
    good = isinstance(found, list) and len(found) == 3
    if not good or not all(isinstance(n, int | float) and np.isfinite(n) and n > 0 for n in found):
        raise FormatError(f"resolution {found!r}, which should be 3 positive numbers")
    return tuple(map(float, reversed(found)))
