"""What an adopted array comes from: one face for sources whose bytes are Zarr's, one for those that need decoding.

A reader of a format gives a `Volume`: its scales, finest first, each a `SourceArray` (the stored bytes are chunks as
Zarr metadata describe them) or a `ChunkReader` (they are not: the reader decodes chunks on its own grid, and
`regrid.Regridded` makes a `SourceArray` of it).  Everything is in the order of the array's axes, zyx for volumes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Box, Coord, blocks_of_box, iter_coords
from vzarr.overlay.chunks.codec import codec_of
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.sources.files import Files

Locator = Mapping[str, Any]
"""What is needed to open an array of a source again, as JSON: ``url``, ``format``, and what the format adds to them."""
Found = tuple[bytes, int]
"""A range of a chunk's bytes, and the size of the whole."""


class SourceArray(ABC):
    """One array of a source whose chunks are bytes as its Zarr metadata describe them.

    Parameters
    ----------
    files
        Where its objects lie.
    folder
        Key below which they all lie.
    docs
        Metadata documents by file name under which the array is shown.
    origin
        First voxel; a multiple of the chunk shape.  () for zeros.
    """

    def __init__(self, files: Files, folder: str, docs: Mapping[str, bytes], origin: Coord = ()) -> None:
        self.files, self.folder, self.docs, self.origin = files, folder, docs, origin

    @property
    @abstractmethod
    def locator(self) -> Locator:
        """What opens it again."""

    @property
    @abstractmethod
    def box(self) -> Box:
        """Global coordinates of the chunks that it may have, upper corner exclusive."""

    @abstractmethod
    def metadata(self) -> bytes:
        """What the source's own metadata say of this array now, in one canonical text; read anew at each call.

        Raises
        ------
        StorageError
            If the source is gone; the message names its URL.
        """

    @abstractmethod
    def fetch(self, coord: Coord, offset: int = 0, length: int | None = None) -> Found | None:
        """Bytes of a chunk (global coordinates), or None when the source has none there (see `Files.read`)."""

    @abstractmethod
    def keys(self, coord: Coord) -> Sequence[str]:
        """Keys of the objects that hold a chunk: one where the bytes are standard, else as many as it is made of."""

    @abstractmethod
    def coords(self) -> Iterator[Coord]:
        """Global coordinates of the chunks that the source has, in no set order; this lists the source."""

    def voxels(self, coord: Coord) -> NDArray[Any] | None:
        """A chunk decoded; None when there is none."""
        found = self.fetch(coord)
        return None if found is None else codec_of(ArrayEntry(self.docs, ArrayId("", ""))).decode(found[0])

    decodes = False
    """Whether `voxels` is the short way, because the bytes that `fetch` gives are made for the occasion."""

    def place(self, coord: Coord) -> str | None:
        """URL of the object that is a chunk as it stands, or None where chunks are made on the way."""
        return None

    def path(self, coord: Coord) -> str | None:
        """Local path of the object that is a chunk as it stands, or None."""
        return None


@dataclass(frozen=True)
class Layout:
    """How the chunks of a `ChunkReader` lie.

    Parameters
    ----------
    dtype
        Of the voxels that `ChunkReader.read` gives, in native byte order.
    shape
        Voxels per axis.
    chunks
        Voxels of a chunk; those at the upper border may be cut.
    offset
        First voxel of the array, and of chunk (0, 0, ...); any integers, () for zeros.
    fill_value
        Of voxels that the source does not store.
    codecs
        ``"image"`` or ``"labels"``: how edits are compressed (see `vzarr.overlay.hierarchy.arrays.compressors`).
    dimension_names
        Names of the axes.
    """

    dtype: np.dtype[Any]
    shape: Coord
    chunks: Coord
    offset: Coord = ()
    fill_value: Any = 0
    codecs: str = "image"
    dimension_names: Sequence[str] | None = ("z", "y", "x")

    @property
    def grid(self) -> Box:
        """Chunk coordinates of the reader's own grid: from (0, 0, ...) on."""
        return blocks_of_box(((0,) * len(self.shape), self.shape), self.chunks)


class ChunkReader(ABC):
    """One array of a source that stores its chunks otherwise than Zarr does.

    Parameters
    ----------
    files
        Where its objects lie.
    folder
        Key below which all objects of this array lie.
    layout
        How its chunks lie.
    """

    def __init__(self, files: Files, folder: str, layout: Layout) -> None:
        self.files, self.folder, self.layout = files, folder, layout

    @property
    @abstractmethod
    def locator(self) -> Locator:
        """What opens it again: ``url`` (as `files.url`), ``format``, and what this format needs beyond them."""

    @abstractmethod
    def metadata(self) -> bytes:
        """What the source's metadata say of this array now, in one canonical text; read anew at each call.

        Raises
        ------
        StorageError
            If the source is gone; the message names its URL.
        """

    @abstractmethod
    def read(self, coord: Coord) -> NDArray[Any] | None:
        """Voxels of a chunk by its coordinate on the own grid, or None when the source does not store it.

        Gives the chunk's whole shape, or that cut at the array's upper border; what lies beyond the border is not
        looked at.  The array is the caller's own, or read-only.

        Raises
        ------
        StorageError
            If the chunk cannot be read, is cut short or does not decode; the message names its URL.
        """

    @abstractmethod
    def key(self, coord: Coord) -> str:
        """Key of the object that holds a chunk; of its shard, where there are shards."""

    def coords(self) -> Iterator[Coord]:
        """Coordinates on the own grid of the chunks that the source stores; a reader that can list overrides this."""
        return (c for c in iter_coords(self.layout.grid) if self.files.read(self.key(c), 0, 0) is not None)


@dataclass(frozen=True)
class Volume:
    """A source, opened: its scales and where they lie in space.

    Parameters
    ----------
    url, format
        What was opened, as what.
    scales
        Arrays, finest first.
    axes
        Names of the axes, in array order.
    units
        UDUNITS-2 name per axis, such as ``nanometer``; None where the source does not say.
    voxel_sizes
        Per scale the size of a voxel along each axis; empty where the source does not say.
    translations
        Per scale the centre of the first voxel (at `Layout.offset`) along each axis, in the same units; empty where
        the source does not say.
    factors
        Per scale how many voxels of the finest scale one of its takes along each axis, of a source that says this and
        no voxel sizes.
    labels
        Whether the source says that it is a segmentation; None where it does not say.
    attributes
        What else its metadata hold and its instance's group shall keep.
    """

    url: str
    format: str
    scales: Sequence[SourceArray | ChunkReader]
    axes: Sequence[str] = ("z", "y", "x")
    units: Sequence[str | None] = ()
    voxel_sizes: Sequence[Sequence[float]] = ()
    translations: Sequence[Sequence[float]] = ()
    factors: Sequence[Sequence[float]] = ()
    labels: bool | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
