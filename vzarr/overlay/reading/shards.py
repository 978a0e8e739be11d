"""A few chunks out of a shard: its index, then only their bytes (Zarr 3, codec ``sharding_indexed``)."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import StorageError
from vzarr.geometry import Box, Coord, blocks_of_box, intersect, iter_coords, shape_of, slices
from vzarr.overlay import layout
from vzarr.overlay.chunks.codec import ChunkCodec, codec_of
from vzarr.overlay.hierarchy.tree import V3_DOC, ArrayEntry
from vzarr.overlay.views.base import View

_EMPTY = 2**64 - 1
"""Offset and length of a chunk that the shard does not have."""


@dataclass(frozen=True)
class Shards:
    """How the shards of one array are made.

    Parameters
    ----------
    inner
        Codec of the chunks inside.
    grid
        Number of chunks per axis of a shard.
    index
        Codec of the index: per chunk its offset and length, uint64, shape (*grid, 2).
    index_size
        Bytes of the index.
    at_end
        Whether it ends the shard rather than beginning it.
    """

    inner: ChunkCodec
    grid: Coord
    index: ChunkCodec
    index_size: int
    at_end: bool

    def pays(self, box: Box) -> bool:
        """Whether a box of voxels inside a shard needs so few of its chunks that they are read one by one."""
        return 2 * prod(shape_of(blocks_of_box(box, self.inner.shape))) <= prod(self.grid)

    def read(self, view: View, entry: ArrayEntry, coord: Coord, box: Box) -> NDArray[Any] | None:
        """Voxels of a box inside one shard; None where only the whole shard can tell, as when there is none.

        Parameters
        ----------
        coord
            The shard's global coordinate.
        box
            Voxels, counted from the shard's first.
        """
        for place in view.chunk_places(entry, coord):
            start = -self.index_size if self.at_end else 0
            found = view.storage.objects.fetch(place, start, self.index_size)
            if found is not None:
                return None if found[1] == len(layout.MARKER) else self._chunks(view, place, found, box)
        return None

    def _chunks(self, view: View, place: str, found: tuple[bytes, int], box: Box) -> NDArray[Any] | None:
        head, size = found
        out = np.full(shape_of(box), self.inner.fill, self.inner.dtype)
        try:
            index = self.index.decode(head)
            for coord in iter_coords(blocks_of_box(box, self.inner.shape)):
                offset, length = (int(v) for v in index[coord])
                if offset == _EMPTY and length == _EMPTY:
                    continue
                part = view.storage.objects.fetch(place, offset, length)
                if part is None or part[1] != size or len(part[0]) != length:
                    return None  # replaced since the index was read
                lo = tuple(c * n for c, n in zip(coord, self.inner.shape, strict=True))
                both = intersect(box, (lo, tuple(a + n for a, n in zip(lo, self.inner.shape, strict=True))))
                out[slices(both, box[0])] = self.inner.decode(part[0])[slices(both, lo)]
        except StorageError:
            return None  # replaced, or damaged: reading the whole shard tells which
        return out


_kept: dict[bytes, Shards | None] = {}
_lock = threading.Lock()


def shards_of(entry: ArrayEntry) -> Shards | None:
    """How an array's shards are made; None for an array without, or with more than shards in its chain of codecs."""
    meaning = entry.spec.meaning
    if meaning not in _kept:
        made = _make(entry)
        with _lock:
            _kept[meaning] = made
    return _kept[meaning]


def _make(entry: ArrayEntry) -> Shards | None:
    if b"sharding_indexed" not in entry.docs.get(V3_DOC, b"") or entry.spec.chunks is None:
        return None
    doc = orjson.loads(entry.docs[V3_DOC])
    if [codec["name"] for codec in doc["codecs"]] != ["sharding_indexed"]:
        return None
    options = doc["codecs"][0]["configuration"]
    inner = tuple(options["chunk_shape"])
    grid = tuple(a // b for a, b in zip(entry.spec.chunks, inner, strict=True))
    table = {**doc, "data_type": "uint64", "fill_value": _EMPTY, "attributes": {}, "dimension_names": None}
    index = _codec(entry, table, (*grid, 2), options["index_codecs"])
    size = len(index.encode(np.zeros((*grid, 2), np.uint64)))
    at_end = options.get("index_location", "end") == "end"
    return Shards(_codec(entry, doc, inner, options["codecs"]), grid, index, size, at_end)


def _codec(entry: ArrayEntry, doc: dict[str, object], shape: Coord, codecs: object) -> ChunkCodec:
    """Codec of an array like this one, of other chunks."""
    grid = {"name": "regular", "configuration": {"chunk_shape": shape}}
    changed = {**doc, "shape": shape, "chunk_grid": grid, "codecs": codecs}
    return codec_of(replace(entry, docs={V3_DOC: orjson.dumps(changed)}, origin=(), source=None))
