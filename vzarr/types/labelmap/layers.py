"""Runs of voxels that lie in many blocks: one bit a voxel, a layer of blocks at a time.

Within a layer bits are kept in the order of runs, by z, y and x over all of its blocks.  So runs come out joined across
blocks and sorted, however many blocks there are, and only bits are looked at one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Coord
from vzarr.overlay.reading.regions import share
from vzarr.types.labelmap.runs import Mask, Runs, check_range

_WORD = 64
_PIECE = 1 << 15
"""Words that are looked at in one go, about: what is made of them fits into a processor's cache."""
_GROUP = 64
"""Blocks that are drawn before runs are made of them, at least."""
_WIDEST = 4096
"""Blocks of a layer that are drawn together, about; bounds the memory for bits."""


class Layer:
    """Rows of blocks of one z, and in each block a bit per voxel, all 0 at first.

    Parameters
    ----------
    blocks
        Block coordinates zyx, sorted, all of one z.
    shape_zyx
        Shape of a block; nx is a multiple of 8.

    Raises
    ------
    InvalidInputError
        If a voxel lies outside the int32 range.
    """

    def __init__(self, blocks: Sequence[Coord], shape_zyx: Sequence[int]) -> None:
        self.blocks = blocks
        nz, ny, nx = shape_zyx
        for axis, n in enumerate(shape_zyx):
            places = [block[axis] for block in blocks]
            check_range([min(places) * n, max(places) * n + n - 1])
        self._bits = math.gcd(nx, _WORD)
        per_line = nx // self._bits
        self._z = blocks[0][0] * nz
        self._words = np.zeros((nz, len(blocks) * ny * per_line), f"<u{self._bits // 8}")
        self._at: dict[Coord, NDArray[np.unsignedinteger]] = {}
        xs, ys, joined = [], [], []
        first = 0
        for y, some in groupby(blocks, key=lambda block: block[1]):
            row = list(some)
            end = first + len(row) * ny * per_line
            lines = self._words[:, first:end].reshape(nz, ny, len(row), per_line)
            self._at.update((block, lines[:, :, n]) for n, block in enumerate(row))
            x = np.array([block[2] for block in row])
            follows = np.ones((len(row), per_line), np.bool_)
            follows[:, 0] = np.append(False, x[1:] == x[:-1] + 1)
            xs.append(np.tile((x[:, None] * nx + np.arange(per_line) * self._bits).reshape(-1), ny))
            ys.append(np.repeat(np.arange(y * ny, (y + 1) * ny), len(row) * per_line))
            joined.append(np.tile(follows.reshape(-1), ny))
            first = end
        # What is to be added to the place of a bit among a plane's for its x, and a word's y.
        self._x = np.concatenate(xs) - np.arange(first) * self._bits
        self._y = np.concatenate(ys)
        # One where the bit before a word's first, or behind a word's last, is that of the neighbouring voxel.
        self._joined = np.concatenate(joined).astype(self._words.dtype)

    def draw(self, block: Coord, mask: Mask) -> None:
        """Set the bits of a block; the mask has its shape, and is C-contiguous."""
        place = self._at[block]
        place[...] = np.packbits(mask.reshape(-1), bitorder="little").view(place.dtype).reshape(place.shape)

    def draw_full(self, block: Coord) -> None:
        """Set all bits of a block."""
        place = self._at[block]
        place[...] = np.iinfo(place.dtype).max

    def pieces(self) -> Iterator[slice]:
        """Planes whose runs are made in one go, in order."""
        nz, width = self._words.shape
        step = max(1, _PIECE // width)
        return (slice(z, z + step) for z in range(0, nz, step))

    def runs(self, planes: slice) -> Runs:
        """Runs of some planes, sorted by z, y, x."""
        words, joined, top = self._words[planes], self._joined, self._bits - 1
        beside = np.zeros_like(words)
        beside[:, 1:] = (words[:, :-1] >> top) * joined[1:]
        first = _positions(words & ~(words << 1 | beside))
        beside[:, :-1] = (words[:, 1:] * joined[1:]) << top
        beside[:, -1] = 0
        last = _positions(words & ~(words >> 1 | beside))
        nz, width = words.shape
        starts = np.arange(nz) * (width * self._bits)
        counts = np.diff(np.searchsorted(first, starts), append=first.size)
        inside = first - np.repeat(starts, counts)
        column = inside // self._bits
        found = np.empty((first.size, 4), np.int32)
        found[:, 0] = self._x[column] + inside
        found[:, 1] = self._y[column]
        found[:, 2] = np.repeat(np.arange(nz) + (self._z + planes.start), counts)
        # Words between a run's first and last are its line's own: bits are as far apart as voxels.
        found[:, 3] = last - first + 1
        return found


def runs_of_blocks(
    blocks: Sequence[Coord], shape_zyx: Sequence[int], draw: Callable[[Layer, Coord], object], threads: int = 2
) -> Iterator[Runs]:
    """Runs of what lies in blocks, sorted by z, y, x, some at a time.

    Parameters
    ----------
    blocks
        Block coordinates zyx, sorted.
    shape_zyx
        Shape of a block; nx is a multiple of 8.
    draw
        Sets the bits of a block, if it has any.
    threads
        How many share the work.

    Raises
    ------
    InvalidInputError
        If a voxel lies outside the int32 range.
    """
    held: list[Runs] = []
    before: list[Layer] = []
    was_cut = False
    for some, is_cut in chain(_groups(blocks, shape_zyx), [([], False)]):
        # Runs of what was drawn before are made along with the next drawings, so that no thread waits for the other.
        pieces = [partial(layer.runs, planes) for layer in before for planes in layer.pieces()]
        drawings = [partial(draw, layer, block) for layer in some for block in layer.blocks]
        work: list[Callable[[], Any]] = [*pieces, *drawings]
        done = share(lambda one: one(), work, threads)
        found: list[Runs] = done[: len(pieces)]
        if was_cut:
            held += found
        elif held:
            every = np.concatenate([*held, *found])
            held = []
            yield every[np.argsort(every[:, 2], kind="stable")]
        else:
            yield from found
        before, was_cut = some, is_cut


def _groups(blocks: Sequence[Coord], shape_zyx: Sequence[int]) -> Iterator[tuple[list[Layer], bool]]:
    """Layers that are worth sharing together; a wide one alone, in parts, and whether more of it follows."""
    some: list[Layer] = []
    for _, group in groupby(blocks, key=lambda block: block[0]):
        parts = _cut(list(group))
        if some and len(parts) > 1:
            yield some, False
            some = []
        for part in parts[:-1]:
            yield [Layer(part, shape_zyx)], True
        some.append(Layer(parts[-1], shape_zyx))
        if len(parts) > 1 or sum(len(layer.blocks) for layer in some) >= _GROUP:
            yield some, False
            some = []
    if some:
        yield some, False


def _cut(layer: list[Coord]) -> list[list[Coord]]:
    """Whole rows of a layer, in parts of about `_WIDEST` blocks."""
    if len(layer) <= _WIDEST:
        return [layer]
    parts: list[list[Coord]] = [[]]
    for _, row in groupby(layer, key=lambda block: block[1]):
        if len(parts[-1]) >= _WIDEST:
            parts.append([])
        parts[-1] += row
    return parts


def _positions(words: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Where bits are set, counted over all words; most bytes have none."""
    data = words.reshape(-1).view(np.uint8)
    some = np.flatnonzero(data != 0)
    found = np.flatnonzero(np.unpackbits(data[some], bitorder="little").view(np.bool_))
    positions: NDArray[np.int64] = some[found >> 3] * 8 + (found & 7)
    return positions
