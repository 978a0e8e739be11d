"""The handle on a labelmap: supervoxels in voxels, bodies as a mapping over them, an index of where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vzarr.geometry import Coord
from vzarr.types.base import Datatype, no_key_names
from vzarr.types.labelmap import (
    agglomerate,
    allocate,
    bulk,
    compose,
    counting,
    description,
    mutate,
    rows,
    settling,
    splits,
    tables,
    underway,
    undo,
    verify,
    writes,
)
from vzarr.types.labelmap.agglomerate import Agglomerated
from vzarr.types.labelmap.allocate import Labelling
from vzarr.types.labelmap.arguments import any_label, label_volume, some_labels, some_runs
from vzarr.types.labelmap.edits import Author
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.mutate import Cleaved
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.splits import ANY, Choice, SplitBody, SplitSupervoxel
from vzarr.types.labelmap.undo import Undone
from vzarr.types.labelmap.view import LabelView
from vzarr.types.roi import Within


@dataclass(frozen=True, repr=False)
class LabelMap(LabelView):
    """A labelmap at a version; boxes, blocks and points are zyx, in signed global coordinates.

    A *body* is what an editor sees as one object; it is made of *supervoxels*, the ids that voxels hold.
    """

    # ------------------------------------------------------------ voxels

    def write(
        self, lo: Sequence[int], array: ArrayLike, *, within: Within | None = None, user: str = "", app: str = ""
    ) -> None:
        """Store a volume of supervoxels that is aligned to blocks; index and coarser scales follow.

        Parameters
        ----------
        within
            The ROI to whose blocks the write is restricted.

        Raises
        ------
        InvalidInputError
            If the volume is not aligned to blocks, or no three-dimensional array of integers above 0 or 0.
        """
        volume = label_volume(array)
        blocks = writes.blocks_of(tuple(lo), volume, self.block_zyx)
        if within is not None:
            hi = tuple(a + n for a, n in zip(lo, volume.shape, strict=True))
            blocks = {c: blocks[c] for c in within.blocks((tuple(lo), hi), self.block_zyx)}
        self.write_blocks(blocks, user=user, app=app)

    def write_blocks(
        self,
        blocks: Mapping[Coord, Labels],
        *,
        indexed: bool = True,
        downres: bool = True,
        user: str = "",
        app: str = "",
    ) -> None:
        """Store whole blocks of supervoxels; see `writes.write_blocks`."""
        writes.write_blocks(self, blocks, indexed=indexed, downres=downres, author=Author(user, app))

    def store_blocks(self, blocks: Mapping[Coord, Labels], scale: int = 0, *, user: str = "", app: str = "") -> None:
        """Store whole blocks of one scale and nothing else; see `writes.store_blocks`."""
        writes.store_blocks(self, blocks, scale, Author(user, app))

    # ------------------------------------------------------------ edits

    def merge(self, target: SupportsIndex, bodies: Iterable[SupportsIndex], *, user: str = "", app: str = "") -> int:
        """Make bodies part of another; the mutation id.  See `mutate.merge`."""
        underway.recover(self, wait=False)
        return mutate.merge(self, any_label(target), some_labels(bodies), Author(user, app))

    def cleave(
        self, body: SupportsIndex, supervoxels: Iterable[SupportsIndex], *, user: str = "", app: str = ""
    ) -> Cleaved:
        """Make some supervoxels of a body a new body.  See `mutate.cleave`."""
        underway.recover(self, wait=False)
        return mutate.cleave(self, any_label(body), some_labels(supervoxels), Author(user, app))

    def renumber(self, new: SupportsIndex, old: SupportsIndex, *, user: str = "", app: str = "") -> int:
        """Give a body another number; the mutation id.  See `mutate.renumber`."""
        underway.recover(self, wait=False)
        return mutate.renumber(self, [(any_label(new), any_label(old))], Author(user, app))[0]

    def renumber_all(
        self, pairs: Iterable[tuple[SupportsIndex, SupportsIndex]], *, user: str = "", app: str = ""
    ) -> list[int]:
        """Give bodies other numbers, (new, old) one after the other, all or none; the mutation ids."""
        underway.recover(self, wait=False)
        return mutate.renumber(self, [(any_label(new), any_label(old)) for new, old in pairs], Author(user, app))

    def agglomerate(self, table: ArrayLike, *, edges: bool = False, user: str = "", app: str = "") -> Agglomerated:
        """Move millions of supervoxels to the bodies of a table, as one edit.  See `agglomerate.agglomerate`.

        Parameters
        ----------
        table
            Integers, shape (n, 2): supervoxel, body; or, if `edges`, two supervoxels that belong together.

        Raises
        ------
        InvalidInputError
            If the table cannot hold, or names a supervoxel that there is not; nothing has changed then.
        """
        underway.recover(self, wait=False)
        check = tables.check_edges if edges else tables.check_mapping
        checked = check(tables.as_array(table), "table")
        return agglomerate.agglomerate(self, checked, Author(user, app), edges=edges)

    def split_supervoxel(
        self,
        supervoxel: SupportsIndex,
        runs: ArrayLike,
        *,
        choice: Choice = ANY,
        downres: bool = True,
        user: str = "",
        app: str = "",
    ) -> SplitSupervoxel:
        """Cut a supervoxel into the part under some runs and the rest.  See `splits.split_supervoxel`."""
        return splits.split_supervoxel(
            self, any_label(supervoxel), some_runs(runs), Author(user, app), choice=choice, downres=downres
        )

    def split(self, body: SupportsIndex, runs: ArrayLike, *, user: str = "", app: str = "") -> SplitBody:
        """Make the part of a body under some runs a new body.  See `splits.split_body`."""
        return splits.split_body(self, any_label(body), some_runs(runs), Author(user, app))

    def undo(self, mutation_id: int | None = None, *, user: str = "", app: str = "") -> Undone:
        """Undo an edit of bodies of this version, by default the last one.  See `undo.undo`."""
        underway.recover(self, wait=False)
        return undo.undo(self, mutation_id, Author(user, app))

    def post_mappings(self, pairs: Iterable[tuple[int, int]], *, user: str = "", app: str = "") -> None:
        """Map supervoxels to bodies by hand.  See `mutate.post_mappings`."""
        mutate.post_mappings(self, pairs, Author(user, app))

    def post_indices(self, indices: Sequence[LabelIndex], *, user: str = "", app: str = "") -> None:
        """Replace indices of bodies by hand.  See `mutate.post_indices`."""
        mutate.post_indices(self, indices, Author(user, app))

    def build_index(
        self,
        coords_zyx: NDArray[np.int64],
        labels: Labels,
        voxels: NDArray[np.integer[Any]],
        *,
        mapping: Labels | None = None,
    ) -> None:
        """Index a whole volume whose blocks were stored by other means; see `bulk.build_index`.

        Parameters
        ----------
        coords_zyx, labels, voxels
            Shapes (n, 3), (n,), (n,): block coordinates of scale 0, a label in the block other than 0, its
            voxels.
        mapping
            Shape (m, 2): supervoxels and their bodies.
        """
        bulk.build_index(self, rows.pack_blocks(coords_zyx), labels, voxels, mapping)

    def recover(self) -> bool:
        """Finish what a writer that is gone has begun; see `underway.recover`."""
        return underway.recover(self)

    # ------------------------------------------------------------ labels

    @property
    def max_label(self) -> int:
        """Largest label of this version and its ancestors; 0 when there is none."""
        return allocate.max_label(self)

    @property
    def labelling(self) -> Labelling:
        """Which labels the repo has given."""
        return allocate.read(self)

    def reserve_labels(self, count: int, *, user: str = "", app: str = "") -> tuple[int, int]:
        """Take new labels; first and last.  See `allocate.reserve`."""
        return allocate.reserve(self, count, Author(user, app))


LABELMAP = Datatype(
    name="labelmap",
    handle=cast("Callable[..., LabelMap]", LabelMap),
    summary="Segmentation of 64-bit labels whose bodies are merged and cleaved without touching voxels.",
    url="github.com/janelia-flyem/dvid/datatype/labelmap",
    type_version="0.1",
    configure=description.configure,
    prepare=LabelMap.make_arrays,
    adopted=counting.build_index,
    settle=settling.settle,
    resume=settling.resume,
    conflicts=compose.conflicts,
    key_name=no_key_names,
    own_key=allocate.is_own_key,
    arrived=allocate.arrived,
    derived=compose.is_derived,
    indexed=str.isdigit,
    verify=verify.check,
    compression="gzip",
    tags=True,
)
