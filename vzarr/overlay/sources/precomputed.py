"""Neuroglancer precomputed volumes, read in place: unsharded or in shards, one channel (zyx) or several (czyx)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import FormatError, InvalidInputError, StorageError, UnsupportedError
from vzarr.geometry import Coord, iter_coords
from vzarr.overlay.chunks import inflate
from vzarr.overlay.sources.base import ChunkReader, Layout, Locator, Volume
from vzarr.overlay.sources.documents import parse_object
from vzarr.overlay.sources.files import Files
from vzarr.overlay.sources.precomputedchunks import chunk_limit, decode_chunk
from vzarr.overlay.sources.precomputedinfo import Info, Scale
from vzarr.overlay.sources.precomputedshards import ShardedChunks, morton, unmorton

FORMAT = "precomputed"
INFO = "info"
_KEPT = ("mesh", "skeletons", "segment_properties")
_MOST_INFO = 64 << 20
# CloudFiles, beneath CloudVolume, names local files by how it compressed them.
_GZIPPED = ".gz"
_REFUSED = (".br", ".zstd", ".xz", ".bz2")


def detect(files: Files) -> bool:
    """Whether a folder has the ``info`` of a volume."""
    data = files.get(INFO)
    if data is None:
        return False
    try:
        found = _parsed(files, data)
    except InvalidInputError:
        return False
    return isinstance(found.get("scales"), list)


def open_volume(files: Files) -> Volume:
    """A volume with all its scales.

    Raises
    ------
    InvalidInputError
        If there is none.
    UnsupportedError
        If its type or encoding is not read here.
    StorageError
        If it cannot be read.
    """
    data = files.get(INFO)
    if data is None:
        raise InvalidInputError(f"there is no {files.place(INFO)}")
    raw = _parsed(files, data)
    info = _info(files, raw)
    extra = () if info.channels == 1 else (1.0,)
    finest = info.scales[0].voxel
    return Volume(
        files.url,
        FORMAT,
        [PrecomputedReader(files, info, scale) for scale in info.scales],
        axes=_axes(info),
        units=(None,) * len(extra) + ("nanometer",) * 3,
        voxel_sizes=[extra + s.voxel for s in info.scales],
        translations=[(0.0,) * len(extra) + _translation(s, finest) for s in info.scales],
        labels=info.labels,
        attributes={k: raw[k] for k in _KEPT if isinstance(raw.get(k), str)},
    )


def open_array(files: Files, locator: Locator) -> PrecomputedReader:
    """One scale again."""
    info, scale, _ = _scale(files, locator["key"])
    return PrecomputedReader(files, info, scale)


def _translation(scale: Scale, finest: tuple[float, ...]) -> tuple[float, ...]:
    """Centre of the first voxel, where 0 is the centre of the finest scale's voxel 0 as in OME-NGFF.

    Precomputed counts from corner to corner.
    """
    return tuple((o + 0.5) * v - 0.5 * f for o, v, f in zip(scale.offset, scale.voxel, finest, strict=True))


def _axes(info: Info) -> tuple[str, ...]:
    return ("z", "y", "x") if info.channels == 1 else ("c", "z", "y", "x")


def _parsed(files: Files, data: bytes) -> dict[str, Any]:
    where = files.place(INFO)
    try:
        plain = inflate.gunzip(data, _MOST_INFO) if data[:2] == inflate.GZIP_MAGIC else data
        return parse_object(plain, where)
    except (FormatError, StorageError) as e:
        raise InvalidInputError(str(e)) from e


def _info(files: Files, raw: dict[str, Any]) -> Info:
    try:
        return Info.parse(raw)
    except UnsupportedError as e:
        raise UnsupportedError(f"{files.place(INFO)}: {e}") from e
    except FormatError as e:
        raise InvalidInputError(f"{files.place(INFO)}: {e}") from e


def _scale(files: Files, key: str) -> tuple[Info, Scale, dict[str, Any]]:
    """A scale by its key, and what was read of it."""
    data = files.get(INFO)
    if data is None:
        raise StorageError(f"{files.place(INFO)} is gone")
    raw = _parsed(files, data)
    info = _info(files, raw)
    for scale, said in zip(info.scales, raw["scales"], strict=True):
        if scale.key == key:
            return info, scale, {**said, "data_type": raw["data_type"], "num_channels": info.channels}
    raise StorageError(f"{files.place(INFO)} has no scale {key!r} any more")


class PrecomputedReader(ChunkReader):
    """One scale of a volume.

    Parameters
    ----------
    files
        Where the volume lies.
    info, scale
        What its ``info`` says.
    """

    def __init__(self, files: Files, info: Info, scale: Scale) -> None:
        many = info.channels > 1
        lead = (info.channels,) if many else ()
        layout = Layout(
            info.dtype,
            lead + scale.shape,
            lead + scale.chunks,
            (0,) * len(lead) + scale.offset,
            codecs="labels" if info.labels else "image",
            dimension_names=_axes(info),
        )
        super().__init__(files, scale.key, layout)
        self._info, self._scale, self._lead = info, scale, (0,) * len(lead)
        self._limit = chunk_limit(scale.encoding, scale.chunks, info.channels, info.dtype, scale.block)
        most = int(np.prod(scale.grid, dtype=object))
        sharding = scale.sharding
        self._shards = None if sharding is None else ShardedChunks(files, scale.key, sharding, most)

    @property
    def locator(self) -> Locator:
        """What opens it again."""
        return {"url": self.files.url, "format": FORMAT, "key": self._scale.key}

    def metadata(self) -> bytes:
        """What the ``info`` says of this scale now (see `ChunkReader.metadata`)."""
        return orjson.dumps(_scale(self.files, self._scale.key)[2], option=orjson.OPT_SORT_KEYS)

    def key(self, coord: Coord) -> str:
        """The chunk's file, or the shard that holds it."""
        at = coord[len(self._lead) :]
        if self._shards is not None:
            return self._shards.key(morton(at, self._scale.grid))
        return self._file(at) or f"{self.folder}/{self._scale.name(at)}"

    def read(self, coord: Coord) -> NDArray[Any] | None:
        """Voxels of a chunk, cut at the volume's end (see `ChunkReader.read`)."""
        at = coord[len(self._lead) :]
        if any(coord[: len(self._lead)]) or not all(0 <= c < n for c, n in zip(at, self._scale.grid, strict=True)):
            return None
        data = self._bytes(at)
        if data is None:
            return None
        scale, info = self._scale, self._info
        try:
            found = decode_chunk(data, scale.encoding, scale.size(at), info.channels, info.dtype, scale.block)
        except StorageError as e:
            where = f"{self.files.place(self.key(coord))}, chunk {scale.name(at)}"
            raise StorageError(f"the precomputed chunk {where} is damaged: {e}") from e
        return found if self._lead else found[0]

    def coords(self) -> Iterator[Coord]:
        """Coordinates of the chunks that are stored; where the store cannot list, each place is asked for."""
        try:
            yield from map(self._lead.__add__, self._listed())
        except UnsupportedError:
            origin = (0,) * len(self._scale.grid)
            yield from (self._lead + c for c in iter_coords((origin, self._scale.grid)) if self._has(c))

    def _bytes(self, at: Coord) -> bytes | None:
        if self._shards is not None:
            return self._shards.read(morton(at, self._scale.grid), self._limit)
        key = f"{self.folder}/{self._scale.name(at)}"
        found = self.files.get(key)
        if found is not None or self.files.path(key) is None:
            return found
        other = self._file(at)
        return None if other is None else self.files.get(other)

    def _file(self, at: Coord) -> str | None:
        """Key of a chunk's file under any of the names that local files have; None where there is none.

        Raises
        ------
        StorageError
            If it is there in a compression that is not read: it must not pass for absent.
        """
        key = f"{self.folder}/{self._scale.name(at)}"
        local = self.files.path(key) is not None
        for suffix in ("", _GZIPPED, *_REFUSED) if local else ("",):
            if self.files.read(key + suffix, 0, 0) is not None:
                if suffix in _REFUSED:
                    raise self._refuse(key + suffix)
                return key + suffix
        return None

    def _refuse(self, key: str) -> StorageError:
        return StorageError(f"{self.files.place(key)}: of compressed chunk files only gzip is read")

    def _has(self, at: Coord) -> bool:
        if self._shards is not None:
            return self._shards.has(morton(at, self._scale.grid))
        return self._file(at) is not None

    def _listed(self) -> list[Coord]:
        if self._shards is not None:
            grid = self._scale.grid
            found = [unmorton(chunk, grid) for chunk in self._shards.ids()]
            return [c for c in found if all(i < n for i, n in zip(c, grid, strict=True))]
        skip = len(self.folder) + 1
        keys = [key for key, _ in self.files.walk(self.folder)]
        refused = next((key for key in keys if key.endswith(_REFUSED)), None)
        if refused is not None:
            raise self._refuse(refused)
        names = {key[skip:].removesuffix(_GZIPPED) for key in keys}
        return [c for c in map(self._scale.coord, names) if c is not None]
