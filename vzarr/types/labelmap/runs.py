"""Sets of voxels as runs along x: from masks and back, joined, clipped, and cut into blocks.

Runs are int32 arrays of shape (n, 4) with columns x, y, z, length, as DVID writes them; boxes, origins and
block shapes are zyx. A run never leaves the int32 range. No function here loops over voxels or runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.geometry import Box

Runs = NDArray[np.int32]
Mask = NDArray[np.bool_]
Coord = tuple[int, int, int]
# A box whose sides may be open: None stands for no bound.
Bounds = tuple[Sequence[int | None], Sequence[int | None]]

_INT32 = np.iinfo(np.int32)


def no_runs() -> Runs:
    """The empty set."""
    return np.empty((0, 4), np.int32)


def runs_of_mask(mask_zyx: Mask, origin_zyx: Sequence[int] = (0, 0, 0)) -> Runs:
    """Runs of the True voxels of a mask, sorted by z, y, x.

    Parameters
    ----------
    mask_zyx
        bool, three axes.
    origin_zyx
        Voxel coordinate of the mask's first voxel.

    Raises
    ------
    InvalidInputError
        A voxel would lie outside the int32 range.
    """
    nz, ny, nx = mask_zyx.shape
    oz, oy, ox = origin_zyx
    check_range([oz, oy, ox, oz + nz - 1, oy + ny - 1, ox + nx - 1] if mask_zyx.size else [])
    # One False after each row and one in front: every run then has a beginning and an end of its own.
    pitch = nx + 1
    flat = np.zeros(nz * ny * pitch + 1, np.bool_)
    flat[1:].reshape(nz, ny, pitch)[:, :, :nx] = mask_zyx
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    begin, row = edges[::2], edges[::2] // pitch
    z = row // ny if ny else row
    runs = np.empty((begin.size, 4), np.int32)
    np.subtract(begin, row * pitch - ox, out=runs[:, 0], casting="unsafe")
    np.subtract(row, z * ny - oy, out=runs[:, 1], casting="unsafe")
    np.add(z, oz, out=runs[:, 2], casting="unsafe")
    np.subtract(edges[1::2], begin, out=runs[:, 3], casting="unsafe")
    return runs


def runs_of_blocks(blocks: Iterable[tuple[Sequence[int], Mask]]) -> Runs:
    """Runs of a set given block by block, joined across block borders and sorted by z, y, x.

    Parameters
    ----------
    blocks
        (block coordinate zyx, mask) pairs; all masks have the shape of a block.
    """
    parts = [runs_of_mask(mask, [c * n for c, n in zip(coord, mask.shape, strict=True)]) for coord, mask in blocks]
    return join_runs(np.concatenate([no_runs(), *parts]))


def runs_of_coords(coords_zyx: NDArray[np.integer]) -> Runs:
    """Runs of single points, for example of block coordinates (DVID's coarse volumes).

    Parameters
    ----------
    coords_zyx
        Integers, shape (n, 3), in any order, repeats allowed.
    """
    coords = np.asarray(coords_zyx, np.int64).reshape(-1, 3)
    z, y, x = coords.T
    return join_runs(_int32(x, y, z, np.ones(len(coords), np.int64)))


def join_runs(runs: Runs) -> Runs:
    """Union of runs: sorted by z, y, x, with touching and overlapping runs of a row made one.

    Raises
    ------
    InvalidInputError
        A joined run is longer than int32 can say.
    """
    if not len(runs):
        return no_runs()
    x, y, z, length = runs.T.astype(np.int64)
    # All rows on one axis, with a gap of at least one between them, so that runs of two rows never touch.
    x0 = int(x.min())
    pitch = int((x + length).max()) - x0 + 1
    start = _extend(_key(z, y), x - x0, pitch)
    order = np.argsort(start)
    start = start[order]
    reach = np.maximum.accumulate(start + length[order])
    opens = np.flatnonzero(np.concatenate(([True], start[1:] > reach[:-1])))
    closes = np.append(opens[1:], len(order)) - 1
    first = order[opens]
    return _int32(x[first], y[first], z[first], reach[closes] - start[opens])


def clip_runs(runs: Runs, bounds: Bounds) -> Runs:
    """Part of the runs inside a box (lo, hi), zyx, hi exclusive; None leaves a side open. Keeps the order."""
    (z0, y0, x0), (z1, y1, x1) = bounds
    x, y, z, length = runs.T.astype(np.int64)
    end = x + length if x1 is None else np.minimum(x + length, x1)
    x = x if x0 is None else np.maximum(x, x0)
    keep = end > x
    for values, low, high in ((z, z0, z1), (y, y0, y1)):
        if low is not None:
            keep &= values >= low
        if high is not None:
            keep &= values < high
    clipped: Runs = np.stack([x, y, z, end - x], 1)[keep].astype(np.int32)
    return clipped


def runs_to_mask(runs: Runs, box: Box) -> Mask:
    """Mask of a box (zyx, hi exclusive): True where a run covers a voxel; what lies outside is ignored."""
    lo, hi = box
    nz, ny, nx = (max(0, b - a) for a, b in zip(lo, hi, strict=True))
    x, y, z, length = clip_runs(runs, box).T.astype(np.int64)
    start = ((z - lo[0]) * ny + (y - lo[1])) * (nx + 1) + (x - lo[2])
    # +1 where a run begins and -1 where it ends: the running sum says how many runs cover a voxel.
    delta = np.zeros(nz * ny * (nx + 1), np.int32)
    np.add.at(delta, start, 1)
    np.add.at(delta, start + length, -1)
    covered: Mask = np.cumsum(delta, dtype=np.int32).reshape(nz, ny, nx + 1)[:, :, :nx] > 0
    return covered


def runs_by_block(runs: Runs, block_zyx: Sequence[int]) -> Iterator[tuple[Coord, Runs]]:
    """Cut runs at block borders and group them.

    Clip runs from outside first: one of them may claim 2^31 voxels and fall into as many pieces as fit.

    Yields
    ------
    (block coordinate zyx, runs)
        Sorted by block; every run lies within its block.
    """
    if not len(runs):
        return
    bz, by, bx = block_zyx
    x, y, z, length = runs.T.astype(np.int64)
    pieces = (x + length - 1) // bx - x // bx + 1
    which = np.repeat(np.arange(len(runs)), pieces)
    nth = np.arange(which.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    block_x = x[which] // bx + nth
    begin = np.maximum(x[which], block_x * bx)
    end = np.minimum((x + length)[which], (block_x + 1) * bx)
    cut = np.stack([begin, y[which], z[which], end - begin], 1).astype(np.int32)
    key = _key(z[which] // bz, y[which] // by, block_x)
    order = np.argsort(key, kind="stable")
    cut, key = cut[order], key[order]
    for part in np.split(cut, np.flatnonzero(key[1:] != key[:-1]) + 1):
        vx, vy, vz, _ = part[0].tolist()
        yield (vz // bz, vy // by, vx // bx), part


def count_voxels(runs: Runs) -> int:
    """Sum of all lengths; voxels that several runs cover count several times."""
    return int(runs[:, 3].sum(dtype=np.int64))


def _key(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number per row that sorts and compares as the rows do."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        low = int(column.min())
        key = _extend(key, column - low, int(column.max()) - low + 1)
    return key


def _extend(key: NDArray[np.int64], column: NDArray[np.int64], span: int) -> NDArray[np.int64]:
    """Sort by `key`, then by `column`, whose values are in ``range(span)``."""
    if (int(key.max()) + 1) * span > 2**62:
        # Numbering the keys in use leaves room: there are far fewer of them than of possible ones.
        key = np.unique(key, return_inverse=True)[1]
    return key * span + column


def _int32(x: NDArray[np.int64], y: NDArray[np.int64], z: NDArray[np.int64], length: NDArray[np.int64]) -> Runs:
    """Put columns together, refusing what int32 cannot hold."""
    if len(x):
        low = min(int(v.min()) for v in (x, y, z))
        high = max(int((x + length).max()) - 1, *(int(v.max()) for v in (y, z, length)))
        check_range([low, high])
    return np.stack([x, y, z, length], 1).astype(np.int32)


def check_range(values: Sequence[int]) -> None:
    """Refuse coordinates that int32 cannot hold.

    Raises
    ------
    InvalidInputError
        If there is one.
    """
    if values and (min(values) < _INT32.min or max(values) > _INT32.max):
        raise InvalidInputError(f"voxels from {min(values)} to {max(values)} leave the range of 32-bit coordinates")
