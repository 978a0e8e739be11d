"""Every version as a plain Zarr over GET, ``/zarr/{ref}/{key}``: any key of its store, with ranges and ETags."""

from __future__ import annotations

from vzarr.api.hub import Hub
from vzarr.api.objects import ObjectRoutes, Served
from vzarr.errors import NotFoundError
from vzarr.overlay.version import Version


def routes(hub: Hub) -> ObjectRoutes:
    """ASGI application for ``/zarr/{ref}/{key}``."""
    return ObjectRoutes(hub, _Stored)


class _Stored(Served):
    """One object of a version's store."""

    def __init__(self, version: Version, key: str) -> None:
        self._store = version.store
        self._key = key
        self._whole: bytes | None = None

    def whole(self) -> bytes:
        """All bytes."""
        if self._whole is None:
            self._whole = self._fetch()[0]
        return self._whole

    def size(self) -> int:
        """Number of bytes, without reading them if nothing was read yet."""
        return self._fetch(0, 0)[1] if self._whole is None else len(self._whole)

    def part(self, first: int, end: int) -> bytes:
        """Bytes from `first` up to `end`."""
        return self._fetch(first, end - first)[0] if self._whole is None else self._whole[first:end]

    def _fetch(self, offset: int = 0, length: int | None = None) -> tuple[bytes, int]:
        found: tuple[bytes, int] | None = self._store.read(self._key, offset, length)
        if found is None:
            raise NotFoundError(f"no object {self._key}")
        return found
