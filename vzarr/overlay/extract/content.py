"""What is taken out of a sealed version: groups, arrays and their chunks, and keys beside them; all, or a part."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError, SealedError, UnsupportedError
from vzarr.geometry import Coord
from vzarr.overlay import datatypes
from vzarr.overlay.hierarchy.naming import Entries, Naming, folder_in
from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry, below
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.kv.batches import batched
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.owners.directory import CONFLICT, DELETED, FIRST_OWNER, coords_in, side
from vzarr.overlay.sealing.leftout import gone
from vzarr.overlay.transfer import region
from vzarr.overlay.transfer.region import Region
from vzarr.overlay.version import Version
from vzarr.overlay.views.base import SealedView, loose_place


@dataclass(frozen=True)
class Content:
    """A part of a sealed version.

    Parameters
    ----------
    view
        The version.
    entries
        Groups and arrays that are taken, by the paths that they get.
    loose
        Keys beside arrays, by the names that they get.
    infos
        Instances that are taken.
    within
        Chunks of volumes that are taken are those that it touches; None for all.
    """

    view: SealedView
    entries: Mapping[str, Entry]
    loose: Mapping[str, str]
    infos: tuple[InstanceInfo, ...]
    within: Region | None = None

    @classmethod
    def of(
        cls, version: Version, names: Collection[str] | None = None, within: Region | None = None, *, shown: bool
    ) -> Self:
        """All of a version but what was deleted, or the arrays and keys of some instances.

        Parameters
        ----------
        names
            Names of instances; None for everything.
        within
            Region of space.
        shown
            Whether groups get the names of their instances; else they keep those that they are stored by.

        Raises
        ------
        SealedError
            If the version is open.
        NotFoundError
            If there is no instance of a name.
        UnsupportedError
            If a part of space is asked of an instance that counts what is in all of it.
        """
        view, state = version.view, version.repo.state
        if not isinstance(view, SealedView):
            raise SealedError(f"version {version.uuid} is open: commit it first")
        naming = Naming.of(state, lambda: view.entries)
        if not shown:
            naming = Naming(hidden=naming.hidden)
        infos = tuple(state.instances.values() if names is None else (version.instance_info(n) for n in names))
        entries, loose = naming.entries(view.entries), dict(naming.shown(view.loose()))
        folders = {info.name: folder_in(info, state, lambda: view.entries) for info in infos}
        if shown:
            _check_names(folders, naming, view.entries)
        if names is not None:
            kept = {"", *(folders if shown else folders.values())}
            entries = {path: entry for path, entry in entries.items() if path.partition("/")[0] in kept}
            loose = {key: stored for key, stored in loose.items() if key.partition("/")[0] in kept}
        if within is not None:
            for path in (p for folder in folders.values() for p in below(view.entries, folder)):
                if datatypes.known().is_indexed(state, path):
                    raise UnsupportedError(f"{path} is counted as a whole: leave it out, or take all of space")
        return cls(view, entries, loose, infos, within)

    @property
    def arrays(self) -> dict[str, ArrayEntry]:
        """The arrays among them."""
        return {path: entry for path, entry in self.entries.items() if isinstance(entry, ArrayEntry)}

    def chunks(self) -> Iterator[tuple[str, list[tuple[Coord, str]]]]:
        """Stored chunks, some at a time: path of the array, and the global coordinate and owner of each.

        Raises
        ------
        ConflictError
            If there are chunks that merged versions changed differently.
        """
        touched = region.Touched(self.within)
        sizes = {} if self.within is None else region.factors(self.entries)
        for path, entry in self.arrays.items():
            wanted = touched.chunks(entry, sizes.get(path))
            for at, ref in self.view.owners.pages(entry.id):
                page, ndim = self.view.owners.reader.page(ref), entry.spec.ndim
                if (page.codes == CONFLICT).any():
                    disputed = _coords(at, np.flatnonzero(page.codes == CONFLICT), ndim)
                    raise ConflictError(f"chunks of {path} were changed differently in merged versions", disputed)
                stored = np.flatnonzero(page.codes >= FIRST_OWNER)
                owned = zip(_coords(at, stored, ndim), map(page.owner, stored.tolist()), strict=True)
                yield path, [(coord, str(owner)) for coord, owner in owned if wanted is None or coord in wanted]

    def deleted(self, entry: ArrayEntry) -> Iterator[Coord]:
        """Chunks that were deleted, by their global coordinates."""
        for at, ref in self.view.owners.pages(entry.id):
            codes = self.view.owners.reader.page(ref).codes
            yield from _coords(at, np.flatnonzero(codes == DELETED), entry.spec.ndim)

    def chunk(self, entry: ArrayEntry, owner: str, coord: Coord) -> bytes:
        """Bytes of a stored chunk.

        Raises
        ------
        StorageError
            If it is missing.
        """
        return read(self.view, self.view.storage.chunk_key(owner, entry, coord))

    def loose_bytes(self, key: str) -> bytes:
        """Bytes of a key beside arrays."""
        stored = self.loose[key]
        return read(self.view, loose_place(self.view.storage, self.view.loose()[stored], stored))


def read(view: SealedView, key: str) -> bytes:
    """An object that a version needs.

    Raises
    ------
    StorageError
        If it is missing.
    """
    data = view.storage.objects.get(key)
    if data is None:
        raise gone(view.storage.objects, key, f"{key} is missing, which version {view.node} needs")
    return data


def load_region(version: Version, roi: tuple[str, str] | None) -> Region | None:
    """The region of a name, as it is at a ref or, without one, at a version; None for none.

    Raises
    ------
    NotFoundError, InvalidInputError, SealedError, UnsupportedError
        See `region.resolve` and `region.load`.
    """
    if roi is None:
        return None
    state = version.repo.state
    name, node = region.resolve(state, [version.uuid], (roi[0], roi[1] or version.uuid))
    return region.load(version.repo.objects, state, name, node)


def keys_of(version: Version, info: InstanceInfo) -> Iterator[list[Change]]:
    """An instance's keys as a version sees them, or as they are now outside of versions, some at a time."""
    return batched(version.repo.keys.at(version.uuid, info).scan())


def _coords(at: Coord, local: NDArray[np.int64], ndim: int) -> list[Coord]:
    return [tuple(row) for row in coords_in(at, local, side(ndim), ndim).tolist()]


def _check_names(folders: Mapping[str, str], naming: Naming, entries: Entries) -> None:
    """Refuse an instance whose name a group of others has."""
    for name, folder in folders.items():
        if name != folder and name not in naming.folders and any(p.partition("/")[0] == folder for p in entries):
            raise ConflictError(f"instance {name!r} has the name of another group: give it a new one first", [name])
