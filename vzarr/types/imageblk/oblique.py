"""Slices in any direction: points on a plane, and the voxels around them interpolated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.geometry import Box

_ENDLESS = 1e12


@dataclass(frozen=True)
class Plane:
    """A rectangle in space, in physical units, zyx.

    Parameters
    ----------
    top_left, top_right, bottom_left
        Corners.
    resolution
        Distance of neighbouring pixels.
    """

    top_left: tuple[float, ...]
    top_right: tuple[float, ...]
    bottom_left: tuple[float, ...]
    resolution: float

    def __post_init__(self) -> None:
        numbers = (*self.top_left, *self.top_right, *self.bottom_left, self.resolution)
        if not all(map(math.isfinite, numbers)) or self.resolution <= 0:
            raise InvalidInputError("corners must be finite numbers and the resolution one above 0")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns: a pixel at the corner, and one for each whole step from it."""
        down, across = (math.dist(self.top_left, c) for c in (self.bottom_left, self.top_right))
        return _steps(down, self.resolution) + 1, _steps(across, self.resolution) + 1

    def corners(self) -> NDArray[np.float64]:
        """All four corners, shape (4, 3), zyx."""
        a, b, c = map(np.asarray, (self.top_left, self.top_right, self.bottom_left))
        return np.stack([a, b, c, b + c - a])

    def points(self, voxel_zyx: Sequence[float]) -> NDArray[np.float64]:
        """Centres of the pixels in units of voxels, shape (rows, columns, 3), zyx.

        Parameters
        ----------
        voxel_zyx
            Edges of a voxel in physical units.
        """
        rows, columns = self.shape
        down = np.arange(rows)[:, None, None] * self._step(self.bottom_left)
        across = np.arange(columns)[None, :, None] * self._step(self.top_right)
        found: NDArray[np.float64] = (np.asarray(self.top_left) + down + across) / np.asarray(voxel_zyx)
        return found

    def _step(self, corner: tuple[float, ...]) -> NDArray[np.float64]:
        edge = np.subtract(corner, self.top_left)
        length = float(np.linalg.norm(edge))
        return edge * (self.resolution / length) if length else edge


def _steps(length: float, step: float) -> int:
    # Beyond any image, but still a number that can be compared with a limit.
    return int(min(length / step, _ENDLESS))


def bounds(points: NDArray[np.float64]) -> Box:
    """Voxel box, upper corner exclusive, that `trilinear` needs for some points."""
    flat = points.reshape(-1, 3)
    lo = np.floor(flat.min(0)).astype(np.int64)
    hi = np.floor(flat.max(0)).astype(np.int64) + 2
    return tuple(map(int, lo)), tuple(map(int, hi))


def trilinear(voxels: NDArray[Any], lo: Sequence[int], points: NDArray[np.float64]) -> NDArray[Any]:
    """Values between voxels, whose centres have whole coordinates.

    Parameters
    ----------
    voxels
        Shape (z, y, x); what `bounds` of the points names.
    lo
        Coordinate of its first voxel.
    points
        Shape (..., 3), zyx.

    Returns
    -------
    ndarray
        Shape (...), of the type of the voxels; integers are rounded to the nearest.
    """
    base = np.floor(points).astype(np.int64)
    part = points - base
    at = base - np.asarray(lo, np.int64)
    total = np.zeros(points.shape[:-1])
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(np.array(corner) == 1, part, 1 - part).prod(-1)
        z, y, x = np.moveaxis(at + np.array(corner), -1, 0)
        total += weight * voxels[z, y, x]
    return (np.rint(total) if voxels.dtype.kind in "ui" else total).astype(voxels.dtype)
