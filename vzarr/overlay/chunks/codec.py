"""Chunk bytes to numpy and back: straight through numcodecs for the usual chains, through zarr for all others.

zarr's own pipeline spends most of a small chunk's time in Python and its event loop; a chain of ``bytes`` and one of
blosc, zstd or gzip needs neither.
"""

from __future__ import annotations

import sys
import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numcodecs
import numpy as np
import orjson
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from vzarr.errors import StorageError
from vzarr.geometry import Coord
from vzarr.overlay.chunks import blosc, inflate
from vzarr.overlay.hierarchy.tree import V3_DOC, ArrayEntry, parse_array

_SHUFFLE = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


class ChunkCodec(ABC):
    """How the chunks of one array are stored.

    Parameters
    ----------
    shape
        Shape of one stored chunk (of the shard, where there are shards).
    dtype
        In native byte order.
    fill
        Value of voxels that were never written.
    """

    def __init__(self, shape: Coord, dtype: np.dtype[Any], fill: Any) -> None:
        self.shape, self.dtype, self.fill = shape, dtype, fill

    @abstractmethod
    def decode(
        self, data: memoryview | bytes, scratch: NDArray[Any] | None = None, rows: tuple[int, int] | None = None
    ) -> NDArray[Any]:
        """Voxels of a chunk; in `scratch` (of the chunk's shape and dtype) where the chain can.

        Parameters
        ----------
        data
            The chunk's bytes.
        scratch
            C-contiguous memory for the result; fresh memory by default.
        rows
            First and last (exclusive) index along the first axis that matter; what else the result holds does not.

        Raises
        ------
        StorageError
            If the bytes are not a whole chunk.
        """

    @abstractmethod
    def encode(self, voxels: NDArray[Any]) -> bytes:
        """Bytes to store for a chunk of exactly the chunk's shape."""


class FastCodec(ChunkCodec):
    """C-order bytes, then at most one compressor of numcodecs.

    Parameters
    ----------
    shape, dtype, fill
        See `ChunkCodec`.
    compressor
        None where bytes are stored as they are.
    swapped
        Whether they are in the other than the machine's byte order.
    """

    def __init__(
        self, shape: Coord, dtype: np.dtype[Any], fill: Any, compressor: Any | None, *, swapped: bool = False
    ) -> None:
        super().__init__(shape, dtype, fill)
        self._compressor, self._swapped = compressor, swapped
        self._nbytes = int(np.prod(shape)) * dtype.itemsize

    def decode(
        self, data: memoryview | bytes, scratch: NDArray[Any] | None = None, rows: tuple[int, int] | None = None
    ) -> NDArray[Any]:
        """Decompress into `scratch`, or fresh memory; of a Blosc frame only the blocks that matter."""
        out = np.empty(self.shape, self.dtype) if scratch is None else scratch
        flat = out.reshape(-1).view(np.uint8)
        try:
            if self._compressor is None:
                flat[:] = np.frombuffer(data, np.uint8, self._nbytes)
                whole = len(data) == self._nbytes
            elif self._states_size(data):
                data, lo, hi = self._needed(data, rows)
                self._compressor.decode(data, out=flat[lo:hi])
                whole = True
            else:
                # Into memory of its own: a shorter result would leave in `out` what happened to be there.
                done = np.frombuffer(self._expanded(data), np.uint8)
                whole = done.size == self._nbytes
                flat[:] = done if whole else 0
        except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as e:
            raise StorageError(f"a stored chunk is damaged: {e}") from e
        if not whole:
            raise StorageError(f"a stored chunk is damaged: it does not hold {self._nbytes} bytes")
        return out.byteswap(inplace=True) if self._swapped else out

    def _expanded(self, data: memoryview | bytes) -> bytes:
        """Decompressed bytes, never many more than a chunk has."""
        if isinstance(self._compressor, numcodecs.GZip):
            return inflate.gunzip(data, self._nbytes)
        if isinstance(self._compressor, numcodecs.Zstd):
            return inflate.unzstd(data, self._nbytes)
        return inflate.unblosc(data, self._nbytes)

    def _states_size(self, data: memoryview | bytes) -> bool:
        """Whether the frame itself says that it holds exactly a chunk."""
        if isinstance(self._compressor, numcodecs.Blosc):
            return blosc.content_size(data) == self._nbytes
        return isinstance(self._compressor, numcodecs.Zstd) and inflate.zstd_size(data) == self._nbytes

    def _needed(self, data: memoryview | bytes, rows: tuple[int, int] | None) -> tuple[memoryview | bytes, int, int]:
        """What to decompress for some rows, and to which bytes of the chunk that leads."""
        if isinstance(self._compressor, numcodecs.Blosc):
            if not blosc.is_whole(data):
                raise ValueError("it is cut short")
            row = self._nbytes // self.shape[0] if self.shape else 0
            part = blosc.cut(data, self._nbytes, rows[0] * row, rows[1] * row) if rows else None
            if part is not None:
                return part
        return data, 0, self._nbytes

    def encode(self, voxels: NDArray[Any]) -> bytes:
        """Compress."""
        whole = np.ascontiguousarray(voxels, self.dtype)
        whole = whole.byteswap() if self._swapped else whole
        return whole.tobytes() if self._compressor is None else bytes(self._compressor.encode(whole))


class ZarrCodec(ChunkCodec):
    """Any chain that zarr knows, run by zarr on an array of one chunk."""

    def __init__(self, shape: Coord, dtype: np.dtype[Any], fill: Any, docs: Mapping[str, bytes]) -> None:
        super().__init__(shape, dtype, fill)
        self._docs = {name: _single_chunk(name, data, shape) for name, data in docs.items()}
        self._key = parse_array(self._docs).key((0,) * len(shape))

    def decode(
        self, data: memoryview | bytes, scratch: NDArray[Any] | None = None, rows: tuple[int, int] | None = None
    ) -> NDArray[Any]:
        """Let zarr read an array whose only chunk has these bytes."""
        if not len(data):
            raise StorageError("a stored chunk is damaged: it is empty")
        try:
            found = _memory_array({**self._docs, self._key: bytes(data)}, "r")[...]
        except (RuntimeError, ValueError, OSError, KeyError, EOFError, zlib.error) as e:
            raise StorageError(f"a stored chunk is damaged: {e}") from e
        return np.asarray(found).reshape(self.shape)

    def encode(self, voxels: NDArray[Any]) -> bytes:
        """Let zarr write an array of one chunk, and take the chunk's bytes."""
        held: dict[str, Any] = {}
        array = _memory_array(self._docs, "r+", held)
        array[...] = voxels
        return bytes(held[self._key].to_bytes())


_kept: dict[bytes, ChunkCodec] = {}
_lock = threading.Lock()


def codec_of(entry: ArrayEntry) -> ChunkCodec:
    """The codec of an array; equal for arrays whose bytes have equal meaning."""
    spec = entry.spec
    codec = _kept.get(spec.meaning)
    if codec is None:
        codec = _make(entry.docs)
        with _lock:
            _kept[spec.meaning] = codec
    return codec


def _make(docs: Mapping[str, bytes]) -> ChunkCodec:
    array = _memory_array(docs, "r")
    shape = tuple(array.shards or array.chunks)
    dtype = np.dtype(array.dtype)
    fill = array.fill_value if array.fill_value is not None else np.zeros((), dtype)[()]
    if V3_DOC in docs and dtype.isnative and dtype.kind in "uif":
        chain = orjson.loads(docs[V3_DOC])["codecs"]
        known, compressor = _compressor(chain, dtype)
        if known:
            endian = (chain[0].get("configuration") or {}).get("endian", sys.byteorder)
            return FastCodec(shape, dtype, fill, compressor, swapped=dtype.itemsize > 1 and endian != sys.byteorder)
    return ZarrCodec(shape, dtype, fill, docs)


def _compressor(codecs: list[dict[str, Any]], dtype: np.dtype[Any]) -> tuple[bool, Any]:
    """Whether the chain is one that `FastCodec` knows, and its compressor."""
    if not codecs or codecs[0]["name"] != "bytes" or len(codecs) > 2:
        return False, None
    if len(codecs) == 1:
        return True, None
    name, options = codecs[1]["name"], codecs[1].get("configuration", {})
    if name == "zstd":
        return True, numcodecs.Zstd(level=options.get("level", 0), checksum=bool(options.get("checksum", False)))
    if name == "gzip":
        return True, numcodecs.GZip(level=options.get("level", 5))
    if name == "blosc" and options.get("typesize", dtype.itemsize) == dtype.itemsize:
        shuffle = _SHUFFLE[options.get("shuffle", "noshuffle")]
        return True, numcodecs.Blosc(options["cname"], options["clevel"], shuffle, options.get("blocksize", 0))
    return False, None


def _single_chunk(name: str, data: bytes, shape: Coord) -> bytes:
    if name not in (V3_DOC, ".zarray"):
        return data
    return orjson.dumps({**orjson.loads(data), "shape": list(shape)})


def _memory_array(objects: Mapping[str, bytes], mode: Any, held: dict[str, Any] | None = None) -> zarr.Array[Any]:
    buffer = default_buffer_prototype().buffer
    held = {} if held is None else held
    held.update({k: buffer.from_bytes(v) for k, v in objects.items()})
    # Opening takes no configuration in zarr 3.1.
    return zarr.open_array(MemoryStore(held), mode=mode).with_config({"write_empty_chunks": True})
