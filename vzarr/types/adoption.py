"""Adopting a volume as an instance: which datatype it is, its settings, and the index that a labelmap needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vzarr.errors import AlreadyExistsError, InvalidInputError, UnsupportedError
from vzarr.geometry import reverse
from vzarr.overlay.adopt import adopt_volume
from vzarr.overlay.chunks.codec import codec_of
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.sources import formats
from vzarr.overlay.sources.base import Volume
from vzarr.overlay.sources.pyramid import sized
from vzarr.types import registry, settings, voxels

if TYPE_CHECKING:
    from vzarr.overlay.version import Version
    from vzarr.types.base import Instance

PLAIN = "zarr"
"""In place of a datatype: arrays alone, without an instance."""
_PLAINLY = f"adopt it as type {PLAIN!r} (--type {PLAIN}), which makes its arrays part of the repo without a datatype"
LABELMAP = "labelmap"
_AXES = 3
_VOXEL = 8.0
"""Size in nanometers of a voxel of a source that does not say it: DVID's own default."""
_NOBODY = ArrayId("", "")
_UNITS = {"nanometer": "nanometers", "micrometer": "micrometers", "millimeter": "millimeters", "angstrom": "angstroms"}


def adopt(
    version: Version, name: str, url: str | os.PathLike[str], *, pin: bool | str = False,
    typename: str | None = None, user: str = "", app: str = "",
) -> Instance | None:  # fmt: skip
    """Make an existing volume an instance of an open root, in place: nothing is copied.

    Parameters
    ----------
    version, name
        The root, open, and the name of the instance.
    url
        A Zarr array or OME-Zarr group, an N5 dataset or a precomputed layer (see `formats.open_volume`).
    pin
        Record what each object of the source is now (see `adopt_volume`); True means ``"stamp"``.
    typename
        A datatype, or ``"zarr"`` for arrays of any dtype alone (the result is None); by default a labelmap for a
        segmentation or 64-bit unsigned voxels, else the ``DTYPEblk`` that is registered: so far ``uint8blk``.
    user, app
        Who does it, through which application.

    Raises
    ------
    InvalidInputError
        If the source does not suit the datatype, or the version is no open root.  Nothing is left behind.
    AlreadyExistsError
        If the name is taken.
    UnsupportedError
        If no datatype suits the voxels, and none was named.
    NotFoundError
        If nothing is at the URL, or the datatype is unknown.
    StorageError
        If the source cannot be read; adopting it again finishes what was begun.

    Notes
    -----
    A labelmap's voxels are read once, to count labels; of a pyramid it takes the scales that halve, one after the
    other, on one chunk shape, since only those can follow edits.
    """
    settings.check_name(name)
    volume = formats.open_volume(url)
    entries = [ArrayEntry(a.docs, _NOBODY, a.origin) for a in map(formats.shown, volume.scales)]
    typename = typename or _typename(volume, entries[0])
    if typename == LABELMAP:
        volume = _halving(volume, entries)
    volume = volume if typename == PLAIN else _with_sizes(volume)
    config = {} if typename == PLAIN else _config(volume, entries, typename)
    _check_free(version, name, typename)
    adopt_volume(version, name, volume, pin="stamp" if pin is True else pin or "")
    return None if typename == PLAIN else _instance(version, name, typename, config, user, app)


def _with_sizes(volume: Volume) -> Volume:
    """A pyramid that says no voxel sizes, with those that its instance will state."""
    if volume.voxel_sizes:
        return volume
    return replace(sized(volume, _VOXEL), units=("nanometer",) * len(volume.axes))


def _check_free(version: Version, name: str, typename: str) -> None:
    """Refuse a name that is taken, unless by the same adoption, cut off before its end."""
    known = version.repo.state.instances.get(name)
    if known is not None and not (known.typename == typename and version.has_array(voxels.array_path(name))):
        raise AlreadyExistsError(f"there is an instance {name!r} already")
    if known is None and any(info.path == name for info in version.repo.state.every_instance()):
        raise AlreadyExistsError(f"the group {name!r} belongs to an instance that was renamed or deleted")


def _typename(volume: Volume, entry: ArrayEntry) -> str:
    """The datatype that suits a source."""
    dtype = codec_of(entry).dtype
    if dtype == np.uint64 and volume.labels is not False:
        return LABELMAP
    image = f"{dtype.name}blk"
    if entry.spec.ndim == _AXES and image in registry.names() and not volume.labels:
        return image
    kind = "segmentation" if volume.labels else "volume"
    raise UnsupportedError(
        f"{volume.url}: no datatype suits a {entry.spec.ndim}-dimensional {kind} of {dtype.name}; {_PLAINLY}"
    )


def _halving(volume: Volume, entries: Sequence[ArrayEntry]) -> Volume:
    """A pyramid's first scales, as long as each is half the one before on the same chunk shape."""
    kept = 1
    while kept < len(entries) and _halves(entries[kept - 1], entries[kept]):
        kept += 1
    sizes, starts, factors = volume.voxel_sizes[:kept], volume.translations[:kept], volume.factors[:kept]
    return replace(volume, scales=volume.scales[:kept], voxel_sizes=sizes, translations=starts, factors=factors)


def _halves(fine: ArrayEntry, coarse: ArrayEntry) -> bool:
    """Whether an array is the next scale of another, as a labelmap computes it."""
    same = fine.spec.chunks == coarse.spec.chunks and codec_of(fine).dtype == codec_of(coarse).dtype
    corners = [c for f, g in zip(fine.window, coarse.window, strict=True) for c in zip(f, g, strict=True)]
    return same and all(b in (a // 2, -(-a // 2)) for a, b in corners)


def _config(volume: Volume, entries: Sequence[ArrayEntry], typename: str) -> dict[str, str]:
    """Settings of the instance as DVID words them, xyz, checked."""
    datatype, first = registry.get(typename), entries[0]
    spec, dtype = first.spec, codec_of(first).dtype
    wanted = np.dtype(np.uint64) if typename == LABELMAP else np.dtype(typename.removesuffix("blk"))
    if dtype != wanted or spec.ndim != _AXES or spec.chunks is None:
        raise InvalidInputError(
            f"{volume.url}: {typename} holds three-dimensional {wanted.name}, this is {spec.ndim}-dimensional "
            f"{dtype.name}; {_PLAINLY}, or ingest a converted copy"
        )
    size = volume.voxel_sizes[0] if volume.voxel_sizes else (_VOXEL,) * _AXES
    words = volume.units if any(volume.units) else ("nanometer",) * _AXES
    config = {
        "blocksize": ",".join(map(str, reverse(spec.chunks))),
        "voxelsize": ",".join(str(float(s)) for s in reversed(size)),
        "voxelunits": ",".join(_UNITS.get(u or "", u or "unknown") for u in reversed(words)),
        **({"maxdownreslevel": str(min(len(entries), len(volume.scales)) - 1)} if typename == LABELMAP else {}),
    }
    try:
        datatype.check(config)
    except InvalidInputError as e:
        chunks = f"its chunks are {spec.chunks} (zyx)"
        raise InvalidInputError(f"{volume.url} cannot be a {typename}: {e}; {chunks}; {_PLAINLY}, or ingest it") from e
    return config


def _instance(version: Version, name: str, typename: str, config: dict[str, str], user: str, app: str) -> Instance:
    """The instance over arrays that were adopted; one that was cut off before its end is finished."""
    if name in version.repo.state.instances:
        handle = registry.open_instance(version, name)
        if voxels.read_extents(handle) is not None:
            raise AlreadyExistsError(f"there is an instance {name!r} already")
    else:
        attributes = version.attributes(name)
        handle = registry.create(version, name, typename, config=config, user=user, app=app)
        if "multiscales" in attributes.get("ome", {}):
            version.create_group(name, attributes)
    handle.datatype.adopted(handle)
    lo, hi = version.bounds(voxels.array_path(handle.folder)) or ((0,) * _AXES, (1,) * _AXES)
    voxels.grow_extents(handle, (lo, hi))
    return handle
