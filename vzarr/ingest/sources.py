"""What can be ingested: image stacks, HDF5, npy and Zarr behind one protocol, read slab by slab."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.ingest.files import HDF5_SPEC, NPY_SPEC, open_hdf5, reading, unpacked
from vzarr.ingest.slices import SUFFIXES, ImageStack, expand

Spec = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Source(Protocol):
    """A volume that can be read plane by plane, in any order, without holding it in memory."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a voxel."""
        ...

    def read(self, z0: int, z1: int) -> NDArray[Any]:
        """Planes `z0` to `z1` (exclusive) as an array (z, y, x)."""
        ...

    def close(self) -> None:
        """Let go of files, and remove what was unpacked."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """Anything with a shape, a dtype and slices: an HDF5 dataset, a memory map, a Zarr array, a numpy array.

    Parameters
    ----------
    name
        What messages call it.
    array
        Three axes (z, y, x).
    resources
        Closed with the source.

    Raises
    ------
    InvalidInputError
        The array has other than three axes.
    """

    name: str
    array: Any
    resources: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        if len(self.array.shape) != 3:
            self.close()
            raise InvalidInputError(f"{self.name}: a volume has 3 axes (z, y, x), this has shape {self.array.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        z, y, x = map(int, self.array.shape)
        return z, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a voxel."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def read(self, z0: int, z1: int) -> NDArray[Any]:
        """Planes `z0` to `z1` (exclusive) as an array (z, y, x)."""
        with reading(f"{self.name}, planes {z0} to {z1 - 1}"):
            return np.array(self.array[z0:z1])

    def close(self) -> None:
        """Close files and remove what was unpacked."""
        self.resources.close()


def open_source(spec: Spec) -> Source:
    """Open a volume by what its name says it is.

    Parameters
    ----------
    spec
        ``file.h5:dataset`` or ``file.h5.gz:dataset``; ``file.npy`` or ``file.npy.gz``; a Zarr array (v2 or v3)
        by path; or image slices: a pattern, a folder, or a list of any of these, put in natural order of their
        paths.

    Raises
    ------
    NotFoundError
        No such file.
    InvalidInputError
        The file is truncated, damaged, or not a volume; slices differ in size or kind of pixel.

    Examples
    --------
    >>> open_source("stack.h5:stack")             # doctest: +SKIP
    >>> open_source("slices/*.png").shape         # doctest: +SKIP
    (250, 250, 250)
    """
    specs = [os.fspath(spec)] if isinstance(spec, str | os.PathLike) else [os.fspath(one) for one in spec]
    if not specs:
        raise InvalidInputError("no source was given")
    if len(specs) == 1 and (opened := _open_array(specs[0])) is not None:
        return opened
    files = expand(specs)
    strange = next((file for file in files if file.suffix.lower() not in SUFFIXES), None)
    if strange is not None:
        kinds = "FILE.h5:DATASET, FILE.npy (each also .gz), a Zarr array, or images " + " ".join(SUFFIXES)
        raise InvalidInputError(f"{strange}: not a volume that can be ingested; one of: {kinds}")
    return ImageStack.open(files)


def _open_array(spec: str) -> Source | None:
    """Open what is one array in one file or folder; None when the name says otherwise."""
    resources = ExitStack()
    try:
        if match := HDF5_SPEC.fullmatch(spec):
            name, dataset = open_hdf5(Path(match["file"]), match["dataset"], resources)
            return ArraySource(name, dataset, resources)
        if NPY_SPEC.fullmatch(spec):
            with reading(spec):
                array = np.load(unpacked(Path(spec), resources), mmap_mode="r", allow_pickle=False)
            return ArraySource(spec, array, resources)
        if "://" in spec or any((Path(spec) / mark).exists() for mark in ("zarr.json", ".zarray", ".zgroup")):
            return ArraySource(spec, _open_zarr(spec))
    except BaseException:
        resources.close()
        raise
    return None


def _open_zarr(spec: str) -> zarr.Array[Any]:
    """Open one Zarr array by path or URL."""
    with reading(spec):
        found = zarr.open(spec, mode="r")
    if isinstance(found, zarr.Array):
        return found
    choice = ", ".join(sorted(f"{spec.rstrip('/')}/{name}" for name, _ in found.arrays())) or "none directly in it"
    raise InvalidInputError(f"{spec}: a group; name one of its arrays: {choice}")
