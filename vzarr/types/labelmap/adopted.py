"""The index of a labelmap whose voxels were adopted: one pass over all blocks that the source has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Coord, box_of_block, intersect, is_empty, slices
from vzarr.types import voxels
from vzarr.types.labelmap import bulk, rows
from vzarr.types.labelmap.kernels import count_labels

if TYPE_CHECKING:
    from vzarr.overlay.version import Version
    from vzarr.types.base import Instance

_AXES = 3


def build_index(instance: Instance) -> None:
    """Count every label in every block and write the index; may be done again after it was interrupted."""
    coords, labels, counts = _counts(instance.version, voxels.array_path(instance.name))
    bulk.build_index(instance, rows.pack_blocks(coords), labels, counts)


def _counts(version: Version, path: str) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint32]]:
    """Voxels of each label in each block of an array: block coordinates (n, 3), labels (n,), voxels (n,)."""
    coords: list[NDArray[np.int64]] = [np.zeros((0, _AXES), np.int64)]
    labels: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    counts: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]
    for coord, block in shown_blocks(version, path, version.chunk_coords(path).tolist()):
        found, number = count_labels(block)
        coords.append(np.tile(np.array(coord, np.int64), (len(found), 1)))
        labels.append(found)
        counts.append(number)
    return np.concatenate(coords), np.concatenate(labels), np.concatenate(counts)


def shown_blocks(
    version: Version, path: str, wanted: Iterable[Sequence[int]]
) -> Iterator[tuple[Coord, NDArray[np.uint64]]]:
    """Blocks of an array, cut to what it shows: what stands beyond the border of a source is nobody's."""
    window, chunks = version.bounds(path), version.chunk_shape(path)
    for coord, block in version.read_chunks(path, wanted):
        box = box_of_block(coord, chunks)
        part = intersect(box, window) if window is not None else box
        if block is not None and not is_empty(part):
            yield coord, np.ascontiguousarray(block[slices(part, box[0])], np.uint64)
