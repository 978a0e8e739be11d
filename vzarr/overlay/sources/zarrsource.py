"""Zarr as a source: arrays of version 2 and 3, and OME-Zarr multiscale groups (0.1 to 0.5), shown as they are.

Chunks are never decoded.  Metadata of version 2 are shown as those of version 3 that describe the same bytes
(`zarr2to3`), so that all of a version's hierarchy is of one format.  Leading axes of length 1, as OME-Zarr's time and
channel often are, are left out: the bytes of a chunk do not tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from vzarr.errors import InvalidInputError, StorageError, UnsupportedError
from vzarr.geometry import Box, Coord, blocks_of_box
from vzarr.overlay.hierarchy.tree import V3_DOC, ArraySpec, parse_array, parse_doc
from vzarr.overlay.sources import ome, zarr2to3
from vzarr.overlay.sources.base import Found, Locator, SourceArray, Volume
from vzarr.overlay.sources.files import Files

FORMAT = "zarr"
_SPATIAL = 3
_FREE = ("attributes", "dimension_names", "consolidated_metadata")
_GUESSES = ("0", "s0")


class ZarrArray(SourceArray):
    """An array of a Zarr hierarchy, in place.

    Parameters
    ----------
    files, folder
        Where it is.
    docs
        Its documents, as they stand there.

    Raises
    ------
    UnsupportedError
        If its chunks cannot be shown in place.
    """

    decodes = False

    def __init__(self, files: Files, folder: str, docs: Mapping[str, bytes]) -> None:
        self._spec = _checked(files.place(folder), docs)
        assert self._spec.chunks is not None
        v3 = docs if V3_DOC in docs else {V3_DOC: zarr2to3.converted(docs, files.place(folder))}
        self._dropped = _leading(self._spec)
        super().__init__(files, folder, {V3_DOC: _without_axes(v3[V3_DOC], self._dropped)})
        self._kept = self._spec.chunks[self._dropped :]

    @property
    def locator(self) -> Locator:
        """URL of the source, and the array's path in it."""
        return {"url": self.files.url, "format": FORMAT, "path": self.folder}

    @property
    def box(self) -> Box:
        """From (0, 0, ...) on."""
        shape = self._spec.shape[self._dropped :]
        return blocks_of_box(((0,) * len(shape), shape), self._kept)

    def metadata(self) -> bytes:
        """The array's document without what gives bytes no meaning: attributes and names may change."""
        docs = read_array(self.files, self.folder)
        doc = orjson.loads(docs[V3_DOC] if V3_DOC in docs else docs[".zarray"])
        return orjson.dumps({k: v for k, v in doc.items() if k not in _FREE}, option=orjson.OPT_SORT_KEYS)

    def fetch(self, coord: Coord, offset: int = 0, length: int | None = None) -> Found | None:
        """A range of the chunk's object."""
        found = self.files.read(self.keys(coord)[0], offset, length)
        return None if found is None else (found.data, found.size)

    def keys(self, coord: Coord) -> Sequence[str]:
        """The one key."""
        name = self._spec.key((0,) * self._dropped + coord)
        return (f"{self.folder}/{name}" if self.folder else name,)

    def coords(self) -> Iterator[Coord]:
        """Chunks in the array's folder."""
        start = len(self.folder) + 1 if self.folder else 0
        lo, hi = self.box
        for key, _size in self.files.walk(self.folder):
            whole = self._spec.coord(key[start:])
            coord = None if whole is None else whole[self._dropped :]
            if coord is not None and all(a <= c < b for a, c, b in zip(lo, coord, hi, strict=True)):
                yield coord

    def place(self, coord: Coord) -> str | None:
        """URL of the chunk's object."""
        return self.files.place(self.keys(coord)[0])

    def path(self, coord: Coord) -> str | None:
        """Local path of the chunk's object."""
        return self.files.path(self.keys(coord)[0])


def detect(files: Files) -> bool:
    """Whether there is Zarr metadata."""
    return any(files.read(name, 0, 0) is not None for name in (V3_DOC, ".zarray", ".zgroup"))


def open_volume(files: Files) -> Volume:
    """An array as a volume of one scale, a multiscale group with all its scales.

    Raises
    ------
    InvalidInputError
        If it is a group without scales.
    UnsupportedError
        If an array cannot be shown in place.
    """
    docs = read_docs(files, "")
    if not docs:
        raise StorageError(f"{files.url} is gone")
    if _is_array(docs):
        array = ZarrArray(files, "", docs)
        names = _names(array)
        return Volume(files.url, FORMAT, [array], axes=names)
    image = ome.parse(_attributes(docs), files.url)
    if image is None:
        return _plain_group(files)
    scales = [ZarrArray(files, path, read_array(files, path)) for path in image.paths]
    dropped = {s._dropped for s in scales}
    if len(dropped) != 1:
        raise UnsupportedError(f"{files.url}: its scales differ in their axes")
    cut = dropped.pop()
    return Volume(
        files.url, FORMAT, scales,
        axes=image.axes[cut:] or _names(scales[0]),
        units=image.units[cut:],
        voxel_sizes=[row[cut:] for row in image.scales],
        translations=[row[cut:] for row in image.translations],
        labels=image.labels,
        attributes=image.attributes,
    )  # fmt: skip


def open_array(files: Files, locator: Locator) -> ZarrArray:
    """An array again, by its path."""
    return ZarrArray(files, locator["path"], read_array(files, locator["path"]))


def read_docs(files: Files, path: str) -> dict[str, bytes]:
    """Metadata documents at a path; none where there is neither group nor array."""
    docs: dict[str, bytes] = {}
    for name in (V3_DOC, ".zarray", ".zgroup", ".zattrs"):
        data = files.get(f"{path}/{name}" if path else name)
        if data is not None:
            if parse_doc(name, data) is None:
                raise StorageError(f"{files.place(path)}/{name} is no Zarr metadata")
            docs[name] = data
            if name == V3_DOC:
                break
    return docs


def read_array(files: Files, path: str) -> dict[str, bytes]:
    """Documents of an array.

    Raises
    ------
    StorageError
        If there is none any more.
    """
    docs = read_docs(files, path)
    if not _is_array(docs):
        raise StorageError(f"{files.place(path)} is gone: there is no Zarr array")
    return docs


def _plain_group(files: Files) -> Volume:
    first = next((g for g in _GUESSES if _is_array(read_docs(files, g))), None)
    if first is None:
        raise InvalidInputError(f"{files.url} is a Zarr group without OME multiscales: name one of its arrays")
    paths = [first]
    while _is_array(read_docs(files, following := f"{first[:-1]}{len(paths)}")):
        paths.append(following)
    scales = [ZarrArray(files, path, read_array(files, path)) for path in paths]
    return Volume(files.url, FORMAT, scales, axes=_names(scales[0]))


def _is_array(docs: Mapping[str, bytes]) -> bool:
    return ".zarray" in docs or (V3_DOC in docs and orjson.loads(docs[V3_DOC])["node_type"] == "array")


def _attributes(docs: Mapping[str, bytes]) -> dict[str, Any]:
    found = orjson.loads(docs[V3_DOC]).get("attributes") if V3_DOC in docs else orjson.loads(docs.get(".zattrs", b"{}"))
    return found or {}


def _names(array: SourceArray) -> list[str]:
    doc = orjson.loads(array.docs[V3_DOC])
    names, ndim = doc.get("dimension_names"), len(doc["shape"])
    if names and all(names):
        return list(names)
    return list("zyx") if ndim == _SPATIAL else [f"dim_{i}" for i in range(ndim)]


def _checked(url: str, docs: Mapping[str, bytes]) -> ArraySpec:
    """How chunks are named, of an array whose chunks can be shown."""
    spec = parse_array(docs)
    doc = orjson.loads(docs[V3_DOC] if V3_DOC in docs else docs[".zarray"])
    encoding = doc.get("chunk_key_encoding", {"name": "default"})["name"]
    if encoding == "vzarr" or any(f.get("id") == "vzarr-overlay" for f in doc.get("filters") or ()):
        raise InvalidInputError(f"{url} is part of a vzarr repo: flatten the version and adopt that, or clone the repo")
    if encoding not in ("default", "v2"):
        raise UnsupportedError(f"{url} names its chunks by {encoding!r}, which is not known here")
    if spec.chunks is None or not all(spec.chunks):
        raise UnsupportedError(f"{url} has an irregular or empty chunk grid")
    if doc.get("storage_transformers"):
        raise UnsupportedError(f"{url} has storage transformers")
    return spec


def _leading(spec: ArraySpec) -> int:
    """Number of leading axes to leave out: those of length 1, down to three axes."""
    assert spec.chunks is not None
    dropped = 0
    while spec.ndim - dropped > _SPATIAL and spec.shape[dropped] == spec.chunks[dropped] == 1:
        dropped += 1
    return dropped


def _without_axes(data: bytes, dropped: int) -> bytes:
    """An array's document without its leading axes; as it is where a codec would notice."""
    if not dropped:
        return data
    doc = orjson.loads(data)
    doc["shape"] = doc["shape"][dropped:]
    grid = doc["chunk_grid"]["configuration"]
    grid["chunk_shape"] = grid["chunk_shape"][dropped:]
    if doc.get("dimension_names"):
        doc["dimension_names"] = doc["dimension_names"][dropped:]
    for codec in doc["codecs"]:
        options = codec.get("configuration") or {}
        inner = [c["name"] for c in (*options.get("codecs", ()), *options.get("index_codecs", ()))]
        if codec["name"] == "transpose" or "transpose" in inner or "sharding_indexed" in inner:
            raise UnsupportedError("axes of length 1 cannot be left out of an array whose codecs transpose it")
        if codec["name"] == "sharding_indexed":
            options["chunk_shape"] = options["chunk_shape"][dropped:]
    return orjson.dumps(doc, option=orjson.OPT_INDENT_2)
