"""Growing neurites: random walks that avoid each other until a cube is full."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Vector = NDArray[np.float64]

CELL = 4
"""Side of the cells, in voxels, in which a walk looks whether a place is taken."""

MARGIN = 32
"""How far walks go on outside the cube, in voxels, so that its faces look like its inside."""

SEGMENT = 40.0
"""Mean length of a supervoxel along its tube, in voxels."""

CALIBRES = ((0.10, 24.0, 32.0), (0.34, 10.0, 16.0), (0.58, 5.5, 8.5))
"""Kinds of neurite, thick ones first: share of the cube taken when it is done, thinnest and thickest."""

TRIES = 400
"""Places tried for the start of a tube before the cube counts as full."""


@dataclass(frozen=True)
class Tubes:
    """Points of all tubes, sorted by body and then along the tube.

    Parameters
    ----------
    points
        float32 (n, 3), zyx in voxels.
    radii
        float32 (n,), in voxels.
    along
        float32 (n, 3): unit vectors along the tube.
    piece
        int64 (n,): consecutive number of the supervoxel, ascending.
    body_of_piece
        int64 (pieces,): consecutive number of the body, ascending.
    """

    points: Float
    radii: Float
    along: Float
    piece: NDArray[np.int64]
    body_of_piece: NDArray[np.int64]

    @property
    def bodies(self) -> int:
        """How many neurites there are."""
        return int(self.body_of_piece[-1]) + 1


@dataclass
class _Growth:
    """What has grown so far, and which cells it takes."""

    size: int
    rng: np.random.Generator
    taken: NDArray[np.bool_] = field(init=False)
    rows: list[tuple[Vector, float, Vector, int]] = field(default_factory=list)
    body_of_piece: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.taken = np.zeros(((self.size + 2 * MARGIN) // CELL,) * 3, bool)

    def free(self, point: Vector) -> bool | None:
        """Whether nothing is at a point; None outside of the cube and its margin."""
        cell = ((point + MARGIN) // CELL).astype(int)
        if (cell < 0).any() or (cell >= self.taken.shape[0]).any():
            return None
        return not self.taken[tuple(cell)]

    def take(self, steps: list[tuple[Vector, float, Vector, int]]) -> None:
        """Mark the balls around points as taken."""
        for point, radius, _, _ in steps:
            lo = np.maximum((point + MARGIN - radius) // CELL, 0).astype(int)
            hi = np.maximum((point + MARGIN + radius) // CELL + 1, 0).astype(int)
            box = tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))
            axes = [
                (np.arange(a, min(b, n)) + 0.5) * CELL - MARGIN - p
                for a, b, n, p in zip(lo, hi, self.taken.shape, point, strict=True)
            ]
            z, y, x = axes
            self.taken[box] |= (z**2)[:, None, None] + (y**2)[:, None] + x**2 <= radius**2


def grow(size: int, rng: np.random.Generator) -> Tubes:
    """Fill a cube with tubes, thick ones first.

    Parameters
    ----------
    size
        Voxels along each axis.
    rng
        Decides everything.
    """
    growth = _Growth(size, rng)
    body = 0
    for share, thin, thick in CALIBRES:
        while np.count_nonzero(growth.taken) < share * growth.taken.size:
            radius = rng.uniform(thin, thick)
            start = _start(growth, radius)
            if start is None:
                break
            _neurite(growth, start, radius, body)
            body += 1
    points, radii, along, piece = zip(*growth.rows, strict=True)
    return Tubes(
        np.array(points, np.float32),
        np.array(radii, np.float32),
        np.array(along, np.float32),
        np.array(piece, np.int64),
        np.array(growth.body_of_piece, np.int64),
    )


def _start(growth: _Growth, radius: float) -> Vector | None:
    """A random place with room for a tube; None when there seems to be none."""
    around = np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))]) * radius
    for _ in range(TRIES):
        place = growth.rng.uniform(-MARGIN, growth.size + MARGIN, 3)
        if not any(growth.free(place + offset) is False for offset in around):
            return place
    return None


def _neurite(growth: _Growth, start: Vector, radius: float, body: int) -> None:
    """Walk both ways from a start; thick ones get twigs."""
    rng = growth.rng
    heading = _unit(rng.standard_normal(3) * (0.5, 1.0, 1.0))
    one = _walk(growth, start, heading, radius, body)
    other = _walk(growth, start - heading * radius * 0.9, -heading, radius, body)
    twigs: list[tuple[Vector, float, Vector, int]] = []
    for point, here, along, _ in (one + other) if radius > 10 else []:
        if rng.random() < 0.12:
            side = _unit(np.cross(along, rng.standard_normal(3)))
            twigs += _walk(growth, point + side * here, side, max(3.5, 0.3 * here), body, longest=70.0)
    growth.rows += one + other + twigs
    growth.take(one + other + twigs)


def _walk(
    growth: _Growth, point: Vector, heading: Vector, radius: float, body: int, longest: float = np.inf
) -> list[tuple[Vector, float, Vector, int]]:
    """Points of one walk, until it meets something, leaves the cube or is long enough."""
    rng = growth.rng
    steps: list[tuple[Vector, float, Vector, int]] = []
    phase, beat, length, cut = rng.uniform(0, 6.3), rng.uniform(25, 60), 0.0, 0.0
    while length <= longest:
        if length >= cut:
            growth.body_of_piece.append(body)
            cut = length + SEGMENT * rng.uniform(0.4, 1.6)
        swell = radius * (1 + 0.3 * np.sin(phase + length / beat * 6.3))
        steps.append((point, float(swell), heading, len(growth.body_of_piece) - 1))
        stride = 0.9 * radius
        for turn in (0.12, 0.3, 0.6, 0.9, 1.2):
            ahead = _unit(heading + turn * rng.standard_normal(3))
            free = growth.free(point + ahead * (stride + radius))
            if free is not False:
                break
        if not free:
            break
        heading = ahead
        point = point + heading * stride
        length += stride
    return steps


def _unit(vector: Vector) -> Vector:
    """Scale a vector to length 1."""
    return vector / np.sqrt(vector @ vector)
