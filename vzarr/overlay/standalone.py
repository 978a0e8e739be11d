"""A version as a plain Zarr hierarchy apart from its repo: which object each of its keys is, and a folder of them.

`flatten` makes a folder that any Zarr reader opens, hard-linked to the repo's own files where that can be.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vzarr.errors import AlreadyExistsError, StorageError
from vzarr.geometry import Coord
from vzarr.overlay.grid import Grid
from vzarr.overlay.tree import ArrayEntry
from vzarr.overlay.views import View, loose_place

_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP)


@dataclass(frozen=True)
class Flattened:
    """What `flatten` did: number of keys written, and how many of them share their bytes with the repo."""

    keys: int
    linked: int


def documents(view: View) -> Iterator[tuple[str, bytes]]:
    """Metadata keys of a version and their bytes; an array's origin is the attribute ``vzarr_origin``."""
    for path, entry in sorted(view.entries.items()):
        for name, data in sorted(entry.shown_docs().items()):
            yield f"{path}/{name}" if path else name, data


def places(view: View) -> Iterator[tuple[str, str]]:
    """All other keys of a version, and the object that each is.

    Raises
    ------
    ConflictError
        If there are chunks that merged versions changed differently.
    """
    for path, entry in sorted(view.entries.items()):
        if isinstance(entry, ArrayEntry):
            base = f"{path}/" if path else ""
            for coord, place in chunk_places(view, entry):
                yield base + entry.spec.key(coord), place
    for key, node in sorted(view.loose().items()):
        yield key, loose_place(view.storage, node, key)


def chunk_places(view: View, entry: ArrayEntry) -> Iterator[tuple[Coord, str]]:
    """Chunks of an array, by the coordinates that readers use, and the object that each is.

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


def flatten(view: View, target: str | os.PathLike[str], *, copy: bool = False) -> Flattened:
    """Write a version as a plain, stand-alone Zarr folder.

    Parameters
    ----------
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
    final = Path(target).expanduser().absolute()
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise AlreadyExistsError(f"{final} exists")
    draft = final.with_name(f"{final.name}.unfinished")
    try:
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(parents=True)
        done = _write(view, draft, copy)
        draft.replace(final)
    except StorageError:
        raise
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not write {final}: {e.strerror or e}") from e
    return done


def _write(view: View, folder: Path, copy: bool) -> Flattened:
    keys = linked = 0
    for key, data in documents(view):
        _target(folder, key).write_bytes(data)
        keys += 1
    for key, place in places(view):
        keys += 1
        if not copy and _link(view.storage.objects.path(place), _target(folder, key)):
            linked += 1
            continue
        whole = view.storage.objects.get(place)
        if whole is None:
            raise StorageError(f"{place} is missing: version {view.node} needs it")
        _target(folder, key).write_bytes(whole)
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
        if e.errno in _CANNOT_LINK:
            return False
        raise
    return True
