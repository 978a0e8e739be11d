"""Indexing a large segmentation that is there already: counted in batches, by dask if that is wanted, restartable.

How it is counted and made is `types.labelmap.counting`; here is who counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.overlay.repo import Repo
from vzarr.overlay.version import Version
from vzarr.types import voxels
from vzarr.types.labelmap import counting
from vzarr.types.labelmap.counting import BATCH, Coords, Spill
from vzarr.types.labelmap.edits import Author
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.recount import Indexed

if TYPE_CHECKING:
    from vzarr.ingest.pipeline import Progress

ROUND = 64
"""Tasks that dask has at a time."""

_SCHEDULERS = ("threads", "processes", "synchronous", "distributed")


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
    version, path = handle.version, voxels.array_path(handle.folder)
    if version.has_array(path) and version.chunk_shape(path) != handle.block_zyx:
        chunks = version.chunk_shape(path)
        raise InvalidInputError(f"{path} has chunks of {chunks} and the labelmap blocks of {handle.block_zyx} (zyx)")
    told = progress or (lambda stage, done, total: None)
    found = counting.index_voxels(
        handle, lambda path, spill: count(handle, path, spill, told), batch=batch, author=Author(user)
    )
    if version.has_array(path) and (bounds := version.bounds(path)):
        voxels.grow_extents(handle, bounds)
    return found


# ---------------------------------------------------------------- counting

Counter = Callable[[LabelMap, str, Spill, "Progress"], None]


def _counter(scheduler: str | None) -> Counter:
    if scheduler is None:
        return _count_here
    if scheduler not in _SCHEDULERS:
        raise InvalidInputError(f"a scheduler is one of {', '.join(_SCHEDULERS)}, not {scheduler!r}")
    return partial(_count_by_dask, scheduler)


def _count_here(handle: LabelMap, path: str, spill: Spill, progress: Progress) -> None:
    todo = spill.missing()
    for done, number in enumerate(todo, len(spill.batches) - len(todo) + 1):
        spill.keep(number, counting.counted(handle.version, path, spill.batches[number]))
        progress(f"{handle.name} batches", done, len(spill.batches))


def _count_by_dask(scheduler: str, handle: LabelMap, path: str, spill: Spill, progress: Progress) -> None:
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
    """`counting.counted` in any process that reaches the repo."""
    with Repo.open(url) as repo:
        return counting.counted(Version(repo, node), path, coords)
