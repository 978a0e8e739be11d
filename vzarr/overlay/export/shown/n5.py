"""A version as N5 (specification 4.0.0): its pyramids as groups of ``s0``, ``s1``, ..., its other arrays as they are.

N5 knows no voxel below 0 and no fill value but 0: an array begins at its first voxel, and chunks of another fill value
are all there.  Where the codecs of an array are ones that N5 has, too, whole chunks keep their bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vzarr.geometry import Coord
from vzarr.overlay.export.shown.pyramids import Chunks, Pyramid
from vzarr.overlay.export.shown.version import ShownVersion
from vzarr.overlay.hierarchy.arrays import attributes_of
from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry
from vzarr.overlay.sources.n5attributes import RESERVED, Dataset
from vzarr.overlay.sources.n5blocks import Compression, encode_block, write_header
from vzarr.overlay.sources.n5write import (
    ATTRIBUTES,
    GZIP,
    VERSION,
    attributes_bytes,
    group_attributes,
    new_dataset,
    scale_attributes,
)

_NUMBER = re.compile(r"0|[1-9]\d{0,18}")
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


@dataclass(frozen=True)
class N5Array:
    """One array of a version as a dataset.

    Parameters
    ----------
    chunks
        Its chunks.
    dataset
        What N5 says of it.
    verbatim
        Whether the bytes of whole chunks are payloads of N5.
    """

    chunks: Chunks
    dataset: Dataset
    verbatim: bool

    @classmethod
    def of(cls, chunks: Chunks) -> N5Array:
        """An array as a dataset.

        Raises
        ------
        UnsupportedError
            If N5 has no such data type or grid.
        """
        codec = chunks.codec
        same = None if chunks.inner else same_compression(chunks.chain, codec.dtype.itemsize)
        return cls(chunks, new_dataset(chunks.shape, chunks.chunks, codec.dtype, same or GZIP), same is not None)

    def block(self, coord: Coord) -> bytes | None:
        """A block by its chunk coordinate (zyx), or None where N5 stores none."""
        extent = self.dataset.block_shape(coord)
        if self.verbatim and extent == self.dataset.chunks:
            data = self.chunks.stored(coord)
            if data is not None:
                return write_header(extent) + data
        voxels = self.chunks.read(coord)
        return None if voxels is None else encode_block(voxels, self.dataset.compression)


def same_compression(chain: list[dict[str, Any]], itemsize: int) -> Compression | None:
    """Compression of N5 that makes the bytes which a chain of Zarr 3 codecs makes, or None."""
    if not chain or chain[0].get("name") != "bytes" or len(chain) > 2:
        return None
    if itemsize > 1 and (chain[0].get("configuration") or {}).get("endian") != "big":
        return None
    if len(chain) == 1:
        return Compression("raw")
    name, options = chain[1].get("name"), chain[1].get("configuration") or {}
    if name == "gzip":
        return Compression("gzip", {"level": options.get("level", 5), "useZlib": False})
    if name == "zstd":
        return Compression("zstd", {"level": options.get("level", 0)})
    if name == "blosc" and options.get("shuffle") in _SHUFFLES:
        shuffle = _SHUFFLES[options["shuffle"]]
        kept = {k: options[k] for k in ("cname", "clevel", "blocksize")}
        return Compression("blosc", {**kept, "shuffle": shuffle})
    return None


class N5View(ShownVersion):
    """A version as an N5 container."""

    def get(self, key: str) -> bytes | None:
        """An object by its key: attributes or a block; None when there is none.

        Raises
        ------
        UnsupportedError
            If N5 has no such data type or grid.
        """
        path, _, name = key.rpartition("/")
        if name == ATTRIBUTES:
            found = self.attributes(path)
            return None if found is None else attributes_bytes(found)
        numbers: list[int] = []
        path = key
        while path:
            path, _, number = path.rpartition("/")
            if not _NUMBER.fullmatch(number):
                return None
            # From the back: N5 has x first, so this is zyx.
            numbers.append(int(number))
            chunks = self.array(path)
            if chunks is not None and len(numbers) == len(chunks.shape):
                return N5Array.of(chunks).block(tuple(numbers))
        return None

    def array(self, path: str) -> Chunks | None:
        """The array that N5 has at a path."""
        found = self.scale(path)
        at = path if found is None else found[0].paths[found[1]]
        entry = self.entries.get(at)
        return Chunks(self.store, at, entry) if isinstance(entry, ArrayEntry) else None

    def attributes(self, path: str) -> dict[str, Any] | None:
        """Attributes of what N5 has at a path, or None when that is nothing."""
        chunks = self.array(path)
        version = {} if path else {"n5": VERSION}
        if chunks is not None:
            return {**version, **self._said(chunks.entry), **self._placed(path), **N5Array.of(chunks).dataset.to_json()}
        entry = self.entries.get(path)
        if entry is None:
            return None
        pyramid = self.pyramid(path)
        more = {} if pyramid is None else _group(pyramid)
        return {**version, **self._said(entry), **more}

    def paths(self) -> dict[str, str]:
        """N5's path of every array and group, by the version's own."""
        named = {path: path for path in self.entries}
        for path in self.entries:
            pyramid = self.pyramid(path)
            for n, at in enumerate(pyramid.paths if pyramid else ()):
                named[at] = f"{path}/s{n}" if path else f"s{n}"
        return named

    def _placed(self, path: str) -> dict[str, Any]:
        found = self.scale(path)
        if found is None:
            return {}
        pyramid, n = found
        finest, voxel, shift = pyramid.voxels[0], pyramid.voxels[n], pyramid.translations[n]
        return scale_attributes(finest, voxel, shift, pyramid.units, pyramid.axes)

    def _said(self, entry: Entry) -> dict[str, Any]:
        """Attributes that are the version's own, without what only Zarr readers understand."""
        said = attributes_of(entry)
        return {k: v for k, v in said.items() if k not in RESERVED and k not in ("ome", "multiscales")}


def _group(pyramid: Pyramid) -> dict[str, Any]:
    return group_attributes(pyramid.voxels, pyramid.translations, pyramid.units, pyramid.axes)
