"""Which tube each voxel belongs to, and how far it is from the border: a bent power diagram by blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.demo.tubes import Float, Tubes

_INDEX_BITS = 10
_INDEX = np.int32((1 << _INDEX_BITS) - 1)
_FAR = np.int32(np.iinfo(np.int32).max)

REACH = 45.0
"""How far beyond a block points are looked at, in voxels."""

SLACK = 8.0
"""How much further than the second nearest tube a point may be and still count in a block, in voxels."""


@dataclass(frozen=True)
class Cell:
    """The voxels of one block.

    Parameters
    ----------
    piece
        int64 (z, y, x): supervoxel of each voxel.
    border
        float32 (z, y, x): distance to the nearest other tube, in voxels.
    at
        float32 (3, z, y, x): place of each voxel in the bent space where the tubes lie.
    """

    piece: NDArray[np.int64]
    border: Float
    at: Float


class Bend:
    """A smooth displacement of space, a sum of standing waves, so that borders are not made of planes.

    Parameters
    ----------
    size
        Voxels along each axis.
    rng
        Decides wavelengths and phases.
    """

    WAVES = ((2.6, 70.0), (1.6, 34.0), (0.8, 15.0))
    """Amplitude and mean wavelength, in voxels."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        grid = np.arange(size, dtype=np.float32)
        shape = (3, len(self.WAVES), 3, 1)
        wavelength = np.array([wave for _, wave in self.WAVES]).reshape(1, -1, 1, 1)
        pitch = 2 * np.pi / (wavelength * rng.uniform(0.7, 1.4, shape))
        self._waves = np.sin(grid * pitch + rng.uniform(0, 2 * np.pi, shape)).astype(np.float32)

    def at(self, box: tuple[slice, ...]) -> Float:
        """Bent coordinates of a box of voxels, float32 (3, z, y, x)."""
        z, y, x = box
        out = np.empty((3, z.stop - z.start, y.stop - y.start, x.stop - x.start), np.float32)
        for axis, index in enumerate(np.ogrid[box]):
            out[axis] = index
            for (amplitude, _), (a, b, c) in zip(self.WAVES, self._waves[axis], strict=True):
                plane = b[y][:, None] * c[x]
                out[axis] += (amplitude * a[z])[:, None, None] * plane
        return out


def assign(tubes: Tubes, at: Float) -> Cell:
    """Give each voxel to the tube that wins its power distance.

    The two nearest tubes are found at every second voxel; all voxels then see on which side of the plane
    between those two they are, which is an eighth of the work and draws the same borders.

    Parameters
    ----------
    tubes
        All tubes.
    at
        float32 (3, z, y, x): bent coordinates; even sides.
    """
    coarse = at[:, ::2, ::2, ::2]
    centre = coarse.reshape(3, -1).mean(1)
    near = _candidates(tubes, coarse, centre)
    points, radii = tubes.points[near] - centre, tubes.radii[near]
    mine, other = _nearest_two(tubes.body_of_piece[tubes.piece[near]], points, radii, coarse, centre)
    towards = points[other] - points[mine]
    powers = (points**2).sum(1) - radii**2
    flat = 1 / (2 * np.sqrt(np.einsum("ij,ij->i", towards, towards)) + 1e-3)
    slope = -2 * towards * flat[:, None]
    offset = (powers[other] - powers[mine]) * flat - slope @ centre
    shape = coarse.shape[1:]
    border = _spread(offset, shape)
    for axis in range(3):
        border = border + _spread(slope[:, axis], shape) * _split(at[axis])
    pieces = tubes.piece[near]
    piece = np.where(border >= 0, _spread(pieces[mine], shape), _spread(pieces[other], shape))
    return Cell(piece.reshape(at.shape[1:]), np.abs(border).reshape(at.shape[1:]), at)


def _split(full: NDArray[Any]) -> NDArray[Any]:
    """View (2a, 2b, 2c) as (a, 2, b, 2, c, 2)."""
    a, b, c = (side // 2 for side in full.shape)
    return full.reshape(a, 2, b, 2, c, 2)


def _spread(coarse: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """View (a * b * c) as (a, 1, b, 1, c, 1), to meet what `_split` gives."""
    a, b, c = shape
    return coarse.reshape(a, 1, b, 1, c, 1)


def _nearest_two(
    body: NDArray[np.int64], points: Float, radii: Float, at: Float, centre: Float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Numbers of the points that win at each place, and that win among all other bodies."""
    places = at.reshape(3, -1) - centre[:, None]
    keys = _keys(points, radii, places)
    best = np.minimum.reduceat(keys, np.flatnonzero(np.diff(body, prepend=-1)), axis=0)
    first = best.min(0)
    best[best == first] = _FAR
    return first & _INDEX, best.min(0) & _INDEX


def _scores(points: Float, radii: Float, places: Float) -> Float:
    """Power distances (k, v) of points (k, 3) to places (3, v), shifted so that none is below 1."""
    heaviest = float(radii.max()) ** 2 + 2.0
    constant = (points**2).sum(1) - radii**2 + heaviest
    rows = np.column_stack([-2 * points, np.ones(len(points)), constant]).astype(np.float32)
    columns = np.vstack([places, (places**2).sum(0), np.ones(places.shape[1])]).astype(np.float32)
    scores: Float = rows @ columns
    return np.maximum(scores, 1.0, out=scores)


def _keys(points: Float, radii: Float, places: Float) -> NDArray[np.int32]:
    """Power distances ordered as integers that carry the point's number in their last bits.

    Positive floats sort like their bits, so that one integer minimum finds the nearest point and who it is; the
    bits given to the number cost a relative precision of ``2**-13``.
    """
    keys = _scores(points, radii, places).view(np.int32)
    keys &= ~_INDEX
    keys |= np.arange(len(points), dtype=np.int32)[:, None]
    return keys


def _candidates(tubes: Tubes, at: Float, centre: Float) -> NDArray[np.intp]:
    """Points that can matter in a block: those that come near the second-best tube at some of its voxels."""
    reach = float(np.abs(at.reshape(3, -1) - centre[:, None]).max()) + REACH
    around = np.flatnonzero((np.abs(tubes.points - centre) < reach).all(1))
    z, y, x = (np.unique(np.r_[0:side:5, side - 1]) for side in at.shape[1:])
    sample = at[:, z[:, None, None], y[:, None], x].reshape(3, -1) - centre[:, None]
    distance = np.sqrt(_scores(tubes.points[around] - centre, tubes.radii[around], sample))
    body = tubes.body_of_piece[tubes.piece[around]]
    best = np.minimum.reduceat(distance, np.flatnonzero(np.diff(body, prepend=-1)), axis=0)
    second = np.partition(best, 1, axis=0)[1]
    near: NDArray[np.intp] = around[(distance < second + SLACK).any(1)]
    return near
