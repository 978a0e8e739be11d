"""What ``attributes.json`` says of an N5 dataset or multiscale group, in the dialects that are about; pure functions.

Dialects: BigDataViewer, n5-viewer and neuroglancer (``downsamplingFactors`` or ``scales``; ``pixelResolution`` or
``resolution`` of the finest scale; ``units``, ``axes``, all xyz), and COSEM (``multiscales`` with a ``transform`` per
dataset whose axes are named in its own order) with OME-NGFF's ``coordinateTransformations`` in the same place.
What is said there in no shape known here counts as not said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vzarr.errors import FormatError, UnsupportedError
from vzarr.geometry import Coord, reverse
from vzarr.overlay.sources.n5blocks import Compression

NEWEST = 4
"""Major version of the N5 specification that is read; older ones are contained in it."""
DTYPES = frozenset(f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)) | {"float32", "float64"}
RESERVED = frozenset({"n5", "dimensions", "blockSize", "dataType", "compression", "compressionType"})
_RESOLUTION = ("pixelResolution", "resolution", "units", "unit", "axes")
_SPATIAL = frozenset({*_RESOLUTION, "downsamplingFactors", "scales", "multiscales", "transform", "offset", "translate"})
_MOST = 1 << 31
_UNITS = {
    "nm": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "mm": "millimeter",
    "m": "meter",
    "å": "angstrom",
    "s": "second",
}
_OME_UNITS = frozenset(_UNITS.values())


@dataclass(frozen=True)
class Dataset:
    """An N5 dataset, in array order (zyx).

    Parameters
    ----------
    shape, chunks
        Extent, and that of a whole block.
    dtype
        In native byte order.
    compression
        Of its blocks.
    """

    shape: Coord
    chunks: Coord
    dtype: np.dtype[Any]
    compression: Compression

    @classmethod
    def parse(cls, attributes: Mapping[str, Any]) -> Dataset:
        """Dataset that attributes describe.

        Raises
        ------
        FormatError
            If they describe none.
        UnsupportedError
            If it is of a newer format, of a type or compression that is not read here, or in blocks of 2 GiB or more.
        """
        version = str(attributes.get("n5", "0"))
        if not version.partition(".")[0].isdigit() or int(version.partition(".")[0]) > NEWEST:
            raise UnsupportedError(f"N5 of version {version!r}; read are versions up to {NEWEST}")
        if attributes.get("isLabelMultiset"):
            raise UnsupportedError("an N5 dataset of label multisets; export it as plain uint64 labels first")
        shape = _extent(attributes, "dimensions", 0)
        chunks = _extent(attributes, "blockSize", 1)
        if len(shape) != len(chunks):
            raise FormatError(f"N5 attributes with {len(shape)} dimensions and blocks of {len(chunks)}")
        name = attributes.get("dataType")
        if not isinstance(name, str) or name not in DTYPES:
            raise UnsupportedError(f"N5 data type {name!r}; read are {', '.join(sorted(DTYPES))}")
        dtype = np.dtype(name)
        if int(np.prod(chunks, dtype=object)) * dtype.itemsize >= _MOST:
            raise UnsupportedError(f"N5 blocks of {chunks[::-1]} {name}: 2 GiB or more")
        return cls(shape, chunks, dtype, Compression.of(attributes))

    def to_json(self) -> dict[str, Any]:
        """As in ``attributes.json``."""
        return {
            "dimensions": list(reverse(self.shape)),
            "blockSize": list(reverse(self.chunks)),
            "dataType": self.dtype.name,
            "compression": self.compression.to_json(),
        }

    def block_shape(self, coord: Coord) -> Coord:
        """Extent of a block (chunk coordinate, zyx), cut at the dataset's end."""
        return tuple(min(c, n - i * c) for i, c, n in zip(coord, self.chunks, self.shape, strict=True))


def _extent(attributes: Mapping[str, Any], name: str, least: int) -> Coord:
    found = attributes.get(name)
    if (
        not isinstance(found, list)
        or not 1 <= len(found) <= 32
        or not all(isinstance(n, int) and not isinstance(n, bool) and least <= n < 1 << 63 for n in found)
    ):
        raise FormatError(f"N5 attributes with {name} {found!r}, which should be 1 to 32 integers of at least {least}")
    return reverse(found)


@dataclass(frozen=True)
class Placed:
    """Where a scale lies in space, in array order.

    Parameters
    ----------
    voxel, translation
        Size of a voxel and centre of the first one; None where not said.
    units
        UDUNITS-2 names; None where not said.
    factors
        How many voxels of the finest scale one takes; None where not said, and where `voxel` says it.
    """

    voxel: tuple[float, ...] | None
    translation: tuple[float, ...] | None
    units: tuple[str | None, ...] | None
    factors: tuple[float, ...] | None = None


def scale_paths(group: Mapping[str, Any]) -> list[str] | None:
    """Paths of the scales below a multiscale group, finest first; None where the group does not list them."""
    multiscale = _first(group.get("multiscales"))
    datasets = multiscale.get("datasets") if multiscale else None
    if isinstance(datasets, list):
        paths = [d.get("path") for d in datasets if isinstance(d, dict)]
        if paths and all(isinstance(p, str) and p.strip("/") for p in paths):
            return [str(p).strip("/").removeprefix("./") for p in paths]
    for name in ("downsamplingFactors", "scales"):
        found = group.get(name)
        if isinstance(found, list) and found and all(isinstance(f, list) for f in found):
            return [f"s{i}" for i in range(len(found))]
    return None


def axes_of(group: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int) -> tuple[str, ...]:
    """Names of the axes, in array order."""
    for attributes in (dataset, group):
        found = attributes.get("axes")
        if isinstance(found, list) and len(found) == ndim and all(isinstance(a, str) for a in found):
            names = tuple(a.lower() for a in found)
            if len(set(names)) == ndim:
                # N5's order is xyz; COSEM writes zyx in the same place.
                return names if names[-1] == "x" else reversed_names(names)
    return ("z", "y", "x")[3 - ndim :] if ndim <= 3 else tuple(f"dim_{i}" for i in range(ndim))


def reversed_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names in the other order."""
    return tuple(reversed(names))


def placed(group: Mapping[str, Any], dataset: Mapping[str, Any], index: int, axes: Sequence[str]) -> Placed:
    """Where a scale lies in space.

    Parameters
    ----------
    group
        Attributes of the multiscale group; empty for a dataset alone.
    dataset
        Attributes of the scale's dataset.
    index
        Number of the scale.
    axes
        Names of the axes in array order.
    """
    return _by_transform(group, dataset, index, axes) or _by_factors(group, dataset, index, len(axes))


def _by_transform(
    group: Mapping[str, Any], dataset: Mapping[str, Any], index: int, axes: Sequence[str]
) -> Placed | None:
    multiscale = _first(group.get("multiscales")) or {}
    datasets = multiscale.get("datasets")
    listed = datasets[index] if isinstance(datasets, list) and index < len(datasets) else {}
    listed = listed if isinstance(listed, dict) else {}
    transform = dataset.get("transform", listed.get("transform"))
    if isinstance(transform, dict):
        order = _order(transform.get("axes"), axes)
        voxel = _numbers(transform.get("scale"), len(axes))
        if voxel is None or order is None:
            return None
        shift = _numbers(transform.get("translate"), len(axes))
        units = _units(transform.get("units"), len(axes))
        return Placed(_sorted(voxel, order), _sorted(shift, order), _sorted(units, order))
    steps = listed.get("coordinateTransformations")
    if not isinstance(steps, list):
        return None
    named = [a for a in multiscale.get("axes") or () if isinstance(a, dict)]
    order = _order([a.get("name") for a in named], axes) if named else tuple(range(len(axes)))
    by_type = {s.get("type"): s for s in steps if isinstance(s, dict)}
    voxel = _numbers(by_type.get("scale", {}).get("scale"), len(axes))
    if voxel is None or order is None:
        return None
    shift = _numbers(by_type.get("translation", {}).get("translation"), len(axes))
    units = _units([a.get("unit") for a in named], len(axes))
    return Placed(_sorted(voxel, order), _sorted(shift, order), _sorted(units, order))


def _by_factors(group: Mapping[str, Any], dataset: Mapping[str, Any], index: int, ndim: int) -> Placed:
    factors = _numbers(dataset.get("downsamplingFactors"), ndim)
    for name in ("downsamplingFactors", "scales"):
        listed = group.get(name)
        if factors is None and isinstance(listed, list) and index < len(listed):
            factors = _numbers(listed[index], ndim)
    voxel = units = None
    for attributes in (dataset, group):
        for name in ("pixelResolution", "resolution"):
            found = attributes.get(name)
            inner = found.get("dimensions") if isinstance(found, dict) else found
            if voxel is None and (voxel := _numbers(inner, ndim)) is not None:
                said = found.get("unit") if isinstance(found, dict) else None
                units = _units(said or attributes.get("units") or attributes.get("unit"), ndim)
    if factors is None and index == 0:
        factors = (1.0,) * ndim
    if voxel is None:
        return Placed(None, None, None, None if factors is None else factors[::-1])
    factors = factors or (float(2**index),) * ndim
    size = [v * f for v, f in zip(voxel, factors, strict=True)]
    # A voxel is the mean of `f` finer ones, so its centre lies half of the others further on.
    shift = [v * (f - 1) / 2 for v, f in zip(voxel, factors, strict=True)]
    return Placed(tuple(size[::-1]), tuple(shift[::-1]), None if units is None else units[::-1])


def others(group: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that are neither N5's own nor said in another way by a `Volume`."""
    return {k: v for k, v in group.items() if k not in RESERVED and k not in _SPATIAL}


def _first(found: Any) -> dict[str, Any] | None:
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else None


def _numbers(found: Any, ndim: int) -> tuple[float, ...] | None:
    if not isinstance(found, list) or len(found) != ndim:
        return None
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and np.isfinite(n) for n in found):
        return None
    return tuple(map(float, found))


def _units(found: Any, ndim: int) -> tuple[str | None, ...] | None:
    words = [found] * ndim if isinstance(found, str) else found
    if not isinstance(words, list) or len(words) != ndim:
        return None
    return tuple(_unit(w) for w in words)


def _unit(word: Any) -> str | None:
    if not isinstance(word, str):
        return None
    low = word.strip().lower()
    full = _UNITS.get(low, low.removesuffix("s").replace("metre", "meter").replace("micron", "micrometer"))
    return full if full in _OME_UNITS else None


def _order(names: Any, axes: Sequence[str]) -> tuple[int, ...] | None:
    """Where in `names` each axis stands."""
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(axes):
        return None
    return tuple(names.index(a) for a in axes)


def _sorted(values: Sequence[Any] | None, order: tuple[int, ...]) -> Any:
    return None if values is None else tuple(values[i] for i in order)
