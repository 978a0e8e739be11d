"""Agglomeration tables, checked: which supervoxel belongs to which body, or which ones belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap.rows import Labels


def as_array(table: ArrayLike) -> NDArray[Any]:
    """A table as an array; lists of integers stay such, where numpy makes floats of those on both sides of 2^63."""
    found = np.asarray(table)
    if found.dtype.kind == "f" and not hasattr(table, "dtype"):
        exact = np.array(table, object)
        if all(isinstance(v, int) and 0 <= v < 1 << 64 for v in exact.flat):
            return exact.astype(np.uint64)
    return found


def checked_pairs(table: NDArray[Any], name: str) -> Labels:
    """A raw table as uint64, shape (n, 2).

    Raises
    ------
    InvalidInputError
        If it has not two columns, holds no integers, or a negative one.
    """
    if table.ndim != 2 or table.shape[1] != 2:
        raise InvalidInputError(f"{name}: a mapping has 2 columns (supervoxel, body), this has shape {table.shape}")
    if table.dtype.kind not in "iu":
        raise InvalidInputError(f"{name}: a mapping holds integers, this holds {table.dtype}")
    if table.dtype.kind == "i" and table.size and table.min() < 0:
        raise InvalidInputError(f"{name}: {table.min()} is negative, so it is no label")
    return table.astype(np.uint64)


def check_mapping(table: NDArray[Any], name: str) -> Labels:
    """Sort a raw table, drop repeated rows and refuse what cannot hold.

    Parameters
    ----------
    table
        Shape (n, 2), integers: supervoxel, body.
    name
        What messages call it.

    Returns
    -------
    ndarray
        Shape (m, 2), uint64, ascending, one row per supervoxel; background (0, 0) is left out.

    Raises
    ------
    InvalidInputError
        As `checked_pairs`; also if a supervoxel has two bodies, or exactly one of the two is 0.
    """
    pairs = checked_pairs(table, name)
    rows = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    rows = rows[np.concatenate(([True], (rows[1:] != rows[:-1]).any(1)))] if len(rows) else rows
    again = np.flatnonzero(rows[1:, 0] == rows[:-1, 0])
    if again.size:
        (supervoxel, one), (_, other) = rows[again[0]], rows[again[0] + 1]
        raise InvalidInputError(f"{name}: supervoxel {supervoxel} belongs to body {one} and to body {other}")
    if len(rows) and rows[0, 0] == 0 and rows[0, 1] != 0:
        raise InvalidInputError(f"{name}: supervoxel 0 is background and cannot belong to body {rows[0, 1]}")
    bodies: Labels = rows[rows[:, 0] != 0]
    if len(bodies) and not bodies[:, 1].all():
        lost = bodies[bodies[:, 1] == 0][0, 0]
        raise InvalidInputError(f"{name}: supervoxel {lost} cannot belong to body 0, which is background")
    return bodies


def check_edges(table: NDArray[Any], name: str) -> Labels:
    """Pairs of supervoxels that belong together, as uint64, shape (n, 2).

    Raises
    ------
    InvalidInputError
        As `checked_pairs`; also if a supervoxel is 0.
    """
    pairs = checked_pairs(table, name)
    if not pairs.all():
        raise InvalidInputError(f"{name}: supervoxel 0 is background and belongs together with nothing")
    return pairs


def components(edges: Labels) -> tuple[Labels, Labels]:
    """Connected components of a graph.

    Parameters
    ----------
    edges
        Shape (n, 2).

    Returns
    -------
    nodes, roots
        uint64, shape (m,): every node, ascending, and the smallest node of its component.
    """
    nodes, where = np.unique(edges, return_inverse=True)
    a, b = where.reshape(-1, 2).T
    root = np.arange(len(nodes))
    while True:
        low = np.minimum(root[a], root[b])
        lower = root.copy()
        for end in (a, b):
            np.minimum.at(lower, root[end], low)
        while not np.array_equal(lower[lower], lower):
            lower = lower[lower]
        if np.array_equal(lower, root):
            return nodes, nodes[root]
        root = lower
