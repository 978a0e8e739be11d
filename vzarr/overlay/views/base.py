"""What one version looks like: its metadata, and where each chunk's bytes are.

Three kinds share one face.  A sealed version knows every owner.  An open one that inherits looks into its own folder
first, then asks its base.  An open root *is* its folder: plain Zarr, edited in place.  Changes go through the open
kinds only, each under the writer's lease of the node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import ConflictError, FormatError, SealedError
from vzarr.geometry import Box, Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry, Tree, below
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.owners.directory import ABSENT, CONFLICT, Owners, PageReader, Table, names_below
from vzarr.overlay.sealing import seal
from vzarr.overlay.sealing.leftout import gone
from vzarr.overlay.sources.adopted import Adopted, Sources

Found = tuple[bytes, int]
"""A range of an object, and the size of the whole."""


@dataclass(frozen=True)
class Storage:
    """What every view of a repo shares: where objects are, the root's id, decoded owner pages, and opened sources."""

    objects: Objects
    root: str
    pages: PageReader
    sources: Sources

    @classmethod
    def of(cls, objects: Objects, root: str) -> Storage:
        """Storage of a repo whose root version has the id `root`."""
        pages = PageReader(objects, names_below(root))
        return cls(objects, root, pages, Sources(objects))

    def chunk_key(self, node: str, entry: ArrayEntry, coord: Coord) -> str:
        """Object key of a chunk (global coordinates) of an array as `node` stores it."""
        folder = entry.id.folder(of_root=node in (self.root, layout.UNVERSIONED), root=self.root)
        base = f"nodes/{node}/zarr/{folder}/" if folder else f"nodes/{node}/zarr/"
        return base + entry.spec.key(coord)


class View(ABC):
    """One version, as its Store, region reader and seal see it.

    Parameters
    ----------
    storage
        The repo's objects and pages.
    node
        Id of the version.
    """

    sealed = True
    at_hand = True
    """Whether what it asks keys for is answered without a network (of objects their store knows)."""

    def __init__(self, storage: Storage, node: str) -> None:
        self.storage, self.node = storage, node

    @property
    @abstractmethod
    def entries(self) -> Mapping[str, Entry]:
        """Groups and arrays by path, as of now."""

    @property
    @abstractmethod
    def known(self) -> Mapping[str, Entry]:
        """Groups and arrays by path as of the last look; enough for naming chunks, and free of any request."""

    @abstractmethod
    def loose(self) -> Mapping[str, str]:
        """Keys that are no chunk and no metadata of a known array -> node that stored them."""

    @abstractmethod
    def chunk_places(self, entry: ArrayEntry, coord: Coord) -> tuple[str, ...]:
        """Object keys at which to look for a chunk, nearest first; the first that exists decides.

        Raises
        ------
        ConflictError
            If two merged versions changed the chunk differently.
        """

    def finder(self, entry: ArrayEntry, coords: Sequence[Coord]) -> Callable[[Coord], tuple[str, ...]]:
        """`chunk_places` for several chunks that are read together, as of now: what they share is looked for once."""
        return lambda coord: self.chunk_places(entry, coord)

    @abstractmethod
    def chunk_owner(self, entry: ArrayEntry, coord: Coord) -> str | None:
        """Id of the node that stored a chunk, or None when the chunk is absent or deleted.

        Chunks that no version ever wrote belong to the root where an adopted source may have them; the source is
        not asked.
        """

    @abstractmethod
    def chunk_coords(self, entry: ArrayEntry, box: Box | None = None) -> NDArray[np.int64]:
        """Global coordinates of every stored chunk of an array, shape (n, ndim), in no set order.

        Parameters
        ----------
        box
            Chunk coordinates that matter, upper corner exclusive; others may be given too.
        """

    @abstractmethod
    def in_source(self, entry: ArrayEntry, coord: Coord) -> bool:
        """Whether an adopted array's source says what a chunk is, since no version ever wrote or deleted it."""

    def look(self) -> None:  # noqa: B027 - only open versions change
        """Take note of what others changed since the last look."""

    def entry(self, path: str) -> Entry | None:
        """The group or array at a path as of now, or None."""
        return self.entries.get(path)

    def holds(self, path: str) -> bool:
        """Whether anything is at a path or below it."""
        return any(below(self.entries, path)) or any(below(self.loose(), path))

    def array(self, path: str) -> ArrayEntry | None:
        """The array at a path as of now, or None."""
        entry = self.entry(path)
        return entry if isinstance(entry, ArrayEntry) else None

    def read_chunk(self, entry: ArrayEntry, coord: Coord, offset: int = 0, length: int | None = None) -> Found | None:
        """Bytes of a chunk (global coordinates), or None when it is absent or deleted."""
        places = self.chunk_places(entry, coord)
        for place in places:
            found = self.storage.objects.fetch(place, offset, length)
            if found is not None:
                return None if is_marker(self.storage.objects, place, found) else found
        self.check_missing(places)
        source = self.source(entry, coord)
        return None if source is None else source.fetch(coord, offset, length)

    def source(self, entry: ArrayEntry, coord: Coord) -> Adopted | None:
        """The source that says what a chunk is which is at none of its places, or None."""
        return self.storage.sources.of(entry) if entry.source is not None and self.in_source(entry, coord) else None

    def source_has(self, entry: ArrayEntry, coord: Coord) -> bool:
        """Whether a chunk that no version ever wrote or deleted is in its array's source."""
        source = self.source(entry, coord)
        return source is not None and source.has(coord)

    def check_missing(self, places: tuple[str, ...]) -> None:
        """Tell a chunk that is absent from one that is gone: what a sealed version stored must be where it was put.

        Parameters
        ----------
        places
            Where a chunk was looked for in vain, as `chunk_places` gives them; the place of an open version's own may
            be empty.

        Raises
        ------
        StorageError
            If the chunk is gone.
        """
        mine = not self.sealed and len(places) == 1 and places[0].startswith(f"{layout.node(self.node)}/")
        if places and not mine:
            raise gone(self.storage.objects, places[-1], f"{places[-1]} is missing, which version {self.node} needs")

    def read_loose(self, key: str, offset: int = 0, length: int | None = None) -> Found | None:
        """Bytes of a loose key, or None when there is none."""
        node = self.loose().get(key)
        if node is None:
            return None
        place = loose_place(self.storage, node, key)
        found = self.storage.objects.fetch(place, offset, length)
        if found is None:
            raise gone(self.storage.objects, place, f"loose key {key!r} of node {node} is missing")
        return found


class Viewed(Protocol):
    """A version, as far as its store needs to know it."""

    @property
    def uuid(self) -> str:
        """Id of the version."""

    @property
    def url(self) -> str:
        """URL of its repo."""

    @property
    def view(self) -> View:
        """What it looks like now."""


class SealedView(View):
    """A version that never changes, or the base that an open one inherits."""

    def __init__(self, storage: Storage, node: str, tree: Tree, owners: Owners) -> None:
        super().__init__(storage, node)
        self.tree, self.owners = tree, owners

    @classmethod
    def load(cls, storage: Storage, node: str, record: seal.Record) -> SealedView:
        """Read the tree and the owner table that a seal (or merge base) names.

        Raises
        ------
        FormatError
            If they are missing or do not have the checksums that the record states.
        """
        tree = seal.load_part(storage.objects, layout.tree, record.tree)
        table = seal.load_part(storage.objects, layout.owner_table, record.table)
        try:
            return cls(storage, node, Tree.from_bytes(tree), Owners(Table.from_bytes(table), storage.pages))
        except (ValueError, LookupError, TypeError) as e:
            raise FormatError(f"the seal of {node} names damaged objects: {e}") from e

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Groups and arrays by path."""
        return self.tree.entries

    @property
    def known(self) -> Mapping[str, Entry]:
        """Groups and arrays by path."""
        return self.tree.entries

    @cached_property
    def unpinned(self) -> tuple[str, ...]:
        """Folders that hold adopted arrays whose sources may change without notice; ``""`` is the root."""
        found = (p for p, e in self.tree.arrays().items() if e.source is not None and "pins" not in e.source)
        return tuple({path.rpartition("/")[0] for path in found})

    def loose(self) -> Mapping[str, str]:
        """Loose keys -> node that stored them."""
        return self.tree.loose

    def chunk_places(self, entry: ArrayEntry, coord: Coord) -> tuple[str, ...]:
        """The owner's object key, or nothing."""
        owner = self._owner(entry, coord)
        return (self.storage.chunk_key(owner, entry, coord),) if isinstance(owner, str) else ()

    def _owner(self, entry: ArrayEntry, coord: Coord) -> str | int:
        owner = self.owners.owner(entry.id, coord)
        if owner == CONFLICT:
            raise ConflictError(
                f"chunk {coord} of {entry.id.path} was changed differently in the merged versions", [coord]
            )
        return owner

    def chunk_owner(self, entry: ArrayEntry, coord: Coord) -> str | None:
        """Owner by the version's pages."""
        owner = self._owner(entry, coord)
        if isinstance(owner, str):
            return owner
        return self.storage.root if self.in_source(entry, coord) else None

    def chunk_coords(self, entry: ArrayEntry, box: Box | None = None) -> NDArray[np.int64]:
        """Coordinates in the version's pages, and those of an adopted array's source."""
        parts = [coords for coords, _, _ in self.owners.chunks(entry.id, entry.spec.ndim)]
        source = self.storage.sources.of(entry)
        if source is not None:
            parts.append(rows_of((c for c in source.coords(box) if self.in_source(entry, c)), entry.spec.ndim))
        return np.concatenate(parts) if parts else np.zeros((0, entry.spec.ndim), np.int64)

    def in_source(self, entry: ArrayEntry, coord: Coord) -> bool:
        """Whether the version's pages know nothing of a chunk that lies where the source may have one."""
        source = self.storage.sources.of(entry)
        return source is not None and source.covers(coord) and self.owners.owner(entry.id, coord) == ABSENT


def rows_of(coords: Iterable[Coord], ndim: int) -> NDArray[np.int64]:
    """Coordinates as an array of shape (n, ndim)."""
    rows = list(coords)
    return np.array(rows, np.int64).reshape(len(rows), ndim)


def nothing(storage: Storage, node: str) -> SealedView:
    """A base without anything in it."""
    return SealedView(storage, node, Tree(), Owners(Table(), storage.pages))


def is_marker(objects: Objects, place: str, found: Found) -> bool:
    """Whether what was found at a chunk's key says that the chunk is deleted."""
    data, size = found
    if size != len(layout.MARKER):
        return False
    whole = data if len(data) == size else objects.get(place)
    return whole == layout.MARKER


def loose_place(storage: Storage, node: str, key: str) -> str:
    """Object key of a loose key as `node` stores it: in a root at its own place, for the root is plain Zarr."""
    return f"nodes/{node}/zarr/{key}" if node == storage.root else layout.loose(node, key)


def refuse_sealed(node: str) -> SealedError:
    """The error for a write to a sealed version."""
    return SealedError(f"version {node} is sealed; write to an open version, such as a new child of it")


def stored_coords(objects: Objects, entry: ArrayEntry, folder: str) -> Iterator[tuple[Coord, str, int]]:
    """Chunks in an array's folder of one node: global coordinates, object key and size, markers included."""
    for key, size in objects.walk(folder):
        coord = entry.spec.coord(key[len(folder) + 1 :])
        if coord is not None:
            yield coord, key, size
