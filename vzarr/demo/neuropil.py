"""A believable neuropil out of nothing: tubes, membranes, mitochondria and grain, with its segmentation.

The shapes are tubes: random walks of points with a swelling radius. A voxel belongs to the tube that wins its
power distance, which fills space without gaps and presses the tubes into cells. The seed decides everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.demo.paint import Texture
from vzarr.demo.partition import Bend, assign
from vzarr.demo.tubes import Tubes, grow

BLOCK = 32
"""Side of the cubes in which voxels are made; small enough for the caches, large enough for numpy."""

JOINED, MISTAKEN = 0.12, 0.05
"""Share of bodies that the agglomeration puts together rightly, and of contacts that it joins by mistake."""


@dataclass(frozen=True)
class Neuropil:
    """A synthetic volume and what a pipeline and a proofreader would make of it.

    Parameters
    ----------
    grayscale
        uint8 (z, y, x): dark membranes in light cytoplasm.
    supervoxels
        uint64 (z, y, x): pieces of bodies; none spans two bodies.
    truth
        uint64 (n, 2), sorted: supervoxel -> the body it really belongs to, named by its smallest supervoxel.
    mapping
        uint64 (n, 2), sorted: supervoxel -> body after an agglomeration with mistakes: most bodies still lie
        in pieces, and some pieces of neighbours were joined.
    """

    grayscale: NDArray[np.uint8]
    supervoxels: NDArray[np.uint64]
    truth: NDArray[np.uint64]
    mapping: NDArray[np.uint64]


def synthesise(size: int = 256, seed: int = 25) -> Neuropil:
    """Make a cube of neuropil.

    Parameters
    ----------
    size
        Voxels along each axis.
    seed
        The same seed gives the same volume.
    """
    rng = np.random.default_rng(seed)
    # Voxels are assigned in pairs along each axis.
    even = size + size % 2
    tubes = grow(even, rng)
    bend = Bend(even, rng)
    texture = Texture(tubes, BLOCK, rng)
    pieces = np.empty((even,) * 3, np.int32)
    image = np.empty((even,) * 3, np.uint8)
    for corner in np.ndindex(*(-(-even // BLOCK),) * 3):
        start = tuple(c * BLOCK for c in corner)
        box = tuple(slice(c, min(even, c + BLOCK)) for c in start)
        cell = assign(tubes, bend.at(box))
        pieces[box] = cell.piece
        image[box] = texture.paint(cell, start)
    kept = (slice(size),) * 3
    return _label(np.ascontiguousarray(image[kept]), np.ascontiguousarray(pieces[kept]), tubes, rng)


def _label(image: NDArray[np.uint8], pieces: NDArray[np.int32], tubes: Tubes, rng: np.random.Generator) -> Neuropil:
    """Give ids to the pieces that have voxels, and agglomerate them badly."""
    present = np.flatnonzero(np.bincount(pieces.ravel(), minlength=len(tubes.body_of_piece)))
    ids = np.zeros(len(tubes.body_of_piece), np.uint64)
    ids[present] = rng.permutation(len(present)) + 1
    body = tubes.body_of_piece[present]
    agglomerated = present.copy()
    for number in np.unique(body)[rng.random(len(np.unique(body))) < JOINED]:
        agglomerated[body == number] = present[body == number][0]
    for one, other in _touching(pieces, present, rng):
        agglomerated[agglomerated == agglomerated[other]] = agglomerated[one]
    return Neuropil(image, ids[pieces], _table(ids[present], body), _table(ids[present], agglomerated))


def _touching(pieces: NDArray[np.int32], present: NDArray[np.intp], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Some pairs of pieces, as positions in `present`, that share a face in a plane through the middle."""
    plane = pieces[len(pieces) // 2]
    pairs = np.stack([plane[:, :-1].ravel(), plane[:, 1:].ravel()], 1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    chosen = rng.permutation(pairs)[: max(1, round(MISTAKEN * len(pairs)))]
    return [(int(a), int(b)) for a, b in np.searchsorted(present, chosen)]


def _table(supervoxels: NDArray[np.uint64], groups: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Rows (supervoxel, smallest supervoxel of its group), sorted."""
    order = np.lexsort((supervoxels, groups))
    first = np.flatnonzero(np.diff(groups[order], prepend=groups[order][0] - 1))
    body = np.repeat(supervoxels[order][first], np.diff(first, append=len(order)))
    table = np.stack([supervoxels[order], body], 1)
    return table[np.argsort(table[:, 0])]
