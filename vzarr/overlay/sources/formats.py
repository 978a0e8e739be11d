"""The formats of sources by name, and how a URL or a locator becomes a volume or an array."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.overlay.sources.base import ChunkReader, Locator, SourceArray, Volume
from vzarr.overlay.sources.files import Files
from vzarr.overlay.sources.locate import open_files
from vzarr.overlay.sources.regrid import Regridded

FORMATS = {"zarr": "zarrsource", "n5": "n5", "precomputed": "precomputed"}
"""Format -> module of this package that reads it, loaded with its first source; in the order of guessing."""


def open_volume(url: str | os.PathLike[str]) -> Volume:
    """Open a source.

    Parameters
    ----------
    url
        A local path or URL; ``FORMAT://`` before it, such as ``precomputed://https://…``, names its format, which is
        otherwise guessed from what lies there.

    Raises
    ------
    NotFoundError
        If nothing known is there.
    InvalidInputError
        If it cannot be adopted; the message says why.
    StorageError
        If it could not be read.
    """
    text = os.fspath(url).strip()
    scheme, _, rest = text.partition("://")
    if scheme in FORMATS and rest:
        files = open_files(rest)
        if not _module(scheme).detect(files):
            raise NotFoundError(f"there is no {scheme} volume at {files.url}")
        return _volume(_module(scheme), files)
    files = open_files(text)
    for name in FORMATS:
        if _module(name).detect(files):
            return _volume(_module(name), files)
    kinds = ", ".join(FORMATS)
    raise NotFoundError(f"there is nothing at {files.url} that can be adopted; formats: {kinds}")


def open_array(locator: Locator, wrap: Callable[[Files], Files] = lambda files: files) -> SourceArray:
    """Open an array again.

    Parameters
    ----------
    locator
        What `SourceArray.locator` gave.
    wrap
        Given the source's files, gives those to read in their place.

    Raises
    ------
    StorageError
        If it is gone.
    UnsupportedError
        If this installation cannot read its format.
    """
    if locator["format"] not in FORMATS:
        raise InvalidInputError(f"{locator['url']}: this release does not read the format {locator['format']!r}")
    return shown(_module(locator["format"]).open_array(wrap(open_files(locator["url"])), locator))


def shown(array: SourceArray | ChunkReader) -> SourceArray:
    """An array as Zarr, decoded on the way where it must be."""
    return array if isinstance(array, SourceArray) else Regridded(array)


def _module(name: str) -> ModuleType:
    return import_module(f"vzarr.overlay.sources.{FORMATS[name]}")


def _volume(module: ModuleType, files: Files) -> Volume:
    found: Volume = module.open_volume(files)
    if not found.scales:
        raise InvalidInputError(f"{files.url} has no arrays")
    return found
