"""A version as neuroglancer precomputed volumes: one per pyramid or array, chunks as they are cut in Zarr.

Images are sent raw, labels as compressed_segmentation in blocks of 8 x 8 x 8 (neuroglancer, "Precomputed volume
format").  Voxels keep their global coordinates: where an array begins is its ``voxel_offset``.
"""

from __future__ import annotations

from typing import Any

import compressed_segmentation
import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import UnsupportedError
from vzarr.geometry import reverse
from vzarr.overlay.export.shown.pyramids import Chunks, Pyramid
from vzarr.overlay.export.shown.version import ShownVersion
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.sources.precomputedinfo import DTYPES, Scale

INFO = "info"
_BLOCK = (8, 8, 8)
_NANOMETERS = {"angstrom": 0.1, "nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9}
# A table may begin no later than at word 2^24, and a voxel takes up to two words and a half.
_MOST_LABELS = 6_000_000


class PrecomputedView(ShownVersion):
    """A version as precomputed volumes."""

    def get(self, key: str) -> bytes | None:
        """An object by its key, ``PATH/info`` or ``PATH/sN/CHUNK``; None when there is none.

        Raises
        ------
        UnsupportedError
            If the array is none that precomputed can hold.
        """
        path, _, name = key.rpartition("/")
        if name == INFO:
            return self._info(path)
        found = self.scale(path)
        if found is None:
            return None
        chunks = self._chunks(*found)
        scale = _scale(chunks, *found)
        coord = scale.coord(name)
        voxels = None if coord is None else chunks.read(coord)
        return None if voxels is None else _encode(voxels, scale)

    def _info(self, path: str) -> bytes | None:
        pyramid = self.pyramid(path)
        if pyramid is None:
            return None
        arrays = [self._chunks(pyramid, n) for n in range(len(pyramid.paths))]
        scales = [_scale(chunks, pyramid, n) for n, chunks in enumerate(arrays)]
        dtype = arrays[0].codec.dtype
        info = {
            "@type": "neuroglancer_multiscale_volume",
            "type": "segmentation" if _is_labels(dtype) else "image",
            "data_type": dtype.name,
            "num_channels": 1,
            "scales": [_scale_json(scale) for scale in scales],
        }
        return orjson.dumps(info)

    def pyramid(self, path: str) -> Pyramid | None:
        """What lies at a path: a pyramid, or an array as a pyramid of one."""
        if isinstance(self.entries.get(path), ArrayEntry):
            return Pyramid(path, [path], "zyx", [None] * 3, [(1.0,) * 3], [(0.0,) * 3])
        return super().pyramid(path)

    def _chunks(self, pyramid: Pyramid, n: int) -> Chunks:
        path = pyramid.paths[n]
        entry = self.entries[path]
        assert isinstance(entry, ArrayEntry)
        if entry.spec.ndim != 3:
            raise UnsupportedError(f"{path} has {entry.spec.ndim} axes; as precomputed volumes only zyx are shown")
        chunks = Chunks(self.store, path, entry)
        if chunks.codec.dtype.name not in DTYPES:
            raise UnsupportedError(f"precomputed has no data type {chunks.codec.dtype}")
        return chunks


def _is_labels(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "u" and dtype.itemsize >= 4


def _scale(chunks: Chunks, pyramid: Pyramid, n: int) -> Scale:
    units = [_NANOMETERS.get(unit or "", 1.0) for unit in pyramid.units]
    packed = _is_labels(chunks.codec.dtype) and int(np.prod(chunks.chunks)) <= _MOST_LABELS
    return Scale(
        f"s{n}",
        chunks.shape,
        chunks.chunks,
        chunks.entry.origin or (0, 0, 0),
        tuple(v * u for v, u in zip(pyramid.voxels[n], units, strict=True)),
        "compressed_segmentation" if packed else "raw",
        _BLOCK if packed else (),
        None,
    )


def _scale_json(scale: Scale) -> dict[str, Any]:
    packed = {"compressed_segmentation_block_size": list(reverse(scale.block))} if scale.block else {}
    return {
        "key": scale.key,
        "size": list(reverse(scale.shape)),
        "voxel_offset": list(reverse(scale.offset)),
        "chunk_sizes": [list(reverse(scale.chunks))],
        "resolution": list(scale.voxel[::-1]),
        "encoding": scale.encoding,
        **packed,
    }


def _encode(voxels: NDArray[Any], scale: Scale) -> bytes:
    whole = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))
    if not scale.block:
        return whole.tobytes()
    # The package reads raw memory: a C-ordered zyx array is a Fortran-ordered xyz one.
    return bytes(compressed_segmentation.compress(whole.T, scale.block[::-1], order="F"))
