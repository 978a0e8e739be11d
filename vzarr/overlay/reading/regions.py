"""Whole regions of an array as numpy, in global signed voxel coordinates: reading, and writing whole chunks.

Per chunk: one owner look-up, one ``open`` and ``readv`` into a reused buffer, one decode into a reused scratch
array, one strided copy.  Two threads share the work, the caller being one of them; on object stores, many.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import index
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, Coord, align, blocks_of_box, cuts, intersect, is_empty, iter_coords, shape_of, slices
from vzarr.overlay import layout
from vzarr.overlay.chunks.codec import ChunkCodec, codec_of
from vzarr.overlay.hierarchy.tree import DIGITS, ArrayEntry
from vzarr.overlay.objects.sharing import share as share
from vzarr.overlay.reading.shards import shards_of
from vzarr.overlay.sources.adopted import Adopted
from vzarr.overlay.views.base import View
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.rootview import RootView

T = TypeVar("T")
Editable = OpenView | RootView

_local = threading.local()


def read_region(view: View, entry: ArrayEntry, box: Box, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Voxels of a box; what was never written, or lies outside the array, has the fill value.

    Parameters
    ----------
    entry
        The array.
    box
        Global voxel coordinates, zyx, upper corner exclusive; any box, below 0 too.
    out
        Array of the box's shape and the array's dtype to fill; a fresh one by default.

    Raises
    ------
    InvalidInputError
        If the box has other axes than the array, or `out` does not fit it.
    StorageError
        If a chunk is there but cannot be read or decoded.
    """
    codec = codec_of(entry)
    check_axes(entry, *box)
    shape = shape_of(box)
    if out is None:
        out = np.empty(shape, codec.dtype)
    elif out.shape != shape or out.dtype != codec.dtype:
        raise InvalidInputError(f"out must have shape {shape} and dtype {codec.dtype}")
    # Nothing is stored outside: a huge box around little data costs no look-ups.
    inside = intersect(box, align(entry.window, codec.shape))
    if inside != box:
        out[...] = codec.fill
    if not is_empty(inside):
        _read_into(view, entry, codec, inside, out, box[0])
    return out


def _read_into(view: View, entry: ArrayEntry, codec: ChunkCodec, box: Box, out: NDArray[Any], origin: Coord) -> None:
    """Read a box of voxels to its place in `out`, whose first voxel is `origin`."""
    few, parts = shards_of(entry), cuts(box, codec.shape)
    coords = list(itertools.product(*parts))
    places = view.finder(entry, coords)
    unsure: list[Adopted] = []

    def fill(coord: Coord) -> None:
        within = [part[c] for part, c in zip(parts, coord, strict=True)]
        there = tuple([slice(a - o, b - o) for (_, a, b), o in zip(within, origin, strict=True)])
        here = tuple([slice(a - lo, b - lo) for lo, a, b in within])
        if few is not None and few.pays(local := (tuple(s.start for s in here), tuple(s.stop for s in here))):
            some = few.read(view, entry, coord, local)
            if some is not None:
                out[there] = some
                return
        rows = (here[0].start, here[0].stop) if here else None
        voxels = _decoded(view, entry, coord, codec, places(coord), rows=rows, unsure=unsure)
        out[there] = codec.fill if voxels is None else voxels[here]

    share(fill, coords, _threads(view, entry))
    for source in set(unsure):
        source.check()


def read_chunks(view: View, entry: ArrayEntry, coords: Sequence[Coord]) -> Iterator[tuple[Coord, NDArray[Any] | None]]:
    """Decoded chunks in the order of `coords` (global chunk coordinates); None where absent."""
    codec = codec_of(entry)
    threads = _threads(view, entry)

    def read(some: Sequence[Coord]) -> list[NDArray[Any] | None]:
        places = view.finder(entry, some)
        return share(lambda coord: _decoded(view, entry, coord, codec, places(coord), fresh=True), some, threads)

    # A few at a time: the reader of a stream should not hold all of it, and may write meanwhile.
    step = max(32, 2 * threads)
    for start in range(0, len(coords), step):
        some = coords[start : start + step]
        yield from zip(some, read(some), strict=True)


def visit_chunks(
    view: View, entry: ArrayEntry, coords: Sequence[Coord], work: Callable[[Coord, NDArray[Any] | None], T]
) -> list[T]:
    """Results of `work` for each chunk in order, without fresh memory: voxels are lent until it returns.

    Parameters
    ----------
    work
        Called with a global chunk coordinate and its voxels, None where absent; in two threads.
    """
    codec, places = codec_of(entry), view.finder(entry, coords)
    return share(lambda coord: work(coord, _decoded(view, entry, coord, codec, places(coord))), coords)


def write_chunks(view: Editable, entry: ArrayEntry, chunks: Mapping[Coord, NDArray[Any]], aside: str = "") -> None:
    """Store whole chunks; each replaces an older one atomically.

    Parameters
    ----------
    aside
        Name under which the chunks wait for `place_chunks`; by default they are put in place.

    Raises
    ------
    InvalidInputError
        If a chunk has not exactly the shape of the array's chunks; nothing is written then.
    """
    codec = codec_of(entry)
    for coord, voxels in chunks.items():
        if voxels.shape != codec.shape:
            raise InvalidInputError(f"chunk {coord} has shape {voxels.shape}, not {codec.shape}")

    def one(coord: Coord) -> None:
        data = codec.encode(_in_one_piece(codec, chunks[coord]))
        if not aside:
            view.put_chunk(entry, coord, data)
            return
        with view.writer.write() as stage:
            key = f"{layout.aside(view.node, aside)}/{'_'.join(map(str, coord))}"
            view.storage.objects.put(key, data, stage=stage)

    share(one, list(chunks), view.storage.objects.concurrency)


def place_chunks(view: Editable, entry: ArrayEntry, aside: str) -> None:
    """Put chunks in place that were written aside; those that are there already stay, so that it can be done again."""
    objects, folder = view.storage.objects, layout.aside(view.node, aside)
    with view.writer.write():
        for name in objects.list_dir(folder)[1]:
            coord = tuple(map(int, name.split("_")))
            objects.move(f"{folder}/{name}", view.storage.chunk_key(view.node, entry, coord))
        objects.delete_tree(folder)


def write_region(view: Editable, entry: ArrayEntry, lo: Coord, voxels: NDArray[Any]) -> None:
    """Store a box of voxels: border chunks are read, changed and written whole."""
    codec = codec_of(entry)
    box = lo, tuple(a + n for a, n in zip(lo, voxels.shape, strict=True))

    def one(coord: Coord) -> None:
        start = tuple(c * n for c, n in zip(coord, codec.shape, strict=True))
        part = intersect(box, (start, tuple(a + n for a, n in zip(start, codec.shape, strict=True))))
        if shape_of(part) == codec.shape:
            whole = voxels[slices(part, lo)]
        else:
            old = _decoded(view, entry, coord, codec, view.chunk_places(entry, coord), fresh=True)
            whole = np.full(codec.shape, codec.fill, codec.dtype) if old is None else old
            whole[slices(part, start)] = voxels[slices(part, lo)]
        view.put_chunk(entry, coord, codec.encode(_in_one_piece(codec, whole)))

    share(one, list(iter_coords(blocks_of_box(box, codec.shape))), view.storage.objects.concurrency)


def point(entry: ArrayEntry, values: Iterable[int]) -> Coord:
    """Coordinates of an array, one per axis, as a caller gave them.

    Raises
    ------
    InvalidInputError
        If they are no integers, or not as many as axes.
    """
    try:
        found = tuple(map(index, values))
    except TypeError as e:
        raise InvalidInputError(f"coordinates in array {entry.id.path!r} are integers: {e}") from e
    check_axes(entry, found)
    return found


def chunk(entry: ArrayEntry, values: Iterable[int]) -> Coord:
    """Coordinates of a chunk that may be written, as a caller gave them.

    Raises
    ------
    InvalidInputError
        If they are no integers, not as many as axes, or so large that no chunk can be there.
    """
    found = point(entry, values)
    if any(len(str(n)) > DIGITS for n in found):
        raise InvalidInputError(f"array {entry.id.path!r} can have no chunk {found}: it is too far from voxel 0")
    return found


def check_axes(entry: ArrayEntry, *corners: Sequence[int]) -> None:
    """Refuse corners or shapes of other axes than an array's.

    Raises
    ------
    InvalidInputError
        If one has.
    """
    if any(len(corner) != entry.spec.ndim for corner in corners):
        given = ", ".join(map(str, corners))
        raise InvalidInputError(f"array {entry.id.path!r} has {entry.spec.ndim} axes; these have others: {given}")


def _decoded(
    view: View,
    entry: ArrayEntry,
    coord: Coord,
    codec: ChunkCodec,
    places: tuple[str, ...],
    *,
    fresh: bool = False,
    rows: tuple[int, int] | None = None,
    unsure: list[Adopted] | None = None,
) -> NDArray[Any] | None:
    """One chunk, decoded at least in `rows` of its first axis; in this thread's scratch array unless `fresh`.

    To `unsure` goes the source of a chunk that it does not have: the caller makes sure that the source is there, once
    for many chunks.
    """
    buffer, scratch = _scratch(codec)
    for place in places:
        data = view.storage.objects.read_into(place, buffer)
        if data is not None:
            if len(data) == len(layout.MARKER) and data == layout.MARKER:
                return None
            return codec.decode(data, None if fresh else scratch, rows)
    view.check_missing(places)
    source = view.source(entry, coord)
    if source is None:
        return None
    voxels = None
    if source.array.decodes:
        voxels = source.voxels(coord, check=unsure is None)
    elif (found := source.fetch(coord, check=unsure is None)) is not None:
        voxels = codec.decode(found[0], None if fresh else scratch, rows)
    if voxels is None and unsure is not None:
        unsure.append(source)
    return voxels


def _threads(view: View, entry: ArrayEntry) -> int:
    """How many chunks of an array are worth asking for at once."""
    source = view.storage.sources.of(entry)
    return max(view.storage.objects.concurrency, 0 if source is None else source.concurrency)


def _scratch(codec: ChunkCodec, use: str = "read") -> tuple[bytearray, NDArray[Any]]:
    kept: dict[Any, NDArray[Any]] | None = getattr(_local, "scratch", None)
    if kept is None:
        kept = _local.scratch = {}
        _local.buffer = bytearray(1 << 18)
    key = (codec.shape, codec.dtype, use)
    if key not in kept:
        if len(kept) > 8:
            kept.clear()
        kept[key] = np.empty(codec.shape, codec.dtype)
    return _local.buffer, kept[key]


def _in_one_piece(codec: ChunkCodec, voxels: NDArray[Any]) -> NDArray[Any]:
    """A chunk to encode, in this thread's memory for it if it is strided: fresh memory would cost half as much.

    Chunks that are read never lie there: they may be lent to who writes.
    """
    if voxels.flags.c_contiguous:
        return voxels
    scratch = _scratch(codec, "write")[1]
    scratch[...] = voxels
    return scratch


def coords_within(coords: NDArray[np.int64], box: Box | None) -> NDArray[np.int64]:
    """Rows of an (n, ndim) array of coordinates that lie in a box of coordinates (all for None)."""
    if box is None:
        return coords
    lo, hi = (np.array(c, np.int64) for c in box)
    return coords[np.all((coords >= lo) & (coords < hi), axis=1)]


def bounding_box(coords: Iterable[Coord], chunks: Coord) -> Box | None:
    """Voxel box around some chunks, or None for none."""
    rows = np.array(list(coords), np.int64)
    if not rows.size:
        return None
    lo, hi = rows.min(0).tolist(), rows.max(0).tolist()
    return tuple(a * n for a, n in zip(lo, chunks, strict=True)), tuple(
        (b + 1) * n for b, n in zip(hi, chunks, strict=True)
    )
