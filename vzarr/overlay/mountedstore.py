"""A version's store with what belongs to no version beside it: groups of unversioned instances, in every version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.consolidated import V2_NAME, corrected, is_consolidated
from vzarr.overlay.hierarchy.naming import Naming
from vzarr.overlay.hierarchy.tree import Entry, is_doc
from vzarr.overlay.history.state import State
from vzarr.overlay.namedstore import NamedStore, store_of
from vzarr.overlay.objects.byteranges import cut
from vzarr.overlay.store import VersionStore
from vzarr.overlay.views.base import Found, Viewed
from vzarr.overlay.views.outside import OutsideView


def with_outside(version: Viewed, outside: Viewed, state: State, *, read_only: bool) -> VersionStore:
    """The store of a version.

    Parameters
    ----------
    version, outside
        The version, and what belongs to none.
    state
        What the log says.
    """
    store = store_of(version, state, read_only=read_only)
    names = frozenset(info.name for info in state.instances.values() if not info.versioned)
    return MountedStore(store, outside_store(outside, state, read_only=read_only), names) if names else store


def outside_store(outside: Viewed, state: State, *, read_only: bool) -> VersionStore:
    """The store of what belongs to no version."""
    return NamedStore(outside, Naming.outside(state), read_only=read_only)


class MountedStore(VersionStore):
    """Zarr store over one version and what belongs to none; what the version itself has under a name goes first.

    Parameters
    ----------
    inner, outside
        The two stores.
    names
        Groups that may be in `outside`.
    """

    def __init__(self, inner: VersionStore, outside: VersionStore, names: frozenset[str]) -> None:
        super().__init__(inner.version, read_only=inner.read_only)
        self._inner, self._outside, self._names = inner, outside, names
        self._mounted: dict[str, bool] = {}

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same version with or without the right to write."""
        return type(self)(self._inner.with_read_only(read_only), self._outside.with_read_only(read_only), self._names)

    def __getstate__(self) -> dict[str, Any]:
        kept = {"_inner": self._inner, "_outside": self._outside, "_names": self._names}
        return {**super().__getstate__(), **kept, "_mounted": {}}

    def is_shared(self, key: str) -> bool:
        """Whether a key lies in a group that belongs to no version."""
        name = key.partition("/")[0]
        if name not in self._names:
            return False
        if not self._mounted.get(name):  # what is there stays there; what is not may come
            here, there = (store.version.view for store in (self._inner, self._outside))
            there.look()
            self._mounted[name] = bool(self._outside.names(name)) and here.entry(name) is None
        return self._mounted[name]

    def _of(self, key: str) -> VersionStore:
        return self._outside if self.is_shared(key) else self._inner

    def _groups(self) -> list[str]:
        outside = self._outside.version.view
        if isinstance(outside, OutsideView) and not outside.is_here:
            return []  # who asks for one by name is told why
        return sorted(filter(self.is_shared, self._names))

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Found | None:
        """See `VersionStore.read`."""
        if "/" in key or not (is_doc(key) or key == V2_NAME):
            return self._of(key).read(key, offset, length)
        found = self._inner.read(key)
        if found is None or not (key == V2_NAME or is_consolidated(key, found[0])):
            return None if found is None else cut(found[0], offset, length)
        shown = {path: entry.shown_docs() for path, entry in self.shown_entries().items()}
        return cut(corrected("", key, found[0], shown), offset, length)

    def write(self, key: str, data: bytes) -> None:
        """See `VersionStore.write`."""
        self._of(key).write(key, data)

    def delete_sync(self, key: str) -> None:
        """See `VersionStore.delete_sync`."""
        self._of(key).delete_sync(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """See `VersionStore.keys`."""
        if "/" in prefix:
            yield from self._of(prefix).keys(prefix)
            return
        yield from self._inner.keys(prefix)
        for name in self._groups():
            if name.startswith(prefix):
                yield from self._outside.keys(f"{name}/")

    def names(self, folder: str) -> list[str]:
        """See `VersionStore.names`."""
        folder = folder.strip("/")
        return self._of(folder).names(folder) if folder else sorted({*self._inner.names(""), *self._groups()})

    def shown_entries(self) -> Mapping[str, Entry]:
        """See `VersionStore.shown_entries`."""
        groups = self._groups()
        shared = self._outside.shown_entries() if groups else {}
        return {**self._inner.shown_entries(), **{p: e for p, e in shared.items() if p.partition("/")[0] in groups}}

    def delete_below(self, folder: str) -> None:
        """See `VersionStore.delete_below`; what belongs to no version is not part of all that a version has."""
        folder = folder.strip("/")
        self._of(folder).delete_below(folder)

    def pin(self, path: str, origin: Coord) -> None:
        """See `VersionStore.pin`."""
        self._of(path).pin(path, origin)
