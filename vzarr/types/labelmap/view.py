"""What can be asked of a labelmap: settings, voxels, mapping, bodies; nothing here changes voxels or bodies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, cast

import numpy as np
import orjson
import zarr
from numpy.typing import ArrayLike

from vzarr.errors import InvalidInputError, NotFoundError, UnsupportedError
from vzarr.geometry import Box, Coord
from vzarr.types import mutations, voxels
from vzarr.types.base import Instance
from vzarr.types.labelmap import caches, description, frames, history, index, mapping, proximity, reads
from vzarr.types.labelmap.arguments import any_label, check_label, label_array, some_labels, some_points
from vzarr.types.labelmap.bodies import Body, BodyArray
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.proximity import Nearest
from vzarr.types.labelmap.relabel import relabel
from vzarr.types.labelmap.rows import Counts, Header, Labels
from vzarr.types.labelmap.runs import Bounds
from vzarr.types.labelmap.volumes import EVERYWHERE, SparseVolume
from vzarr.types.roi import Within
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    import pandas as pd

    from vzarr.overlay.version import Version


_FEW_IDS = 20_000
"""So many ids are looked up one by one sooner than they are sorted."""


@dataclass(frozen=True, repr=False)
class LabelView(Instance):
    """What can be asked of a labelmap at any version; boxes, blocks and points are zyx, signed and global.

    A *body* is what an editor sees as one object; it is made of *supervoxels*, the ids that voxels hold.
    """

    # ------------------------------------------------------------ settings

    @property
    def geometry(self) -> VoxelGeometry:
        """Blocks, size of voxels and number of scales."""
        return VoxelGeometry.of(self.config)

    @property
    def block_zyx(self) -> Coord:
        """Edges of a block."""
        return self.geometry.block_zyx

    @property
    def indexed(self) -> bool:
        """Whether there is a label index."""
        return description.is_indexed(self)

    def check_indexed(self) -> None:
        """Refuse what needs a label index to an instance without one.

        Raises
        ------
        UnsupportedError
            If the instance was made with ``IndexedLabels=false``.
        """
        if not self.indexed:
            raise UnsupportedError(f'data "{self.name}" is not label indexed (IndexedLabels=false)')

    def make_arrays(self) -> None:
        """Make the group and the arrays that this version lacks."""
        voxels.make_arrays(self, np.uint64, codecs="labels")

    def reconfigured(self, config: Mapping[str, Any]) -> Self:
        """Change settings in every version (DVID HTTP API, ``POST D/info``); see `description.changed_config`."""
        return self.updated(config=description.changed_config(self, config))

    def resized(self, resolution: Any) -> Self:
        """Set the size of a voxel in every version; JSON list, xyz (DVID HTTP API, ``POST D/resolution``)."""
        return voxels.resized(self, resolution)

    def info_json(self) -> dict[str, Any]:
        """DVID's JSON about the instance (DVID HTTP API, ``GET D/info``)."""
        return voxels.info_json(self, description.extended_json(self))

    def metadata_json(self) -> dict[str, Any]:
        """DVID's n-dimensional metadata (DVID HTTP API, ``GET D/metadata``)."""
        return voxels.metadata_json(description.extended_json(self))

    # ------------------------------------------------------------ voxels

    def array(self, scale: int = 0) -> zarr.Array[Any]:
        """The Zarr array of a scale, holding supervoxels."""
        return cast("zarr.Array[Any]", self.version.zarr[voxels.array_path(self.folder, scale)])

    @property
    def supervoxels(self) -> zarr.Array[Any]:
        """The finest Zarr array."""
        return self.array()

    def read(
        self,
        lo: Sequence[int],
        hi: Sequence[int],
        *,
        scale: int = 0,
        supervoxels: bool = False,
        within: Within | None = None,
    ) -> Labels:
        """Bodies, or supervoxels, of any box; 0 where nothing was written.

        Parameters
        ----------
        lo, hi
            Corners in voxels of `scale`, the upper one exclusive.
        within
            The ROI outside of which labels are 0.

        Returns
        -------
        ndarray
            uint64, shape hi - lo.

        Raises
        ------
        UnsupportedError
            If a ROI should mask another scale than 0.
        """
        if within is not None and scale:
            raise UnsupportedError("a ROI masks labels of scale 0 only")
        box = tuple(lo), tuple(hi)
        named = reads.read_region(self, box, scale) if supervoxels else reads.read_bodies(self, box, self.lookup, scale)
        return named if within is None else within.apply(named, lo, self.block_zyx)

    def read_isotropic(
        self,
        lo: Sequence[int],
        shape: Sequence[int],
        *,
        scale: int = 0,
        supervoxels: bool = False,
        within: Within | None = None,
    ) -> Labels:
        """Labels resampled (nearest neighbour) to cubes as fine as the finest edge of a voxel.

        Parameters
        ----------
        lo
            First voxel, in voxels of the instance.
        shape
            Wanted extent, in cubes.
        within
            As in `read`.
        """
        steps = reads.isotropic_steps(self, shape)
        hi = [a + int(s[-1]) + 1 for a, s in zip(lo, steps, strict=True)]
        return self.read(lo, hi, scale=scale, supervoxels=supervoxels, within=within)[np.ix_(*steps)]

    def box_blocks(self, box: Box, scale: int = 0) -> Iterator[Coord]:
        """Coordinates of the blocks of a voxel box of `scale`, as far as that has any."""
        return reads.blocks_in_box(self, box, scale)

    def block_stream(
        self, coords: Iterable[Coord], compression: str, *, scale: int = 0, supervoxels: bool = False
    ) -> Iterator[bytes]:
        """DVID's stream of the written blocks among those named; see `reads.encoder` for the compression."""
        return reads.framed_blocks(self, coords, compression, None if supervoxels else self.lookup, scale)

    def labels_at(self, points_zyx: ArrayLike, *, scale: int = 0, supervoxels: bool = False) -> Labels:
        """Bodies, or supervoxels, at points.

        Parameters
        ----------
        points_zyx
            Integers, shape (n, 3), in voxels of `scale`.

        Raises
        ------
        InvalidInputError
            If they have another shape, or are no integers.
        """
        found = reads.read_points(self, some_points(points_zyx), scale)
        return found if supervoxels else relabel(found, self.lookup)

    def label_at(self, point_zyx: Coord, *, scale: int = 0, supervoxels: bool = False) -> int:
        """Body, or supervoxel, at one point; see `labels_at`."""
        found = reads.read_point(self, point_zyx, scale)
        return found if supervoxels else mapping.body_of(self, found)

    # ------------------------------------------------------------ mapping

    def lookup(self, supervoxels: Labels) -> Labels:
        """Bodies of unique supervoxels; see `mapping.lookup`."""
        return mapping.lookup(self, supervoxels)

    def bodies_of(self, supervoxels: ArrayLike, *, check: bool = True) -> Labels:
        """Bodies of supervoxels, repeats allowed.

        Parameters
        ----------
        check
            Whether an unmapped id that is no supervoxel of any body gives 0 instead of itself.

        Raises
        ------
        InvalidInputError
            If they are no integers of 64 bits without sign.
        """
        ids = label_array(supervoxels)
        find = mapping.lookup_existing if check else mapping.lookup
        if ids.size <= _FEW_IDS:
            return find(self, ids.reshape(-1)).reshape(ids.shape)
        unique, where = np.unique(ids, return_inverse=True)
        return find(self, unique)[where].reshape(ids.shape)

    def mappings(self) -> Iterator[tuple[int, int]]:
        """Supervoxels whose body has another number, and that body; 0 for ids that are no supervoxels."""
        return mapping.list_mappings(self.keys)

    # ------------------------------------------------------------ bodies

    def find(self, label: SupportsIndex, *, supervoxel: bool = False) -> LabelIndex:
        """Where a body or supervoxel is.

        Raises
        ------
        NotFoundError
            If there is no such body or supervoxel.
        InvalidInputError
            If the label is 0, or a supervoxel that was split up.
        """
        label = check_label(label)
        if not supervoxel:
            found = caches.find(self, label)
        else:
            found = index.consistently(self, lambda keys: self._part(keys, label))
        if found is None:
            kind = "supervoxel" if supervoxel else "label"
            raise NotFoundError(f'no {kind} {label} in data "{self.name}"')
        return found

    def _part(self, keys: Any, supervoxel: int) -> LabelIndex | None:
        body = mapping.bodies_within(keys, [supervoxel])[supervoxel]
        if not body:
            raise InvalidInputError(
                f"cannot get label for supervoxel {supervoxel}, which has been split and doesn't exist anymore"
            )
        return index.read_part(keys, body, supervoxel)

    def find_or_empty(self, body: int) -> LabelIndex:
        """Where a body is; an index without voxels when there is no such body."""
        found = caches.find(self, body)
        return LabelIndex(body, Header(0), {}) if found is None else found

    def header(self, body: SupportsIndex) -> Header:
        """Size and last change of a body.

        Raises
        ------
        NotFoundError
            If there is no such body.
        InvalidInputError
            If the label is 0.
        """
        body = check_label(body)
        found = index.read_header(self.keys, body)
        if found is None:
            raise NotFoundError(f'no label {body} in data "{self.name}"')
        return found

    def size(self, label: SupportsIndex, *, supervoxel: bool = False) -> int:
        """Voxels of a body or supervoxel; raises as `find`."""
        if supervoxel:
            return self.find(label, supervoxel=True).header.voxels
        label = check_label(label)
        return caches.sizes(self, [label])[0] or self.header(label).voxels

    def sizes(self, labels: Iterable[SupportsIndex], *, supervoxels: bool = False) -> list[int]:
        """Voxels of bodies or supervoxels, 0 for one that there is not."""
        wanted = some_labels(labels)
        if not supervoxels:
            return caches.sizes(self, wanted)
        return index.consistently(self, lambda keys: _supervoxel_sizes(keys, wanted))

    def supervoxels_of(self, body: SupportsIndex) -> list[int]:
        """Supervoxels of a body, ascending; raises `NotFoundError`."""
        known = check_label(body)
        self.header(known)
        return index.consistently(self, lambda keys: index.read_supervoxels(keys, known))

    def list_bodies(
        self, start: int = 0, end: int | None = None, limit: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Bodies from `start` to `end` (exclusive), ascending, and their sizes; raises as `any_label`."""
        last = end if end is None or end == 1 << 64 else any_label(end)
        return index.list_bodies(self.keys, any_label(start), last, limit)

    def sparsevol(
        self, label: SupportsIndex, *, supervoxel: bool = False, scale: int = 0, bounds: Bounds = EVERYWHERE
    ) -> SparseVolume:
        """The voxels of a body or supervoxel; raises as `find`."""
        return SparseVolume(self, self.find(label, supervoxel=supervoxel), scale, bounds)

    def proximity(self, a: SupportsIndex, b: SupportsIndex) -> Nearest:
        """How near two bodies come to each other, and where; raises as `find`.  See `proximity.nearest`."""
        return proximity.nearest(self, check_label(a), check_label(b))

    def history(self, body: SupportsIndex, first: Version | None = None) -> list[dict[str, Any]]:
        """Records of the edits that made a body what it is at this version, oldest first.  See `history.of_body`.

        Parameters
        ----------
        first
            The version to begin with; the root by default.
        """
        body = check_label(body)
        begin = first or self.version.repo.root
        return [orjson.loads(record) for record in history.of_body(self, body, begin, self.version)]

    # ------------------------------------------------------------ in Python

    @property
    def bodies(self) -> BodyArray:
        """The finest scale as an array of bodies, lazy; `list_bodies` lists them."""
        return BodyArray(self)

    def body(self, label: SupportsIndex) -> Body:
        """One body: its size, box and supervoxels; its voxels as runs, mask, points or mesh.

        Raises
        ------
        NotFoundError
            If there is no such body.
        InvalidInputError
            If the label is 0.
        """
        return Body(self, self.find(label))

    def changes(self, since: str | None = None) -> list[dict[str, Any]]:
        """Records of the edits since another version, oldest first.  See `vzarr.types.mutations.changes`."""
        return mutations.changes(self, since)

    def to_frame(self, what: str = "bodies", *, since: str | None = None) -> pd.DataFrame:
        """A pandas table of ``"bodies"``, or of ``"mutations"`` since another version.

        See `frames.bodies_frame` and `vzarr.types.mutations.frame` for the columns.

        Raises
        ------
        InvalidInputError
            If `what` is neither.
        """
        if what not in ("bodies", "mutations"):
            raise InvalidInputError(f'a table is of "bodies" or "mutations", not of "{what}"')
        return frames.bodies_frame(self) if what == "bodies" else mutations.frame(self, since)


def _supervoxel_sizes(keys: Any, supervoxels: Sequence[int]) -> list[int]:
    bodies = mapping.bodies_within(keys, supervoxels)
    found: dict[int, Counts] = index.read_parts(keys, bodies)
    return [found[sv].total if sv in found else 0 for sv in supervoxels]
