"""A version as a plain Zarr hierarchy apart from its repo: which object each of its keys is, and two ways out.

`flatten` makes a folder that any Zarr reader opens, hard-linked to the repo's own files where that can be; `references`
lists the objects in place for readers of fsspec's reference format (kerchunk).
"""

from __future__ import annotations

import base64
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from vzarr.errors import AlreadyExistsError, InvalidInputError, StorageError, UnsupportedError
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
            for coords, owners in Grid.of(view, entry).stored():
                for row, owner in zip(coords.tolist(), owners, strict=True):
                    shown = tuple(c - s for c, s in zip(row, entry.shift, strict=True))
                    if min(shown, default=0) >= 0:
                        yield base + entry.spec.key(shown), view.storage.chunk_key(owner, entry, tuple(row))
    for key, node in sorted(view.loose().items()):
        yield key, loose_place(view.storage, node, key)


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


def references(view: View) -> Mapping[str, Any]:
    """A version as references in kerchunk's format, version 1: metadata inline, every chunk a URL.

    Raises
    ------
    UnsupportedError
        If the repo lies where other programs cannot read.
    ConflictError
        If the version has chunks in conflict.
    """
    objects = view.storage.objects
    if objects.url.startswith("memory:"):
        raise UnsupportedError("a repo in memory cannot be referred to from outside")
    refs: dict[str, Any] = {key: _inline(data) for key, data in documents(view)}
    refs.update((key, [f"{objects.url}/{place}"]) for key, place in places(view))
    return {"version": 1, "refs": refs}


def export_references(view: View, file: str | os.PathLike[str]) -> int:
    """Write a version's references as JSON, and give their number (see `references`).

    Raises
    ------
    InvalidInputError
        If the file is not named ``.json``.
    """
    path = Path(file).expanduser()
    if path.suffix != ".json":
        raise InvalidInputError(f"references are written as FILE.json, not {path.name!r}")
    found = references(view)
    draft = path.with_name(f"{path.name}.unfinished")
    try:
        draft.write_bytes(orjson.dumps(found))
        draft.replace(path)
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not write {path}: {e.strerror or e}") from e
    return len(found["refs"])


def _inline(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(data).decode()
