"""The handle on an image instance: regions, rows of blocks, streams of blocks, extents and resolution."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vzarr import geometry
from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, Coord
from vzarr.types import blockstreams, settings, viewing, voxels
from vzarr.types.base import Datatype, Instance, no_key_names
from vzarr.types.imageblk import blocks, oblique
from vzarr.types.imageblk.oblique import Plane
from vzarr.types.roi import Within
from vzarr.types.voxels import VoxelGeometry

_POSITION_BYTES = 3 * 8
_ENDLESS = 1e18
_SUMMARY = "Images of {0} voxels in blocks: subvolumes, slices in every plane, rows and lists of blocks."


@dataclass(frozen=True)
class Voxel:
    """What one voxel holds.

    Parameters
    ----------
    dtype
        Numpy's name of the number that is stored.
    channels
        Names of the channels when a voxel is several numbers of 8 bits; empty when it is one number.
    """

    dtype: str
    channels: tuple[str, ...] = ()

    def values_json(self) -> list[dict[str, str]]:
        """DVID's list of channels."""
        name = np.dtype(self.dtype).name
        return [{"DataType": "uint8", "Label": c} for c in self.channels] or [{"DataType": name, "Label": name}]


def datatype(name: str, voxel: Voxel, source: str, version: str) -> Datatype:
    """One member of the family.

    Parameters
    ----------
    source, version
        Last part of the type's URL and its version, as DVID shows them.
    """
    return Datatype(
        name=name,
        handle=partial(ImageBlk, voxel=voxel),
        summary=_SUMMARY.format(np.dtype(voxel.dtype).name),
        url=f"github.com/janelia-flyem/dvid/datatype/imageblk/{source}",
        type_version=version,
        configure=_configure,
        prepare=ImageBlk.make_arrays,
        key_name=no_key_names,
    )


def _configure(config: Mapping[str, str]) -> dict[str, str]:
    background = settings.integer(config, "background", 0, 0, 255)
    return {**voxels.configure(config, block=32), "background": str(background)}


@dataclass(frozen=True, repr=False)
class ImageBlk(Instance):
    """An image instance at a version; boxes and blocks are zyx, in signed global coordinates.

    Parameters
    ----------
    voxel
        What one voxel holds.
    """

    voxel: Voxel

    @property
    def path(self) -> str:
        """Path of the finest array."""
        return voxels.array_path(self.folder)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel, little-endian."""
        return np.dtype(self.voxel.dtype).newbyteorder("<")

    @property
    def background(self) -> int:
        """What blocks hold that nobody wrote."""
        return int(self.config["background"])

    @property
    def geometry(self) -> VoxelGeometry:
        """Blocks and size of voxels."""
        return VoxelGeometry.of(self.config)

    @property
    def block_zyx(self) -> Coord:
        """Edges of a block."""
        return self.geometry.block_zyx

    def make_arrays(self) -> None:
        """Make the group and the arrays that this version lacks."""
        voxels.make_arrays(self, self.dtype, codecs="image", fill_value=self.background)

    # ------------------------------------------------------------ regions

    def read(
        self,
        lo: Sequence[int],
        hi: Sequence[int],
        *,
        unwritten: int | None = None,
        within: Within | None = None,
        lent: bool = False,
    ) -> NDArray[Any]:
        """Voxels of any box.

        Parameters
        ----------
        lo, hi
            Corners of the box, the upper one exclusive.
        unwritten
            What to give for voxels of blocks that nobody wrote; the background by default.
        within
            The ROI outside of which voxels are attenuated.
        lent
            Whether the result may be what is kept in memory, and read-only.

        Returns
        -------
        ndarray
            Shape hi - lo.
        """
        found = self._read((tuple(lo), tuple(hi)), unwritten, lent=lent)
        return found if within is None else within.apply(found, lo, self.block_zyx)

    def _read(self, box: Box, unwritten: int | None, *, lent: bool) -> NDArray[Any]:
        missing = self.background if unwritten is None else unwritten
        if not self.version.has_array(self.path):
            return np.full(geometry.shape_of(box), missing, self.dtype)
        found = viewing.read_box(self.version, self.path, box, lent=lent)
        if missing == self.background:
            return found
        marked = np.full_like(found, missing)
        for block in self.written_blocks(*geometry.blocks_of_box(box, self.block_zyx)):
            part = geometry.intersect(box, geometry.box_of_block(block, self.block_zyx))
            at = geometry.slices(part, box[0])
            marked[at] = found[at]
        return marked

    def read_isotropic(self, lo: Sequence[int], shape: Sequence[int], *, within: Within | None = None) -> NDArray[Any]:
        """Voxels resampled (nearest neighbour) to cubes as fine as the finest edge of a voxel.

        Parameters
        ----------
        lo
            First voxel, in voxels of the instance.
        shape
            Wanted extent, in cubes.
        within
            The ROI outside of which voxels are attenuated.
        """
        edges = self.geometry.voxel_zyx
        finest = min(edges)
        steps = [(np.arange(n) * (finest / edge)).astype(np.int64) for n, edge in zip(shape, edges, strict=True)]
        hi = [a + int(s[-1]) + 1 for a, s in zip(lo, steps, strict=True)]
        return self.read(lo, hi, unwritten=0, within=within)[np.ix_(*steps)]

    def read_plane(self, plane: Plane) -> NDArray[Any]:
        """A slice in any direction, interpolated between voxels.

        Returns
        -------
        ndarray
            Shape ``plane.shape``.
        """
        points = plane.points(self.geometry.voxel_zyx)
        lo, hi = oblique.bounds(points)
        return oblique.trilinear(self.read(lo, hi, unwritten=0), lo, points)

    def plane_bytes(self, plane: Plane) -> int:
        """Memory that `read_plane` needs at least: the box around the slice and the positions of pixels."""
        edges = [float(np.ptp(c)) / e for c, e in zip(plane.corners().T, self.geometry.voxel_zyx, strict=True)]
        box = int(min(math.prod(n + 2 for n in edges), _ENDLESS)) * self.dtype.itemsize
        return box + plane.shape[0] * plane.shape[1] * _POSITION_BYTES

    def write(self, lo: Sequence[int], array: NDArray[Any], *, within: Within | None = None) -> None:
        """Write whole blocks, and let the extents grow to hold them.

        Parameters
        ----------
        lo
            First voxel; a multiple of the block size.
        array
            Voxels, shape (z, y, x); each extent a multiple of the block size.
        within
            The ROI to whose blocks the write is restricted.

        Raises
        ------
        InvalidInputError
            If the box is not made of whole blocks.
        SealedError
            If the version is not open.
        """
        box = (tuple(lo), tuple(a + n for a, n in zip(lo, array.shape, strict=True)))
        self.check_aligned(box)
        with self.version.writing():
            if within is None:
                self._write(box[0], array)
                voxels.grow_extents(self, box)
            else:
                self._write_within(box, array, within)

    def write_bytes(self, box: Box, body: bytes | memoryview, *, within: Within | None = None) -> None:
        """`write` the voxels of a box from their bytes (DVID HTTP API, ``POST D/raw``).

        Raises
        ------
        InvalidInputError
            If the bytes are not exactly those of the box, or the box is not made of whole blocks.
        """
        self.check_aligned(box)
        shape = geometry.shape_of(box)
        expected = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        if len(body) != expected:
            raise InvalidInputError(f"expected {expected} bytes for {_xyz(shape)} voxels, got {len(body)}")
        self.write(box[0], np.frombuffer(body, self.dtype).reshape(shape), within=within)

    def check_aligned(self, box: Box) -> None:
        """Refuse a box that is not made of whole blocks.

        Raises
        ------
        InvalidInputError
            If it is not.
        """
        if not geometry.is_aligned(box, self.block_zyx):
            last = tuple(c - 1 for c in box[1])
            raise InvalidInputError(
                f"cannot store voxels in non-block aligned geometry {_xyz(box[0])} -> {_xyz(last)} "
                f"with blocks of {_xyz(self.block_zyx)}"
            )

    def _write(self, lo: Coord, array: NDArray[Any]) -> None:
        self._ensure_arrays()
        self.version.write(self.path, lo, array)

    def _ensure_arrays(self) -> None:
        if not self.version.has_array(self.path):
            self.make_arrays()

    def _write_within(self, box: Box, array: NDArray[Any], within: Within) -> None:
        """Write those blocks of a volume that a ROI holds."""
        places = {c: geometry.box_of_block(c, self.block_zyx) for c in within.blocks(box, self.block_zyx)}
        none: Box | None = None
        around = reduce(geometry.union, places.values(), none)
        if around is not None:
            self._ensure_arrays()
            cut = {c: np.ascontiguousarray(array[geometry.slices(p, box[0])]) for c, p in places.items()}
            self.version.write_chunks(self.path, cut)
            voxels.grow_extents(self, around)

    # ------------------------------------------------------------ blocks

    def read_row(self, first: Coord, count: int) -> NDArray[Any]:
        """Blocks from `first` on along x; background where nobody wrote.

        Returns
        -------
        ndarray
            Shape (count, bz, by, bx).
        """
        return blocks.split_row(self.read(*self._row_box(first, count)), count)

    def write_row(self, first: Coord, count: int, body: bytes | memoryview) -> None:
        """Write blocks from `first` on along x; extents stay as they are, as DVID leaves them.

        Parameters
        ----------
        body
            The blocks one after the other, each in (z, y, x) order.

        Raises
        ------
        InvalidInputError
            If the body is not as long as the blocks are.
        SealedError
            If the version is not open.
        """
        shape = (count, *self.block_zyx)
        expected = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        if len(body) != expected:
            short = "block data ceased before all block data read: " if len(body) < expected else ""
            raise InvalidInputError(f"{short}{count} blocks are {expected} bytes, got {len(body)}")
        row = blocks.join_row(np.frombuffer(body, self.dtype).reshape(shape))
        self._write(self._row_box(first, count)[0], row)

    def _row_box(self, first: Coord, count: int) -> Box:
        lo, hi = geometry.box_of_block(first, self.block_zyx)
        return lo, (*hi[:2], hi[2] + (count - 1) * self.block_zyx[2])

    def written_blocks(self, lo: Sequence[int] | None = None, hi: Sequence[int] | None = None) -> list[Coord]:
        """Coordinates of the blocks that were written, in a box of block coordinates or everywhere."""
        if not self.version.has_array(self.path):
            return []
        return [tuple(map(int, c)) for c in self.version.chunk_coords(self.path, lo, hi)]

    def box_blocks(self, box: Box) -> list[Coord]:
        """Coordinates of the written blocks of a block-aligned voxel box.

        Raises
        ------
        InvalidInputError
            If the box is not made of whole blocks.
        """
        self.check_aligned(box)
        return self.written_blocks(*geometry.blocks_of_box(box, self.block_zyx))

    def block_stream(self, coords: Iterable[Coord], compression: str = "") -> Iterator[bytes]:
        """DVID's block stream of those of the named blocks that were written.

        Parameters
        ----------
        compression
            "" for the form that the instance's compression names, ``uncompressed``, or ``jpeg``.

        Raises
        ------
        InvalidInputError
            If the instance has no such form; raised before the first block is read.
        """
        form = blocks.wire_form(compression, self.config["compression"])
        found = self._payloads(list(coords), form)
        return blockstreams.stream(((x, y, z), block) for (z, y, x), block in found)

    def _payloads(self, coords: list[Coord], form: str) -> Iterator[tuple[Coord, bytes]]:
        if coords and self.version.has_array(self.path):
            for coord, block in self.version.read_chunks(self.path, coords):
                if block is not None:
                    yield coord, blocks.encode(block, form)

    def chunk_key(self, block: Coord) -> str:
        """Key of the chunk that holds a block, in the Zarr hierarchy of the version that owns it."""
        return "/".join([self.path, "c", *map(str, block)])

    # ------------------------------------------------------------ properties

    def compression_text(self) -> str:
        """DVID's text for the compression; of JPEG it names the width of a block."""
        return settings.compression_text(self.config["compression"], self.geometry.block_xyz[0])

    def extended_json(self) -> dict[str, Any]:
        """DVID's properties of the instance."""
        return voxels.extended_json(self, self.voxel.values_json(), interpolable=True)

    def info_json(self) -> dict[str, Any]:
        """DVID's JSON about the instance."""
        return voxels.info_json(self, self.extended_json())

    def metadata_json(self) -> dict[str, Any]:
        """DVID's n-dimensional metadata."""
        return voxels.metadata_json(self.extended_json())

    def resized(self, resolution: Any) -> Self:
        """Set the size of a voxel in every version; JSON list, xyz (DVID HTTP API, ``POST D/resolution``)."""
        return voxels.resized(self, resolution)


def _xyz(zyx: Sequence[int]) -> str:
    return "({})".format(",".join(map(str, geometry.reverse(zyx))))
