"""A zarr v3 `Store` over one version: complete and plain to every reader, however many versions lie behind it.

All work is synchronous and local to a few look-ups, so the synchronous surface is the real one and the asynchronous
methods are thin covers.  A handle pins each array's origin when it first meets the array, so that coordinates keep
their meaning while others grow it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from vzarr.errors import InvalidInputError
from vzarr.geometry import Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.consolidated import V2_NAME, corrected, is_consolidated
from vzarr.overlay.hierarchy.meaning import same_meaning
from vzarr.overlay.hierarchy.tree import (
    ArrayEntry,
    ArrayId,
    Entry,
    array_of,
    is_doc,
    spec_of,
    split_doc,
)
from vzarr.overlay.hierarchy.windows import seen_from, with_shape
from vzarr.overlay.objects.byteranges import cut, offset_and_length
from vzarr.overlay.views import plainroot
from vzarr.overlay.views.base import Found, View, Viewed, refuse_sealed
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.paths import check_key, is_key
from vzarr.overlay.views.plainroot import is_plain
from vzarr.overlay.views.rootview import RootView


class VersionStore(Store):
    """Zarr store over one version.

    Parameters
    ----------
    version
        The version.
    read_only
        Refuse writes; a sealed version refuses them in any case.
    """

    supports_writes = True
    supports_deletes = True
    supports_listing = True
    supports_partial_writes = False

    def __init__(self, version: Viewed, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.version = version
        self._seen: View | None = None
        self._origins: dict[ArrayId, Coord] = {}
        self._shapes: dict[ArrayId, Coord] = {}

    # -- what zarr asks of any store

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same version with or without the right to write."""
        return type(self)(self.version, read_only=read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionStore) and (self.version, self.read_only) == (other.version, other.read_only)

    def __hash__(self) -> int:
        return hash((self.version, self.read_only))

    def __str__(self) -> str:
        return f"vzarr://{self.version.uuid}::{self.version.url}"

    def __repr__(self) -> str:
        return f"VersionStore({str(self)!r})"

    def __getstate__(self) -> dict[str, Any]:
        kept = {"version": self.version, "_read_only": self._read_only, "_is_open": self._is_open}
        return {**kept, "_seen": None, "_origins": {}, "_shapes": {}}

    # -- the synchronous surface

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Value of a key, or None when it is absent."""
        offset, length = offset_and_length(byte_range)
        found = self.read(key, offset, length)
        if found is None:
            return None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(found[0])

    def set_sync(self, key: str, value: Buffer) -> None:
        """Set a key."""
        self.write(key, value.to_bytes())

    def delete_sync(self, key: str) -> None:
        """Remove a key; nothing happens when it is absent."""
        view = self._writable()
        check_key(key)
        if is_doc(key):
            view.delete_doc(key)
            return
        where = None if is_plain(view) else self._chunk(view, key)
        if where is None:
            view.delete_loose(key)
        else:
            view.delete_chunk(*where)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Found | None:
        """Range of a key's value and the size of the whole, or None when the key is absent.

        Parameters
        ----------
        offset
            First byte; negative counts from the end.
        length
            Number of bytes; None reads to the end.
        """
        view = self._view()
        if not is_key(key):
            return None
        if is_doc(key):
            found = self._doc(view, key)
            if found is not None:
                return cut(found, offset, length)
        elif key.endswith(V2_NAME):
            whole = self._object(view, key, 0, None)
            return None if whole is None else cut(self._corrected(view, key, whole[0]), offset, length)
        return self._object(view, key, offset, length)

    def write(self, key: str, data: bytes) -> None:
        """Set a key to bytes."""
        view = self._writable()
        check_key(key)
        if is_doc(key):
            self._put_doc(view, key, data)
            return
        where = self._chunk(view, key) if not is_plain(view) or data == layout.MARKER else None
        if where is None:
            view.put_loose(key, data)
        else:
            view.put_chunk(*where, data)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with `prefix`, read as text and not as a folder."""
        view = self.version.view
        view.look()
        if is_plain(view):
            yield from plainroot.keys(view, prefix)
            return
        entries = view.entries
        for path, entry in entries.items():
            base = f"{path}/" if path else ""
            yield from (base + n for n in entry.docs if (base + n).startswith(prefix))
            if isinstance(entry, ArrayEntry) and (base.startswith(prefix) or prefix.startswith(base)):
                yield from (k for k in self._chunk_names(view, path, entry) if k.startswith(prefix))
        yield from (k for k in view.loose() if k.startswith(prefix))

    def names(self, folder: str) -> list[str]:
        """Names of keys and folders directly below a folder, sorted."""
        view = self.version.view
        view.look()
        folder = folder.strip("/")
        if is_plain(view):
            return plainroot.names(view, folder)
        base = f"{folder}/" if folder else ""
        entries = view.entries
        keys: list[str] = [k for k in view.loose() if k.startswith(base)]
        for path, entry in entries.items():
            inside = f"{path}/" if path else ""
            keys += [inside + n for n in entry.docs if (inside + n).startswith(base)]
        found = {k[len(base) :].partition("/")[0] for k in keys}
        holder = array_of(entries, f"{folder}/x" if folder else "x")
        if holder is not None:
            names = self._chunk_names(view, *holder)
            found |= {k[len(base) :].partition("/")[0] for k in names if k.startswith(base)}
        return sorted(found)

    def shown_entries(self) -> Mapping[str, Entry]:
        """Groups and arrays by path."""
        return self.version.view.entries

    def delete_below(self, folder: str) -> None:
        """Remove every key below a folder."""
        view, folder = self._writable(), folder.strip("/")
        if folder:
            check_key(folder)
        view.look()
        inside = None if is_plain(view) else array_of(view.known, f"{folder}/")
        if inside is None or inside[0] == folder or self._shift(inside[1]) == inside[1].shift:
            view.delete_dir(folder)
            return
        # This handle took another voxel for the first: what it calls the folder's keys are others than by now.
        path, entry = inside
        for key in [k for k in self._chunk_names(view, path, entry) if k.startswith(f"{folder}/")]:
            self.delete_sync(key)
        for key in [k for k in view.loose() if k.startswith(f"{folder}/")]:
            view.delete_loose(key)

    def pin(self, path: str, origin: Coord) -> None:
        """Take another voxel for the first of an array; by default a handle takes that of the time it met the array.

        Parameters
        ----------
        path
            The array's; nothing happens when there is none.
        origin
            Global coordinates, in voxels.

        Raises
        ------
        InvalidInputError
            If no chunk can begin there.
        """
        entry = self.version.view.array(path)
        if entry is None:
            return
        chunks = entry.spec.chunks or (0,) * entry.spec.ndim
        if len(origin) != len(chunks) or any(o % c if c else o for o, c in zip(origin, chunks, strict=True)):
            raise InvalidInputError(f"no chunk of {path!r} can begin at {origin}; chunks are {chunks}")
        self._origins[entry.id] = origin

    # -- the asynchronous surface

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Value of a key, or None when it is absent; metadata at hand are told at once, sooner than by a thread."""
        if is_doc(key) and self.version.url.startswith(("file://", "memory://")) and self.version.view.at_hand:
            return self.get_sync(key, prototype=prototype, byte_range=byte_range)
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Values of several ranges, in order."""
        return list(await asyncio.gather(*(self.get(k, prototype, r) for k, r in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether a key has a value."""
        return await asyncio.to_thread(self.read, key, 0, 0) is not None

    async def getsize(self, key: str) -> int:
        """Size of a key's value in bytes."""
        found = await asyncio.to_thread(self.read, key, 0, 0)
        if found is None:
            raise FileNotFoundError(key)
        return found[1]

    async def set(self, key: str, value: Buffer) -> None:
        """Set a key."""
        if not isinstance(value, Buffer):
            raise TypeError(f"a Store keeps Buffer instances, not {type(value).__name__}")
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Set a key unless it has a value."""
        if not await self.exists(key):
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        """Remove a key; nothing happens when it is absent."""
        await asyncio.to_thread(self.delete_sync, key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove every key below a folder."""
        await asyncio.to_thread(self.delete_below, prefix)

    async def clear(self) -> None:
        """Remove every key."""
        await self.delete_dir("")

    async def list(self) -> AsyncIterator[str]:
        """Every key."""
        for key in await asyncio.to_thread(lambda: [*self.keys()]):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Every key that starts with `prefix`."""
        for key in await asyncio.to_thread(lambda: [*self.keys(prefix)]):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of keys and folders directly below a folder."""
        for name in await asyncio.to_thread(self.names, prefix):
            yield name

    # -- parts

    def _object(self, view: View, key: str, offset: int, length: int | None) -> Found | None:
        """What is stored at a key that is no metadata."""
        if is_plain(view):
            return view.storage.objects.fetch(f"{view.folder}/{key}", offset, length)
        where = self._chunk(view, key)
        if where is None:
            return view.read_loose(key, offset, length)
        return view.read_chunk(*where, offset, length)

    def _view(self) -> View:
        """What the version looks like; a new handle looks at what others changed, later reads of chunks don't."""
        view = self.version.view
        if view is not self._seen:
            view.look()
            self._seen = view
        return view

    def _writable(self) -> OpenView | RootView:
        self._check_writable()
        view = self._view()
        if not isinstance(view, OpenView | RootView):
            raise refuse_sealed(self.version.uuid)
        return view

    def _doc(self, view: View, key: str) -> bytes | None:
        path, name = split_doc(key)
        entry = view.entry(path)
        if entry is None:
            return None
        entry = self._seen_as(entry)
        if isinstance(entry, ArrayEntry):
            self._shapes[entry.id] = entry.spec.shape
        data = entry.shown_docs().get(name)
        return self._corrected(view, key, data) if data is not None and is_consolidated(name, data) else data

    def _seen_as(self, entry: Entry) -> Entry:
        """An entry as this handle shows it."""
        if not isinstance(entry, ArrayEntry):
            return entry
        return seen_from(entry, self._origins.setdefault(entry.id, entry.origin))

    def _corrected(self, view: View, key: str, data: bytes) -> bytes:
        """A document with consolidated metadata that say what the version's own say."""
        path, name = split_doc(key)
        return corrected(path, name, data, {p: self._seen_as(e).shown_docs() for p, e in view.entries.items()})

    def _put_doc(self, view: OpenView | RootView, key: str, data: bytes) -> None:
        path, name = split_doc(key)
        entry, spec = view.array(path), spec_of(name, data)
        if entry is not None and spec is not None and same_meaning(entry.docs, {name: data}):
            # Others may have let the array grow since this handle showed it: whoever did not change the shape
            # that was shown did not mean to take that back.
            lo, hi = entry.window
            start = self._origins.setdefault(entry.id, entry.origin) or (0,) * spec.ndim
            if spec.shape != self._shapes.get(entry.id):
                hi = tuple(a + n for a, n in zip(start, spec.shape, strict=True))
            shape = tuple(max(0, b - a) for a, b in zip(lo, hi, strict=True))
            if shape != spec.shape:
                data = with_shape(data, shape)
        view.put_doc(key, data)
        entry = view.array(path) if spec is not None else None
        if entry is not None and spec is not None:
            self._origins.setdefault(entry.id, entry.origin)
            self._shapes[entry.id] = spec.shape

    def _chunk(self, view: View, key: str) -> tuple[ArrayEntry, Coord] | None:
        """Array and global coordinate of the chunk that a key names, or None when it names none."""
        inside = array_of(view.known, key)
        if inside is None and not view.sealed:
            view.look()
            inside = array_of(view.known, key)
        if inside is None:
            return None
        path, entry = inside
        coord = inside[1].spec.coord(key[len(path) :].lstrip("/"))
        if coord is None or any(c < 0 for c in coord):
            return None
        shift = self._shift(entry)
        return entry, tuple(c + s for c, s in zip(coord, shift, strict=True)) if any(shift) else coord

    def _shift(self, entry: ArrayEntry) -> Coord:
        origin = self._origins.setdefault(entry.id, entry.origin)
        if origin == entry.origin:
            return entry.shift
        return replace(entry, origin=origin).shift

    def _chunk_names(self, view: View, path: str, entry: ArrayEntry) -> Iterator[str]:
        shift = self._shift(entry)
        base = f"{path}/" if path else ""
        for row in view.chunk_coords(entry).tolist():
            shown = tuple(c - s for c, s in zip(row, shift, strict=True))
            if all(c >= 0 for c in shown):
                yield base + entry.spec.key(shown)
