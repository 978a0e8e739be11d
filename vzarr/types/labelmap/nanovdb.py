"""Sparse volumes as NanoVDB files: an index grid whose active voxels are those of a body (``GET D/fvdb/{id}``).

Written after the public description of the format, ABI 32 (https://www.openvdb.org, ``nanovdb/NanoVDB.h``): a file
header, the metadata of one grid and its name, then the grid as it lies in memory, uncompressed: grid, tree, root with
a tile per upper node, upper nodes of 32^3 children, lower nodes of 16^3 and leaves of 8^3 voxels, breadth first.  The
grid is of type ``OnIndex``: it holds no values, each active voxel has an index instead, from 1 on, 0 is all else.

Coordinates are x, y, z there, so that all of the records below are in that order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.geometry import Coord
from vzarr.types.labelmap.runs import Mask
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.types.labelmap.volumes import SparseVolume

Structs = np.ndarray[Any, np.dtype[np.void]]
Vectors = NDArray[np.int32]

FILE_MAGIC, GRID_MAGIC = b"NanoVDB2", b"NanoVDB1"
VERSION = 32 << 21 | 7 << 10
"""32.7.0: major, minor and patch number in 11, 11 and 10 bits."""
ON_INDEX, INDEX_GRID = 20, 8
HAS_BOX, BREADTH_FIRST = 1 << 1, 1 << 5
NO_CHECKSUM = (1 << 64) - 1
ACTIVE = 2
SIDE = 8
"""Voxels along a leaf."""

HEADER = np.dtype([("magic", "S8"), ("version", "<u4"), ("grids", "<u2"), ("codec", "<u2")])
META = np.dtype(
    [
        ("grid_size", "<u8"), ("file_size", "<u8"), ("name_key", "<u8"), ("voxels", "<u8"), ("type", "<u4"),
        ("class", "<u4"), ("world_box", "<f8", (2, 3)), ("box", "<i4", (2, 3)), ("voxel_size", "<f8", 3),
        ("name_size", "<u4"), ("nodes", "<u4", 4), ("tiles", "<u4", 3), ("codec", "<u2"), ("blind", "<u2"),
        ("version", "<u4"),
    ]
)  # fmt: skip
MAP = [
    ("matrix_f", "<f4", (3, 3)), ("inverse_f", "<f4", (3, 3)), ("shift_f", "<f4", 3), ("taper_f", "<f4"),
    ("matrix", "<f8", (3, 3)), ("inverse", "<f8", (3, 3)), ("shift", "<f8", 3), ("taper", "<f8"),
]  # fmt: skip
GRID = np.dtype(
    [
        ("magic", "S8"), ("checksum", "<u8"), ("version", "<u4"), ("flags", "<u4"), ("number", "<u4"),
        ("count", "<u4"), ("size", "<u8"), ("name", "S256"), *MAP, ("world_box", "<f8", (2, 3)),
        ("voxel_size", "<f8", 3), ("class", "<u4"), ("type", "<u4"), ("blind_offset", "<i8"), ("blind_count", "<u4"),
        ("data0", "<u4"), ("values", "<u8"), ("data2", "<u8"),
    ]
)  # fmt: skip
TREE = np.dtype([("offsets", "<i8", 4), ("nodes", "<u4", 3), ("tiles", "<u4", 3), ("voxels", "<u8")])
ROOT = np.dtype([("box", "<i4", (2, 3)), ("tiles", "<u4"), ("pad", "V4"), ("stats", "<u8", 5), ("more", "V24")])
TILE = np.dtype([("key", "<u8"), ("child", "<i8"), ("state", "<u4"), ("pad", "V4"), ("value", "<u8")])
LEAF = np.dtype(
    [("low", "<i4", 3), ("extent", "u1", 3), ("flags", "u1"), ("mask", "u1", 64), ("first", "<u8"), ("sums", "<u8")]
)


def _inner(log2_side: int) -> np.dtype[np.void]:
    children = 1 << 3 * log2_side
    return np.dtype(
        [
            ("box", "<i4", (2, 3)), ("flags", "<u8"), ("values", "u1", children // 8), ("mask", "u1", children // 8),
            ("stats", "<u8", 4), ("child", "<i8", children),
        ]
    )  # fmt: skip


UPPER, LOWER = _inner(5), _inner(4)
_NAME = re.compile(r"[A-Za-z0-9._ +-]{1,200}")


def check_name(name: str) -> str:
    """`name` if a grid (and a file) may be called so.

    Raises
    ------
    InvalidInputError
        If it is empty, too long, or has other characters than letters, digits, blanks and ``._+-``.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"a grid's name has 1 to 200 letters, digits, blanks or ._+-; it cannot be {name!r}")
    return name


@dataclass(frozen=True)
class _Leaves:
    """All leaves of a grid, breadth first.

    Parameters
    ----------
    coords
        Shape (n, 3), xyz: the leaf's first voxel divided by 8.
    masks
        bool, shape (n, 8, 8, 8), xyz.
    """

    coords: Vectors
    masks: Mask

    @classmethod
    def of_blocks(cls, blocks: Iterable[tuple[Coord, Mask]]) -> _Leaves:
        parts = [_leaves_of(coord, mask) for coord, mask in blocks]
        coords = np.concatenate([np.empty((0, 3), np.int32), *(c for c, _ in parts)])
        masks = np.concatenate([np.empty((0, SIDE, SIDE, SIDE), np.bool_), *(m for _, m in parts)])
        order = np.lexsort((_offset(coords, 4), _offset(coords >> 4, 5), _root_key(coords)))
        return cls(coords[order], masks[order])


def _leaves_of(coord_zyx: Coord, mask_zyx: Mask) -> tuple[Vectors, Mask]:
    """The leaves of one block that have an active voxel."""
    if any(side % SIDE for side in mask_zyx.shape):
        raise InvalidInputError(f"blocks of {mask_zyx.shape} (zyx) cannot be cut into leaves of 8 x 8 x 8")
    grid = [side // SIDE for side in mask_zyx.shape[::-1]]
    cut = mask_zyx.transpose().reshape(grid[0], SIDE, grid[1], SIDE, grid[2], SIDE).transpose(0, 2, 4, 1, 3, 5)
    kept = np.argwhere(cut.any((3, 4, 5)))
    first = np.array(coord_zyx[::-1]) * grid
    return (kept + first).astype(np.int32), cut[tuple(kept.T)]


def _offset(coords: Vectors, log2_side: int) -> NDArray[np.int64]:
    """Place of children in the table of their node."""
    x, y, z = (coords & ((1 << log2_side) - 1)).astype(np.int64).T
    place: NDArray[np.int64] = x << 2 * log2_side | y << log2_side | z
    return place


def _root_key(coords: Vectors) -> NDArray[np.uint64]:
    """Key of the upper node that leaves lie in: 21 bits an axis, z lowest, of unsigned 32-bit voxels / 4096."""
    x, y, z = ((coords.astype(np.int64) * SIDE & 0xFFFF_FFFF) >> 12).astype(np.uint64).T
    key: NDArray[np.uint64] = x << np.uint64(42) | y << np.uint64(21) | z
    return key


def _leaf_structs(leaves: _Leaves) -> tuple[Structs, Vectors]:
    """Records of leaves, and their boxes, shape (n, 2, 3), both corners included."""
    n = len(leaves.coords)
    found = np.zeros(n, LEAF)
    low, high = np.zeros((n, 3), np.int32), np.zeros((n, 3), np.int32)
    for axis in range(3):
        others = tuple(a + 1 for a in range(3) if a != axis)
        along = np.any(leaves.masks, axis=others)
        low[:, axis] = along.argmax(1)
        high[:, axis] = SIDE - 1 - along[:, ::-1].argmax(1)
    boxes = np.stack([low, high], 1) + (leaves.coords * SIDE)[:, None]
    packed = np.packbits(leaves.masks.reshape(n, SIDE**3), axis=1, bitorder="little")
    words = leaves.masks.reshape(n, SIDE, SIDE**2).sum(2, dtype=np.uint64)
    sizes = words.sum(1, dtype=np.uint64)
    before = np.cumsum(words, 1, dtype=np.uint64)[:, :-1] << (np.arange(7, dtype=np.uint64) * np.uint64(9))
    found["low"], found["extent"], found["flags"], found["mask"] = boxes[:, 0], high - low, ACTIVE, packed
    found["first"] = np.cumsum(sizes) - sizes + np.uint64(1)
    found["sums"] = np.bitwise_or.reduce(before, 1)
    return found, boxes.astype(np.int32)


def _inner_structs(
    dtype: DTypeLike, coords: Vectors, boxes: Vectors, log2_side: int, child_size: int
) -> tuple[Structs, Vectors, Vectors]:
    """Records of the nodes one level above `coords`, their coordinates and their boxes.

    Children lie one after the other behind all of these nodes.
    """
    above = coords >> log2_side
    first = np.flatnonzero(np.concatenate(([True], (above[1:] != above[:-1]).any(1)))) if len(above) else _NONE
    owner = np.repeat(np.arange(len(first)), np.diff(first, append=len(above)))
    found = np.zeros(len(first), dtype)
    low = np.minimum.reduceat(boxes[:, 0], first) if len(first) else boxes[:, 0]
    high = np.maximum.reduceat(boxes[:, 1], first) if len(first) else boxes[:, 1]
    found["box"] = box = np.stack([low, high], 1)
    found["flags"] = ACTIVE
    place = _offset(coords, log2_side)
    mask = np.zeros((len(first), 1 << 3 * log2_side), np.bool_)
    mask[owner, place] = True
    found["mask"] = np.packbits(mask, axis=1, bitorder="little")
    to_end = (len(first) - owner) * found.dtype.itemsize
    found["child"][owner, place] = to_end + np.arange(len(coords)) * child_size
    return found, above[first], box


_NONE = np.empty(0, np.int64)


def _tiles(uppers: Vectors) -> Structs:
    found = np.zeros(len(uppers), TILE)
    found["key"] = _root_key(uppers << 9)
    found["child"] = ROOT.itemsize + len(uppers) * TILE.itemsize + np.arange(len(uppers)) * UPPER.itemsize
    return found


def _map(size_xyz: NDArray[np.float64], shift: NDArray[np.float64]) -> dict[str, Any]:
    """From voxels to the world: x = size * i + shift."""
    matrix, inverse = np.diag(size_xyz), np.diag(1 / size_xyz)
    exact = {"matrix": matrix, "inverse": inverse, "shift": shift, "taper": 1.0}
    return {**exact, **{f"{name}_f": value for name, value in exact.items()}}


def encode(
    blocks: Iterable[tuple[Coord, Mask]], name: str, voxel_xyz: Sequence[float] = (1, 1, 1), scale: int = 0
) -> bytes:
    """A NanoVDB file of one ``OnIndex`` grid.

    Parameters
    ----------
    blocks
        Block coordinates (zyx) and the mask of each; all of one shape, whose sides are multiples of 8.
    name
        Of the grid; see `check_name`.
    voxel_xyz
        Edges of a voxel of scale 0, in any unit.
    scale
        Of the voxels: the grid's map puts them where they lie in scale 0.
    """
    leaves = _Leaves.of_blocks(blocks)
    leaf, boxes = _leaf_structs(leaves)
    lower, lowers, boxes = _inner_structs(LOWER, leaves.coords, boxes, 4, LEAF.itemsize)
    upper, uppers, boxes = _inner_structs(UPPER, lowers, boxes, 5, LOWER.itemsize)
    tiles, root, tree = _tiles(uppers), np.zeros((), ROOT), np.zeros((), TREE)
    empty = not len(tiles)
    info = np.iinfo(np.int32)
    box = np.array([[info.max] * 3, [info.min] * 3]) if empty else np.array([boxes[:, 0].min(0), boxes[:, 1].max(0)])
    root["box"], root["tiles"] = box, len(tiles)
    parts = [tree, root, tiles, upper, lower, leaf]
    starts = np.cumsum([0, *(p.nbytes for p in parts)])
    tree["offsets"], tree["nodes"] = starts[[5, 4, 3, 1]], (len(leaf), len(lower), len(upper))
    tree["voxels"] = np.count_nonzero(leaves.masks)
    grid = _grid(check_name(name), GRID.itemsize + int(starts[-1]), box, int(tree["voxels"]))
    place = _map(np.array(voxel_xyz, np.float64) * (1 << scale), np.array(voxel_xyz) * ((1 << scale) - 1) / 2)
    for field, value in place.items():
        grid[field] = value
    grid["voxel_size"] = np.diag(place["matrix"])
    grid["world_box"] = 0 if empty else (box + np.array([[0], [1]])) * grid["voxel_size"] + grid["shift"]
    return _file_head(grid, tree, box) + b"".join(p.tobytes() for p in (grid, *parts))


def encode_volume(volume: SparseVolume, name: str = "") -> bytes:
    """A body or supervoxel as `encode` gives it.

    Parameters
    ----------
    name
        Of the grid; by default as `default_name`.

    Raises
    ------
    InvalidInputError
        If no grid can be called so.
    NotFoundError
        If it has no voxel at this scale.
    """
    called = check_name(name or default_name(volume))
    masks = [(coord, mask) for coord, mask in volume.clipped_masks() if mask.any()]
    if not masks:
        raise NotFoundError(f"label {volume.index.label} has no voxel at scale {volume.scale}")
    edges = VoxelGeometry.of(volume.instance.config).voxel_zyx
    return encode(masks, called, edges[::-1], volume.scale)


def default_name(volume: SparseVolume) -> str:
    """Instance and label, other characters than `check_name` takes replaced."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", volume.instance.name)
    return f"{plain[:160]}-{volume.index.label}"


def _grid(name: str, size: int, box: NDArray[Any], voxels: int) -> NDArray[Any]:
    grid = np.zeros((), GRID)
    said: dict[str, Any] = {
        "magic": GRID_MAGIC, "checksum": NO_CHECKSUM, "version": VERSION, "flags": HAS_BOX | BREADTH_FIRST, "count": 1,
        "size": size, "name": name.encode(), "class": INDEX_GRID, "type": ON_INDEX, "blind_offset": size,
        "values": voxels + 1,
    }  # fmt: skip
    for field, value in said.items():
        grid[field] = value
    return grid


def _file_head(grid: NDArray[Any], tree: NDArray[Any], box: NDArray[Any]) -> bytes:
    """Header of the file, metadata of its grid, and the grid's name."""
    header, meta = np.zeros((), HEADER), np.zeros((), META)
    header["magic"], header["version"], header["grids"] = FILE_MAGIC, VERSION, 1
    name: bytes = grid["name"].item()
    said: dict[str, Any] = {
        "grid_size": grid["size"], "file_size": grid["size"], "name_key": _name_key(name), "voxels": tree["voxels"],
        "type": ON_INDEX, "class": INDEX_GRID, "world_box": grid["world_box"], "box": box,
        "voxel_size": grid["voxel_size"], "name_size": len(name) + 1, "nodes": (*tree["nodes"].tolist(), 1),
        "version": VERSION,
    }  # fmt: skip
    for field, value in said.items():
        meta[field] = value
    return header.tobytes() + meta.tobytes() + name + b"\0"


def _name_key(name: bytes) -> int:
    """Hash by which readers look up a grid's name."""
    key = 0
    for letter in name:
        key = (key * 67 + letter + (key >> 56)) & (1 << 64) - 1
    return key
