"""What one process remembers of a labelmap at a version: bodies of supervoxels, sizes and indices of bodies.

The mark of the last change (`index.read_change`) keeps it honest: what another process did leaves a mark that is not
known here, and then nothing is.  Edits of this process carry what they left alone over to their own mark.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from vzarr.types import kept
from vzarr.types.atonce import will_wait
from vzarr.types.labelmap import index
from vzarr.types.labelmap.index import LabelIndex

if TYPE_CHECKING:
    from vzarr.types.base import Instance

Place = tuple[str, str, str]
"""Repo, instance and version."""

_MOST_VERSIONS = 64
_MOST_IDS = 4_000_000
"""Of all versions together, about: half a gigabyte."""
_FEW_IDS = 10_000
"""A version with so many does not count."""


@dataclass
class Cache:
    """What is known as of the change `mark`.

    Parameters
    ----------
    place
        Of which labelmap.
    """

    place: Place
    mark: bytes | None = None
    bodies: dict[int, int] = field(default_factory=dict)
    existing: dict[int, int] = field(default_factory=dict)
    """The same, but 0 for an id that is no supervoxel."""
    sizes: dict[int, int] = field(default_factory=dict)
    indexed: set[int] = field(default_factory=set)
    """Bodies whose indices, if they are still in memory, are as of `mark`."""
    latest: tuple[Hashable | None, bytes] = None, b""
    """Stamp of the keys (`stamp_of`), and the mark as of it."""
    settled: Hashable | None = None
    """Stamp of the keys as of which no writer has left anything to finish."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, mark: bytes) -> tuple[dict[int, int], dict[int, int]]:
        """Bodies of supervoxels, and the same but 0 for ids that are none."""
        with self.lock:
            self._turn_to(mark)
            return self.bodies, self.existing

    @property
    def count(self) -> int:
        """How many ids are remembered."""
        return len(self.bodies) + len(self.existing) + len(self.sizes) + len(self.indexed)

    def _turn_to(self, mark: bytes) -> None:
        if self.mark != mark or self.count > _MOST_IDS:
            self.mark = mark
            self._forget()

    def _forget(self) -> None:
        self.bodies, self.existing, self.sizes, self.indexed = {}, {}, {}, set()

    def forget(self) -> None:
        """Remember nothing; who holds one of the dictionaries goes on with it."""
        with self.lock:
            self._forget()

    def keep(self, mark: bytes, bodies: Mapping[int, int], existing: Mapping[int, int]) -> None:
        """Remember what was looked up."""
        with self.lock:
            # Another mark means that a change came between the look-up and now: what was seen may be old.
            if self.mark == mark:
                self.bodies.update(bodies)
                self.existing.update(existing)
        _make_room(self)

    def sizes_of(self, mark: bytes, bodies: Iterable[int]) -> dict[int, int]:
        """Voxels of those bodies that are known."""
        with self.lock:
            self._turn_to(mark)
            return {body: self.sizes[body] for body in bodies if body in self.sizes}

    def keep_sizes(self, mark: bytes, sizes: Mapping[int, int]) -> None:
        """Remember voxels of bodies."""
        with self.lock:
            if self.mark == mark:
                self.sizes.update(sizes)
        _make_room(self)

    def index_of(self, mark: bytes, body: int) -> LabelIndex | None:
        """Index of a body, None if it is not known."""
        with self.lock:
            self._turn_to(mark)
            found: LabelIndex | None = kept.get((*self.place, body)) if body in self.indexed else None
            return found

    def keep_index(self, mark: bytes, found: LabelIndex) -> None:
        """Remember an index, among the blocks that are kept in memory."""
        parts = found.counts.values()
        # Its blocks, which it works out once, are another third or less.
        nbytes = 2 * sum(c.blocks.nbytes + c.voxels.nbytes for c in parts) + 500 * len(parts)
        with self.lock:
            if self.mark == mark:
                kept.put((*self.place, found.label), found, nbytes)
                self.indexed.add(found.label)

    def advance(
        self, before: bytes, after: bytes, moved: Mapping[int, int], touched: Iterable[int], bodies: Iterable[int]
    ) -> None:
        """Carry everything over a change that this process has just committed; see `advance`."""
        with self.lock:
            if self.mark == before:
                self.mark = after
                self.bodies.update(moved)
                for supervoxel in (*moved, *touched):
                    self.existing.pop(supervoxel, None)
                for body in bodies:
                    self.sizes.pop(body, None)
                    self.indexed.discard(body)


_cache_at = lru_cache(_MOST_VERSIONS)(Cache)
_large: dict[Place, Cache] = {}
"""Caches of more than a few ids; the one that grew last is the last."""
_making_room = threading.Lock()


def _make_room(grown: Cache) -> None:
    """Let caches that did not grow for the longest time forget what they know, if all together know too much."""
    if grown.count <= _FEW_IDS:
        return
    with _making_room:
        _large.pop(grown.place, None)
        _large[grown.place] = grown
        total = sum(cache.count for cache in _large.values())
        for place in [*_large][:-1]:
            if total <= _MOST_IDS:
                return
            oldest = _large.pop(place)
            total -= oldest.count
            oldest.forget()


def of(instance: Instance) -> Cache:
    """What is known of an instance at its version."""
    version, info = instance.version, instance.info
    return _cache_at((version.repo.url, info.data_uuid, version.uuid if info.versioned else ""))


def mark_of(instance: Instance) -> bytes:
    """Mark of the last change (`index.read_change`); not read again while nobody has committed anything."""
    cache, stamp = of(instance), instance.version.repo.authority.stamp()
    known, mark = cache.latest
    if stamp is None or known != stamp:  # the stamp came first: what is read now is at least as new
        mark = index.read_change(instance.keys)
        cache.latest = stamp, mark
    return mark


def advance(
    instance: Instance,
    before: bytes,
    after: bytes,
    moved: Mapping[int, int],
    touched: Iterable[int],
    bodies: Iterable[int],
) -> None:
    """Carry what is known over a change that this process has just committed.

    Parameters
    ----------
    before, after
        Marks of the change before and of this one.
    moved
        Supervoxels and their new bodies.
    touched
        Supervoxels whose rows in the index changed.
    bodies
        Bodies whose rows in the index changed.
    """
    of(instance).advance(before, after, moved, touched, bodies)


def sizes(instance: Instance, bodies: Sequence[int]) -> list[int]:
    """Voxels of bodies as of one moment, 0 for one that there is not."""
    cache = of(instance)
    mark = mark_of(instance)
    found = cache.sizes_of(mark, bodies)
    missing = [body for body in dict.fromkeys(bodies) if body not in found]
    if missing:
        keys = instance.keys
        found.update(zip(missing, index.read_sizes(keys, missing), strict=True))
        if index.read_change(keys) != mark:
            return index.read_sizes(keys, bodies)
        cache.keep_sizes(mark, found)
    return [found[body] for body in bodies]


def find(instance: Instance, body: int) -> LabelIndex | None:
    """The whole index of a body, None when there is no such body."""
    cache = of(instance)
    mark = mark_of(instance)
    found = cache.index_of(mark, body)
    if found is None:
        will_wait("reading an index")
        keys = instance.keys
        found = index.consistently(instance, lambda seen: index.read_index(seen, body))
        if found is not None and index.read_change(keys) == mark:
            cache.keep_index(mark, found)
    return found
