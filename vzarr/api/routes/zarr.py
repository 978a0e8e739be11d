"""Every version as a plain Zarr over GET, ``/zarr/{ref}/{key}``: any key of its store, with ranges and ETags.

What a key of an open version means changes when an array grows below its first voxel.  ``/zarr/{uuid}@{z,y,x}/{key}``
says which voxel of scale 0 is the first, for good; the folder of an array that begins elsewhere than at 0 leads there.
Translations of OME-Zarr groups count the origins, so that every reader puts the voxels where they belong.
"""

from __future__ import annotations

import re
from dataclasses import replace

from starlette.responses import RedirectResponse, Response

from vzarr.api.hub import Hub
from vzarr.api.objects import METADATA, Asked, ObjectRoutes, Served
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.placed import placed
from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry, array_of, below, split_doc
from vzarr.overlay.version import Version

_PINNED = re.compile(r"(?P<ref>.+)@(?P<origin>-?\d{1,18}(?:,-?\d{1,18})*)")
_SCALE = re.compile(r"(?:^|/)(\d{1,2})$")


def routes(hub: Hub) -> ObjectRoutes:
    """ASGI application for ``/zarr/{ref}/{key}``."""
    return _ZarrRoutes(hub, _Stored)


class _ZarrRoutes(ObjectRoutes):
    """Keys of versions, by origins that stay."""

    def answer(self, asked: Asked) -> Response:
        """Answer one request."""
        pinned = _PINNED.fullmatch(asked.ref)
        if pinned:
            origin = tuple(map(int, pinned["origin"].split(",")))
            found = self.hub.find(pinned["ref"])[1]
            return self.serve(found, _Stored(found, asked.key, origin), replace(asked, ref=pinned["ref"]))
        place = self._begin(asked)
        return super().answer(asked) if place is None else RedirectResponse(place, 307, {"Cache-Control": "no-cache"})

    def _begin(self, asked: Asked) -> str | None:
        """Where the folder of an array lies that begins elsewhere than at 0; None for every other key."""
        if not asked.key.endswith("/"):
            return None
        version, path = self.hub.find(asked.ref)[1], asked.key.rstrip("/")
        entry = version.store.shown_entries().get(path)
        if not isinstance(entry, ArrayEntry) or not any(entry.origin):
            return None
        origin = ",".join(str(o << _scale_of(path)) for o in entry.origin)
        return f"../{'../' * asked.key.count('/')}{version.uuid}@{origin}/{asked.key}"


def _scale_of(path: str) -> int:
    """Scale of the pyramid that an array is by its name: the number at its end; others are scale 0."""
    found = _SCALE.search(path)
    return min(int(found[1]), 62) if found else 0


class _Stored(Served):
    """One object of a version's store."""

    def __init__(self, version: Version, key: str, origin: Coord | None = None) -> None:
        self._store = version.store
        self._key, self._origin = key, origin
        inside = None if origin is None else array_of(self._store.shown_entries(), key)
        if origin is not None and inside is not None and inside[1].spec.ndim == len(origin):
            scale = _scale_of(inside[0])
            if any(o % (1 << scale) for o in origin):
                raise InvalidInputError(f"scale {scale} has no voxel at {origin}")
            self._store.pin(inside[0], tuple(o >> scale for o in origin))
        self._whole: bytes | None = None

    def whole(self) -> bytes:
        """All bytes."""
        if self._whole is None:
            self._whole = self._placed(self._fetch()[0])
        return self._whole

    def size(self) -> int:
        """Number of bytes, without reading them if nothing was read yet."""
        return self._fetch(0, 0)[1] if self._whole is None else len(self._whole)

    def part(self, first: int, end: int) -> bytes:
        """Bytes from `first` up to `end`."""
        return self._fetch(first, end - first)[0] if self._whole is None else self._whole[first:end]

    def _placed(self, data: bytes) -> bytes:
        path, name = split_doc(self._key)
        if name not in METADATA or b'"multiscales"' not in data:
            return data
        entries = self._store.shown_entries()
        return placed(path, name, data, {p: self._seen(p, entries[p]) for p in below(entries, path)})

    def _seen(self, path: str, entry: Entry) -> Entry:
        if self._origin is None or not isinstance(entry, ArrayEntry) or entry.spec.ndim != len(self._origin):
            return entry
        return replace(entry, origin=tuple(o >> _scale_of(path) for o in self._origin))

    def _fetch(self, offset: int = 0, length: int | None = None) -> tuple[bytes, int]:
        found: tuple[bytes, int] | None = self._store.read(self._key, offset, length)
        if found is None:
            raise NotFoundError(f"no object {self._key}")
        return found
