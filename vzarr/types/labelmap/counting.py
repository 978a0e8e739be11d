"""Counting all voxels of a labelmap that are there already, in batches, restartable, and the index made of the counts.

Counts are kept beside the open version until its index is made of them, so that who runs this again after a crash
counts only what is missing; they go away with the index, or with the version's commit.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import StorageError
from vzarr.geometry import Coord, box_of_block, intersect, is_empty, slices
from vzarr.overlay import layout
from vzarr.overlay.reading.identity import digest_of
from vzarr.types import voxels
from vzarr.types.labelmap import recount
from vzarr.types.labelmap.edits import NOBODY, Author
from vzarr.types.labelmap.recount import Indexed
from vzarr.types.labelmap.tally import Tally, tally

if TYPE_CHECKING:
    from vzarr.overlay.version import Version
    from vzarr.types.base import Instance

BATCH = 256
"""Blocks that are counted as one task."""
PART_ENTRIES = 1 << 24
"""Pairs of block and label that are held in memory at a time, about."""

Coords = NDArray[np.int64]


def index_voxels(
    instance: Instance, count: Callable[[str, Spill], None], *, batch: int = BATCH, author: Author = NOBODY
) -> Indexed:
    """Make the index of an open version's labelmap from its voxels and its mapping, as one edit.

    Parameters
    ----------
    count
        Counts the batches that are missing, given the path of the array and where counts are kept.
    batch
        Blocks of a batch.

    Raises
    ------
    ConflictError
        If somebody edited meanwhile, or is writing voxels.
    SealedError
        If the version is not open.
    """
    version, path = instance.version, voxels.array_path(instance.folder)
    mark = recount.mark_of(instance)
    coords = version.chunk_coords(path) if version.has_array(path) else np.empty((0, 3), np.int64)
    with version.writing():
        spill = Spill.begin(instance, mark, coords, batch)
        count(path, spill)
        found = recount.replace_index(instance, mark, partial(_parts, spill), author)
        spill.remove()
    return found


def build_index(instance: Instance) -> None:
    """Make the index of a labelmap whose voxels were adopted, in this process; may be done again after a crash."""

    def count(path: str, spill: Spill) -> None:
        for number in spill.missing():
            spill.keep(number, counted(instance.version, path, spill.batches[number]))

    index_voxels(instance, count)


@dataclass(frozen=True)
class Spill:
    """Counts on their way, one object a batch, in a folder that a commit removes.

    Parameters
    ----------
    version, folder
        Where.
    batches
        Blocks.
    names
        Names of the objects: each tells what state of its blocks was counted.
    """

    version: Version
    folder: str
    batches: Sequence[Coords]
    names: Sequence[str]

    @classmethod
    def begin(cls, instance: Instance, mark: bytes, coords: Coords, batch: int) -> Spill:
        """Take up the counts of an earlier run, of blocks that have not changed since (see `digest_of`)."""
        folder = layout.aside(instance.version.view.node, f"index-{instance.info.data_uuid}")
        digest = hashlib.sha256(np.ascontiguousarray(coords, "<i8").tobytes()).hexdigest()
        plan = orjson.dumps({"mark": mark.hex(), "blocks": digest, "batch": batch})
        objects = instance.version.repo.objects
        if objects.get(f"{folder}/plan") != plan:
            objects.delete_tree(folder)
            objects.put(f"{folder}/plan", plan)
        starts = range(batch, len(coords), batch)
        batches = np.split(coords, starts) if len(coords) else []
        view = instance.version.view
        entry = view.array(voxels.array_path(instance.folder))
        states = [digest_of(view, entry, map(tuple, part.tolist())) for part in batches if entry is not None]
        names = [f"{number:08d}-{state}" for number, state in enumerate(states)]
        return cls(instance.version, folder, batches, names)

    def missing(self) -> list[int]:
        """Batches that are still to be counted."""
        there = set(self.version.repo.objects.list_dir(self.folder)[1])
        return [number for number, name in enumerate(self.names) if name not in there]

    def keep(self, number: int, counted: bytes) -> None:
        """Keep the counts of a batch."""
        self.version.repo.objects.put(f"{self.folder}/{self.names[number]}", counted)

    def load(self, number: int) -> Tally:
        """Counts of a batch."""
        data = self.version.repo.objects.get(f"{self.folder}/{self.names[number]}")
        if data is None:
            raise StorageError(f"counts of batch {number} have vanished; index again")
        return _decode(data)

    def remove(self) -> None:
        """Throw all counts away."""
        self.version.repo.objects.delete_tree(self.folder)


def _decode(data: bytes) -> Tally:
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return Tally(found["blocks"], found["labels"], found["voxels"].astype(np.int64))


def counted(version: Version, path: str, coords: Coords) -> bytes:
    """Counts of a batch, as an npz file."""
    found = tally(shown_blocks(version, path, coords.tolist()))
    out = io.BytesIO()
    np.savez(out, blocks=found.blocks, labels=found.labels, voxels=found.voxels.astype(np.uint32))
    return out.getvalue()


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


def _parts(spill: Spill) -> Iterator[Tally]:
    """All counts, in parts of ascending labels that fit into memory."""
    numbers = range(len(spill.batches))
    sizes = sum(len(spill.load(n).labels) for n in numbers) if len(numbers) > 1 else 0
    cuts = _cuts(spill, -(-sizes // PART_ENTRIES))
    for low, high in zip([0, *cuts], [*cuts, None], strict=True):
        kept = [_between(spill.load(n), low, high) for n in numbers]
        if kept:
            columns = ([getattr(t, name) for t in kept] for name in ("blocks", "labels", "voxels"))
            yield Tally(*map(np.concatenate, columns))


def _cuts(spill: Spill, parts: int) -> list[int]:
    """Labels that cut all entries into about equal parts, from a sample of each batch."""
    if parts < 2:
        return []
    samples = np.sort(np.concatenate([spill.load(n).labels[::64] for n in range(len(spill.batches))]))
    places = np.arange(1, parts) * len(samples) // parts
    return sorted({int(v) for v in samples[places] if v})


def _between(found: Tally, low: int, high: int | None) -> Tally:
    inside = found.labels >= low
    if high is not None:
        inside &= found.labels < high
    return Tally(found.blocks[inside], found.labels[inside], found.voxels[inside])
