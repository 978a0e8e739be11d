"""Voxel sizes of a pyramid that does not say them: relative ones, by its factors or the ratios of its shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId
from vzarr.overlay.sources.base import Volume
from vzarr.overlay.sources.formats import shown


def sized(volume: Volume, finest: float = 1.0) -> Volume:
    """A volume whose every scale has a voxel size.

    Parameters
    ----------
    volume
        A source, opened; one that says its voxel sizes, or has one scale, is given back as it is.
    finest
        Size of a voxel of the finest scale along each axis, in no particular unit.
    """
    if volume.voxel_sizes or len(volume.scales) == 1:
        return volume
    factors = volume.factors or ratios([ArrayEntry(shown(s).docs, ArrayId("", "")).spec.shape for s in volume.scales])
    sizes = [tuple(finest * f for f in row) for row in factors]
    # A voxel is the mean of `f` finer ones, so its centre lies half of the others further on.
    shifts = [tuple(finest * (f - 1) / 2 for f in row) for row in factors]
    return replace(volume, voxel_sizes=sizes, translations=shifts)


def ratios(shapes: Sequence[Coord]) -> list[tuple[float, ...]]:
    """How many of the finest voxels one of each scale takes along each axis.

    Each scale is held against the one before, since the ratio to the finest one drifts where odd extents are cut or
    filled up: 37, 19, 10 are factors of 1, 2, 4.
    """
    found = [(1.0,) * len(shapes[0])]
    for fine, coarse in pairwise(shapes):
        steps = [max(1, round(a / max(1, b))) for a, b in zip(fine, coarse, strict=True)]
        found.append(tuple(f * s for f, s in zip(found[-1], steps, strict=True)))
    return found
