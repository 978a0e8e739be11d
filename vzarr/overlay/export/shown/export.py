"""A version written out as N5, for tools that read no Zarr."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from vzarr.geometry import Coord, blocks_of_box, box_of_block, intersect, iter_coords
from vzarr.overlay.export.shown.n5 import N5Array, N5View
from vzarr.overlay.export.shown.pyramids import Chunks
from vzarr.overlay.export.standalone import Flattened, chunk_places, whole_folder
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.reading.regions import share
from vzarr.overlay.sources.n5write import block_key, write_attributes
from vzarr.overlay.store import VersionStore

_BATCH = 256


def flatten_n5(store: VersionStore, target: str | os.PathLike[str]) -> Flattened:
    """Write a version as an N5 container (see `shown.n5`); keys that belong to no array are left out.

    Parameters
    ----------
    store
        Of the version.
    target
        Folder to make; it appears when it is complete.

    Raises
    ------
    AlreadyExistsError
        If something is there.
    UnsupportedError
        If an array has a data type or grid that N5 has not.
    ConflictError
        If the version has chunks in conflict.
    StorageError
        If an object of the version is missing, or the folder cannot be written.
    """
    view, keys = N5View.of(store), 0
    with whole_folder(target) as draft:
        objects = FileObjects(draft)
        for path, named in sorted(view.paths().items()):
            entry = view.entries[path]
            if isinstance(entry, ArrayEntry):
                keys += _write_blocks(objects, named, Chunks(store, path, entry))
            said = view.attributes(named)
            assert said is not None
            write_attributes(objects, named, said)
            keys += 1
        shutil.rmtree(draft / "tmp", ignore_errors=True)
    return Flattened(keys, 0)


def _write_blocks(objects: FileObjects, path: str, chunks: Chunks) -> int:
    array = N5Array.of(chunks)

    def one(coord: Coord) -> bool:
        block = array.block(coord)
        if block is not None:
            objects.put(block_key(path, coord), block)
        return block is not None

    written, batch = 0, []
    for coord in _coords(chunks):
        batch.append(coord)
        if len(batch) == _BATCH:
            written += sum(share(one, batch))
            batch = []
    return written + sum(share(one, batch))


def _coords(chunks: Chunks) -> Iterator[Coord]:
    """Chunks that may hold something other than 0."""
    grid = blocks_of_box(((0,) * len(chunks.shape), chunks.shape), chunks.chunks)
    if chunks.codec.fill:
        yield from iter_coords(grid)
        return
    for coord, _ in chunk_places(chunks.store.version.view, chunks.entry):
        # A shard is many chunks.
        within = blocks_of_box(box_of_block(coord, chunks.codec.shape), chunks.chunks)
        yield from iter_coords(intersect(grid, within))
