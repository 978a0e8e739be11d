"""A sealed version's key changes as plain Zarr: what lies under a node's ``keys/``, one group per instance.

The group holds five one-dimensional Zarr v3 arrays, zstd-compressed, little-endian:

=================  ======  ========  =================================================================
array              dtype   length    content
=================  ======  ========  =================================================================
``keys``           uint8             the changed keys in ascending order, end to end
``key_offsets``    uint64  n + 1     where each key begins; the last is the length of ``keys``
``values``         uint8             their values, end to end; nothing for a deleted key
``value_offsets``  uint64  n + 1     where each value begins
``deleted``        bool    n         whether the change is a deletion
=================  ======  ========  =================================================================

The group's attribute ``vzarr_keys`` holds the format's version.  Its metadata are consolidated, so that
opening costs one object.  Every chunk is written, also where it is all zero: an object that is not there is
damage.  The same changes give the same bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import ge
from typing import Any, TypeVar

import numpy as np
import orjson
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from vzarr.errors import FormatError, InvalidInputError, StorageError
from vzarr.overlay.chunks.inflate import unzstd
from vzarr.overlay.kv.batches import Change as Change
from vzarr.overlay.kv.batches import batched

D = TypeVar("D")

VERSION = 1
ARRAYS = {
    "keys": "uint8",
    "key_offsets": "uint64",
    "values": "uint8",
    "value_offsets": "uint64",
    "deleted": "bool",
}
CHUNK_BYTES = {
    "keys": 1 << 18,
    "values": 1 << 20,
    "key_offsets": 1 << 17,
    "value_offsets": 1 << 17,
    "deleted": 1 << 17,
}
CACHED_CHUNKS = {"keys": 16, "values": 4, "key_offsets": 16, "value_offsets": 16, "deleted": 4}
"""Chunks to keep of an array that is read: a search comes by the same ones again and again."""
BLOCK = 4096

_zstd = Zstd(level=1)


def write(changes: Iterable[Change], put: Callable[[str, bytes], object]) -> int:
    """Write the objects of a sidecar, each as soon as it is full: memory is bounded by a few chunks and one value.

    Parameters
    ----------
    changes
        Keys in ascending order, each with its value, or None where it was deleted.
    put
        ``put(name, data)`` takes an object of the group.

    Returns
    -------
    int
        Number of keys.

    Raises
    ------
    InvalidInputError
        The keys are not in ascending order, or one occurs twice.
    """
    columns = {name: _Growing(name, put) for name in ARRAYS}
    for name in ("key_offsets", "value_offsets"):
        columns[name].add(bytes(8))
    last: tuple[bytes, ...] = ()
    for rows in batched(changes, BLOCK, CHUNK_BYTES["values"]):
        keys = tuple(key for key, _ in rows)
        values = [value or b"" for _, value in rows]
        _check_order(last + keys)
        last = keys[-1:]
        for name, parts in (("key", keys), ("value", values)):
            columns[f"{name}_offsets"].add(_ends(columns[f"{name}s"].length, parts))
            columns[f"{name}s"].add(b"".join(parts))
        columns["deleted"].add(bytes(value is None for _, value in rows))
    count = columns["deleted"].length
    metadata = {name: column.end() for name, column in columns.items()}
    for name, document in metadata.items():
        put(f"{name}/zarr.json", _json(document))
    put("zarr.json", _json(_group_metadata(metadata)))
    return count


def _check_order(keys: Sequence[bytes]) -> None:
    if any(map(ge, keys, keys[1:])):
        wrong = next(key for last, key in pairwise(keys) if key <= last)
        raise InvalidInputError(f"changes are given in ascending order of keys: {wrong!r} is out of order")


def _ends(start: int, parts: Sequence[bytes]) -> bytes:
    """Where parts end that are put after so many bytes."""
    return (np.cumsum([len(part) for part in parts], dtype="<u8") + np.uint64(start)).astype("<u8").tobytes()


class _Growing:
    """One of the arrays while it is written."""

    def __init__(self, name: str, put: Callable[[str, bytes], object]) -> None:
        self._name, self._put = name, put
        self._itemsize = np.dtype(ARRAYS[name]).itemsize
        self._full = CHUNK_BYTES[name] // self._itemsize * self._itemsize
        self._waiting = bytearray()
        self._chunks = 0

    @property
    def length(self) -> int:
        """Items so far."""
        return (self._chunks * self._full + len(self._waiting)) // self._itemsize

    def add(self, data: bytes) -> None:
        """Append items."""
        self._waiting += data
        whole = len(self._waiting) // self._full * self._full
        for start in range(0, whole, self._full):
            self._leave(self._waiting[start : start + self._full])
        del self._waiting[:whole]

    def end(self) -> dict[str, Any]:
        """Write what is left, and give the array's metadata."""
        metadata = _metadata(self._name, self.length)
        if self._waiting:
            # A lone chunk is as long as the array; others are filled up.
            self._leave(self._waiting.ljust(_chunk_length(metadata) * self._itemsize, b"\0"))
            self._waiting.clear()
        return metadata

    def _leave(self, chunk: bytearray) -> None:
        self._put(f"{self._name}/c/{self._chunks}", bytes(_zstd.encode(chunk)))
        self._chunks += 1


def _metadata(name: str, length: int) -> dict[str, Any]:
    dtype = np.dtype(ARRAYS[name])
    chunk = min(max(length, 1), CHUNK_BYTES[name] // dtype.itemsize)
    serializer: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        serializer["configuration"] = {"endian": "little"}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [length],
        "data_type": ARRAYS[name],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": dtype.type(0).item(),
        "codecs": [serializer, {"name": "zstd", "configuration": {"level": 1, "checksum": False}}],
        "attributes": {},
    }


def _chunk_length(metadata: dict[str, Any]) -> int:
    return int(metadata["chunk_grid"]["configuration"]["chunk_shape"][0])


def _group_metadata(arrays: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"vzarr_keys": {"version": VERSION}},
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
    }


def _json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


class _Column:
    """One of the arrays, read by chunks as they are needed."""

    def __init__(self, get: Callable[[str], bytes | None], name: str, metadata: dict[str, Any]) -> None:
        self._get = get
        self._name = name
        self._dtype = np.dtype(ARRAYS[name]).newbyteorder("<")
        self.length = int(metadata["shape"][0])
        self._chunk_length = _chunk_length(metadata)
        if not 0 < self._chunk_length * self._dtype.itemsize <= CHUNK_BYTES[name]:
            raise FormatError(f"sidecar array {name} has chunks of {self._chunk_length} items")
        self._chunk = lru_cache(CACHED_CHUNKS[name])(self._load)

    def _load(self, number: int) -> np.ndarray[Any, Any]:
        name = f"{self._name}/c/{number}"
        packed = self._get(name)
        if packed is None:
            raise FormatError(f"sidecar object {name} is missing")
        try:
            chunk = np.frombuffer(unzstd(packed, self._chunk_length * self._dtype.itemsize), self._dtype)
        except (StorageError, ValueError) as error:
            raise FormatError(f"sidecar object {name} is damaged: {error}") from error
        if len(chunk) != self._chunk_length:
            raise FormatError(f"sidecar object {name} holds {len(chunk)} items, not {self._chunk_length}")
        return chunk

    def span(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Items `start` to `stop`, exclusive."""
        if not 0 <= start <= stop <= self.length:
            raise FormatError(f"sidecar array {self._name} of {self.length} has no items {start} to {stop}")
        size = self._chunk_length
        parts = [
            self._chunk(number)[max(start - number * size, 0) : stop - number * size]
            for number in range(start // size, -(-stop // size))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, self._dtype), *parts])

    def pieces(self, ends: NDArray[Any]) -> Iterator[bytes]:
        """What lies between one place and the next, of ascending ones; read so many at a time as fill a chunk."""
        if np.any(ends[1:] < ends[:-1]):
            raise FormatError(f"places in the sidecar array {self._name} are not in order")
        places, first = ends.tolist(), 0
        while first < len(places) - 1:
            start = places[first]
            last = max(first + 1, bisect_right(places, start + self._chunk_length) - 1)
            data = self.span(start, places[last]).tobytes()
            for low, high in pairwise(places[first : last + 1]):
                yield data[low - start : high - start]
            first = last


class Sidecar:
    """One instance's key changes at one sealed version.

    Iterating gives ``(key, value)`` in key order, None standing for a deletion; ``len`` is their number.
    Memory is bounded by a few chunks.

    Parameters
    ----------
    get
        ``get(name)`` gives an object of the group, or None where there is none; what it raises goes through.

    Raises
    ------
    FormatError
        No sidecar of a format that is known here, or (also later) a damaged one.
    """

    def __init__(self, get: Callable[[str], bytes | None]) -> None:
        try:
            group = orjson.loads(get("zarr.json") or b"")
            version = group["attributes"]["vzarr_keys"]["version"]
            arrays = group["consolidated_metadata"]["metadata"]
            columns = {name: _Column(get, name, arrays[name]) for name in ARRAYS}
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise FormatError(f"zarr.json describes no sidecar of keys: {error!r}") from error
        if version != VERSION:
            raise FormatError(f"this sidecar of keys has format {version}; this release reads {VERSION}")
        self._keys, self._key_offsets = columns["keys"], columns["key_offsets"]
        self._values, self._value_offsets = columns["values"], columns["value_offsets"]
        self._deleted = columns["deleted"]

    def __len__(self) -> int:
        return self._deleted.length

    def __iter__(self) -> Iterator[Change]:
        return self._rows(0, len(self))

    def within(self, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[Change]:
        """Changes with ``start <= key < end`` in key order, or from the last if `reverse`."""
        places = range(len(self))
        low = bisect_left(places, start, key=self._key)
        high = len(self) if end is None else max(low, bisect_left(places, end, key=self._key))
        if not reverse:
            yield from self._rows(low, high)
            return
        for stop in range(high, low, -BLOCK):
            yield from reversed(list(self._rows(max(low, stop - BLOCK), stop)))

    def _rows(self, low: int, high: int) -> Iterator[Change]:
        for start in range(low, high, BLOCK):
            stop = min(start + BLOCK, high)
            keys = self._keys.pieces(self._key_offsets.span(start, stop + 1))
            values = self._values.pieces(self._value_offsets.span(start, stop + 1))
            for key, value, gone in zip(keys, values, self._deleted.span(start, stop).tolist(), strict=True):
                yield key, None if gone else value

    def lookup(self, key: bytes, default: D) -> bytes | D | None:
        """Value that the version gave `key`, None if it deleted it, `default` if it left it alone.

        Reads about as many chunks as the logarithm of their number.
        """
        place = bisect_left(range(len(self)), key, key=self._key)
        if place == len(self) or self._key(place) != key:
            return default
        if self._deleted.span(place, place + 1)[0]:
            return None
        return self._values.span(*self._value_offsets.span(place, place + 2).tolist()).tobytes()

    def _key(self, place: int) -> bytes:
        return self._keys.span(*self._key_offsets.span(place, place + 2).tolist()).tobytes()
