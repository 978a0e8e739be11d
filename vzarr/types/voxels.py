"""What images and labels share: geometry settings, extents, DVID's JSON about them, and OME-Zarr metadata.

A voxel instance is an OME-Zarr multiscale group ``<name>`` with arrays ``<name>/0``, ``<name>/1``, ..., each
half as fine as the one before.  Names carry ``_xyz`` or ``_zyx`` where both orders meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from numpy.typing import DTypeLike

from vzarr.errors import ConflictError, InvalidInputError
from vzarr.geometry import Box, Coord, align, block_of, reverse, union
from vzarr.types import settings
from vzarr.types.base import Instance

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn

V = TypeVar("V", bound=Instance)

EXTENTS = b"extents"
"""Key of the extents of a voxel instance: JSON with ``MinPoint`` and ``MaxPoint``, xyz, both inclusive."""

_DEFAULT_SIZE_XYZ = (8.0, 8.0, 8.0)
_DEFAULT_UNITS_XYZ = ("nanometers", "nanometers", "nanometers")

# DVID's words for units are free text; OME-NGFF 0.5 asks for UDUNITS-2 names.
_OME_UNITS = {
    "nanometers": "nanometer",
    "nm": "nanometer",
    "microns": "micrometer",
    "micrometers": "micrometer",
    "um": "micrometer",
    "millimeters": "millimeter",
    "mm": "millimeter",
    "angstroms": "angstrom",
    "meters": "meter",
}


def configure(config: Mapping[str, str], *, block: int, multiple: int = 1, scales: bool = False) -> dict[str, str]:
    """Check the geometry settings of a new instance and fill in their defaults.

    Parameters
    ----------
    config
        Settings under lower-case keys: ``blocksize``, ``voxelsize``, ``voxelunits``, ``maxdownreslevel``.
    block
        Default edge of a block in voxels.
    multiple
        What each edge of a block must be a multiple of.
    scales
        Whether the datatype keeps coarser scales.

    Raises
    ------
    InvalidInputError
        If a setting is wrong.
    """
    size = settings.integers(config, "blocksize", (block,) * 3, 1, 1024)
    if any(n % multiple for n in size):
        raise InvalidInputError(f"BlockSize must be multiples of {multiple}, not {config['blocksize']}")
    found = {
        "blocksize": _joined(size),
        "voxelsize": _joined(settings.floats(config, "voxelsize", _DEFAULT_SIZE_XYZ)),
        "voxelunits": _joined(settings.words(config, "voxelunits", _DEFAULT_UNITS_XYZ)),
    }
    if scales:
        found["maxdownreslevel"] = str(settings.integer(config, "maxdownreslevel", 0, 0, 255))
    return {**config, **found}


def _joined(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


@dataclass(frozen=True)
class VoxelGeometry:
    """Geometry settings of a voxel instance, in DVID's order.

    Parameters
    ----------
    block_xyz
        Edges of a block, the unit of storage (a Zarr chunk) and of DVID's wire, in voxels.
    size_xyz, units_xyz
        Edges of a voxel and their units, as many as were given.
    max_scale
        Number of scales beyond the finest.
    """

    block_xyz: Coord
    size_xyz: tuple[float, ...]
    units_xyz: tuple[str, ...]
    max_scale: int = 0

    @classmethod
    def of(cls, config: Mapping[str, str]) -> VoxelGeometry:
        """Geometry that checked settings describe."""
        return _parsed(
            config["blocksize"], config["voxelsize"], config["voxelunits"], config.get("maxdownreslevel", "0")
        )

    @property
    def block_zyx(self) -> Coord:
        """Edges of a block in array order."""
        return reverse(self.block_xyz)

    @property
    def voxel_zyx(self) -> tuple[float, ...]:
        """Edges of a voxel in array order; the last one given counts for axes that were left out."""
        return tuple(reversed(_padded(self.size_xyz)))

    @property
    def ome_units_zyx(self) -> tuple[str | None, ...]:
        """UDUNITS-2 names of the units in array order, None for what DVID's free text does not say."""
        return tuple(_OME_UNITS.get(u.lower()) for u in reversed(_padded(self.units_xyz)))


@lru_cache(1000)
def _parsed(block: str, size: str, units: str, scales: str) -> VoxelGeometry:
    return VoxelGeometry(
        tuple(map(int, block.split(","))), tuple(map(float, size.split(","))), tuple(units.split(",")), int(scales)
    )


def _padded(values: Sequence[Any]) -> tuple[Any, ...]:
    return (*values, *[values[-1]] * (3 - len(values)))


# ---------------------------------------------------------------- arrays and OME-Zarr metadata


def ome_attributes(name: str, geometry: VoxelGeometry) -> dict[str, Any]:
    """Attributes of the group of a voxel instance: OME-NGFF 0.5 ``multiscales``.

    A voxel of scale s covers 2^s voxels of the finest along each axis; its centre lies (2^s - 1) / 2 on.
    """
    axes = [
        {"name": n, "type": "space", **({"unit": u} if u else {})}
        for n, u in zip("zyx", geometry.ome_units_zyx, strict=True)
    ]
    datasets = [
        {"path": str(s), "coordinateTransformations": _transformations(geometry.voxel_zyx, 2**s)}
        for s in range(geometry.max_scale + 1)
    ]
    return {"ome": {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}}


def _transformations(voxel_zyx: Sequence[float], factor: int) -> list[dict[str, Any]]:
    scale = {"type": "scale", "scale": [v * factor for v in voxel_zyx]}
    if factor == 1:
        return [scale]
    return [scale, {"type": "translation", "translation": [v * (factor - 1) / 2 for v in voxel_zyx]}]


def array_path(name: str, scale: int = 0) -> str:
    """Path of the array of one scale of a voxel instance."""
    return f"{name}/{scale}"


def make_arrays(instance: Instance, dtype: DTypeLike, *, codecs: str, fill_value: int = 0) -> None:
    """Make the group of a voxel instance and those of its arrays that its version lacks.

    Instances belong to the repo, their arrays to versions: one that is seen from beside the version where it
    was made has no arrays there until something is written.
    """
    geometry = VoxelGeometry.of(instance.config)
    write_ome(instance)
    for scale in range(geometry.max_scale + 1):
        # Named by the instance, an array that is made on two branches is one array at their merge.
        instance.version.create_array(
            array_path(instance.folder, scale), dtype=dtype, chunks=geometry.block_zyx, codecs=codecs,
            fill_value=fill_value, creator=instance.info.data_uuid,
        )  # fmt: skip


def write_ome(instance: Instance) -> None:
    """Write the OME-Zarr attributes of a voxel instance into its group, which is made when it is absent."""
    version, folder = instance.version, instance.folder
    version.create_group(folder)
    attributes = {**version.attributes(folder), **ome_attributes(instance.name, VoxelGeometry.of(instance.config))}
    version.create_group(folder, attributes)


# ---------------------------------------------------------------- extents


def read_extents(instance: Instance) -> Box | None:
    """Voxel box (zyx, upper corner exclusive) that DVID's extents name, None when nothing was written.

    At a merge whose parents grew apart the extents are derived: the smallest box around those of the parents.
    """
    try:
        stored = instance.keys.get(EXTENTS)
    except ConflictError:
        return _extents_of_parents(instance)
    return _decoded(stored) if stored else None


def _extents_of_parents(instance: Instance) -> Box | None:
    boxes: list[Box | None] = [read_extents(instance.at(parent)) for parent in instance.version.parents]
    return reduce(union, boxes, None)


def set_extents(instance: Instance, box: Box) -> None:
    """Replace the extents (DVID HTTP API, ``POST D/extents``)."""
    instance.transact(lambda tx: tx.put(EXTENTS, _encoded(box)))


def grow_extents(instance: Instance, box: Box) -> None:
    """Widen the extents to the blocks that a written box touches; one look-up when they hold it already."""
    aligned = align(box, VoxelGeometry.of(instance.config).block_zyx)
    known = read_extents(instance)
    if union(known, aligned) != known:
        instance.transact(lambda tx: tx.put(EXTENTS, _encoded(_grown(tx, known, aligned))))


def _grown(tx: InstanceTxn, known: Box | None, box: Box) -> Box:
    """Extents after a write; others may have grown them since `known` was read."""
    try:
        stored = tx.get(EXTENTS)
    except ConflictError:
        stored = None
    return union(union(known, _decoded(stored) if stored else None), box) or box


def extents_from_json(value: Any) -> Box:
    """Box that ``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}`` names, both inclusive.

    Raises
    ------
    InvalidInputError
        If a corner is missing or is not three integers, or the corners are in the wrong order.
    """
    points: list[Any] = [value.get(k) if isinstance(value, dict) else None for k in ("MinPoint", "MaxPoint")]
    for p in points:
        if not (isinstance(p, list) and len(p) == 3 and all(type(c) is int for c in p)):
            raise InvalidInputError('extents are {"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}, all integers')
    lo, hi = reverse(points[0]), tuple(c + 1 for c in reverse(points[1]))
    if any(a >= b for a, b in zip(lo, hi, strict=True)):
        raise InvalidInputError("MinPoint of the extents lies behind MaxPoint")
    return lo, hi


def extents_json(box: Box | None) -> dict[str, list[int] | None]:
    """``MinPoint`` and ``MaxPoint`` (xyz, inclusive), both None without extents."""
    if box is None:
        return {"MinPoint": None, "MaxPoint": None}
    return {"MinPoint": list(reverse(box[0])), "MaxPoint": [c - 1 for c in reverse(box[1])]}


def _encoded(box: Box) -> bytes:
    return orjson.dumps(extents_json(box))


def _decoded(stored: bytes) -> Box:
    return extents_from_json(orjson.loads(stored))


# ---------------------------------------------------------------- DVID's JSON


def extended_json(instance: Instance, values: Sequence[Mapping[str, str]], interpolable: bool) -> dict[str, Any]:
    """The part ``Extended`` of the JSON about a voxel instance (DVID HTTP API, ``GET D/info``).

    Parameters
    ----------
    values
        Channels, as ``DataType`` and ``Label``.
    interpolable
        Whether averages of neighbours mean anything.
    """
    geometry = VoxelGeometry.of(instance.config)
    corners = extents_json(read_extents(instance))
    return {
        "Values": [dict(v) for v in values],
        "Interpolable": interpolable,
        "BlockSize": list(geometry.block_xyz),
        "VoxelSize": [_short(s) for s in geometry.size_xyz],
        "VoxelUnits": list(geometry.units_xyz),
        **corners,
        "MinIndex": _block_index(corners["MinPoint"], geometry),
        "MaxIndex": _block_index(corners["MaxPoint"], geometry),
        "Background": int(instance.config.get("background", "0")),
        "GridStore": instance.config.get("gridstore", ""),
        "ScaleLevel": int(instance.config.get("scalelevel", "0")),
    }


def _block_index(point_xyz: list[int] | None, geometry: VoxelGeometry) -> list[int] | None:
    return None if point_xyz is None else list(block_of(point_xyz, geometry.block_xyz))


def _short(number: float) -> float:
    return int(number) if number.is_integer() else number


def info_json(instance: Instance, extended: Mapping[str, Any]) -> dict[str, Any]:
    """DVID's JSON about a voxel instance: base, properties and the extents at its version."""
    corners = {key: extended[key] for key in ("MinPoint", "MaxPoint")}
    return {"Base": instance.base_json(), "Extended": dict(extended), "Extents": corners}


def metadata_json(extended: Mapping[str, Any]) -> dict[str, Any]:
    """DVID's n-dimensional metadata (DVID HTTP API, ``GET D/metadata``)."""
    low = extended["MinPoint"] or [0, 0, 0]
    high = extended["MaxPoint"] or [-1, -1, -1]
    resolution, units = _padded(extended["VoxelSize"]), _padded(extended["VoxelUnits"])
    axes = [
        {"Label": label, "Resolution": r, "Units": u, "Size": b - a + 1, "Offset": a}
        for label, r, u, a, b in zip("XYZ", resolution, units, low, high, strict=True)
    ]
    return {"Axes": axes, "Properties": dict(extended)}


def resized(instance: V, value: Any) -> V:
    """Change the size of a voxel in every version (DVID HTTP API, ``POST D/resolution`` with a JSON list, xyz).

    Raises
    ------
    InvalidInputError
        If it is no list of one to three positive numbers.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= 3:
        raise InvalidInputError("resolution is a JSON list of numbers, one for each of x, y, z")
    size = [settings.positive(v, "resolution") for v in value if not isinstance(v, str | bool)]
    if len(size) != len(value):
        raise InvalidInputError("resolution is a JSON list of numbers, not of strings")
    changed = instance.updated(config={**instance.config, "voxelsize": _joined(size)})
    if not instance.version.sealed:
        write_ome(changed)
    return changed
