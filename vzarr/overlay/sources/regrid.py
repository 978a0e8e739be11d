"""A source whose bytes are not Zarr's, shown as plain chunks on a grid that is aligned to voxel 0.

Each shown chunk is put together from the chunks of the source's own grid that it touches: one, where the source's
offset is a multiple of the chunk.  Where one source chunk serves several shown ones, decoded chunks are kept, up to a
number of bytes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Box, Coord, blocks_of_box, box_of_block, intersect, is_empty, iter_coords, shape_of, slices
from vzarr.overlay.chunks.codec import codec_of
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.sources.base import ChunkReader, Found, Locator, SourceArray

KEPT_BYTES = 64 << 20


class Regridded(SourceArray):
    """A `ChunkReader` as Zarr.

    Voxels keep their coordinates: the array's window starts at 0, or at the chunk border below where the source
    reaches below 0.

    Parameters
    ----------
    reader
        The source.
    """

    decodes = True

    def __init__(self, reader: ChunkReader) -> None:
        layout = reader.layout
        self._reader, self._chunks = reader, layout.chunks
        self._offset = tuple(layout.offset) or (0,) * len(layout.shape)
        start = tuple(min(0, o // c * c) for o, c in zip(self._offset, layout.chunks, strict=True))
        self._stored = self._offset, tuple(o + n for o, n in zip(self._offset, layout.shape, strict=True))
        shape = tuple(max(b, 0) - a for a, b in zip(start, self._stored[1], strict=True))
        docs = arrays.array_docs(
            shape, layout.chunks, layout.dtype, layout.codecs, layout.fill_value, layout.dimension_names, None
        )
        super().__init__(reader.files, reader.folder, docs, start if any(start) else ())
        self._codec = codec_of(ArrayEntry(docs, ArrayId("", "")))
        self._aligned = all(o % c == 0 for o, c in zip(self._offset, layout.chunks, strict=True))
        self._kept = _Kept(KEPT_BYTES)

    @property
    def locator(self) -> Locator:
        """The reader's."""
        return self._reader.locator

    @property
    def box(self) -> Box:
        """Shown chunks that the source's voxels touch."""
        return blocks_of_box(self._stored, self._chunks)

    def metadata(self) -> bytes:
        """The reader's."""
        return self._reader.metadata()

    def voxels(self, coord: Coord) -> NDArray[Any] | None:
        """A shown chunk; fresh memory."""
        box = box_of_block(coord, self._chunks)
        out: NDArray[Any] | None = None
        for own in self._touched(coord):
            found = self._reader.read(own) if self._aligned else self._kept.get(own, self._reader)
            if found is None:
                continue
            lo = tuple(c * n + o for c, n, o in zip(own, self._chunks, self._offset, strict=True))
            part = intersect(
                intersect(box, self._stored), (lo, tuple(a + n for a, n in zip(lo, found.shape, strict=True)))
            )
            if out is None and self._aligned and shape_of(part) == self._chunks:
                whole = np.ascontiguousarray(found, self._codec.dtype)
                return whole if whole.flags.writeable else whole.copy()
            if out is None:
                out = np.full(self._chunks, self._codec.fill, self._codec.dtype)
            if not is_empty(part):
                out[slices(part, box[0])] = found[slices(part, lo)]
        return out

    def fetch(self, coord: Coord, offset: int = 0, length: int | None = None) -> Found | None:
        """A shown chunk as its codecs encode it."""
        found = self.voxels(coord)
        if found is None:
            return None
        data = self._codec.encode(found)
        start = max(0, len(data) + offset) if offset < 0 else min(offset, len(data))
        return data[start : len(data) if length is None else start + max(0, length)], len(data)

    def keys(self, coord: Coord) -> Sequence[str]:
        """Keys of the objects that hold what is shown as a chunk."""
        return list(dict.fromkeys(self._reader.key(own) for own in self._touched(coord)))

    def coords(self) -> Iterator[Coord]:
        """Shown chunks that some stored one touches."""
        if self._aligned:
            shift = [o // c for o, c in zip(self._offset, self._chunks, strict=True)]
            yield from (tuple(c + s for c, s in zip(own, shift, strict=True)) for own in self._reader.coords())
            return
        seen: set[Coord] = set()
        for own in self._reader.coords():
            lo = tuple(c * n + o for c, n, o in zip(own, self._chunks, self._offset, strict=True))
            part = intersect((lo, tuple(a + n for a, n in zip(lo, self._chunks, strict=True))), self._stored)
            for coord in iter_coords(blocks_of_box(part, self._chunks)):
                if coord not in seen:
                    seen.add(coord)
                    yield coord

    def _touched(self, coord: Coord) -> Iterator[Coord]:
        """Chunks of the source's own grid that a shown chunk touches."""
        part = intersect(box_of_block(coord, self._chunks), self._stored)
        if is_empty(part):
            return
        lo, hi = (tuple(a - o for a, o in zip(corner, self._offset, strict=True)) for corner in part)
        yield from iter_coords(blocks_of_box((lo, hi), self._chunks))


class _Kept:
    """Decoded chunks of a source, the least used dropped when they outgrow a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._chunks: OrderedDict[Coord, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, coord: Coord, reader: ChunkReader) -> NDArray[Any] | None:
        with self._lock:
            if coord in self._chunks:
                self._chunks.move_to_end(coord)
                return self._chunks[coord]
        found = reader.read(coord)
        if found is not None:
            with self._lock:
                if coord not in self._chunks:
                    self._chunks[coord] = found
                    self._bytes += found.nbytes
                while self._bytes > self._limit and self._chunks:
                    self._bytes -= self._chunks.popitem(last=False)[1].nbytes
        return found
