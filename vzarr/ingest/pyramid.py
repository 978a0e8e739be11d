"""Building all scales of a volume in one pass: each slab of a scale feeds half a slab of the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Halve = Callable[[NDArray[Any]], NDArray[Any]]
Sink = Callable[[int, int, NDArray[Any]], None]


def scales_of(shape: Sequence[int], block: Sequence[int]) -> int:
    """Number of the coarsest scale worth having: the first at which the volume fits one block.

    Parameters
    ----------
    shape, block
        Voxels, in the same order of axes.
    """
    scale = 0
    while any(size > side for size, side in zip(shape_at(shape, scale), block, strict=True)):
        scale += 1
    return scale


def shape_at(shape: Sequence[int], scale: int) -> tuple[int, ...]:
    """Shape of a volume at a scale: halved `scale` times, rounded up."""
    return tuple(-(-int(size) // (1 << scale)) for size in shape)


class Cascade:
    """Passes slabs of one block layer down the scales, holding at most one slab per scale.

    A slab at scale s has ``1/4**s`` of the voxels of a slab at scale 0, so that all buffers together hold a
    third of what the caller holds.

    Parameters
    ----------
    depth
        Planes of a slab (a block's z side); even.
    max_scale
        Coarsest scale.
    halve
        Halves an array (z, y, x) along each axis, rounding up.
    sink
        Called as ``sink(scale, z0, slab)`` once per slab and scale, in order of z; every slab but the last of a
        scale has `depth` planes.
    """

    def __init__(self, depth: int, max_scale: int, halve: Halve, sink: Sink) -> None:
        self._depth = depth
        self._max_scale = max_scale
        self._halve = halve
        self._sink = sink
        self._waiting: list[list[NDArray[Any]]] = [[] for _ in range(max_scale + 1)]
        self._next_z = [0] * (max_scale + 1)

    def push(self, slab: NDArray[Any]) -> None:
        """Take the next slab of scale 0; all but the last have `depth` planes."""
        self._emit(0, slab)

    def finish(self) -> None:
        """Pass on what still waits for a full slab."""
        for scale in range(1, self._max_scale + 1):
            self._flush(scale)

    def _emit(self, scale: int, slab: NDArray[Any]) -> None:
        self._sink(scale, self._next_z[scale], slab)
        self._next_z[scale] += len(slab)
        if scale == self._max_scale:
            return
        self._waiting[scale + 1].append(self._halve(slab))
        if sum(map(len, self._waiting[scale + 1])) >= self._depth:
            self._flush(scale + 1)

    def _flush(self, scale: int) -> None:
        parts, self._waiting[scale] = self._waiting[scale], []
        if parts:
            self._emit(scale, parts[0] if len(parts) == 1 else np.concatenate(parts))
