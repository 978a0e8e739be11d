"""What a labelmap keeps beside its voxels: the classes of its keys, and how their values are packed.

The first byte of a key is its class; numbers behind it are 8 bytes, big-endian, so that scans are in order.

==============  =============================  =======================================================
key             value                          meaning
==============  =============================  =======================================================
``b`` body      `Header`                       size and last change; there iff the body has a voxel
``i`` body sv   `Counts`                       where a supervoxel of the body is
``p`` sv        body                           body of a supervoxel unless it is of that number; 0: retired
``q`` sv        see `vzarr.types.labelmap.pages`  bodies of many supervoxels from this one on
``r`` sv        empty                          retired, and held all the same by voxels that were posted since
``s`` ...       split                          supervoxels that were cut (`vzarr.types.labelmap.splits`)
``m`` ...       JSON                           mutation log (`vzarr.types.mutations`)
``u`` ...       JSON                           what edits did (`vzarr.types.labelmap.deeds`)
``x``           label                          largest label of the version
``c``           mutation id                    last change: whoever caches looks at it
``v``           mutation id                    last change but for edits that move bodies: who writes voxels looks at it
``w``           see `vzarr.types.labelmap.intents`  voxels being written
``extents``     JSON                           see `vzarr.types.voxels`
``a``           see `vzarr.types.labelmap.allocate`  next labels; outside of versions
==============  =============================  =======================================================
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import FormatError, InvalidInputError

Labels = NDArray[np.uint64]

HEADER, INDEX, MAPPING, PAGE, STRAY, SPLIT, DEED = b"b", b"i", b"p", b"q", b"r", b"s", b"u"
MAX_LABEL, CHANGE, VOXELS, INTENT, ALLOCATION = b"x", b"c", b"v", b"w", b"a"

_NUMBERS = struct.Struct("<QQ")
_AXIS_BITS = 21
_HALF = 1 << (_AXIS_BITS - 1)
_MASK = np.uint64((1 << _AXIS_BITS) - 1)
_ITEM = 12


def number(value: int) -> bytes:
    """A label or id as 8 bytes that sort like the number."""
    return value.to_bytes(8, "big")


def class_range(kind: bytes) -> tuple[bytes, bytes]:
    """First key and end of all keys of a class."""
    return kind, bytes([kind[0] + 1])


def header_key(body: int) -> bytes:
    """Key of a body's `Header`."""
    return HEADER + number(body)


def index_key(body: int, supervoxel: int) -> bytes:
    """Key of the `Counts` of a supervoxel in a body."""
    return INDEX + number(body) + number(supervoxel)


def index_range(body: int) -> tuple[bytes, bytes]:
    """First key and end of all `Counts` of a body."""
    return INDEX + number(body), INDEX + number(body) + b"\xff" * 9


def mapping_key(supervoxel: int) -> bytes:
    """Key of the body that a supervoxel is mapped to."""
    return MAPPING + number(supervoxel)


def stray_key(supervoxel: int) -> bytes:
    """Key of the note that voxels of a retired supervoxel were posted."""
    return STRAY + number(supervoxel)


@dataclass(frozen=True)
class Header:
    """What is known about a body without looking at its blocks.

    Parameters
    ----------
    voxels
        Size at scale 0, above 0.
    mutation_id, time, user, app
        Last edit; 0 and empty before the first.
    """

    voxels: int
    mutation_id: int = 0
    time: str = ""
    user: str = ""
    app: str = ""

    def encode(self) -> bytes:
        """Two little-endian uint64, then a JSON list of the three texts."""
        return _NUMBERS.pack(self.voxels, self.mutation_id) + orjson.dumps([self.time, self.user, self.app])

    @classmethod
    def decode(cls, value: bytes) -> Header:
        """Inverse of `encode`."""
        voxels, mutation_id = _NUMBERS.unpack_from(value)
        return cls(voxels, mutation_id, *orjson.loads(value[_NUMBERS.size :]))


def voxels_of(header: bytes | None) -> int:
    """Size in an encoded `Header`; 0 without one."""
    return 0 if header is None else int(_NUMBERS.unpack_from(header)[0])


def resized(header: bytes, voxels: int) -> bytes:
    """An encoded `Header` of which nothing but the size is another."""
    return voxels.to_bytes(8, "little") + header[8:]


@dataclass(frozen=True)
class Counts:
    """Voxels of one supervoxel in each block of scale 0 that holds some.

    Parameters
    ----------
    blocks
        uint64, shape (n,), ascending: block coordinates packed by `pack_blocks`.
    voxels
        uint32, shape (n,), each above 0.
    """

    blocks: Labels
    voxels: NDArray[np.uint32]

    @property
    def total(self) -> int:
        """Size of the supervoxel."""
        return int(self.voxels.sum(dtype=np.uint64))

    def encode(self) -> bytes:
        """All blocks as little-endian uint64, then all counts as little-endian uint32."""
        return self.blocks.astype("<u8", copy=False).tobytes() + self.voxels.astype("<u4", copy=False).tobytes()

    def encode_parts(self, lows: Iterable[int], highs: Iterable[int]) -> Iterator[bytes]:
        """`encode` of these counts from each of `lows` to the one of `highs` beside it, exclusive."""
        whole, n = self.encode(), 8 * self.blocks.size
        for low, high in zip(lows, highs, strict=True):
            yield whole[8 * low : 8 * high] + whole[n + 4 * low : n + 4 * high]

    @classmethod
    def decode(cls, value: bytes) -> Counts:
        """Inverse of `encode`."""
        n, rest = divmod(len(value), _ITEM)
        if rest:
            raise FormatError(f"{len(value)} bytes of a label index are no whole number of blocks")
        return cls(np.frombuffer(value, "<u8", n), np.frombuffer(value, "<u4", n, 8 * n))

    @classmethod
    def summed(cls, blocks: Labels, voxels: NDArray[np.int64]) -> Counts:
        """Counts from blocks in any order, those of equal blocks added; what falls to 0 or below is left out.

        Below 0 come counts of voxels that were stored without being indexed and are then overwritten.
        """
        unique, where = np.unique(blocks, return_inverse=True)
        sums = np.zeros(unique.size, np.int64)
        np.add.at(sums, where, voxels)
        kept = sums > 0
        return cls(unique[kept], sums[kept].astype(np.uint32))

    def plus(self, blocks: Labels, voxels: NDArray[np.int64]) -> Counts:
        """These counts changed by differences."""
        return Counts.summed(
            np.concatenate([self.blocks, blocks]), np.concatenate([self.voxels.astype(np.int64), voxels])
        )


def pack_blocks(coords_zyx: NDArray[np.int64]) -> Labels:
    """Block coordinates as numbers that sort like them: 21 bits an axis, z highest, each plus 2^20.

    Parameters
    ----------
    coords_zyx
        Shape (n, 3).

    Raises
    ------
    InvalidInputError
        If a coordinate is not within 2^20 of 0, the limit of DVID's label index.
    """
    shifted = np.asarray(coords_zyx, np.int64).reshape(-1, 3) + _HALF
    if shifted.size and (int(shifted.min()) < 0 or int(shifted.max()) >= 2 * _HALF):
        raise InvalidInputError("block coordinates of labels must lie between -2^20 and 2^20 - 1")
    z, y, x = shifted.astype(np.uint64).T
    packed: Labels = z << np.uint64(2 * _AXIS_BITS) | y << np.uint64(_AXIS_BITS) | x
    return packed


def unpack_blocks(packed: Labels) -> NDArray[np.int64]:
    """Inverse of `pack_blocks`: shape (n, 3), zyx."""
    shifts = np.array([2 * _AXIS_BITS, _AXIS_BITS, 0], np.uint64)
    return ((packed[:, None] >> shifts) & _MASK).astype(np.int64) - _HALF


def packed_runs(packed: Labels) -> NDArray[np.int32]:
    """Runs along x of block coordinates, shape (n, 4): x, y, z, length.

    Parameters
    ----------
    packed
        As `pack_blocks` makes them, ascending, each once.
    """
    opens = np.ones(packed.size, np.bool_)
    # The number after the last x of a line is the first x of the next one.
    np.logical_or(packed[1:] - packed[:-1] != 1, packed[1:] & _MASK == 0, out=opens[1:])
    first = np.flatnonzero(opens)
    found = np.empty((first.size, 4), np.int32)
    found[:, 2::-1] = unpack_blocks(packed[first])
    found[:-1, 3] = first[1:] - first[:-1]
    found[-1:, 3] = packed.size - first[-1:]
    return found
