"""What the microscope would see: membranes, cytoplasm, mitochondria, synapses and grain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vzarr.demo.partition import Cell
from vzarr.demo.tubes import Float, Tubes

TILE = (62, 94)
"""Sides of the two noise tiles; hardly any common divisor, so that their sum does not repeat."""

CYTOPLASM, MEMBRANE, MITOCHONDRION, DENSITY = 152.0, 92.0, 60.0, 70.0
"""Gray of cytoplasm, and how much darker the others are."""

GRAIN = 7.5
"""Standard deviation of the shot noise, in gray values."""


@dataclass(frozen=True)
class Organelles:
    """Ellipsoids in the bent space of the tubes.

    Parameters
    ----------
    centres
        float32 (n, 3), zyx in voxels.
    along
        float32 (n, 3): unit vectors of the long axis.
    width, length
        float32 (n,): half axes, in voxels.
    body
        int64 (n,): the tube an organelle is in; -1 for synaptic densities, which lie across a border.
    """

    centres: Float
    along: Float
    width: Float
    length: Float
    body: NDArray[np.int64]

    def near(self, at: Float) -> list[int]:
        """Numbers of the organelles that reach into a block of bent coordinates (3, z, y, x)."""
        flat = at.reshape(3, -1)
        lo, hi = flat.min(1) - self.length[:, None], flat.max(1) + self.length[:, None]
        return [int(n) for n in np.flatnonzero(((self.centres > lo) & (self.centres < hi)).all(1))]

    def radius(self, number: int, at: Float) -> Float:
        """Squared distance from the centre at bent coordinates, in units of the half axes."""
        delta = at - self.centres[number][:, None, None, None]
        forward: Float = np.tensordot(self.along[number], delta, 1)
        aside = np.einsum("izyx,izyx->zyx", delta, delta) - forward**2
        radius: Float = aside / self.width[number] ** 2 + forward**2 / self.length[number] ** 2
        return radius


class Texture:
    """Paints blocks of a volume.

    Parameters
    ----------
    tubes
        All tubes.
    block
        Largest side of a block.
    rng
        Decides tones, organelles and grain.
    """

    def __init__(self, tubes: Tubes, block: int, rng: np.random.Generator) -> None:
        self._rng = rng
        tone = rng.normal(0, 7, tubes.bodies)
        tone[rng.random(tubes.bodies) < 0.06] -= 26  # glia and the odd dying cell are dark
        self._tone = (CYTOPLASM + tone).astype(np.float32)
        self._body = tubes.body_of_piece
        self._tiles = [_tile(side, block, smooth, rng) for side, smooth in zip(TILE, (1, 3), strict=True)]
        self._mitochondria = _mitochondria(tubes, rng)
        self._synapses = _synapses(tubes, rng)

    def paint(self, cell: Cell, corner: tuple[int, ...]) -> NDArray[np.uint8]:
        """Gray values of one block whose first voxel is `corner`."""
        body = self._body[cell.piece]
        image = self._tone[body]
        shape = image.shape
        for tile, side, gain in zip(self._tiles, TILE, (9.0, 6.0), strict=True):
            z, y, x = (c % side for c in corner)
            image += gain * tile[z : z + shape[0], y : y + shape[1], x : x + shape[2]]
        self._paint_mitochondria(image, body, cell)
        membrane = 1 / (1 + (cell.border / 1.7) ** 4)
        image += (72.0 - image) * membrane * (MEMBRANE / 100.0)
        for number in self._synapses.near(cell.at):
            dark = np.exp(-self._synapses.radius(number, cell.at) * 2) * np.exp(-((cell.border / 4.0) ** 2))
            image -= DENSITY * dark
        image += GRAIN * self._rng.standard_normal(shape, np.float32)
        return np.clip(image, 8, 250).astype(np.uint8)

    def _paint_mitochondria(self, image: Float, body: NDArray[np.int64], cell: Cell) -> None:
        """Dark capsules with a darker rim and stripes inside."""
        organelles = self._mitochondria
        allowed = cell.border >= 2.5
        for number in organelles.near(cell.at):
            radius = organelles.radius(number, cell.at)
            inside = (radius < 1) & allowed & (body == organelles.body[number])
            if not inside.any():
                continue
            allowed &= ~inside
            depth = radius[inside]
            places = np.stack([axis[inside] for axis in cell.at], 1)
            folds = np.sin(places @ (1.15 * organelles.along[number][[1, 2, 0]]))
            image[inside] -= MITOCHONDRION * (0.8 + 0.18 * folds + 0.3 * depth**4)


def _tile(side: int, block: int, smooth: int, rng: np.random.Generator) -> Float:
    """Periodic noise of unit variance, blurred `smooth` times, with `block` voxels repeated at the ends."""
    noise = rng.standard_normal((side, side, side)).astype(np.float32)
    for _ in range(smooth):
        for axis in range(3):
            noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return np.pad(noise / noise.std(), ((0, block),) * 3, mode="wrap")


def _mitochondria(tubes: Tubes, rng: np.random.Generator) -> Organelles:
    """Some of the places where tubes are thick enough."""
    thick = np.flatnonzero(tubes.radii > 8.5)
    chosen = thick[rng.random(len(thick)) < 0.13]
    radii = tubes.radii[chosen]
    width = np.minimum(radii * rng.uniform(0.5, 0.68, len(chosen)), 13.0).astype(np.float32)
    aside = rng.standard_normal((len(chosen), 3)) * (np.maximum(radii - width - 3, 0) / 2)[:, None]
    return Organelles(
        (tubes.points[chosen] + aside).astype(np.float32),
        tubes.along[chosen],
        width,
        (width * rng.uniform(1.6, 3.2, len(chosen))).astype(np.float32),
        tubes.body_of_piece[tubes.piece[chosen]],
    )


def _synapses(tubes: Tubes, rng: np.random.Generator) -> Organelles:
    """Flat dark densities at the surface of tubes."""
    chosen = np.flatnonzero(rng.random(len(tubes.points)) < 0.035)
    across = np.cross(tubes.along[chosen], rng.standard_normal((len(chosen), 3)))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    size = rng.uniform(4.0, 7.5, len(chosen)).astype(np.float32)
    return Organelles(
        (tubes.points[chosen] + across * tubes.radii[chosen, None]).astype(np.float32),
        across.astype(np.float32),
        size,
        size,
        np.full(len(chosen), -1),
    )
