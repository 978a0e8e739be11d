"""A version as a plain Zarr hierarchy apart from its repo: which object each of its keys is, and a folder of them.

`flatten` makes a folder that any Zarr reader opens, hard-linked to the repo's own files where that can be.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vzarr.errors import AlreadyExistsError, StorageError
from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.consolidated import V2_NAME, corrected, is_consolidated
from vzarr.overlay.hierarchy.naming import PLAIN, Naming
from vzarr.overlay.hierarchy.placed import placed
from vzarr.overlay.hierarchy.tree import ArrayEntry, split_doc
from vzarr.overlay.objects.localpaths import CANNOT_LINK, local_target
from vzarr.overlay.sealing.leftout import gone
from vzarr.overlay.sources.adopted import Adopted
from vzarr.overlay.views.base import View, loose_place
from vzarr.overlay.views.grid import Grid


@dataclass(frozen=True)
class Flattened:
    """What `flatten` did: number of keys written, and how many of them share their bytes with the repo."""

    keys: int
    linked: int


def documents(view: View, naming: Naming = PLAIN) -> Iterator[tuple[str, bytes]]:
    """Metadata keys of a version and their bytes, consolidated ones too.

    An array's origin is the attribute ``vzarr_origin``, and part of the translation in its group's OME metadata.
    """
    entries = naming.entries(view.entries)
    docs = {p: {n: placed(p, n, d, entries) for n, d in e.shown_docs().items()} for p, e in sorted(entries.items())}
    for path, named in docs.items():
        for name, data in sorted(named.items()):
            shown = corrected(path, name, data, docs) if is_consolidated(name, data) else data
            yield f"{path}/{name}" if path else name, shown
    for key, stored in sorted(naming.shown(view.loose())):
        path, name = split_doc(key)
        found = view.read_loose(stored) if name == V2_NAME else None
        if found is not None:
            yield key, corrected(path, name, found[0], docs)


@dataclass(frozen=True)
class SourceChunk:
    """A chunk of an adopted array that no version wrote: its source, and its global coordinate there."""

    source: Adopted
    coord: Coord

    def get(self) -> bytes:
        """Its bytes.

        Raises
        ------
        StorageError
            If the source is gone, or the chunk.
        """
        found = self.source.fetch(self.coord)
        if found is None:
            raise StorageError(f"chunk {self.coord} of {self.source.url} was listed and is gone")
        return found[0]


Place = str | SourceChunk
"""Where a key's bytes are: an object of the repo, or an adopted source."""


def place_bytes(view: View, place: Place) -> bytes:
    """Bytes at a place.

    Raises
    ------
    StorageError
        If they are missing.
    """
    data = place.get() if isinstance(place, SourceChunk) else view.storage.objects.get(place)
    if data is None:
        raise gone(view.storage.objects, str(place), f"{place} is missing: version {view.node} needs it")
    return data


def place_url(view: View, place: Place) -> str | None:
    """URL of the object at a place, or None where there is no such object, because a source is decoded on the way."""
    if isinstance(place, SourceChunk):
        return place.source.array.place(place.coord)
    return f"{view.storage.objects.url}/{place}"


def _path(view: View, place: Place) -> str | None:
    if isinstance(place, SourceChunk):
        return place.source.array.path(place.coord)
    return view.storage.objects.path(place)


def places(view: View, naming: Naming = PLAIN) -> Iterator[tuple[str, Place]]:
    """All other keys of a version, and where each is; adopted sources are listed.

    Raises
    ------
    ConflictError
        If there are chunks that merged versions changed differently.
    """
    for path, entry in sorted(naming.entries(view.entries).items()):
        if isinstance(entry, ArrayEntry):
            base = f"{path}/" if path else ""
            for coord, place in chunk_places(view, entry):
                yield base + entry.spec.key(coord), place
    loose = view.loose()
    for key, stored in sorted(naming.shown(loose)):
        if split_doc(key)[1] != V2_NAME:
            yield key, loose_place(view.storage, loose[stored], stored)


def chunk_places(view: View, entry: ArrayEntry) -> Iterator[tuple[Coord, Place]]:
    """Chunks of an array, by the coordinates that readers use, and where each is; an adopted source is listed.

    Raises
    ------
    ConflictError
        If there are chunks that merged versions changed differently.
    """
    for coords, owners in Grid.of(view, entry).stored():
        for row, owner in zip(coords.tolist(), owners, strict=True):
            shown = tuple(c - s for c, s in zip(row, entry.shift, strict=True))
            if min(shown, default=0) >= 0:
                yield shown, view.storage.chunk_key(owner, entry, tuple(row))
    source = view.storage.sources.of(entry)
    if source is None:
        return
    written = Grid.of(view, replace(entry, source=None))
    for coord in source.coords():
        shown = tuple(c - s for c, s in zip(coord, entry.shift, strict=True))
        if min(shown, default=0) >= 0 and written.is_unwritten(coord):
            yield shown, SourceChunk(source, coord)


def flatten(view: View, target: str | os.PathLike[str], *, copy: bool = False, naming: Naming = PLAIN) -> Flattened:
    """Write a version as a plain, stand-alone Zarr folder.

    Parameters
    ----------
    view, naming
        The version, and how it is shown.
    target
        Folder to make; it appears when it is complete.
    copy
        Copy every object.  By default files of the repo are hard-linked where the file system allows: then the folder
        costs nothing, and must only be edited by tools that replace files, as Zarr writers do, instead of changing
        them in place.

    Raises
    ------
    AlreadyExistsError
        If something is there.
    ConflictError
        If the version has chunks in conflict.
    StorageError
        If an object of the version is missing, or the folder cannot be written.
    """
    with whole_folder(target) as draft:
        return _write(view, draft, copy, naming)


@contextmanager
def whole_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill that gets its name when the block ends without an error.

    Raises
    ------
    InvalidInputError
        If it is no path.
    AlreadyExistsError
        If something is there.
    StorageError
        If it cannot be written.
    """
    final = local_target(target)
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise AlreadyExistsError(f"{final} exists")
    draft = final.with_name(f"{final.name}.unfinished")
    try:
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(parents=True)
        yield draft
        draft.replace(final)
    except StorageError:
        raise
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not write {final}: {e.strerror or e}") from e


def _write(view: View, folder: Path, copy: bool, naming: Naming) -> Flattened:
    keys = linked = 0
    for key, data in documents(view, naming):
        _target(folder, key).write_bytes(data)
        keys += 1
    for key, place in places(view, naming):
        keys += 1
        if not copy and _link(_path(view, place), _target(folder, key)):
            linked += 1
            continue
        _target(folder, key).write_bytes(place_bytes(view, place))
    return Flattened(keys, linked)


def _target(folder: Path, key: str) -> Path:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _link(source: str | None, target: Path) -> bool:
    """Whether the file could be given a second name."""
    if source is None:
        return False
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        return False
    except OSError as e:
        if e.errno in CANNOT_LINK:
            return False
        raise
    return True
