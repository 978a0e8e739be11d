"""Label volumes and posted blocks in DVID's wire forms (DVID HTTP API, sections 3.1, 4.1, 4.2 and 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, Coord, is_aligned, reverse, shape_of
from vzarr.types import blockstreams, bytecodecs
from vzarr.types.bytecodecs import gzip_raw, lz4_raw, ungzip_raw, unlz4_raw
from vzarr.types.labelmap import cseg
from vzarr.types.labelmap.blocks import decode_block, max_encoded_size
from vzarr.types.labelmap.palettes import encoded, palettes
from vzarr.types.labelmap.relabel import Lookup
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.writes import blocks_at_once
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.types.base import Instance

Encoder = Callable[[Labels], bytes | memoryview]


def volume_encoder(compression: str) -> Encoder:
    """How a volume (z, y, x) is sent: as voxels, ``lz4`` or ``gzip`` of them, ``google`` or ``googlegzip``.

    Raises
    ------
    InvalidInputError
        If the compression is none of these; from the encoder, if the volume does not suit it.
    """
    if compression not in _ENCODERS:
        raise InvalidInputError(f'unknown compression type "{compression}"')
    return _ENCODERS[compression]


def encoded_block(
    instance: Instance, box: Box, compression: str, lookup: Lookup | None, scale: int = 0
) -> bytes | memoryview | None:
    """A box that is one stored block, as `volume_encoder` sends it, but compressed once; None for any other box.

    Parameters
    ----------
    box
        Voxels of `scale`, zyx, upper corner exclusive.
    lookup
        From supervoxels to bodies; None sends supervoxels.
    """
    shape = VoxelGeometry.of(instance.config).block_zyx
    if not compression or shape_of(box) != shape or not is_aligned(box, shape):
        return None
    encode = volume_encoder(compression)
    for _, palette in palettes(instance, [tuple(a // n for a, n in zip(box[0], shape, strict=True))], scale):
        labels = palette.labels if lookup is None else lookup(palette.labels)
        return encoded(palette, f"volume {compression}", labels, lambda p, named: bytes(encode(p.voxels(named))))
    return None


def _octets(volume: Labels) -> memoryview:
    return np.ascontiguousarray(volume, "<u8").reshape(-1).view(np.uint8).data


_ENCODERS: dict[str, Encoder] = {
    "": _octets,
    "lz4": lambda volume: lz4_raw(_octets(volume)),
    "gzip": lambda volume: gzip_raw(_octets(volume)),
    "google": cseg.encode_google,
    "googlegzip": lambda volume: gzip_raw(cseg.encode_google(volume)),
}


def pseudocolors(labels: Labels) -> NDArray[np.uint8]:
    """A colour for each label, background too, as last axis: the three upper bytes of the label's hash.

    The hash is MurmurHash3_x86_32 (A. Appleby, public domain), seed 0, of the label in little-endian bytes; the same
    labels have the same colours in DVID.
    """
    table, where = np.unique(labels, return_inverse=True)
    hashed = _murmur3(table)
    colors = np.stack([hashed >> np.uint32(shift) for shift in (24, 16, 8)], -1).astype(np.uint8)
    found: NDArray[np.uint8] = colors[where.reshape(labels.shape)]
    return found


def _murmur3(values: Labels) -> NDArray[np.uint32]:
    h = np.zeros(values.shape, np.uint32)
    for half in (values.astype(np.uint32), (values >> np.uint64(32)).astype(np.uint32)):
        h ^= _rotated(half * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        h = _rotated(h, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    h ^= np.uint32(8)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> np.uint32(shift)) * np.uint32(factor)
    return h ^ h >> np.uint32(16)


def _rotated(x: NDArray[np.uint32], by: int) -> NDArray[np.uint32]:
    return x << np.uint32(by) | x >> np.uint32(32 - by)


def decode_volume(body: bytes | memoryview, shape_zyx: Coord, compression: str) -> Labels:
    """A posted volume.

    Raises
    ------
    InvalidInputError
        If it has another size, is damaged, or the compression is neither "", ``lz4`` nor ``gzip``.
    """
    nbytes = 8 * int(np.prod(shape_zyx, dtype=object))
    if compression == "lz4":
        body = unlz4_raw(body, nbytes)
    elif compression == "gzip":
        body = ungzip_raw(body, nbytes)
    elif compression:
        raise InvalidInputError(f'unknown compression type "{compression}"')
    if len(body) != nbytes:
        raise InvalidInputError(f"expected {nbytes} bytes of labels, got {len(body)}")
    return np.frombuffer(body, "<u8").reshape(shape_zyx).astype(np.uint64, copy=False)


def check_posted(compression: str) -> None:
    """Refuse posted blocks in any other form than DVID's label blocks.

    Raises
    ------
    InvalidInputError
        If the compression is neither "" nor ``blocks``.
    """
    if compression not in ("", "blocks"):
        raise InvalidInputError(f'posted blocks must be of compression "blocks", not "{compression}"')


class PostedBlocks(Mapping[Coord, Labels]):
    """Blocks by their coordinates (zyx), decoded when they are asked for: a stream may hold 40,000 times its own size.

    Parameters
    ----------
    payloads
        The blocks as they were sent.
    shape_zyx
        What shape each must have; `decode_block` says what is raised for others.
    """

    def __init__(self, payloads: Mapping[Coord, memoryview], shape_zyx: Coord) -> None:
        z, y, x = shape_zyx
        self._payloads, self._shape = payloads, (z, y, x)
        self._most = max_encoded_size(self._shape)

    def __getitem__(self, coord: Coord) -> Labels:
        return decode_block(bytecodecs.gunzip(self._payloads[coord], self._most), self._shape)

    def __iter__(self) -> Iterator[Coord]:
        return iter(self._payloads)

    def __len__(self) -> int:
        return len(self._payloads)


def decode_blocks(body: bytes | memoryview, shape_zyx: Coord) -> Mapping[Coord, Labels]:
    """A posted stream of label blocks: block coordinates (zyx) and voxels; of equal coordinates the last counts.

    More blocks than are written at a time are decoded as they are asked for; errors in them are raised then.

    Raises
    ------
    InvalidInputError
        If the stream or a block is damaged, cut short, or of another shape.
    """
    posted = PostedBlocks({reverse(c): payload for c, payload in blockstreams.unpack_stream(body)}, shape_zyx)
    return posted if len(posted) > blocks_at_once(shape_zyx) else dict(posted)


def check_aligned(instance: Instance, box: Box) -> None:
    """Refuse a box (zyx) that does not consist of whole blocks.

    Raises
    ------
    InvalidInputError
        If a corner does not lie on a block border.
    """
    if not is_aligned(box, VoxelGeometry.of(instance.config).block_zyx):
        raise InvalidInputError(f'cannot read or store labels for data "{instance.name}" in non-block aligned geometry')
