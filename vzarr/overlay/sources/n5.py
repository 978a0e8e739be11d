"""N5 datasets and multiscale groups (N5 specification 4.0.0), read in place.

Where the payload of a block is what a chain of standard Zarr 3 codecs makes (raw, gzip, zstd, blosc), the array is
shown with exactly these and only the header is cut off; other compressions are decoded.  Blocks are full chunks or cut
at the upper border; voxels of blocks that are not stored are 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import FormatError, InvalidInputError, StorageError, UnsupportedError
from vzarr.geometry import Box, Coord, blocks_of_box, reverse, slices
from vzarr.overlay.hierarchy.tree import V3_DOC
from vzarr.overlay.sources import n5attributes
from vzarr.overlay.sources.base import ChunkReader, Found, Layout, Locator, SourceArray, Volume
from vzarr.overlay.sources.documents import parse_object
from vzarr.overlay.sources.files import Files
from vzarr.overlay.sources.n5attributes import Dataset, Placed
from vzarr.overlay.sources.n5blocks import decode_block, encode_block, parse_header

FORMAT = "n5"
ATTRIBUTES = "attributes.json"
_MOST_SCALES = 64


def detect(files: Files) -> bool:
    """Whether a folder is an N5 dataset, or a group of scales."""
    group = _attributes(files, "")
    if group is not None and ("dimensions" in group or n5attributes.scale_paths(group)):
        return True
    finest = _attributes(files, "s0")
    return finest is not None and "dimensions" in finest


def open_volume(files: Files) -> Volume:
    """A dataset, or a multiscale group with all its scales.

    Raises
    ------
    InvalidInputError
        If there is none.
    UnsupportedError
        If it holds what is no plain array.
    StorageError
        If it cannot be read.
    """
    group = _attributes(files, "") or {}
    paths = [""] if "dimensions" in group else n5attributes.scale_paths(group) or _probe(files)
    if not paths:
        raise InvalidInputError(f"{files.url} is neither an N5 dataset nor a group of scales s0, s1, ...")
    scales: list[SourceArray | ChunkReader] = []
    places: list[Placed] = []
    axes: tuple[str, ...] = ()
    labels: bool | None = None
    for index, path in enumerate(paths):
        found = _attributes(files, path)
        if found is None:
            raise InvalidInputError(f"{files.url} lists the scale {path!r}, which is not there")
        axes = n5attributes.axes_of(group, found, len(found.get("dimensions") or ()))
        scales.append(_array(files, path, axes))
        places.append(n5attributes.placed({} if path == "" else group, found, index, axes))
        labels = labels or ("maxId" in found or "maxId" in group or None)
    return Volume(
        files.url,
        FORMAT,
        scales,
        axes,
        units=next((p.units for p in places if p.units is not None), ()),
        labels=labels,
        attributes=n5attributes.others(group),
        **_in_space(places),
    )


def open_array(files: Files, locator: Locator) -> SourceArray | ChunkReader:
    """One dataset again."""
    found = _attributes(files, locator["path"])
    if found is None:
        raise StorageError(f"{files.place(_key(locator['path'], ATTRIBUTES))} is gone")
    return _array(files, locator["path"], tuple(locator["axes"]))


def _in_space(places: Sequence[Placed]) -> dict[str, Any]:
    """Voxel sizes and translations, where every scale says them; else factors, where every scale says these.

    Where only the finest scale says its size, the others' follow by their factors.
    """
    finest = places[0].voxel
    if finest is not None:
        places = [p if p.voxel else _scaled(p, finest, places[0].translation) for p in places]
    if any(p.voxel is None for p in places):
        factors = [p.factors for p in places if p.factors is not None]
        return {"factors": factors} if len(factors) == len(places) else {}
    zeros = [(0.0,) * len(p.voxel or ()) for p in places]
    shifts = [p.translation or z for p, z in zip(places, zeros, strict=True)]
    return {"voxel_sizes": [p.voxel for p in places], "translations": shifts}


def _scaled(place: Placed, finest: tuple[float, ...], start: tuple[float, ...] | None) -> Placed:
    """Where a scale lies that says factors alone, by the finest one's voxel size and centre of the first voxel."""
    if place.factors is None:
        return place
    shifts = [s + v * (f - 1) / 2 for s, v, f in zip(start or (0.0,) * len(finest), finest, place.factors, strict=True)]
    return Placed(tuple(v * f for v, f in zip(finest, place.factors, strict=True)), tuple(shifts), place.units)


def _probe(files: Files) -> list[str]:
    """Scales of a group that does not list them."""
    for n in range(_MOST_SCALES):
        found = _attributes(files, f"s{n}")
        if found is None or "dimensions" not in found:
            return [f"s{i}" for i in range(n)]
    return [f"s{i}" for i in range(_MOST_SCALES)]


def _attributes(files: Files, path: str) -> dict[str, Any] | None:
    key = _key(path, ATTRIBUTES)
    data = files.get(key)
    try:
        return None if data is None else parse_object(data, files.place(key))
    except FormatError as e:
        raise InvalidInputError(str(e)) from e


def _key(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _dataset(files: Files, path: str) -> Dataset:
    where = files.place(_key(path, ATTRIBUTES))
    data = files.get(_key(path, ATTRIBUTES))
    if data is None:
        raise StorageError(f"{where} is gone")
    try:
        return Dataset.parse(parse_object(data, where))
    except UnsupportedError as e:
        raise UnsupportedError(f"{where}: {e}") from e
    except FormatError as e:
        raise InvalidInputError(f"{where}: {e}") from e


def _array(files: Files, path: str, axes: Sequence[str]) -> SourceArray | ChunkReader:
    dataset = _dataset(files, path)
    codecs = dataset.compression.zarr_codecs(dataset.dtype.itemsize)
    if codecs is None:
        return N5Reader(files, path, dataset, axes)
    return N5Array(files, path, dataset, axes, codecs)


class _Blocks:
    """The blocks of a dataset as objects."""

    def __init__(self, files: Files, path: str, dataset: Dataset, axes: Sequence[str]) -> None:
        self.files, self.path, self.dataset, self.axes = files, path, dataset, axes
        self.box: Box = blocks_of_box(((0,) * len(dataset.shape), dataset.shape), dataset.chunks)

    def locator(self) -> dict[str, Any]:
        """What opens it again."""
        return {"url": self.files.url, "format": FORMAT, "path": self.path, "axes": list(self.axes)}

    def metadata(self) -> bytes:
        """What the attributes say now of the array, in one canonical text."""
        return orjson.dumps(_dataset(self.files, self.path).to_json(), option=orjson.OPT_SORT_KEYS)

    def key(self, coord: Coord) -> str:
        """Key of a block (zyx)."""
        return _key(self.path, "/".join(map(str, reverse(coord))))

    def inside(self, coord: Coord) -> bool:
        """Whether a block lies in the dataset."""
        return all(0 <= c < n for c, n in zip(coord, self.box[1], strict=True))

    def coords(self) -> Iterator[Coord]:
        """Coordinates of the blocks that are stored."""
        skip = len(self.path) + 1 if self.path else 0
        for key, _ in self.files.walk(self.path):
            parts = key[skip:].split("/")
            if len(parts) == len(self.axes) and all(p.isdecimal() and str(int(p)) == p for p in parts):
                coord = reverse([int(p) for p in parts])
                if self.inside(coord):
                    yield coord

    def decode(self, coord: Coord, data: bytes) -> NDArray[Any]:
        """Voxels of a block's bytes, at most a chunk."""
        try:
            return decode_block(data, self.dataset.chunks, self.dataset.dtype, self.dataset.compression)
        except (StorageError, UnsupportedError) as e:
            raise self.damaged(coord, e) from e

    def damaged(self, coord: Coord, cause: Exception) -> StorageError:
        """An error that names the block."""
        return StorageError(f"the N5 block {self.files.place(self.key(coord))} is damaged: {cause}")


class N5Array(SourceArray):
    """A dataset whose payloads are standard: chunks are blocks without their headers.

    Parameters
    ----------
    files, path
        Where the dataset lies.
    dataset
        What its attributes say.
    axes
        Names of its axes, in array order.
    codecs
        Zarr 3 codecs that read its payloads.
    """

    def __init__(
        self, files: Files, path: str, dataset: Dataset, axes: Sequence[str], codecs: Sequence[Mapping[str, Any]]
    ) -> None:
        super().__init__(files, path, {V3_DOC: array_doc(dataset, axes, codecs)})
        self._blocks = _Blocks(files, path, dataset, axes)
        # Both header modes fit in.
        self._longest_header = 8 + 4 * len(dataset.shape)

    @property
    def locator(self) -> Locator:
        """What opens it again."""
        return self._blocks.locator()

    @property
    def box(self) -> Box:
        """All blocks of the dataset."""
        return self._blocks.box

    def metadata(self) -> bytes:
        """What the attributes say now (see `SourceArray.metadata`)."""
        return self._blocks.metadata()

    def keys(self, coord: Coord) -> Sequence[str]:
        """The block."""
        return (self._blocks.key(coord),)

    def coords(self) -> Iterator[Coord]:
        """Blocks that are stored."""
        return self._blocks.coords()

    def fetch(self, coord: Coord, offset: int = 0, length: int | None = None) -> Found | None:
        """Payload of a block; that of one cut at the border is made anew, filled up with 0."""
        if not self._blocks.inside(coord):
            return None
        key, whole = self._blocks.key(coord), offset == 0 and length is None
        answer = self.files.read(key, 0, None if whole else self._longest_header)
        if answer is None:
            return None
        dataset = self._blocks.dataset
        try:
            head = parse_header(answer.data, dataset.chunks)
        except (StorageError, UnsupportedError) as e:
            raise self._blocks.damaged(coord, e) from e
        if head.size_zyx != dataset.chunks:
            return self._filled(coord, offset, length, answer.data if whole else None)
        size = answer.size - head.length
        if dataset.compression.stream == "raw" and size != math.prod(dataset.chunks) * dataset.dtype.itemsize:
            raise self._blocks.damaged(coord, StorageError(f"{size} bytes of voxels are not those of a block"))
        if whole:
            return answer.data[head.length :], size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        count = size - start if length is None else max(0, min(length, size - start))
        if not count:
            return b"", size
        part = self.files.read(key, head.length + start, count)
        return None if part is None else (part.data, size)

    def _filled(self, coord: Coord, offset: int, length: int | None, data: bytes | None) -> Found | None:
        found = self.files.get(self._blocks.key(coord)) if data is None else data
        if found is None:
            return None
        dataset, voxels = self._blocks.dataset, self._blocks.decode(coord, found)
        full = np.zeros(dataset.chunks, dataset.dtype)
        full[slices(((0,) * voxels.ndim, voxels.shape))] = voxels
        block = encode_block(full, dataset.compression)
        payload = block[parse_header(block, dataset.chunks).length :]
        start = max(0, len(payload) + offset) if offset < 0 else offset
        return payload[start : None if length is None else start + length], len(payload)


class N5Reader(ChunkReader):
    """A dataset whose compression no standard codec of Zarr 3 reads.

    Parameters
    ----------
    files, path
        Where the dataset lies.
    dataset
        What its attributes say.
    axes
        Names of its axes, in array order.
    """

    def __init__(self, files: Files, path: str, dataset: Dataset, axes: Sequence[str]) -> None:
        labels = dataset.dtype.kind in "iu" and dataset.dtype.itemsize >= 4
        layout = Layout(
            dataset.dtype,
            dataset.shape,
            dataset.chunks,
            codecs="labels" if labels else "image",
            dimension_names=tuple(axes),
        )
        super().__init__(files, path, layout)
        self._blocks = _Blocks(files, path, dataset, axes)

    @property
    def locator(self) -> Locator:
        """What opens it again."""
        return self._blocks.locator()

    def metadata(self) -> bytes:
        """What the attributes say now (see `ChunkReader.metadata`)."""
        return self._blocks.metadata()

    def key(self, coord: Coord) -> str:
        """The block."""
        return self._blocks.key(coord)

    def coords(self) -> Iterator[Coord]:
        """Blocks that are stored."""
        return self._blocks.coords()

    def read(self, coord: Coord) -> NDArray[Any] | None:
        """Voxels of a block, filled up with 0 where it holds fewer than its place in the array."""
        data = self.files.get(self._blocks.key(coord)) if self._blocks.inside(coord) else None
        if data is None:
            return None
        voxels = self._blocks.decode(coord, data)
        least = self._blocks.dataset.block_shape(coord)
        if all(n >= m for n, m in zip(voxels.shape, least, strict=True)):
            return voxels[slices(((0,) * voxels.ndim, least))]
        full = np.zeros(self._blocks.dataset.chunks, voxels.dtype)
        full[slices(((0,) * voxels.ndim, voxels.shape))] = voxels
        return full


def array_doc(dataset: Dataset, axes: Sequence[str], codecs: Sequence[Mapping[str, Any]]) -> bytes:
    """Zarr 3 metadata document of a dataset under given codecs."""
    doc = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(dataset.shape),
        "data_type": dataset.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(dataset.chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if dataset.dtype.kind == "f" else 0,
        "codecs": list(codecs),
        "attributes": {},
        "dimension_names": list(axes),
    }
    return orjson.dumps(doc, option=orjson.OPT_INDENT_2)
