"""From a source to an instance: voxels, pyramid and label index in one pass of bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import AlreadyExistsError, InvalidInputError, SealedError
from vzarr.geometry import Coord, reverse
from vzarr.ingest.counts import BlockCounts
from vzarr.ingest.mapping import read_mapping
from vzarr.ingest.pyramid import Cascade, Halve, scales_of
from vzarr.ingest.sources import Source, Spec, open_source
from vzarr.types import registry, voxels
from vzarr.types.base import Instance
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.kernels import downsample_gray, downsample_labels

if TYPE_CHECKING:
    from vzarr.overlay.version import Version

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""

UNITS = {
    **dict.fromkeys(("nm", "nanometer", "nanometers"), "nanometers"),
    **dict.fromkeys(("um", "µm", "micron", "microns", "micrometer", "micrometers"), "micrometers"),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), "millimeters"),
    **dict.fromkeys(("angstrom", "angstroms"), "angstroms"),
}
"""What a person may call a unit -> DVID's word for it."""


@dataclass(frozen=True)
class Kind:
    """How the voxels of a datatype are taken in.

    Parameters
    ----------
    dtype
        What is stored.
    widens
        Whether smaller and signed integers are converted; else the dtype must be the stored one.
    halve
        Makes the next scale out of one with even sides.
    pad
        How `numpy.pad` fills an odd side before it is halved.
    least_scale
        Coarsest scale of the smallest volume.
    """

    dtype: np.dtype[Any]
    widens: bool
    halve: Halve
    pad: str
    least_scale: int = 0

    def check(self, source: Source, typename: str) -> None:
        """Refuse a source whose voxels the datatype cannot hold."""
        fits = source.dtype.kind in "iu" if self.widens else source.dtype.newbyteorder("=") == self.dtype
        if not fits:
            wanted = "integers" if self.widens else str(self.dtype)
            raise InvalidInputError(f"{source.name}: {typename} holds {wanted}, this source has {source.dtype}")

    def convert(self, slab: NDArray[Any], name: str) -> NDArray[Any]:
        """Voxels as they are stored."""
        if slab.dtype.kind == "i" and slab.size and (lowest := slab.min()) < 0:
            raise InvalidInputError(f"{name}: {lowest} is negative, so it is no label")
        return np.ascontiguousarray(slab, self.dtype)

    def half(self, slab: NDArray[Any]) -> NDArray[Any]:
        """The next scale of a slab; odd sides count as one voxel more."""
        odd = [(0, side % 2) for side in slab.shape]
        return self.halve(np.pad(slab, odd, mode=self.pad) if any(more for _, more in odd) else slab)  # type: ignore[call-overload]


# A border voxel repeated leaves the mean of a gray border alone; 0 has no vote among labels.
KINDS = {
    "uint8blk": Kind(np.dtype(np.uint8), False, downsample_gray, "edge"),
    # neuroglancer's dvid:// leaves out a labelmap that has a single scale.
    "labelmap": Kind(np.dtype(np.uint64), True, downsample_labels, "constant", least_scale=1),
}


def ingest(
    version: Version, name: str, source: Spec | Source, *, typename: str = "uint8blk",
    voxel_size: float | Sequence[float] = 8.0, unit: str = "nanometer", mapping: Any = None,
    blocks: Sequence[int] = (64, 64, 64), max_scale: int | None = None,
    progress: Progress | None = None, user: str = "",
) -> Instance:  # fmt: skip
    """Bring a volume into an open version as a new instance with all its scales, in bounded memory.

    Parameters
    ----------
    version, name
        Where, and what to call it.
    source
        What `open_source` takes, or a source that is open; its first voxel becomes (0, 0, 0).
    typename
        ``uint8blk`` or ``labelmap``.
    voxel_size, unit
        Edge of a voxel: one number, or (z, y, x); in ``nm``, ``um`` and so on.
    mapping
        Labelmaps only: supervoxel -> body, as `read_mapping` takes it.
    blocks
        Voxels of a chunk (z, y, x); even.
    max_scale
        Coarsest scale; by default the first at which the volume fits one chunk, and at least 1 for a labelmap.
    progress
        Told after each slab, which is one layer of chunks.
    user
        Who does it, for the log.

    Raises
    ------
    InvalidInputError
        The source, its dtype, a label, the mapping or a setting is unfit; nothing is left behind.
    NotFoundError
        No such file.
    AlreadyExistsError
        The name is taken, by an instance or by another Zarr node of this version.
    SealedError
        The version is sealed.
    """
    _check_target(version, name)
    table = _table(mapping, typename)
    with closing(_opened(source)) as volume:
        kind = _kind(typename, volume)
        scales = max(scales_of(volume.shape, blocks), kind.least_scale) if max_scale is None else max_scale
        config = _config(voxel_size, unit, blocks, scales)
        handle = registry.create(version, name, typename, config=config, user=user)
        with _discarded_on_error(handle):
            _fill(handle, volume, kind, (tuple(blocks), scales), table, progress or _quiet)
    return handle


def _check_target(version: Version, name: str) -> None:
    """Refuse before anything is read what could not be written."""
    if version.sealed:
        raise SealedError(f"version {version.uuid} is sealed; ingest into an open version, such as a new child")
    if name in version.repo.state.instances:
        raise AlreadyExistsError(f"there is an instance {name!r} already")
    if name in version.zarr:
        raise AlreadyExistsError(f"version {version.uuid} has a Zarr node {name!r} already")


def _table(mapping: Any, typename: str) -> NDArray[np.uint64] | None:
    """The mapping, read and checked."""
    if mapping is None:
        return None
    if typename != "labelmap":
        raise InvalidInputError(f"a mapping belongs to a labelmap, not to {typename}")
    return read_mapping(mapping)


def _kind(typename: str, source: Source) -> Kind:
    """How a datatype takes in the voxels of a source."""
    if typename not in KINDS:
        raise InvalidInputError(f"cannot ingest into {typename!r}; into: {', '.join(KINDS)}")
    KINDS[typename].check(source, typename)
    if not all(source.shape):
        raise InvalidInputError(f"{source.name}: empty, its shape is {source.shape}")
    return KINDS[typename]


def _opened(source: Spec | Source) -> Source:
    """The source, opened unless it is."""
    return open_source(source) if isinstance(source, str | os.PathLike | Sequence) else source


def _config(voxel_size: float | Sequence[float], unit: str, blocks: Sequence[int], scales: int) -> dict[str, str]:
    """Settings of the instance as DVID words them, xyz."""
    size_zyx = (voxel_size,) * 3 if isinstance(voxel_size, int | float) else tuple(voxel_size)
    if len(size_zyx) != 3 or not all(0 < edge < float("inf") for edge in size_zyx):
        raise InvalidInputError(f"a voxel size is one positive number or three (z, y, x), not {voxel_size}")
    if len(blocks) != 3 or any(side < 2 or side % 2 for side in blocks):
        raise InvalidInputError(f"a block has three even sides (z, y, x), not {tuple(blocks)}")
    if scales < 0:
        raise InvalidInputError(f"the coarsest scale is 0 or above, not {scales}")
    word = UNITS.get(unit.lower())
    if word is None:
        raise InvalidInputError(f"unknown unit {unit!r}; known: {', '.join(UNITS)}")
    return {
        "blocksize": ",".join(map(str, reverse(blocks))),
        "voxelsize": ",".join(str(float(edge)) for edge in reversed(size_zyx)),
        "voxelunits": ",".join([word] * 3),
        "maxdownreslevel": str(scales),
    }


def _fill(
    handle: Instance,
    source: Source,
    kind: Kind,
    layout: tuple[Coord, int],
    table: NDArray[np.uint64] | None,
    progress: Progress,
) -> None:
    """Write voxels and scales, then the index.

    Parameters
    ----------
    layout
        Voxels of a block, and the coarsest scale.
    """
    blocks, scales = layout
    counts = BlockCounts(blocks)
    cascade = Cascade(blocks[0], scales, kind.half, partial(_write, handle))
    planes = source.shape[0]
    for start, slab in _slabs(source, blocks[0]):
        voxels_ = kind.convert(slab, source.name)
        if isinstance(handle, LabelMap):
            counts.add(start, voxels_)
        cascade.push(voxels_)
        progress(f"{handle.name} planes", start + len(voxels_), planes)
    cascade.finish()
    if isinstance(handle, LabelMap):
        progress(f"{handle.name} index", 0, 1)
        handle.build_index(*counts.arrays(), mapping=table)
        progress(f"{handle.name} index", 1, 1)
    voxels.grow_extents(handle, ((0, 0, 0), source.shape))


def _write(handle: Instance, scale: int, z0: int, slab: NDArray[Any]) -> None:
    """Write one slab of one scale."""
    handle.version.write(voxels.array_path(handle.folder, scale), (z0, 0, 0), slab)


def _slabs(source: Source, depth: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """First plane and voxels of each slab; the next is read while one is worked on."""
    starts = range(0, source.shape[0], depth)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(source.read, 0, min(depth, source.shape[0]))
        for start in starts:
            slab = waiting.result()
            following = start + depth
            if following < source.shape[0]:
                waiting = pool.submit(source.read, following, min(following + depth, source.shape[0]))
            yield start, slab


@contextmanager
def _discarded_on_error(handle: Instance) -> Iterator[None]:
    """Remove an instance that could not be filled."""
    try:
        yield
    except BaseException:
        version, folder = handle.version, handle.folder
        if folder in version.zarr:
            del version.zarr[folder]
        version.repo.remove_instance(handle.name)
        raise


def _quiet(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
