"""A version as another format sees it: its pyramids, and the scales ``s0``, ``s1``, ... below each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from vzarr.overlay.export.shown.pyramids import Pyramid, pyramid_at
from vzarr.overlay.hierarchy.tree import Entry
from vzarr.overlay.store import VersionStore

_SCALE = re.compile(r"s(0|[1-9]\d{0,3})")


@dataclass(frozen=True)
class ShownVersion:
    """A version in the words of another format.

    Parameters
    ----------
    store
        The version's store.
    entries
        Its groups and arrays.
    """

    store: VersionStore
    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, store: VersionStore) -> Self:
        """The version behind a store as it is now."""
        return cls(store, store.shown_entries())

    def pyramid(self, path: str) -> Pyramid | None:
        """The pyramid that the format has at a path."""
        return pyramid_at(self.entries, path)

    def scale(self, path: str) -> tuple[Pyramid, int] | None:
        """Pyramid, and scale of it, that a path ``GROUP/sN`` names."""
        group, _, name = path.rpartition("/")
        found = _SCALE.fullmatch(name)
        pyramid = self.pyramid(group) if found else None
        if found is None or pyramid is None or int(found[1]) >= len(pyramid.paths):
            return None
        return pyramid, int(found[1])
