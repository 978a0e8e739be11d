"""Checks of adopted sources: are they there, are they what they were, and can anybody tell."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vzarr.errors import FormatError, InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.history.logcheck import Finding
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sources.adopted import Adopted
from vzarr.overlay.sources.files import Files
from vzarr.overlay.sources.locate import open_files
from vzarr.overlay.sources.pins import Pin, Pins, mismatch

Share = Callable[
    [Callable[[tuple[str, Pin | None]], Finding | None], Iterable[tuple[str, Pin | None]]], Iterator[Finding]
]
"""Runs a check on many objects, with several threads."""


def check_source(objects: Objects, about: Mapping[str, Any], share: Share) -> Iterator[Finding]:
    """Findings about one adopted array's source.

    Parameters
    ----------
    objects
        The repo, which keeps the pins.
    about
        What the array's entry says of its source.
    share
        Runs checks of objects.
    """
    adopted = Adopted(about, objects)
    try:
        array = adopted.array
    except (StorageError, FormatError, InvalidInputError) as e:
        yield Finding("source-unusable", adopted.url, str(e))
        return
    place = about.get("pins")
    if place is None:
        message = "unpinned: nobody could tell whether its chunks have changed"
        yield Finding("source-unpinned", adopted.url, message, damage=False)
        return
    files = open_files(about["url"])
    try:
        pinned = dict(Pins(objects, place))
    except (StorageError, FormatError) as e:
        yield Finding("pins-damaged", place, str(e))
        return
    yield from share(lambda row: _compare(files, *row), pinned.items())
    yield from share(lambda row: _compare(files, *row), _added(files, array.folder, pinned))


def _added(files: Files, folder: str, pinned: Mapping[str, Pin]) -> Iterator[tuple[str, None]]:
    """Objects that came later, where the store can list them."""
    try:
        yield from ((key, None) for key, _size in files.walk(folder) if key not in pinned)
    except UnsupportedError:
        return


def _compare(files: Files, key: str, pin: Pin | None) -> Finding | None:
    try:
        found = files.read(key) if pin is not None and pin.sha256 else files.read(key, 0, 0)
    except StorageError as e:
        return Finding("source-unreadable", files.place(key), str(e))
    wrong = mismatch(found, pin)
    if not wrong and found is not None and pin is not None and pin.sha256:
        wrong = "" if hashlib.sha256(found.data).hexdigest() == pin.sha256 else "its checksum differs"
    name = "source-missing" if found is None else "source-differs"
    return Finding(name, files.place(key), wrong) if wrong else None
