"""Open versions of one moment for a mirror elsewhere: what that lacks waits below ``tmp`` until it is fetched."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing

from vzarr.overlay import opening
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.transfer.moment import Held, Moment
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.transfer.taking import Beside, Copies, at_once, open_nodes

FORGOTTEN_SECONDS = 24 * 3600.0
"""After which nobody comes to fetch what waits."""
_PREFIX = "moment-"
_BEGUN = "begun"
"""Name of the object that says since when, in seconds since 1970, something waits."""


def opened(place: StoredPlace) -> list[str]:
    """Ids of versions that can be written into, ``unversioned`` too.

    Raises
    ------
    AuthorityUnavailableError
        If the repo's keys cannot be reached from here.
    """
    with closing(opening.open_authority(place.objects, opening.read_meta(place.objects))) as authority:
        return open_nodes(place.state(), authority)


def take(place: StoredPlace, number: str, nodes: Sequence[str], known: Mapping[str, Held]) -> Moment | None:
    """Let writers pause, and put aside what a mirror needs of that moment.

    Parameters
    ----------
    number
        Name of what will wait, 32 hex digits.
    nodes
        Versions that were copied beforehand.
    known
        What the mirror has already (see `moment.listed`).

    Returns
    -------
    Moment or None
        None if there is a version meanwhile that was not copied beforehand.

    Raises
    ------
    AuthorityUnavailableError, ConflictError
        See `taking.take`.
    """
    objects = place.objects
    for name in _waiting(objects):
        begun = objects.get(f"tmp/{name}/{_BEGUN}")
        if begun is not None and float(begun) < time.time() - FORGOTTEN_SECONDS:
            objects.delete_tree(f"tmp/{name}")
    objects.put(_key(number, _BEGUN), b"%d" % time.time())
    with closing(opening.open_authority(objects, opening.read_meta(objects))) as authority:
        copies = Copies(objects, _Aside(objects, number, {held.digest for held in known.values()}), known, None)
        there = set(open_nodes(place.state(), authority))
        taken = at_once(place, authority, copies, [node for node in nodes if node in there])
    return None if taken is None else taken.moment


def get(place: StoredPlace, number: str, digest: str) -> bytes | None:
    """An object that waits; None if there is none."""
    return place.objects.get(_key(number, digest))


def forget(place: StoredPlace, number: str) -> None:
    """Remove what waits, once it has been fetched or is no longer wanted."""
    place.objects.delete_tree(_key(number, "").rstrip("/"))


def _waiting(objects: Objects) -> list[str]:
    return [name for name in objects.list_dir("tmp")[0] if name.startswith(_PREFIX)]


def _key(number: str, name: str) -> str:
    return f"tmp/{_PREFIX}{number}/{name}"


class _Aside(Beside):
    """In place of a mirror: what it has already, and what waits for it."""

    def __init__(self, objects: Objects, number: str, known: Collection[str]) -> None:
        self._objects, self._number, self._known = objects, number, known

    def has(self, held: Held) -> bool:
        """See `Beside.has`."""
        return held.digest in self._known

    def put(self, digest: str, data: bytes) -> None:
        """See `Beside.put`."""
        self._objects.put(_key(self._number, digest), data)
