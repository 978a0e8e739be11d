"""A copy of an instance within its repo: what it held at a sealed version, as a new instance in an open one.

The new instance is entered in the log as one that is not finished, which nobody sees; when everything is there, one
more entry shows it.  What a killed process leaves is collected as a deleted instance is.  Chunks are not read where the
store can give them a second name (files) or copy them itself (object stores).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from vzarr.errors import ConflictError, InvalidInputError, SealedError, UnsupportedError
from vzarr.geometry import Coord
from vzarr.overlay import datatypes
from vzarr.overlay.extract.content import keys_of
from vzarr.overlay.extract.flat import put
from vzarr.overlay.hierarchy.naming import folder_in
from vzarr.overlay.hierarchy.tree import ArrayEntry, below
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.owners.directory import CONFLICT
from vzarr.overlay.transfer import region
from vzarr.overlay.transfer.copying import Progress
from vzarr.overlay.transfer.region import Region
from vzarr.overlay.version import Version
from vzarr.overlay.views.base import SealedView
from vzarr.overlay.views.openview import OpenView


def duplicate(
    source: Version, name: str, target: Version, to: str, *, within: Region | None = None,
    progress: Progress | None = None, user: str = "", app: str = "",
) -> InstanceInfo:  # fmt: skip
    """Copy an instance as it is at a sealed version into an open one, under another name.

    Settings, tags and syncs are those of the original.  A commit of the open version waits for the end.

    Parameters
    ----------
    source, name
        The sealed version and the instance.
    target, to
        An open version of the same repo, and the name of the copy.
    within
        Region of space that is copied of volumes; None for all.
    progress
        Told of each chunk; what it raises ends the copying, and nothing of it stays.

    Raises
    ------
    SealedError
        If the first version is open, or the second sealed.
    NotFoundError, AlreadyExistsError
        If there is no such instance, or the name is taken.
    ConflictError
        If it has chunks or keys in conflict.
    UnsupportedError
        If a part of space is asked of an instance that counts what is in all of it.
    InvalidInputError
        If the versions are of different repos.
    """
    repo, view = target.repo, source.view
    if source.repo != repo:
        raise InvalidInputError("an instance is copied within one repo; clone or push it to another")
    if not isinstance(view, SealedView):
        raise SealedError(f"version {source.uuid} is open: commit it first")
    info = source.instance_info(name)
    folder = folder_in(info, repo.state, lambda: view.entries)
    arrays = [path for path in below(view.entries, folder) if isinstance(view.entries[path], ArrayEntry)]
    if within is not None:
        check_divisible(source, name)
    with target.writing(), _begun(target, info, to, user, app) as made:
        copy = _Copy(view, folder, target, made, within)
        copy.write_metadata()
        copy.write_chunks(arrays, progress)
        for some in keys_of(source, info):
            repo.keys.transact(target.uuid, made, partial(put, some))
        line = f'Copied data instance "{name}" at version {source.uuid} to "{to}"'
        return repo.finish_instance(made.data_uuid, to, line, user=user, app=app)


@contextmanager
def _begun(target: Version, info: InstanceInfo, to: str, user: str, app: str) -> Iterator[InstanceInfo]:
    """An instance that is not finished, of which nothing stays if the block fails."""
    made = target.repo.begin_instance(target, info, to, user=user, app=app)
    try:
        yield made
    except BaseException:
        target.repo.collect_instance(made.data_uuid)
        raise


def is_unchanged(version: Version, name: str) -> bool:
    """Whether an open version holds of an instance just what its parent does."""
    view, info = version.view, version.instance_info(name)
    assert isinstance(view, OpenView)
    if not info.versioned:
        return True
    folder = folder_in(info, version.repo.state, lambda: view.entries)
    here, there = ({p: e[p] for p in below(e, folder)} for e in (view.entries, view.base.entries))
    arrays = [entry for entry in here.values() if isinstance(entry, ArrayEntry)]
    written = any(view.masks().get(entry.id) or next(view.own_chunks(entry), None) for entry in arrays)
    return here == there and not written and next(version.repo.keys.changed(version.uuid, info), None) is None


def check_divisible(source: Version, name: str) -> None:
    """Refuse to copy a part of space of an instance that counts what is in all of it.

    Raises
    ------
    UnsupportedError
        Saying so.
    """
    entries, state = source.view.entries, source.repo.state
    folder = folder_in(source.instance_info(name), state, lambda: entries)
    if any(datatypes.known().is_indexed(state, path) for path in below(entries, folder)):
        raise UnsupportedError(f"{name!r} is counted as a whole: copy all of it")


class _Copy:
    """The arrays of an instance on their way from a sealed version's group to an open one's."""

    def __init__(
        self, view: SealedView, folder: str, target: Version, made: InstanceInfo, within: Region | None
    ) -> None:
        opened = target.view
        assert isinstance(opened, OpenView)
        self._view, self._folder, self._made, self._to = view, folder, made, opened
        self._sizes = {} if within is None else region.factors(view.entries)
        self._touched = region.Touched(within)

    def write_metadata(self) -> None:
        """Make groups and arrays."""
        for path in sorted(below(self._view.entries, self._folder)):
            entry, new = self._view.entries[path], self._path(path)
            if isinstance(entry, ArrayEntry):
                self._to.put_array(new, entry.docs, self._made.data_uuid)
                if any(entry.origin):
                    self._to.grow(new, entry.window, exact=True)
            else:
                for name, data in entry.docs.items():
                    self._to.put_doc(f"{new}/{name}", data)

    def write_chunks(self, arrays: list[str], progress: Progress | None) -> None:
        """Copy chunks."""
        total = sum(len(some) for path in arrays for some in self._chunks(path))
        for path in arrays:
            entry, made = self._view.entries[path], self._to.entries[self._path(path)]
            assert isinstance(entry, ArrayEntry)
            assert isinstance(made, ArrayEntry)
            for some in self._chunks(path):
                objects = self._to.storage.objects
                share(partial(self._copy, entry, made, (progress, total)), some, objects.concurrency)

    def _copy(self, entry: ArrayEntry, made: ArrayEntry, told: tuple[Progress | None, int], coord: Coord) -> None:
        storage = self._to.storage
        places = self._view.chunk_places(entry, coord)
        if places:
            with self._to.writer.write() as stage:
                storage.objects.copy(places[0], storage.chunk_key(self._to.node, made, coord), stage=stage)
        elif (found := self._view.read_chunk(entry, coord)) is not None:
            self._to.put_chunk(made, coord, found[0])  # from an adopted volume
        progress, total = told
        if progress is not None:
            progress(total, 0)

    def _chunks(self, path: str) -> Iterator[list[Coord]]:
        """Chunks of an array, some at a time."""
        entry = self._view.entries[path]
        assert isinstance(entry, ArrayEntry)
        for at, ref in self._view.owners.pages(entry.id):
            if (self._view.owners.reader.page(ref).codes == CONFLICT).any():
                raise ConflictError(f"{path} has chunks that merged versions changed differently, on page {at}")
        wanted = self._touched.chunks(entry, self._sizes.get(path))
        coords = self._view.chunk_coords(entry)
        for part in np.array_split(coords, max(1, len(coords) // 4096)):
            yield [coord for coord in map(tuple, part.tolist()) if wanted is None or coord in wanted]

    def _path(self, path: str) -> str:
        return self._made.path + path[len(self._folder) :]
