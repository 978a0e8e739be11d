"""Writing N5 datasets and multiscale groups: from numpy, zarr or blocks, each block atomic.

Blocks of nothing but 0 are left out, as N5 readers see 0 where nothing is stored; blocks at the far edge are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.geometry import Coord, blocks_of_box, box_of_block, iter_coords, reverse, slices
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sources.n5attributes import DTYPES, Dataset
from vzarr.overlay.sources.n5blocks import DEFAULT, Compression, encode_block

VERSION = "4.0.0"
"""Of the N5 specification that is written."""
ATTRIBUTES = "attributes.json"
GZIP = Compression("gzip", {"level": 1, "useZlib": False})
"""The compression that every N5 reader knows."""
_SYMBOLS = {"nanometer": "nm", "micrometer": "um", "millimeter": "mm", "meter": "m", "angstrom": "Å", "second": "s"}


def new_dataset(shape: Sequence[int], chunks: Sequence[int], dtype: Any, compression: Compression = GZIP) -> Dataset:
    """A dataset to write.

    Parameters
    ----------
    shape, chunks
        Extent, and that of a block, in array order (zyx).
    dtype
        Integers of 8 to 64 bits, float32 or float64, in any byte order.
    compression
        Of its blocks.

    Raises
    ------
    UnsupportedError
        If N5 has no such data type.
    InvalidInputError
        If the extents are none.
    """
    native = np.dtype(dtype).newbyteorder("=")
    if native.name not in DTYPES:
        raise UnsupportedError(f"N5 has no data type {native}; it has {', '.join(sorted(DTYPES))}")
    shape, chunks = tuple(map(int, shape)), tuple(map(int, chunks))
    if len(shape) != len(chunks) or not shape or min(shape) < 0 or min(chunks) < 1:
        raise InvalidInputError(f"an N5 dataset of {shape} voxels cannot be in blocks of {chunks}")
    return Dataset.parse(Dataset(shape, chunks, native, compression).to_json())


def write_dataset(
    objects: Objects,
    path: str,
    voxels: Any,
    *,
    chunks: Sequence[int] | None = None,
    compression: Compression = GZIP,
    mode: int = DEFAULT,
    attributes: Mapping[str, Any] | None = None,
) -> Dataset:
    """Write an array as an N5 dataset, block by block.

    Parameters
    ----------
    objects
        Where to.
    path
        Of the dataset; "" for a dataset alone.
    voxels
        A numpy or zarr array (anything with `shape`, `dtype` and boxes by slices), zyx.
    chunks
        Extent of a block; by default the array's own chunks, else 64 along each axis.
    compression
        Of its blocks.
    mode
        `n5blocks.DEFAULT` or `VARLENGTH`.
    attributes
        More of them, beside those of N5.
    """
    size = chunks or getattr(voxels, "chunks", None) or (64,) * len(voxels.shape)
    dataset = new_dataset(voxels.shape, size, voxels.dtype, compression)
    write_blocks(objects, path, dataset, _blocks_of(voxels, dataset), mode=mode, attributes=attributes)
    return dataset


def _blocks_of(voxels: Any, dataset: Dataset) -> Iterator[tuple[Coord, NDArray[Any]]]:
    grid = blocks_of_box(((0,) * len(dataset.shape), dataset.shape), dataset.chunks)
    for coord in iter_coords(grid):
        lo = box_of_block(coord, dataset.chunks)[0]
        hi = tuple(a + n for a, n in zip(lo, dataset.block_shape(coord), strict=True))
        yield coord, np.asarray(voxels[slices((lo, hi))])


def write_blocks(
    objects: Objects,
    path: str,
    dataset: Dataset,
    blocks: Iterable[tuple[Coord, NDArray[Any]]],
    *,
    mode: int = DEFAULT,
    attributes: Mapping[str, Any] | None = None,
) -> int:
    """Write blocks of a dataset, then its attributes, and give the number of blocks written.

    Parameters
    ----------
    blocks
        Chunk coordinate (zyx) and voxels of each, of its whole extent or that cut at the dataset's end.
    """
    written = 0
    for coord, voxels in blocks:
        cut = np.asarray(voxels, dataset.dtype)[slices(((0,) * voxels.ndim, dataset.block_shape(coord)))]
        if cut.any():
            objects.put(block_key(path, coord), encode_block(cut, dataset.compression, mode))
            written += 1
    write_attributes(objects, path, {**(attributes or {}), **dataset.to_json()})
    return written


def write_attributes(objects: Objects, path: str, attributes: Mapping[str, Any]) -> None:
    """Write the attributes of a dataset or group; those of the outermost also say the version of N5."""
    named = attributes if path else {"n5": VERSION, **attributes}
    objects.put(f"{path}/{ATTRIBUTES}" if path else ATTRIBUTES, attributes_bytes(named))


def attributes_bytes(attributes: Mapping[str, Any]) -> bytes:
    """Attributes as they are stored."""
    return orjson.dumps(attributes, option=orjson.OPT_INDENT_2)


def block_key(path: str, coord: Coord) -> str:
    """Key of a block, by its chunk coordinate (zyx)."""
    at = "/".join(map(str, reverse(coord)))
    return f"{path}/{at}" if path else at


def write_multiscale(
    objects: Objects,
    path: str,
    scales: Sequence[Any],
    *,
    voxel_sizes: Sequence[Sequence[float]],
    translations: Sequence[Sequence[float]] | None = None,
    units: Sequence[str | None] = ("nanometer",) * 3,
    chunks: Sequence[int] | None = None,
    compression: Compression = GZIP,
    mode: int = DEFAULT,
) -> None:
    """Write a pyramid as a group with datasets ``s0``, ``s1``, ...

    Parameters
    ----------
    scales
        Arrays (see `write_dataset`), finest first.
    voxel_sizes, translations
        Per scale, in array order (zyx): size of a voxel, and centre of the first.
    units
        UDUNITS-2 names, in array order.
    chunks, compression, mode
        As of `write_dataset`.

    Raises
    ------
    InvalidInputError
        If these are not one per scale.
    """
    shifts = translations or [(0.0,) * len(v) for v in voxel_sizes]
    if not len(scales) == len(voxel_sizes) == len(shifts):
        raise InvalidInputError(f"{len(scales)} scales with {len(voxel_sizes)} voxel sizes")
    for i, voxels in enumerate(scales):
        at = f"{path}/s{i}" if path else f"s{i}"
        said = scale_attributes(voxel_sizes[0], voxel_sizes[i], shifts[i], units)
        write_dataset(objects, at, voxels, chunks=chunks, compression=compression, mode=mode, attributes=said)
    write_attributes(objects, path, group_attributes(voxel_sizes, shifts, units))


def group_attributes(
    voxel_sizes: Sequence[Sequence[float]],
    translations: Sequence[Sequence[float]],
    units: Sequence[str | None],
    axes: Sequence[str] = ("z", "y", "x"),
) -> dict[str, Any]:
    """Attributes of a multiscale group in the dialects of BigDataViewer, n5-viewer, neuroglancer and COSEM."""
    words = symbols(units)
    datasets = [
        {"path": f"s{i}", "transform": _transform(v, t, words, axes)}
        for i, (v, t) in enumerate(zip(voxel_sizes, translations, strict=True))
    ]
    return {
        "axes": list(axes[::-1]),
        "units": words[::-1],
        "resolution": list(voxel_sizes[0][::-1]),
        "downsamplingFactors": [_factors(voxel_sizes[0], v) for v in voxel_sizes],
        "multiscales": [{"datasets": datasets}],
    }


def scale_attributes(
    finest: Sequence[float],
    voxel: Sequence[float],
    translation: Sequence[float],
    units: Sequence[str | None],
    axes: Sequence[str] = ("z", "y", "x"),
) -> dict[str, Any]:
    """Attributes of one dataset of a multiscale group, beside those of N5."""
    words = symbols(units)
    return {
        "downsamplingFactors": _factors(finest, voxel),
        "pixelResolution": {"dimensions": list(finest[::-1]), "unit": words[-1] if words else ""},
        "transform": _transform(voxel, translation, words, axes),
    }


def symbols(units: Sequence[str | None]) -> list[str]:
    """Symbols of UDUNITS-2 names; "" where there is no unit."""
    return [_SYMBOLS.get(u, u) if u else "" for u in units]


def _factors(finest: Sequence[float], voxel: Sequence[float]) -> list[float | int]:
    ratios = [float(v) / float(f) for v, f in zip(voxel[::-1], finest[::-1], strict=True)]
    return [round(r) if abs(r - round(r)) < 1e-6 and round(r) else r for r in ratios]


def _transform(
    voxel: Sequence[float], shift: Sequence[float], words: Sequence[str], axes: Sequence[str]
) -> dict[str, Any]:
    said = {"axes": list(axes), "ordering": "C", "scale": list(voxel), "translate": list(shift)}
    return {**said, "units": list(words)}
