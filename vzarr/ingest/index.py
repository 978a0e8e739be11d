"""Indexing a large segmentation that is there already: counted in batches, by dask if that is wanted, restartable.

Counts are kept beside the open version until its index is made of them, so that who runs this again after a crash
counts only what is missing; they go away with the index, or with the version's commit.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay import layout
from vzarr.overlay.repo import Repo
from vzarr.overlay.version import Version
from vzarr.types import voxels
from vzarr.types.labelmap import recount
from vzarr.types.labelmap.adopted import shown_blocks
from vzarr.types.labelmap.edits import Author
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.recount import Indexed
from vzarr.types.labelmap.tally import Tally, tally

if TYPE_CHECKING:
    from vzarr.ingest.pipeline import Progress

BATCH = 256
"""Blocks that are counted as one task."""
ROUND = 64
"""Tasks that dask has at a time."""
PART_ENTRIES = 1 << 24
"""Pairs of block and label that are held in memory at a time, about."""

_SCHEDULERS = ("threads", "processes", "synchronous", "distributed")
Coords = NDArray[np.int64]


def index_volume(
    handle: LabelMap, *, scheduler: str | None = None, batch: int = BATCH, progress: Progress | None = None,
    user: str = "",
) -> Indexed:  # fmt: skip
    """Make the index of an open version's labelmap from its voxels and its mapping, as one edit.

    Voxels must not be written meanwhile; edits that went through vzarr are noticed.

    Parameters
    ----------
    handle
        A labelmap whose voxels came by other means: adopted, or written as plain Zarr.
    scheduler
        None counts in this process; else dask does, on ``threads``, ``processes``, ``synchronous`` or
        ``distributed`` (the current client).
    batch
        Blocks of a task.
    progress
        Told after each batch.

    Raises
    ------
    UnsupportedError
        If the labelmap has no index, or dask is wanted and not installed.
    InvalidInputError
        If the array's chunks are not the labelmap's blocks, or the scheduler is unknown.
    ConflictError
        If somebody edited meanwhile; run it again.
    SealedError
        If the version is not open.
    """
    handle.check_indexed()
    count = _counter(scheduler)
    handle.recover()
    mark = recount.mark_of(handle)
    path = voxels.array_path(handle.name)
    coords = handle.version.chunk_coords(path) if handle.version.has_array(path) else np.empty((0, 3), np.int64)
    if len(coords) and handle.version.chunk_shape(path) != handle.block_zyx:
        chunks = handle.version.chunk_shape(path)
        raise InvalidInputError(f"{path} has chunks of {chunks} and the labelmap blocks of {handle.block_zyx} (zyx)")
    with handle.version.writing():
        spill = _Spill.begin(handle, mark, coords, batch)
        count(handle, path, spill, progress or (lambda stage, done, total: None))
        if len(coords) and (bounds := handle.version.bounds(path)):
            voxels.grow_extents(handle, bounds)
        found = recount.replace_index(handle, mark, partial(_parts, spill), Author(user))
        spill.remove()
    return found


@dataclass(frozen=True)
class _Spill:
    """Counts on their way, one object a batch, in a folder that a commit removes."""

    version: Version
    folder: str
    batches: Sequence[Coords]

    @classmethod
    def begin(cls, handle: LabelMap, mark: bytes, coords: Coords, batch: int) -> _Spill:
        """Take up the counts of an earlier run, if nothing has changed since."""
        folder = layout.aside(handle.version.uuid, f"index-{handle.info.data_uuid}")
        digest = hashlib.sha256(np.ascontiguousarray(coords, "<i8").tobytes()).hexdigest()
        plan = orjson.dumps({"mark": mark.hex(), "blocks": digest, "batch": batch})
        objects = handle.version.repo.objects
        if objects.get(f"{folder}/plan") != plan:
            objects.delete_tree(folder)
            objects.put(f"{folder}/plan", plan)
        starts = range(batch, len(coords), batch)
        return cls(handle.version, folder, np.split(coords, starts) if len(coords) else [])

    def missing(self) -> list[int]:
        """Batches that are still to be counted."""
        there = set(self.version.repo.objects.list_dir(self.folder)[1])
        return [n for n in range(len(self.batches)) if f"{n:08d}" not in there]

    def keep(self, number: int, counted: bytes) -> None:
        """Keep the counts of a batch."""
        self.version.repo.objects.put(f"{self.folder}/{number:08d}", counted)

    def load(self, number: int) -> Tally:
        """Counts of a batch."""
        data = self.version.repo.objects.get(f"{self.folder}/{number:08d}")
        if data is None:
            raise StorageError(f"counts of batch {number} have vanished; index again")
        return _decode(data)

    def remove(self) -> None:
        """Throw all counts away."""
        self.version.repo.objects.delete_tree(self.folder)


def _decode(data: bytes) -> Tally:
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return Tally(found["blocks"], found["labels"], found["voxels"].astype(np.int64))


# ---------------------------------------------------------------- counting

Counter = Callable[[LabelMap, str, _Spill, "Progress"], None]


def _counter(scheduler: str | None) -> Counter:
    if scheduler is None:
        return _count_here
    if scheduler not in _SCHEDULERS:
        raise InvalidInputError(f"a scheduler is one of {', '.join(_SCHEDULERS)}, not {scheduler!r}")
    return partial(_count_by_dask, scheduler)


def _count_here(handle: LabelMap, path: str, spill: _Spill, progress: Progress) -> None:
    todo = spill.missing()
    for done, number in enumerate(todo, len(spill.batches) - len(todo) + 1):
        spill.keep(number, _counted(handle.version, path, spill.batches[number]))
        progress(f"{handle.name} batches", done, len(spill.batches))


def _count_by_dask(scheduler: str, handle: LabelMap, path: str, spill: _Spill, progress: Progress) -> None:
    try:
        from dask.base import compute
        from dask.delayed import delayed
    except ImportError as error:
        raise UnsupportedError('counting by dask needs it: install "vzarr[dask]"') from error
    url, node = handle.version.url, handle.version.uuid
    todo = spill.missing()
    waiting = iter(todo)
    how = {} if scheduler == "distributed" else {"scheduler": scheduler}
    done = len(spill.batches) - len(todo)
    while numbers := list(islice(waiting, ROUND)):
        tasks = [delayed(_count_elsewhere)(url, node, path, spill.batches[n]) for n in numbers]
        for number, counted in zip(numbers, compute(*tasks, **how), strict=True):  # type: ignore[no-untyped-call]
            spill.keep(number, counted)
        done += len(numbers)
        progress(f"{handle.name} batches", done, len(spill.batches))


def _count_elsewhere(url: str, node: str, path: str, coords: Coords) -> bytes:
    """`_counted` in any process that reaches the repo."""
    with Repo.open(url) as repo:
        return _counted(Version(repo, node), path, coords)


def _counted(version: Version, path: str, coords: Coords) -> bytes:
    """Counts of a batch, as an npz file."""
    found = tally(shown_blocks(version, path, coords.tolist()))
    out = io.BytesIO()
    np.savez(out, blocks=found.blocks, labels=found.labels, voxels=found.voxels.astype(np.uint32))
    return out.getvalue()


def _parts(spill: _Spill) -> Iterator[Tally]:
    """All counts, in parts of ascending labels that fit into memory."""
    numbers = range(len(spill.batches))
    sizes = sum(len(spill.load(n).labels) for n in numbers) if len(numbers) > 1 else 0
    cuts = _cuts(spill, -(-sizes // PART_ENTRIES))
    for low, high in zip([0, *cuts], [*cuts, None], strict=True):
        kept = [_between(spill.load(n), low, high) for n in numbers]
        if kept:
            columns = ([getattr(t, name) for t in kept] for name in ("blocks", "labels", "voxels"))
            yield Tally(*map(np.concatenate, columns))


def _cuts(spill: _Spill, parts: int) -> list[int]:
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
