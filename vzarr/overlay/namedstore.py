"""A version's store once instances were renamed or deleted: keys by today's names, and none of what was deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from vzarr.errors import InvalidInputError
from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.consolidated import corrected
from vzarr.overlay.hierarchy.naming import PLAIN, Naming
from vzarr.overlay.hierarchy.tree import Entry
from vzarr.overlay.history.state import State
from vzarr.overlay.store import VersionStore
from vzarr.overlay.views.base import Found, View, Viewed


def naming_of(version: Viewed, state: State) -> Naming:
    """How the top-level groups of a version are shown, given what the log says."""
    return Naming.of(state, lambda: version.view.entries)


def store_of(version: Viewed, state: State, *, read_only: bool) -> VersionStore:
    """The store of a version, given what the log says."""
    naming = naming_of(version, state)
    if naming:
        return NamedStore(version, naming, read_only=read_only)
    return VersionStore(version, read_only=read_only)


class NamedStore(VersionStore):
    """Zarr store over one version; names are pinned as of when the handle was made.

    Parameters
    ----------
    version, read_only
        As for `VersionStore`.
    naming
        How groups are shown.
    """

    def __init__(self, version: Viewed, naming: Naming = PLAIN, *, read_only: bool = False) -> None:
        super().__init__(version, read_only=read_only)
        self._naming = naming

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same version with or without the right to write."""
        return type(self)(self.version, self._naming, read_only=read_only)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_naming": self._naming}

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Found | None:
        """See `VersionStore.read`."""
        stored = self._naming.stored(key)
        return None if stored is None else super().read(stored, offset, length)

    def write(self, key: str, data: bytes) -> None:
        """See `VersionStore.write`.

        Raises
        ------
        InvalidInputError
            If the key lies in the group of a deleted instance.
        """
        super().write(self._free(key), data)

    def delete_sync(self, key: str) -> None:
        """See `VersionStore.delete_sync`."""
        stored = self._naming.stored(key)
        if stored is not None:
            super().delete_sync(stored)

    def delete_below(self, folder: str) -> None:
        """See `VersionStore.delete_below`; what is hidden stays."""
        if not folder.strip("/") and self._naming.hidden:
            for name in self.names(""):
                super().delete_below(self._free(name))
                self.delete_sync(name)
            return
        stored = self._naming.stored(folder.strip("/"))
        if stored is not None:
            super().delete_below(stored)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """See `VersionStore.keys`."""
        inside = "/" in prefix
        stored = self._naming.stored(prefix) if inside else ""
        if stored is not None:
            yield from (k for k, _ in self._naming.shown(super().keys(stored)) if inside or k.startswith(prefix))

    def names(self, folder: str) -> list[str]:
        """See `VersionStore.names`."""
        stored = self._naming.stored(folder.strip("/"))
        if stored is None:
            return []
        found = super().names(stored)
        return found if stored else sorted(name for name, _ in self._naming.shown(found))

    def shown_entries(self) -> Mapping[str, Entry]:
        """See `VersionStore.shown_entries`."""
        return self._naming.entries(super().shown_entries())

    def _corrected(self, view: View, key: str, data: bytes) -> bytes:
        if "/" in key:
            return super()._corrected(view, key, data)
        # Those of the root group speak of groups by their names.
        return corrected("", key, data, {p: self._seen_as(e).shown_docs() for p, e in self.shown_entries().items()})

    def pin(self, path: str, origin: Coord) -> None:
        """See `VersionStore.pin`."""
        stored = self._naming.stored(path)
        if stored is not None:
            super().pin(stored, origin)

    def _free(self, key: str) -> str:
        stored = self._naming.stored(key)
        if stored is None:
            group = key.partition("/")[0]
            raise InvalidInputError(f"the group {group!r} belongs to a deleted instance: undelete it, or use another")
        return stored
