"""Owner pages: for every chunk of an array the node that stored it, found by one array look-up at any depth.

The (signed, unbounded) chunk grid is cut into *pages* of about 4,096 chunks, and the page grid into *directory
blocks* of about 4,096 pages.  Both are immutable, packed into one object per node, and read by range; a node rewrites
only those in which it changed something.  A version's *table* names, per array, where its directory blocks are:
from there two small reads lead to a chunk's owner, however many versions lie behind it.  The format is in
docs/format.md.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import FormatError, StorageError
from vzarr.geometry import Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayId
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.owners.pages import (
    ABSENT,
    CONFLICT,
    DELETED,
    FIRST_OWNER,
    ZSTD,
    Names,
    Page,
    coords_in,
    digest,
    local_of,
    names_below,
    side,
)

__all__ = [
    "ABSENT", "CONFLICT", "DELETED", "FIRST_OWNER", "Block", "Changes", "Owners", "PackWriter", "Page", "PageReader",
    "Ref", "Table", "by_page", "coords_in", "decode_block", "digest", "encode_block", "names_below", "side",
]  # fmt: skip

_GAP, _RUN = 1 << 15, 1 << 22
"""Bytes that may lie unasked between two pages that are read together, and bytes that are read together at most."""
_BLOCK = struct.Struct("<HI")
_REF = np.dtype([("local", "<u2"), ("owner", "<u2"), ("offset", "<u8"), ("length", "<u4")])
_COLUMNS = [(name, _REF[name]) for name in _REF.names or ()]


class Ref(NamedTuple):
    """Where a page or directory block is: bytes `offset` to `offset + length` of the pages that `node` wrote."""

    node: str
    offset: int
    length: int


Block = Mapping[int, Ref]
"""A directory block: place of a page in it -> where the page is."""


def encode_block(block: Block) -> bytes:
    """Compressed bytes of a directory block."""
    owners = sorted({r.node for r in block.values()})
    place = {n: i for i, n in enumerate(owners)}
    rows = np.array([(k, place[r.node], r.offset, r.length) for k, r in sorted(block.items())], _REF)
    columns = b"".join(rows[name].tobytes() for name, _kind in _COLUMNS)
    return bytes(ZSTD.encode(_BLOCK.pack(len(owners), len(rows)) + b"".join(map(digest, owners)) + columns))


def decode_block(data: bytes, names: Names) -> dict[int, Ref]:
    """Inverse of `encode_block`."""
    raw = bytes(ZSTD.decode(data))
    count, n = _BLOCK.unpack_from(raw)
    at = _BLOCK.size + 16 * count
    owners = names(raw[_BLOCK.size : at])
    columns = []
    for _name, kind in _COLUMNS:
        columns.append(np.frombuffer(raw, kind, n, at).tolist())
        at += n * kind.itemsize
    return {k: Ref(owners[o], offset, length) for k, o, offset, length in zip(*columns, strict=True)}


@dataclass(frozen=True)
class Table:
    """Where a version's directory blocks are: array -> block coordinate -> place."""

    arrays: Mapping[ArrayId, Mapping[Coord, Ref]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Deterministic JSON: a palette of nodes, and rows of coordinates, node, offset, length."""
        nodes = sorted({r.node for blocks in self.arrays.values() for r in blocks.values()})
        place = {n: i for i, n in enumerate(nodes)}
        arrays = [
            {
                "id": array.to_json(),
                "blocks": [[list(c), place[r.node], r.offset, r.length] for c, r in sorted(blocks.items())],
            }
            for array, blocks in sorted(self.arrays.items(), key=lambda kv: kv[0].to_json())
        ]
        return orjson.dumps({"nodes": nodes, "arrays": arrays})

    @classmethod
    def from_bytes(cls, data: bytes) -> Table:
        """Inverse of `to_bytes`."""
        plain = orjson.loads(data)
        nodes = plain["nodes"]
        return cls(
            {
                ArrayId(*a["id"]): {tuple(c): Ref(nodes[n], off, size) for c, n, off, size in a["blocks"]}
                for a in plain["arrays"]
            }
        )


class PageReader:
    """Pages and directory blocks of a repo, decoded, kept up to a number of bytes.

    Parameters
    ----------
    objects
        Where the repo lives.
    names
        Reads palettes (see `names_below`).
    limit
        Bytes of decoded pages and blocks to keep.
    """

    def __init__(self, objects: Objects, names: Names, limit: int = 64 << 20) -> None:
        self._objects, self._names, self._limit = objects, names, limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[Ref, tuple[Page | dict[int, Ref], int]] = OrderedDict()
        self._bytes = 0
        self._expected: dict[Ref, bytes] = {}

    def page(self, ref: Ref) -> Page:
        """The page at a place."""
        found = self._get(ref, Page.decode)
        assert isinstance(found, Page)
        return found

    def block(self, ref: Ref) -> dict[int, Ref]:
        """The directory block at a place."""
        found = self._get(ref, decode_block)
        assert isinstance(found, dict)
        return found

    def expect(self, refs: Iterable[Ref]) -> None:
        """Read pages that are about to be asked for: those that lie close together by one request."""
        wanted = sorted(ref for ref in set(refs) if ref not in self._kept)
        runs: list[list[Ref]] = []
        for ref in wanted:
            first, last = (runs[-1][0], runs[-1][-1]) if runs else (ref, ref)
            near = ref.offset - last.offset - last.length <= _GAP and ref.offset - first.offset <= _RUN
            if runs and ref.node == last.node and near:
                runs[-1].append(ref)
            else:
                runs.append([ref])

        def read(run: list[Ref]) -> None:
            start, stop = run[0].offset, run[-1].offset + run[-1].length
            data = self._objects.get(layout.owner_pages(run[0].node), start, stop - start)
            # What is missing or cut short is named when it is asked for.
            if data is not None and len(data) == stop - start:
                self._expected.update({r: data[r.offset - start : r.offset - start + r.length] for r in run})

        self._expected.clear()
        share(read, [run for run in runs if len(run) > 1], self._objects.concurrency)

    def _get(self, ref: Ref, decode: Callable[..., Page | dict[int, Ref]]) -> Page | dict[int, Ref]:
        kept = self._kept.get(ref)
        if kept is not None:
            return kept[0]
        key = layout.owner_pages(ref.node)
        data = self._expected.pop(ref, None) or self._objects.get(key, ref.offset, ref.length)
        if data is None or len(data) != ref.length:
            raise StorageError(f"{key} is missing or cut short")
        try:
            value = decode(data, self._names)
        except (RuntimeError, ValueError, struct.error, LookupError) as e:
            raise FormatError(f"{key} is damaged at byte {ref.offset}: {e}") from e
        cost = value.codes.nbytes if isinstance(value, Page) else 200 * len(value)
        with self._lock:
            if ref not in self._kept:
                self._kept[ref] = (value, cost)
                self._bytes += cost
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1][1]
        return value


class Owners:
    """Who owns each chunk of a sealed version (or of the base that an open one inherits).

    Parameters
    ----------
    table
        The version's table.
    reader
        Gives pages and directory blocks.
    """

    def __init__(self, table: Table, reader: PageReader) -> None:
        self.table, self.reader = table, reader
        self._pages: dict[tuple[ArrayId, Coord], Page | None] = {}

    def owner(self, array: ArrayId, coord: Coord) -> str | int:
        """Owner of one chunk, or `ABSENT`, `DELETED` or `CONFLICT`."""
        n = side(len(coord))
        where = (array, tuple([c // n for c in coord]))
        try:
            page = self._pages[where]
        except KeyError:
            page = self.page(array, where[1])
            if len(self._pages) > 4096:
                self._pages.clear()
            self._pages[where] = page
        if page is None:
            return ABSENT
        local = 0
        for c in coord:
            local = local * n + c % n
        return page.owner(local)

    def page(self, array: ArrayId, at: Coord) -> Page | None:
        """The page at a page coordinate, or None where nothing was ever written."""
        ref = self.page_ref(array, at)
        return None if ref is None else self.reader.page(ref)

    def page_ref(self, array: ArrayId, at: Coord) -> Ref | None:
        """Where the page at a page coordinate is; equal places mean equal pages."""
        n = side(len(at))
        ref = self.table.arrays.get(array, {}).get(tuple(c // n for c in at))
        return None if ref is None else self.reader.block(ref).get(local_of(at, n))

    def pages(self, array: ArrayId) -> Iterator[tuple[Coord, Ref]]:
        """Every page of an array: its page coordinate and place."""
        for where, ref in sorted(self.table.arrays.get(array, {}).items()):
            n = side(len(where))
            for local, page in sorted(self.reader.block(ref).items()):
                inside = np.unravel_index(local, (n,) * len(where)) if where else ()
                yield tuple(w * n + int(i) for w, i in zip(where, inside, strict=True)), page

    def chunks(self, array: ArrayId, ndim: int) -> Iterator[tuple[NDArray[np.int64], Page, NDArray[np.int64]]]:
        """Stored chunks page by page: global coordinates (n, ndim), the page, and their places in it."""
        n = side(ndim)
        for at, ref in self.pages(array):
            page = self.reader.page(ref)
            local = np.flatnonzero(page.codes >= FIRST_OWNER)
            if local.size:
                yield coords_in(at, local, n, ndim), page, local


class Written(NamedTuple):
    """What a node stored of one array, as columns: many chunks in little memory.

    Parameters
    ----------
    coords
        Global chunk coordinates, shape (n, ndim), each once.
    gone
        Of each, whether it was deleted.
    node
        Who stored the others.
    """

    coords: NDArray[np.int64]
    gone: NDArray[np.bool_]
    node: str

    def as_mapping(self) -> dict[Coord, str | int]:
        """The same as a mapping."""
        owners = [DELETED if gone else self.node for gone in self.gone.tolist()]
        return dict(zip(map(tuple, self.coords.tolist()), owners, strict=True))


Changes = Mapping[Coord, str | int] | Written
"""What a node did to chunks of one array: coordinate -> owner, or one of the codes; or as columns."""


@dataclass
class PackWriter:
    """Builds the pages that a node writes, and the table that follows from them.

    Parameters
    ----------
    node
        Id of the node that writes.
    start
        Bytes that the node's pack already holds (of a merge base).
    """

    node: str
    start: int = 0
    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, data: bytes) -> Ref:
        """Append one page or block."""
        ref = Ref(self.node, self.start + self.size, len(data))
        self.parts.append(data)
        self.size += len(data)
        return ref

    def update(self, base: Owners, changes: Mapping[ArrayId, Changes], keep: Iterable[ArrayId]) -> Table:
        """Table of a version that changes some chunks of a base and keeps only some of its arrays."""
        arrays: dict[ArrayId, Mapping[Coord, Ref]] = {}
        for array in keep:
            blocks = dict(base.table.arrays.get(array, {}))
            if array in changes:
                self._update_array(base, array, changes[array], blocks)
            if blocks:
                arrays[array] = blocks
        return Table(arrays)

    def _update_array(self, base: Owners, array: ArrayId, changes: Changes, blocks: dict[Coord, Ref]) -> None:
        fresh: dict[Coord, dict[int, Ref]] = {}
        for at, local, owners in by_page(changes):
            n = side(len(at))
            page = base.page(array, at) or Page.empty(len(at))
            ref = self.add(page.with_codes(local, owners).encode())
            fresh.setdefault(tuple(c // n for c in at), {})[local_of(at, n)] = ref
        for where, pages in sorted(fresh.items()):
            old = base.reader.block(blocks[where]) if where in blocks else {}
            blocks[where] = self.add(encode_block({**old, **pages}))


def by_page(changes: Changes) -> Iterator[tuple[Coord, NDArray[np.int64], list[str | int]]]:
    """Changes of one array page by page: page coordinate, places in the page, owners."""
    coords, owners = _columns(changes)
    if not len(coords):
        return
    n = side(coords.shape[1])
    pages, inside = np.divmod(coords, n)
    local = np.zeros(len(coords), np.int64)
    for axis in range(coords.shape[1]):
        local = local * n + inside[:, axis]
    order = np.lexsort(pages.T[::-1]) if pages.size else np.arange(len(coords))
    pages, local = pages[order], local[order]
    cuts = np.flatnonzero(np.any(pages[1:] != pages[:-1], axis=1)) + 1
    for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(order)], strict=True):
        yield tuple(pages[start].tolist()), local[start:stop], owners(order[start:stop].tolist())


def _columns(changes: Changes) -> tuple[NDArray[np.int64], Callable[[list[int]], list[str | int]]]:
    """Coordinates, shape (n, ndim), and what gives the owners of some of them by their places."""
    if isinstance(changes, Written):
        gone, node = changes.gone, changes.node
        return changes.coords, lambda rows: [DELETED if gone[i] else node for i in rows]
    owners = list(changes.values())
    coords = np.array(list(changes), np.int64).reshape(len(changes), len(next(iter(changes), ())))
    return coords, lambda rows: [owners[i] for i in rows]
