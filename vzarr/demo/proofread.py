"""Proofreading by the book: what to cleave and merge to get to the truth, doing it, and checking every body."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vzarr.demo.client import Bodies, Labels
from vzarr.errors import VzarrError

Table = NDArray[np.uint64]
"""Rows (supervoxel, body), sorted by supervoxel, one for every supervoxel of a volume."""


def promise(held: bool, what: str) -> None:
    """Stop when something does not hold that the documentation promises.

    Raises
    ------
    VzarrError
        It does not hold.
    """
    if not held:
        raise VzarrError(f"a promise does not hold: {what}")


def complete(mapping: Table, supervoxels: Labels) -> Table:
    """Table of all supervoxels: those without a row are their own bodies, rows of absent ones go."""
    known = mapping[np.isin(mapping[:, 0], supervoxels)]
    rest = supervoxels[~np.isin(supervoxels, known[:, 0])]
    table = np.concatenate([known, np.stack([rest, rest], 1)])
    return table[np.argsort(table[:, 0])]


def largest_overlap(supervoxels: Labels, truth: Labels) -> Table:
    """True body of each supervoxel: the one it shares most voxels with, the smallest of several.

    Parameters
    ----------
    supervoxels, truth
        Volumes of the same shape; 0 is background and has no part in it.
    """
    inside = (supervoxels != 0) & (truth != 0)
    ids = [np.unique(volume[inside]) for volume in (supervoxels, truth)]
    # One number per pair sorts many times faster than rows of two.
    rank = [np.searchsorted(known, volume[inside]) for known, volume in zip(ids, (supervoxels, truth), strict=True)]
    pair, count = np.unique(rank[0] * len(ids[1]) + rank[1], return_counts=True)
    piece, body = np.divmod(pair, max(1, len(ids[1])))
    order = np.lexsort((body, -count, piece))
    best = order[np.flatnonzero(np.diff(piece[order], prepend=-1))]
    return np.stack([ids[0][piece[best]], ids[1][body[best]]], 1)


@dataclass(frozen=True)
class Work:
    """How far proofreading has come.

    Parameters
    ----------
    table
        The bodies as they are now.
    cleaves, merges
        Requests made so far.
    """

    table: Table
    cleaves: int = 0
    merges: int = 0


def cleave_apart(bodies: Bodies, work: Work) -> Work:
    """Cut every body of several supervoxels into these, one cleave each but for the first."""
    table = work.table.copy()
    first = np.unique(table[:, 1], return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(table)), first)
    for row in rest.tolist():
        supervoxel, whole = table[row].tolist()
        table[row, 1] = bodies.cleave(whole, [supervoxel])
    return replace(work, table=table, cleaves=work.cleaves + len(rest))


def merge_together(bodies: Bodies, work: Work, truth: Table, most: int | None = None) -> Work:
    """Join the bodies that lie in one true body, one pair per request.

    Parameters
    ----------
    truth
        Supervoxel -> true body, for the same supervoxels as the table.
    most
        Stop after so many requests.
    """
    table = work.table.copy()
    pairs = np.unique(np.stack([truth[:, 1], table[:, 1]], 1), axis=0)
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=pairs[0, 0] + np.uint64(1)))
    targets = np.repeat(pairs[starts, 1], np.diff(starts, append=len(pairs)))
    requests = [(int(t), int(o)) for t, o in zip(targets, pairs[:, 1], strict=True) if t != o][:most]
    for target, other in requests:
        bodies.merge(target, other)
        table[table[:, 1] == other, 1] = target
    return replace(work, table=table, merges=work.merges + len(requests))


def body_volume(supervoxels: Labels, table: Table) -> Labels:
    """Volume of bodies; 0 stays 0."""
    lookup = np.zeros(int(table[-1, 0]) + 1, np.uint64)
    lookup[table[:, 0]] = table[:, 1]
    return lookup[supervoxels]


def check_bodies(bodies: Bodies, supervoxels: Labels, table: Table, sample: int, seed: int = 0) -> int:
    """Compare every body's size, the mapping, and some sparse volumes with numpy on the voxels.

    Parameters
    ----------
    bodies
        What the server says.
    supervoxels
        The volume, its first voxel at 0.
    table
        Bodies of all its supervoxels as they should be.
    sample
        Sparse volumes to compare, chosen by `seed`.

    Returns
    -------
    int
        How many bodies there are.

    Raises
    ------
    VzarrError
        Something differs.
    """
    volume = body_volume(supervoxels, table)
    present, counts = np.unique(volume[volume != 0], return_counts=True)
    promise(bool((bodies.sizes(present) == counts).all()), "the size of every body is that of its voxels")
    gone = np.setdiff1d(table[:, 0], present)
    promise(not bodies.sizes(gone).any(), "what was merged away has no voxels")
    promise(bool((bodies.mapping(table[:, 0]) == table[:, 1]).all()), "every supervoxel is in its body")
    chosen = np.random.default_rng(seed).permutation(present)[:sample]
    for body in chosen.tolist():
        found = np.sort(voxels_of(bodies.runs(body), volume.shape))
        same = np.array_equal(found, np.flatnonzero(volume == body))
        promise(same, f"the sparse volume of body {body} is exactly its voxels")
    return len(present)


def voxels_of(runs: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Flat positions (C order, zyx) of the voxels of runs (x, y, z, length)."""
    x, y, z, length = runs.astype(np.int64).T
    start = np.ravel_multi_index((z, y, x), shape)
    within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    positions: NDArray[np.int64] = np.repeat(start, length) + within
    return positions
