"""Blame: which version last wrote each chunk of an array, as numbers over the chunk grid that one can look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from vzarr.geometry import Box, Coord, blocks_of_box, intersect, is_empty, shape_of, slices
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.history.state import NodeInfo, State
from vzarr.overlay.owners.directory import ABSENT, CONFLICT, DELETED, FIRST_OWNER, side
from vzarr.overlay.views.base import View
from vzarr.overlay.views.grid import Grid

NOBODY = 0
"""Number of a chunk that is absent."""
UNRESOLVED = -1
"""Number of a chunk that merged versions changed differently."""


@dataclass(frozen=True)
class Blame:
    """Who last wrote each chunk of an array.

    Parameters
    ----------
    path
        The array.
    lo
        Global coordinate of the first chunk of `owners`.
    chunks
        Voxels of one chunk.
    owners
        int32, one per chunk: `NodeInfo.version_id` of the version that stored it, `NOBODY` or `UNRESOLVED`.
    versions
        Every version in `owners`, by number, oldest first.
    """

    path: str
    lo: Coord
    chunks: Coord
    owners: NDArray[np.int32]
    versions: Mapping[int, NodeInfo]

    def counts(self) -> dict[int, int]:
        """Number -> how many chunks the version wrote, of those in `versions`; last `UNRESOLVED`, if there are any."""
        numbers, counts = np.unique(self.owners, return_counts=True)
        found = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        return {number: found[number] for number in (*self.versions, UNRESOLVED) if number in found}

    def zarr(self) -> zarr.Group:
        """The same as a Zarr group in memory, read-only.

        Its array ``owners`` has one voxel per chunk; attributes tell the array's ``path``, its ``chunk_shape``, the
        ``origin`` (global coordinate of the first chunk), and what the numbers mean (``versions``).
        """
        held: dict[str, Any] = {}
        group = zarr.open_group(MemoryStore(held), mode="w")
        shape = tuple(max(1, min(64, n)) for n in self.owners.shape)
        group.create_array("owners", data=self.owners, chunks=shape, fill_value=NOBODY)
        about = {n: {"id": v.id, "branch": v.branch or "master", "note": v.note} for n, v in self.versions.items()}
        group["owners"].attrs.update(
            {
                "path": self.path,
                "chunk_shape": list(self.chunks),
                "origin": list(self.lo),
                "versions": {str(number): what for number, what in about.items()},
            }
        )
        return zarr.open_group(MemoryStore(held, read_only=True), mode="r")


def blame_array(view: View, state: State, path: str, entry: ArrayEntry, chunks: Coord, box: Box | None = None) -> Blame:
    """Blame of an array in a version.

    Parameters
    ----------
    chunks
        Shape of the array's chunks.
    box
        Global voxels, upper corner exclusive; by default all that the array covers.
    """
    window = entry.window if box is None else intersect(box, entry.window)
    area = blocks_of_box(window, chunks)
    owners = np.full(shape_of(area), NOBODY, np.int32)
    grid = Grid.of(view, entry)
    if grid.source is not None:
        adopted = intersect(area, grid.source)
        if not is_empty(adopted):
            owners[slices(adopted, area[0])] = state.nodes[grid.root].version_id
    n = side(len(chunks))
    for at, page in grid.pages():
        inside = tuple(a * n for a in at), tuple(a * n + n for a in at)
        part = intersect(area, inside)
        if is_empty(part):
            continue
        cube = _numbers(state, page.owners)[page.codes].reshape((n,) * len(chunks))
        owners[slices(part, area[0])] = cube[slices(part, inside[0])]
    by_number = {v.version_id: v for v in state.nodes.values()}
    present = [n for n in np.unique(owners).tolist() if n not in (NOBODY, UNRESOLVED)]
    return Blame(path, area[0], chunks, owners, {n: by_number[n] for n in present})


def _numbers(state: State, palette: Sequence[str]) -> NDArray[np.int32]:
    """Code of a page -> number of the version."""
    special = {ABSENT: NOBODY, DELETED: NOBODY, CONFLICT: UNRESOLVED}
    owners = [state.nodes[name].version_id for name in palette]
    return np.array([*(special[code] for code in range(FIRST_OWNER)), *owners], np.int32)
