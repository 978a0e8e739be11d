"""What other formats need to know of a version: its pyramids, as OME-NGFF describes them, and the voxels of a chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import zarr
from numpy.typing import NDArray

from vzarr.errors import UnsupportedError
from vzarr.geometry import Coord, box_of_block, slices
from vzarr.overlay.chunks.codec import ChunkCodec, codec_of
from vzarr.overlay.hierarchy.arrays import attributes_of
from vzarr.overlay.hierarchy.tree import V3_DOC, ArrayEntry, Entry
from vzarr.overlay.store import VersionStore


@dataclass(frozen=True)
class Pyramid:
    """A multiscale group, in array order.

    Parameters
    ----------
    path
        Of the group.
    paths
        Of its arrays, finest first.
    axes, units
        Names, and UDUNITS-2 names; None where there is no unit.
    voxels, translations
        Per scale: size of a voxel, and centre of the first.
    """

    path: str
    paths: Sequence[str]
    axes: Sequence[str]
    units: Sequence[str | None]
    voxels: Sequence[Sequence[float]]
    translations: Sequence[Sequence[float]]


def pyramid_at(entries: Mapping[str, Entry], path: str) -> Pyramid | None:
    """The pyramid whose group is at a path: as OME-NGFF 0.4 or 0.5 metadata there say; None without any."""
    group = entries.get(path)
    if group is None or isinstance(group, ArrayEntry):
        return None
    said = attributes_of(group)
    holder = said.get("ome") if isinstance(said.get("ome"), dict) else said
    listed = holder.get("multiscales") if isinstance(holder, dict) else None
    try:
        first = listed[0]  # type: ignore[index]
        axes = [str(a["name"]) for a in first["axes"]]
        units = [a.get("unit") for a in first["axes"]]
        steps = [_steps(d["coordinateTransformations"], len(axes)) for d in first["datasets"]]
        below = [f"{path}/{d['path']}" if path else str(d["path"]) for d in first["datasets"]]
    except (TypeError, KeyError, IndexError, AttributeError, ValueError):
        return None
    if not below or not all(isinstance(e := entries.get(p), ArrayEntry) and e.spec.ndim == len(axes) for p in below):
        return None
    return Pyramid(path, below, axes, units, [s for s, _ in steps], [t for _, t in steps])


def _steps(listed: Sequence[Mapping[str, Any]], ndim: int) -> tuple[list[float], list[float]]:
    by_type = {step["type"]: step for step in listed}
    scale = by_type.get("scale", {}).get("scale", [1.0] * ndim)
    shift = by_type.get("translation", {}).get("translation", [0.0] * ndim)
    if len(scale) != ndim or len(shift) != ndim:
        raise ValueError
    return [float(v) for v in scale], [float(v) for v in shift]


@dataclass(frozen=True)
class Chunks:
    """The chunks of one array of a version, by the coordinates that readers of its Zarr use.

    Parameters
    ----------
    store
        The version's store.
    path, entry
        The array.
    """

    store: VersionStore
    path: str
    entry: ArrayEntry

    @cached_property
    def codec(self) -> ChunkCodec:
        """How stored chunks (shards, where there are shards) are encoded."""
        return codec_of(self.entry)

    @cached_property
    def inner(self) -> Coord | None:
        """Shape of the chunks in a shard; None without shards."""
        chain = self.chain
        if chain and chain[0].get("name") == "sharding_indexed":
            return tuple(map(int, chain[0]["configuration"]["chunk_shape"]))
        return None

    @property
    def chain(self) -> list[dict[str, Any]]:
        """Codecs of Zarr 3; empty for Zarr 2."""
        doc = self.entry.docs.get(V3_DOC)
        found: list[dict[str, Any]] = orjson.loads(doc)["codecs"] if doc is not None else []
        return found

    @property
    def shape(self) -> Coord:
        """Voxels that readers see."""
        return self.entry.spec.shape

    @cached_property
    def chunks(self) -> Coord:
        """Extent of a whole chunk; of the chunks within, where there are shards.

        Raises
        ------
        UnsupportedError
            If the grid is not regular.
        """
        if self.entry.spec.chunks is None:
            raise UnsupportedError(f"{self.path} has chunks of several shapes, which other formats do not know")
        return self.inner or self.entry.spec.chunks

    def extent(self, coord: Coord) -> Coord:
        """Extent of a chunk, cut at the array's end; not positive beyond it."""
        return tuple(min(c, n - i * c) for i, c, n in zip(coord, self.chunks, self.shape, strict=True))

    def stored(self, coord: Coord) -> bytes | None:
        """Bytes of a stored chunk, or None when there is none."""
        name = self.entry.spec.key(coord)
        found = self.store.read(f"{self.path}/{name}" if self.path else name)
        return None if found is None else found[0]

    def read(self, coord: Coord) -> NDArray[Any] | None:
        """Voxels of a chunk, cut at the array's end.

        Returns
        -------
        ndarray or None
            None outside of the array, and where nothing is stored and nothing is what other formats show as 0.
        """
        extent = self.extent(coord)
        if min((*coord, *extent), default=0) < 0 or min(extent, default=1) <= 0:
            return None
        if self.inner is not None:
            lo = box_of_block(coord, self.chunks)[0]
            hi = tuple(a + n for a, n in zip(lo, extent, strict=True))
            whole = zarr.open_array(self.store, path=self.path, mode="r")
            part = np.asarray(whole[slices((lo, hi))])
            return part if part.any() else None
        data = self.stored(coord)
        if data is not None:
            return self.codec.decode(data)[slices(((0,) * len(extent), extent))]
        fill = np.asarray(self.codec.fill, self.codec.dtype)
        return np.full(extent, fill) if fill.any() else None
