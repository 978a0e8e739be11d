"""A version's metadata tree: path -> group or array, each array with an identity that its stored chunks belong to.

A tree holds the metadata documents byte for byte as Zarr readers see them (Zarr 3: ``zarr.json``; Zarr 2:
``.zgroup``, ``.zarray``, ``.zattrs``), except that the origin of an array's window is kept apart.  Chunk coordinates
in vzarr are *global* and signed: the chunk that a reader calls ``c`` is ``c + origin / chunk shape``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import orjson

from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, Coord

V3_DOC = "zarr.json"
V2_DOCS = (".zarray", ".zgroup", ".zattrs")
DOC_NAMES = frozenset({V3_DOC, *V2_DOCS})
ORIGIN = "vzarr_origin"
"""Attribute that tells readers where an array's first voxel lies, where that is not 0 (voxels, zyx)."""
FARTHEST = 10**17 - 1
"""How far from voxel 0 an array may reach, so that chunks can be counted in 64 bits however they are added up."""
DIGITS = 18
"""Length of a chunk's coordinate along one axis, sign included; what is longer is no chunk."""
_KEPT_BYTES = 1 << 14
"""Documents up to this size are remembered."""
RESERVED = re.compile(r"~[0-9A-Za-z._-]+~\d+$")
"""How the folder of an array ends that was made below the root; no array of a root may be named so."""


@dataclass(frozen=True)
class ArrayId:
    """What stored chunks belong to: survives renames, attribute edits and resizes, not a change of their meaning.

    Parameters
    ----------
    creator
        Id of the node that made the array; the data id of an instance for arrays that any branch may make first.
    path
        Path at which it was made.
    counter
        Tells apart several arrays made at one path by one creator.
    """

    creator: str
    path: str
    counter: int = 0

    def folder(self, *, of_root: bool, root: str) -> str:
        """Folder below a node's ``zarr/`` that holds the array's chunks: the plain path for what a root made."""
        if of_root or self.creator == root:
            return self.path
        return f"{self.path}~{self.creator}~{self.counter}"

    def to_json(self) -> list[Any]:
        """Plain data."""
        return [self.creator, self.path, self.counter]


@dataclass(frozen=True)
class ArraySpec:
    """What vzarr needs to know of an array to find and name its chunks.

    Parameters
    ----------
    ndim, chunks, shape
        As in the array's metadata; `chunks` is the shape of one stored object (the shard, where there are
        shards), and None for a grid that is not regular.
    separator, prefix
        How a reader names a chunk: ``prefix`` + coordinates joined by ``separator``.
    meaning
        Whatever may not change without making a new array: data type, grid, codecs, fill value, order.
    """

    ndim: int
    shape: Coord
    chunks: Coord | None
    prefix: str
    separator: str
    meaning: bytes

    def key(self, coord: Coord) -> str:
        """Name of a chunk, as a reader of this array spells it."""
        if not coord:
            return self.prefix[:1] or "0"
        return self.prefix + self.separator.join(map(str, coord))

    def coord(self, key: str) -> Coord | None:
        """Inverse of `key`; None for what is no chunk of this array."""
        if self.ndim == 0:
            return () if key == self.key(()) else None
        if not key.startswith(self.prefix):
            return None
        parts = key[len(self.prefix) :].split(self.separator)
        if len(parts) != self.ndim or max(map(len, parts)) > DIGITS:
            return None
        try:
            coord = tuple(map(int, parts))
        except ValueError:
            return None
        return coord if self.key(coord) == key else None


@dataclass(frozen=True)
class Entry:
    """One group of a tree, or (see `ArrayEntry`) array.

    Parameters
    ----------
    docs
        Metadata documents by file name, as bytes.
    """

    docs: Mapping[str, bytes]

    def shown_docs(self) -> Mapping[str, bytes]:
        """Documents as readers see them."""
        return self.docs

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"docs": {k: v.decode() for k, v in sorted(self.docs.items())}}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Entry:
        """Inverse of `to_json`, of arrays too."""
        docs = {k: v.encode() for k, v in data["docs"].items()}
        if "id" not in data:
            return Entry(docs)
        return ArrayEntry(docs, ArrayId(*data["id"]), tuple(data.get("origin", ())), data.get("source"))


@dataclass(frozen=True)
class ArrayEntry(Entry):
    """One array of a tree.

    Parameters
    ----------
    id
        Identity.
    origin
        First voxel of the array's window (zyx, or whatever the axes are); () for zeros.
    source
        Where chunks are that no version ever wrote, of an adopted array (see `vzarr.overlay.sources.adopted`).
    """

    id: ArrayId
    origin: Coord = ()
    source: Mapping[str, Any] | None = None

    @cached_property
    def spec(self) -> ArraySpec:
        """How its chunks are named."""
        return parse_array(self.docs)

    @cached_property
    def shift(self) -> Coord:
        """Global coordinate of the chunk that readers call (0, 0, ...)."""
        if not any(self.origin) or self.spec.chunks is None:
            return (0,) * self.spec.ndim
        return tuple(o // c for o, c in zip(self.origin, self.spec.chunks, strict=True))

    @cached_property
    def window(self) -> Box:
        """Voxel box that readers see, upper corner exclusive."""
        lo = self.origin or (0,) * self.spec.ndim
        return lo, tuple(a + n for a, n in zip(lo, self.spec.shape, strict=True))

    @property
    def is_plain(self) -> bool:
        """Whether the array may stand in a root's folder as any reader expects it."""
        return not any(self.origin) and self.source is None

    def shown_docs(self) -> Mapping[str, bytes]:
        """Documents with the origin among the attributes, for readers."""
        if not any(self.origin):
            return self.docs
        name = V3_DOC if V3_DOC in self.docs else ".zattrs"
        doc = orjson.loads(self.docs.get(name, b"{}"))
        (doc.setdefault("attributes", {}) if name == V3_DOC else doc)[ORIGIN] = list(self.origin)
        return {**self.docs, name: orjson.dumps(doc, option=orjson.OPT_INDENT_2)}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        data = {**super().to_json(), "id": self.id.to_json()}
        more = {"origin": list(self.origin)} if any(self.origin) else {}
        return {**data, **more, **({"source": self.source} if self.source is not None else {})}


@dataclass(frozen=True)
class Tree:
    """All groups and arrays of a version, and the loose keys beside them.

    Parameters
    ----------
    entries
        Path -> entry; the root group's path is empty.
    loose
        Key -> id of the node that stored it, for keys that are no chunk and no metadata.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    loose: Mapping[str, str] = field(default_factory=dict)

    def arrays(self) -> dict[str, ArrayEntry]:
        """The arrays alone, by path."""
        return {p: e for p, e in self.entries.items() if isinstance(e, ArrayEntry)}

    def to_bytes(self) -> bytes:
        """Deterministic JSON."""
        data = {
            "entries": {p: e.to_json() for p, e in sorted(self.entries.items())},
            "loose": dict(sorted(self.loose.items())),
        }
        return orjson.dumps(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Tree:
        """Inverse of `to_bytes`."""
        plain = orjson.loads(data)
        return cls({p: Entry.from_json(e) for p, e in plain["entries"].items()}, plain["loose"])

    def array_of(self, key: str) -> tuple[str, ArrayEntry] | None:
        """Path and entry of the innermost array that a key lies below, or None."""
        return array_of(self.entries, key)


def array_of(entries: Mapping[str, Entry], key: str) -> tuple[str, ArrayEntry] | None:
    """Path and entry of the innermost array among `entries` that a key lies below, or None."""
    at = len(key)
    while at > 0:
        at = key.rfind("/", 0, at)
        path = key[: max(at, 0)]
        entry = entries.get(path)
        if isinstance(entry, ArrayEntry):
            return path, entry
    return None


def is_doc(key: str) -> bool:
    """Whether a key names a metadata document."""
    return key.rpartition("/")[2] in DOC_NAMES


def split_doc(key: str) -> tuple[str, str]:
    """Path of the group or array, and file name of the document."""
    path, _, name = key.rpartition("/")
    return path, name


def join_doc(path: str, name: str) -> str:
    """Key of a document of a group or array."""
    return f"{path}/{name}" if path else name


def parse_doc(name: str, data: bytes) -> dict[str, Any] | None:
    """A metadata document as plain data, or None when the bytes are no Zarr metadata of that name."""
    try:
        doc = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(doc, dict):
        return None
    if name == V3_DOC:
        known = doc.get("zarr_format") == 3 and doc.get("node_type") in ("group", "array")
        return doc if known and (doc["node_type"] == "group" or _array_v3(doc) is not None) else None
    if name == ".zgroup":
        return doc if doc.get("zarr_format") == 2 else None
    if name == ".zarray":
        return doc if doc.get("zarr_format") == 2 and _array_v2(doc) is not None else None
    return doc


def is_array_doc(name: str, doc: Mapping[str, Any]) -> bool:
    """Whether a parsed document makes its path an array."""
    return name == ".zarray" or (name == V3_DOC and doc.get("node_type") == "array")


def read_doc(name: str, data: bytes) -> tuple[bool, ArraySpec | None]:
    """Whether bytes are Zarr metadata of that name, and what they say of an array.

    Small documents are few and met again and again: with each opening of a repo, and in each version.
    """
    return _kept_doc(name, data) if len(data) <= _KEPT_BYTES else _read_doc(name, data)


def _read_doc(name: str, data: bytes) -> tuple[bool, ArraySpec | None]:
    doc = parse_doc(name, data)
    if doc is None or not is_array_doc(name, doc):
        return doc is not None, None
    return True, _array_v3(doc) if name == V3_DOC else _array_v2(doc)


_kept_doc = lru_cache(256)(_read_doc)


def spec_of(name: str, data: bytes) -> ArraySpec | None:
    """What a document says of an array, or None when it is no array's or leaves that to another document."""
    return read_doc(name, data)[1]


def parse_array(docs: Mapping[str, bytes]) -> ArraySpec:
    """Read an array's documents.

    Raises
    ------
    InvalidInputError
        If they describe no array.
    """
    for name in (V3_DOC, ".zarray"):
        spec = spec_of(name, docs[name]) if name in docs else None
        if spec is not None:
            return spec
    raise InvalidInputError("the metadata describe no Zarr array")


def split_origin(name: str, data: bytes) -> tuple[bytes, Coord | None]:
    """A document without the origin among its attributes, and that origin (None when it names none)."""
    if ORIGIN.encode() not in data:
        return data, None
    doc = orjson.loads(data)
    holder = doc.get("attributes", {}) if name == V3_DOC else doc
    origin = holder.pop(ORIGIN, None)
    return orjson.dumps(doc, option=orjson.OPT_INDENT_2), None if origin is None else tuple(origin)


def below(paths: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Keys of a mapping that are `prefix` or lie below it as a folder; all of them for an empty prefix."""
    folder = f"{prefix}/" if prefix else ""
    return (p for p in paths if p == prefix or p.startswith(folder))


def above(path: str) -> Iterator[str]:
    """Paths of the groups that a path lies in, the innermost first and the root group's last."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _array_v3(doc: Mapping[str, Any]) -> ArraySpec | None:
    try:
        shape = _sizes(doc["shape"])
        grid = doc["chunk_grid"]
        chunks = tuple(map(int, grid["configuration"]["chunk_shape"])) if grid["name"] == "regular" else None
        encoding = doc.get("chunk_key_encoding", {"name": "default"})
        name, options = encoding["name"], encoding.get("configuration") or {}
    except (KeyError, TypeError, ValueError):
        return None
    default = name != "v2"
    separator = options.get("separator", "/" if default else ".")
    grid_meaning = grid if chunks is not None else grid["name"]
    parts = [doc.get("data_type"), grid_meaning, doc.get("codecs"), doc.get("fill_value"), default, separator]
    meaning = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return ArraySpec(len(shape), shape, chunks, f"c{separator}" if default else "", separator, meaning)


def _array_v2(doc: Mapping[str, Any]) -> ArraySpec | None:
    try:
        shape, chunks = _sizes(doc["shape"]), tuple(map(int, doc["chunks"]))
    except (KeyError, TypeError, ValueError):
        return None
    names = ("dtype", "chunks", "compressor", "filters", "fill_value", "order", "dimension_separator")
    meaning = orjson.dumps([doc.get(k) for k in names], option=orjson.OPT_SORT_KEYS)
    return ArraySpec(len(shape), shape, chunks, "", doc.get("dimension_separator") or ".", meaning)


def _sizes(values: Sequence[Any]) -> Coord:
    sizes = tuple(map(int, values))
    if any(not 0 <= n <= 2 * FARTHEST for n in sizes):  # from one end to the other
        raise ValueError("no array has so many voxels")
    return sizes
