"""Chunks in shards (``neuroglancer_uint64_sharded_v1``): which shard holds a chunk, and where in it.

A shard file begins with an index of 16 bytes per minishard (first and last byte of its own index); that lists chunk
ids, starts and sizes, each as differences; all positions count from the end of the first index.  A chunk's id is the
compressed Morton code of its grid coordinate (neuroglancer, "Sharded format" and "Precomputed volume format").
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import FormatError, StorageError, UnsupportedError
from vzarr.geometry import Coord
from vzarr.overlay.chunks import inflate
from vzarr.overlay.sources.files import Answer, Files

TYPE = "neuroglancer_uint64_sharded_v1"
_ROW = 24
_KEPT_BYTES = 16 << 20
_U32 = 0xFFFFFFFF


@dataclass(frozen=True)
class Sharding:
    """How ids lead to shards and minishards.

    Parameters
    ----------
    preshift, minishard_bits, shard_bits
        Bits of an id: ignored, then of the minishard and of the shard in what its hash makes of the rest.
    murmur
        Whether ids are hashed (MurmurHash3_x86_128), or taken as they are.
    index_gzip, data_gzip
        Whether minishard indices and chunks are compressed.
    """

    preshift: int
    minishard_bits: int
    shard_bits: int
    murmur: bool
    index_gzip: bool
    data_gzip: bool

    @classmethod
    def parse(cls, spec: Any) -> Sharding:
        """Specification from an ``info``.

        Raises
        ------
        FormatError
            If it is none.
        UnsupportedError
            If it is of another kind.
        """
        if not isinstance(spec, dict):
            raise FormatError(f"sharding {spec!r}, which should be a JSON object")
        if spec.get("@type") != TYPE:
            raise UnsupportedError(f"sharding of type {spec.get('@type')!r}; read is {TYPE!r}")
        bits = [spec.get(name, 0) for name in ("preshift_bits", "minishard_bits", "shard_bits")]
        if not all(isinstance(b, int) and not isinstance(b, bool) and 0 <= b <= 64 for b in bits):
            raise FormatError(f"sharding with bits {bits}, which should be integers of 0 to 64")
        preshift, minishard, shard = bits
        if minishard > 32 or minishard + shard > 64:
            raise FormatError(f"sharding with {minishard} bits of minishards and {shard} of shards")
        hashes = {"identity": False, "murmurhash3_x86_128": True}
        if spec.get("hash") not in hashes:
            raise UnsupportedError(f"sharding by hash {spec.get('hash')!r}; read are {', '.join(hashes)}")
        gzip = [_is_gzip(spec, name) for name in ("minishard_index_encoding", "data_encoding")]
        return cls(preshift, minishard, shard, hashes[spec["hash"]], *gzip)

    def place(self, chunk: int) -> tuple[str, int]:
        """File name of the shard that holds an id, and number of its minishard."""
        hashed = chunk >> self.preshift
        hashed = murmur3(hashed) if self.murmur else hashed
        minishard = hashed & ((1 << self.minishard_bits) - 1)
        shard = (hashed >> self.minishard_bits) & ((1 << self.shard_bits) - 1)
        # No bits give one digit less than none: the name is never empty.
        return f"{shard:0{max(1, -(-self.shard_bits // 4))}x}.shard", minishard

    @property
    def index_end(self) -> int:
        """Bytes of the index that a shard begins with."""
        return 16 << self.minishard_bits


def _is_gzip(spec: Mapping[str, Any], name: str) -> bool:
    found = spec.get(name, "raw")
    if found not in ("raw", "gzip"):
        raise UnsupportedError(f"sharding with {name} {found!r}; read are raw and gzip")
    return bool(found == "gzip")


def murmur3(value: int) -> int:
    """Low 64 bits of MurmurHash3_x86_128, seed 0, of a uint64 in little-endian bytes (A. Appleby, public domain).

    Eight bytes are less than one block of the hash: only its two first lanes see them.
    """
    c1, c2, c3 = 0x239B961B, 0xAB0E9789, 0x38B34AE5
    low, high = value & _U32, value >> 32 & _U32
    second = _rotate(high * c2 & _U32, 16) * c3 & _U32
    first = _rotate(low * c1 & _U32, 15) * c2 & _U32
    h = [first ^ 8, second ^ 8, 8, 8]
    h = _mixed([_avalanche(x) for x in _mixed(h)])
    return h[0] | h[1] << 32


def _mixed(h: list[int]) -> list[int]:
    first = sum(h) & _U32
    return [first, *((x + first) & _U32 for x in h[1:])]


def _rotate(x: int, by: int) -> int:
    return (x << by | x >> (32 - by)) & _U32


def _avalanche(h: int) -> int:
    h = (h ^ h >> 16) * 0x85EBCA6B & _U32
    h = (h ^ h >> 13) * 0xC2B2AE35 & _U32
    return h ^ h >> 16


def morton(coord: Coord, grid: Coord) -> int:
    """Compressed Morton code of a chunk, x lowest.

    Parameters
    ----------
    coord, grid
        Chunk coordinate, and number of chunks per axis, zyx.
    """
    code = at = 0
    for bit in range(64):
        for position, count in zip(reversed(coord), reversed(grid), strict=True):
            if 1 << bit < count:
                code |= (position >> bit & 1) << at
                at += 1
    return code


def unmorton(code: int, grid: Coord) -> Coord:
    """Inverse of `morton`."""
    coord, at = [0] * len(grid), 0
    for bit in range(64):
        for axis in reversed(range(len(grid))):
            if 1 << bit < grid[axis]:
                coord[axis] |= (code >> at & 1) << bit
                at += 1
    return tuple(coord)


@dataclass(frozen=True)
class Minishard:
    """What the index of a minishard lists.

    Parameters
    ----------
    ids
        Chunk ids, uint64, ascending.
    starts, sizes
        Where each chunk's bytes are in the file.
    stamp
        Of the shard when the index was read.
    """

    ids: NDArray[np.uint64]
    starts: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    stamp: str

    def find(self, chunk: int) -> tuple[int, int] | None:
        """First byte and size of a chunk, or None."""
        at = int(np.searchsorted(self.ids, np.uint64(chunk)))
        if at == self.ids.size or int(self.ids[at]) != chunk:
            return None
        return int(self.starts[at]), int(self.sizes[at])


def parse_minishard(data: bytes, base: int, size: int, stamp: str = "") -> Minishard:
    """Read the (expanded) index of a minishard.

    Parameters
    ----------
    base
        End of the shard's own index.
    size
        Bytes of the shard.

    Raises
    ------
    StorageError
        If it is damaged, or lists bytes that the shard does not have.
    """
    if len(data) % _ROW:
        raise StorageError(f"a minishard index of {len(data)} bytes, which is no multiple of {_ROW}")
    rows = np.frombuffer(data, "<u8").reshape(3, -1).astype(np.uint64)
    if rows.size and max(float(rows[r].astype(np.float64).sum()) for r in (1, 2)) > size:
        raise StorageError("a minishard index that points beyond its shard")
    ids = np.cumsum(rows[0], dtype=np.uint64)
    ends = np.cumsum(rows[1] + rows[2], dtype=np.uint64) + np.uint64(base)
    if ids.size and (np.any(ids[1:] <= ids[:-1]) or int(ends[-1]) > size):
        raise StorageError("a minishard index that points beyond its shard, or whose ids do not ascend")
    return Minishard(ids, ends - rows[2], rows[2], stamp)


class ShardedChunks:
    """Bytes of chunks by id, by ranged reads; the newest indices are kept, up to 16 MiB.

    Parameters
    ----------
    files, folder
        Where the shards lie.
    sharding
        How ids lead to them.
    most
        Number of chunks that there can be.
    """

    def __init__(self, files: Files, folder: str, sharding: Sharding, most: int) -> None:
        self.files, self.folder, self.sharding = files, folder, sharding
        self._limit = _ROW * most
        self._kept: OrderedDict[tuple[str, int], Minishard] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def key(self, chunk: int) -> str:
        """Key of the shard that holds a chunk."""
        return f"{self.folder}/{self.sharding.place(chunk)[0]}"

    def read(self, chunk: int, limit: int) -> bytes | None:
        """Bytes of a chunk, expanded to at most `limit`; None where the shard does not list it.

        Raises
        ------
        StorageError
            If the shard is damaged; the message names it.
        """
        name, minishard = self.sharding.place(chunk)
        for fresh in (False, True):
            index = self._index(name, minishard, fresh=fresh)
            found = None if index is None else index.find(chunk)
            if index is None or found is None:
                return None
            answer = self._bytes_of(name, *found)
            # A shard that was replaced meanwhile has its chunks elsewhere.
            if answer.stamp == index.stamp or fresh:
                break
        try:
            return inflate.gunzip(answer.data, limit) if self.sharding.data_gzip else answer.data
        except StorageError as e:
            raise StorageError(f"chunk {chunk} of {self._where(name)} is damaged: {e}") from e

    def has(self, chunk: int) -> bool:
        """Whether a shard lists a chunk."""
        index = self._index(*self.sharding.place(chunk))
        return index is not None and index.find(chunk) is not None

    def ids(self) -> Iterator[int]:
        """Ids of all chunks; lists the folder.

        Raises
        ------
        UnsupportedError
            If the store cannot list.
        """
        for key, _ in self.files.walk(self.folder):
            name = key[len(self.folder) + 1 :]
            if name.endswith(".shard"):
                for minishard in self._minishards(name):
                    index = self._index(name, minishard)
                    if index is not None:
                        yield from index.ids.tolist()

    def _minishards(self, name: str) -> list[int]:
        """Numbers of the minishards that hold anything."""
        head = self._bytes_of(name, 0, self.sharding.index_end)
        spans = np.frombuffer(head.data, "<u8").reshape(-1, 2)
        return [int(n) for n in np.flatnonzero(spans[:, 0] != spans[:, 1])]

    def _where(self, name: str) -> str:
        return self.files.place(f"{self.folder}/{name}")

    def _index(self, name: str, minishard: int, *, fresh: bool = False) -> Minishard | None:
        with self._lock:
            known = self._kept.get((name, minishard))
            if known is not None and not fresh:
                self._kept.move_to_end((name, minishard))
                return known
        entry = self.files.read(f"{self.folder}/{name}", 16 * minishard, 16)
        if entry is None:
            self._refuse_old(name)
            return None
        index = self._parsed(name, entry)
        if index is not None:
            self._keep((name, minishard), index)
        return index

    def _parsed(self, name: str, entry: Answer) -> Minishard | None:
        base = self.sharding.index_end
        if len(entry.data) != 16 or entry.size < base:
            raise StorageError(f"{self._where(name)} is damaged: its index is cut short")
        first, last = struct.unpack("<QQ", entry.data)
        if first == last:
            return None
        if last < first or base + last > entry.size:
            raise StorageError(f"{self._where(name)} is damaged: its index points beyond its end")
        found = self._bytes_of(name, base + first, last - first)
        try:
            limit = min(self._limit, 1 << 28)
            data = inflate.gunzip(found.data, limit) if self.sharding.index_gzip else found.data
            return parse_minishard(data, base, found.size, found.stamp)
        except StorageError as e:
            raise StorageError(f"{self._where(name)} is damaged: {e}") from e

    def _bytes_of(self, name: str, start: int, count: int) -> Answer:
        found = self.files.read(f"{self.folder}/{name}", start, count)
        if found is None or len(found.data) != count:
            raise StorageError(f"{self._where(name)} is damaged: it has no bytes {start} to {start + count}")
        return found

    def _refuse_old(self, name: str) -> None:
        old = name.removesuffix(".shard") + ".index"
        if self.files.read(f"{self.folder}/{old}", 0, 0) is not None:
            raise StorageError(f"{self._where(old)}: shards of the older kind, in two files, are not read")

    def _keep(self, at: tuple[str, int], index: Minishard) -> None:
        with self._lock:
            old = self._kept.pop(at, None)
            self._bytes += _ROW * (index.ids.size - (old.ids.size if old else 0))
            self._kept[at] = index
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= _ROW * self._kept.popitem(last=False)[1].ids.size
