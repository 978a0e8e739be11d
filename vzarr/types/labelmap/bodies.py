"""Bodies in Python: the labels of a volume as an array, and one body as runs, mask, points or mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from vzarr.errors import UnsupportedError
from vzarr.geometry import Box, Coord
from vzarr.types import voxels
from vzarr.types.labelmap import nanovdb, reads, volumes
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.relabel import contains, relabel
from vzarr.types.labelmap.rows import Header, Labels, unpack_blocks
from vzarr.types.labelmap.runs import Mask, Runs, runs_to_mask
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.types.labelmap.view import LabelView


@dataclass(frozen=True)
class BodyArray:
    """The bodies of a labelmap as an array: supervoxels are read and mapped when it is indexed.

    Lazy and read-only.  ``dask.array.from_array(bodies)`` gives the same in pieces; xarray opens it with
    ``xr.open_dataset(repo, engine="vzarr", bodies=True)``.

    Parameters
    ----------
    view
        The labelmap at a version.
    scale
        Of the pyramid, 0 the finest.
    """

    view: LabelView
    scale: int = 0

    @cached_property
    def supervoxels(self) -> zarr.Array[Any]:
        """The Zarr array beneath, which has the same shape and origin."""
        return self.view.array(self.scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along z, y, x."""
        return self.supervoxels.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Edges of the stored chunks, zyx."""
        return self.supervoxels.chunks

    @property
    def dtype(self) -> np.dtype[np.uint64]:
        """Always uint64."""
        return np.dtype(np.uint64)

    @property
    def ndim(self) -> int:
        """Always 3."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Voxels in all."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def origin(self) -> Coord:
        """Global coordinates (zyx, voxels of `scale`) of the first voxel."""
        bounds = self.view.version.bounds(voxels.array_path(self.view.folder, self.scale))
        return bounds[0] if bounds else (0, 0, 0)

    def __getitem__(self, key: Any) -> Labels:
        """Bodies at any key that the Zarr array takes."""
        return relabel(np.asarray(self.supervoxels[key], np.uint64), self.view.lookup)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The whole array in memory."""
        return self[...].astype(dtype or self.dtype, copy=False)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What tells this array from others: an open version's changes with each edit."""
        version = self.view.version
        mark = None if version.sealed else np.random.default_rng().bytes(16)
        return type(self).__name__, version.url, version.uuid, self.view.info.data_uuid, self.scale, mark


class BodyMask(NamedTuple):
    """Voxels of a body: global coordinates (zyx) of the mask's first voxel, and the mask."""

    lo: Coord
    voxels: Mask


@dataclass(frozen=True)
class Body:
    """One body as it was when it was looked up; its voxels are read when they are asked for.

    Parameters
    ----------
    view
        The labelmap at its version.
    index
        What the index says of the body.
    """

    view: LabelView
    index: LabelIndex

    @property
    def id(self) -> int:
        """Its label."""
        return self.index.label

    @property
    def size(self) -> int:
        """Voxels of scale 0."""
        return self.index.header.voxels

    @property
    def supervoxels(self) -> Labels:
        """Its supervoxels, ascending."""
        return self.index.supervoxels

    @property
    def last_change(self) -> Header:
        """Who changed it last, when, by which mutation."""
        return self.index.header

    @property
    def blocks(self) -> NDArray[np.int64]:
        """Coordinates (zyx) of the blocks that hold some of it, shape (n, 3)."""
        return unpack_blocks(self.index.blocks[0])

    @cached_property
    def box(self) -> Box:
        """The smallest box (zyx, voxels of scale 0, upper corner exclusive) that holds it.

        Only its outermost blocks are read.
        """
        blocks = self.blocks
        outer = np.any((blocks == blocks.min(0)) | (blocks == blocks.max(0)), axis=1)
        found = reads.read_blocks(self.view, map(tuple, blocks[outer].tolist()))
        corners = [_corners(coord, contains(block, self.supervoxels)) for coord, block in found]
        lo = np.min([low for low, _ in corners], axis=0)
        hi = np.max([high for _, high in corners], axis=0)
        return tuple(lo.tolist()), tuple(hi.tolist())

    def runs(self, scale: int = 0) -> Runs:
        """Its voxels as runs along x.

        Returns
        -------
        ndarray
            int32, shape (n, 4): x, y, z, length, sorted by z, y, x; as DVID writes them.
        """
        return volumes.SparseVolume(self.view, self.index, scale).runs()

    def mask(self, scale: int = 0) -> BodyMask:
        """Its voxels as a mask of the smallest box that holds them; an empty one where a scale has none of it."""
        runs = self.runs(scale)
        if not len(runs):
            return BodyMask((0, 0, 0), np.zeros((0, 0, 0), np.bool_))
        first, last = runs[:, 2::-1].min(0), (runs[:, :3] + [1, 1, 1])[:, ::-1].max(0)
        last[2] = int((runs[:, 0].astype(np.int64) + runs[:, 3]).max())
        lo, hi = tuple(first.tolist()), tuple(last.tolist())
        return BodyMask(lo, runs_to_mask(runs, (lo, hi)))

    def points(self, scale: int = 0) -> NDArray[np.int64]:
        """Its voxels as coordinates.

        Returns
        -------
        ndarray
            int64, shape (n, 3), zyx, sorted.
        """
        x, y, z, length = self.runs(scale).T.astype(np.int64)
        which = np.repeat(np.arange(len(x)), length)
        along = np.arange(which.size) - np.repeat(np.cumsum(length) - length, length)
        return np.stack([z[which], y[which], x[which] + along], 1)

    def nanovdb(self, scale: int = 0, *, name: str = "") -> bytes:
        """Its voxels as a NanoVDB file of one ``OnIndex`` grid, for ray tracers; see `nanovdb.encode`.

        Parameters
        ----------
        name
            Of the grid; by default the instance and the label.

        Raises
        ------
        InvalidInputError
            If no grid can be called so.
        """
        return nanovdb.encode_volume(volumes.SparseVolume(self.view, self.index, scale), name)

    def mesh(self, scale: int = 0, *, reduction: int = 0, max_error: float | None = None) -> Any:
        """Its surface as a triangle mesh, in the unit of the voxel size; needs the extra ``mesh`` (zmesh).

        Parameters
        ----------
        reduction
            How many times fewer triangles are wanted; 0 keeps all.
        max_error
            The most that simplification may move the surface, in the same unit.

        Returns
        -------
        zmesh.Mesh
            ``vertices`` (n, 3) in z, y, x and ``faces`` (m, 3).

        Raises
        ------
        UnsupportedError
            If zmesh is not installed.
        """
        try:
            import zmesh
        except ImportError as error:
            raise UnsupportedError('meshes need zmesh: install "vzarr[mesh]"') from error
        lo, mask = self.mask(scale)
        edges = np.array(VoxelGeometry.of(self.view.config).voxel_zyx) * (1 << scale)
        mesher = zmesh.Mesher(tuple(edges.tolist()))
        # A margin of background closes the surface where the body fills its box.
        mesher.mesh(np.pad(mask, 1).astype(np.uint8))
        found = mesher.get(1, normals=False, reduction_factor=reduction, max_error=max_error, voxel_centered=True)
        # In float32 a micrometre away from the origin would be as coarse as a voxel.
        found.vertices = found.vertices.astype(np.float64) + (np.array(lo) - 1) * edges
        return found


def _corners(coord: Sequence[int], mask: Mask) -> tuple[list[int], list[int]]:
    """First voxel and end of what a mask of a block holds, per axis."""
    lo, hi = [], []
    for axis, (at, edge) in enumerate(zip(coord, mask.shape, strict=True)):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        lo.append(at * edge + int(hit[0]))
        hi.append(at * edge + int(hit[-1]) + 1)
    return lo, hi
