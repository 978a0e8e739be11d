"""Regions of space: which chunks of a version's volumes touch a set of blocks, at every scale of a pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError, NotFoundError, SealedError
from vzarr.geometry import Coord
from vzarr.overlay import datatypes, layout
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry
from vzarr.overlay.history import refs
from vzarr.overlay.history.state import MASTER, State
from vzarr.overlay.keys import keylayers
from vzarr.overlay.kv.sealed import Stack
from vzarr.overlay.sealing import seal
from vzarr.overlay.sources import ome

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Region:
    """A set of blocks of space.

    Parameters
    ----------
    block
        Edges of a block in voxels of the finest scale, zyx.
    spans
        Its blocks as rows z, y, x0, x1 in block coordinates, x1 included; shape (n, 4).
    """

    block: Coord
    spans: NDArray[np.int64]

    def chunks(self, edges: Sequence[float]) -> set[Coord]:
        """Coordinates of the chunks that the region touches.

        Parameters
        ----------
        edges
            Edges of a chunk in voxels of the finest scale, zyx.
        """
        z, y, first, last = self.spans.T
        lo = np.column_stack([_chunk_of(c * b, e) for c, b, e in zip((z, y, first), self.block, edges, strict=True)])
        ends = zip((z, y, last), self.block, edges, strict=True)
        hi = np.column_stack([_chunk_of((c + 1) * b, e, before=True) for c, b, e in ends])
        boxes = np.unique(np.concatenate([lo, hi], 1), axis=0)
        for axis in range(3):  # from boxes to rows of them, and at last to single chunks
            boxes = np.unique(_sliced(boxes, axis), axis=0)
        return set(map(tuple, boxes[:, :3].tolist()))


def _chunk_of(voxel: NDArray[np.int64], edge: float, *, before: bool = False) -> NDArray[np.int64]:
    """Chunks that hold voxels, or the voxels before them; scales that are no whole numbers are met generously."""
    if before:
        return np.ceil(voxel / edge + _ROUNDING).astype(np.int64) - 1 if edge % 1 else (voxel - 1) // int(edge)
    return np.floor(voxel / edge - _ROUNDING).astype(np.int64) if edge % 1 else voxel // int(edge)


def _sliced(boxes: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Boxes (lowest and highest chunk, both included; shape (n, 6)) cut to one chunk along an axis."""
    counts = boxes[:, 3 + axis] - boxes[:, axis] + 1
    rows = np.repeat(boxes, counts, 0)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows[:, axis] += within
    rows[:, 3 + axis] = rows[:, axis]
    return rows


def factors(entries: Mapping[str, Entry]) -> dict[str, tuple[float, ...]]:
    """Voxel sizes of volumes relative to the finest scale of their group, by path, zyx.

    Volumes are the arrays with these three axes that the OME-Zarr metadata of a group list.
    """
    found = {}
    for path, entry in entries.items():
        if not isinstance(entry, ArrayEntry):
            said = ome.parse(arrays.attributes_of(entry), path)
            if said is not None and tuple(said.axes) == arrays.ZYX and said.scales:
                for name, scale in zip(said.paths, said.scales, strict=True):
                    below = f"{path}/{name}" if path else name
                    found[below] = tuple(a / b for a, b in zip(scale, said.scales[0], strict=True))
    return found


def resolve(state: State, tips: Sequence[str], roi: tuple[str, str]) -> tuple[str, str]:
    """Name that a region was made with, and id of the version at which it is meant.

    Parameters
    ----------
    state
        What the source's log says.
    tips
        Newest versions that are to be copied, oldest first: without a ref it is master's, or else the last.
    roi
        Name of the instance, and a ref or "".

    Raises
    ------
    NotFoundError, InvalidInputError, SealedError
        If there is no such instance or version, or no region can be read there.
    """
    name, ref = roi
    info = state.instances.get(name)
    if info is None:
        raise NotFoundError(f"no instance {name!r} in this repo; there are: {', '.join(state.instances) or 'none'}")
    if not info.versioned:
        raise InvalidInputError(f"{name!r} is not versioned, so that its blocks are nowhere as they once were")
    main = [n for n in tips if state.nodes[n].branch == MASTER]
    node = refs.resolve(state, ref) if ref else (main or tips)[-1]
    if not state.nodes[node].sealed:
        raise SealedError(f"version {node} is open: name a sealed one at which {name!r} is meant")
    return info.path, node


def load(objects: seal.Gets, state: State, name: str, node: str) -> Region:
    """The region that an instance is at a sealed version, read from its folders.

    Raises
    ------
    NotFoundError, UnsupportedError
        If there is no such version, or no such instance any more, or it is no region.
    InvalidInputError
        If it has no blocks there, or was sealed so long ago that folders alone do not tell.
    """
    if node not in state.nodes:
        raise NotFoundError(f"version {node}, at which the region {name!r} is meant, is not there")
    info = next((i for i in state.every_instance() if i.path == name), None)
    if info is None:
        raise NotFoundError(f"the region {name!r}, to which this clone is limited, is no instance any more: clone anew")
    part = seal.load_record(objects, layout.seal(node), state.nodes[node].seal).layers
    if part is None:
        raise InvalidInputError(f"version {node} was sealed by an early release: name a later one")
    keys = keylayers.keys_of(objects, keylayers.read(objects, part).get(info.data_uuid, Stack()))
    region = datatypes.known().region(info, keys)
    if not len(region.spans):
        raise InvalidInputError(f"{name!r} has no blocks at version {node}")
    return region


def parse(text: str) -> tuple[str, str]:
    """Name and ref of ``NAME[,REF]``, which is also how DVID's filters write it."""
    name, _, ref = text.partition(",")
    if not name or "," in ref:
        raise InvalidInputError(f"a region is named NAME or NAME,REF, not {text!r}")
    return name, ref


def chunk_edges(entry: ArrayEntry, factor: Sequence[float]) -> tuple[float, ...] | None:
    """Edges of an array's chunks in voxels of the finest scale; None for a grid that is not regular."""
    chunks: Any = entry.spec.chunks
    return None if chunks is None else tuple(c * f for c, f in zip(chunks, factor, strict=True))


class Touched:
    """Chunks that a region touches, by their size: most arrays of most versions share a few.

    Parameters
    ----------
    within
        The region; None for all of space.
    """

    def __init__(self, within: Region | None) -> None:
        self._within = within
        self._known: dict[tuple[float, ...], set[Coord]] = {}

    def chunks(self, entry: ArrayEntry, factor: Sequence[float] | None) -> set[Coord] | None:
        """Coordinates; None for all chunks, of what is no volume."""
        edges = None if factor is None else chunk_edges(entry, factor)
        if self._within is None or edges is None:
            return None
        if edges not in self._known:
            self._known[edges] = self._within.chunks(edges)
        return self._known[edges]
