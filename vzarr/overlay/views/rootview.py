"""An open root: its folder is plain Zarr and the only truth, so that any tool may write it until it is sealed.

Two exceptions: an array that reaches below voxel 0 cannot be plain, nor one that was adopted, most of whose chunks are
elsewhere.  Its entry is kept as a row of the key authority, and what stands in the folder is marked so that readers
without vzarr refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import AlreadyExistsError, InvalidInputError
from vzarr.geometry import Box, Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.marks import marked, may_be_marked
from vzarr.overlay.hierarchy.meaning import remakes
from vzarr.overlay.hierarchy.tree import (
    DOC_NAMES,
    RESERVED,
    ArrayEntry,
    ArrayId,
    Entry,
    Tree,
    array_of,
    below,
    read_doc,
    spec_of,
    split_doc,
    split_origin,
)
from vzarr.overlay.hierarchy.windows import with_window
from vzarr.overlay.keys.authority import SEALED, Authority
from vzarr.overlay.keys.writers import Leased
from vzarr.overlay.kv import is_at_hand
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.views import moves
from vzarr.overlay.views.base import Found, SealedView, Storage, View, is_marker, rows_of, stored_coords
from vzarr.overlay.views.paths import check_rename, chunk_prefix, is_folder

_Docs = dict[str, bytes]


class RootView(Leased, View):
    """The open root of a repo.

    Parameters
    ----------
    storage
        The repo's objects and pages.
    node
        Id of the version.
    authority
        Keeps the writers' leases, and the entries of arrays that are not plain.
    load_sealed
        Gives the version as it was sealed, once it has been.
    """

    sealed = False

    def __init__(
        self, storage: Storage, node: str, authority: Authority, load_sealed: Callable[[str], SealedView]
    ) -> None:
        super().__init__(storage, node)
        self.authority, self._load_sealed, self.at_hand = authority, load_sealed, is_at_hand(authority.kv)
        self.folder = layout.zarr(node)
        self._counter = -1
        self._marked: dict[str, ArrayEntry] = {}
        self._parsed: dict[str, Entry] = {}

    # -- looking

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Groups and arrays by path, as found in the folder; an array's chunks are not visited."""
        self.look()
        return {**self._marked, **dict(self._walk(""))}

    @property
    def known(self) -> Mapping[str, Entry]:
        """Groups and arrays, looked up one by one in the folder."""
        return _Known(self)

    def entry(self, path: str) -> Entry | None:
        """The group or array at a path, read from the folder."""
        self.look()
        found = self._marked.get(path) or self._read(path)
        if found is not None and path not in self._marked and may_be_marked(found.docs):
            self.look()  # its row is newer than the look before, and says from which voxel the document counts
        return self._marked.get(path) or found

    def holds(self, path: str) -> bool:
        """Whether a row or an object is at a path or below it."""
        objects, place = self.storage.objects, f"{self.folder}/{path}"
        return any(below(self.marked(), path)) or objects.size(place) is not None or any(objects.walk(place))

    def marked(self) -> Mapping[str, ArrayEntry]:
        """Arrays that are not plain, by path: those that reach below voxel 0, and adopted ones."""
        self.look()
        return self._marked

    @property
    def known_marked(self) -> Mapping[str, ArrayEntry]:
        """The same as of the last look: mostly there are none, and then every key is a plain file."""
        if self._counter < 0:
            self.look()
        return self._marked

    def tree(self, entries: Mapping[str, Entry] | None = None, names: Iterable[str] | None = None) -> Tree:
        """The metadata tree as the folder has it now; `names`: keys, such as a walk has found, with the loose ones."""
        found = dict(self.entries if entries is None else entries)
        walked = (key[len(self.folder) + 1 :] for key, _size in self.storage.objects.walk(self.folder))
        loose = (name for name in (walked if names is None else names) if not self._is_part(found, name))
        return Tree(found, dict.fromkeys(loose, self.node))

    def loose(self) -> Mapping[str, str]:
        """Loose keys -> this version; found by walking the folder."""
        return self.tree().loose

    def chunk_places(self, entry: ArrayEntry, coord: Coord) -> tuple[str, ...]:
        """The folder's key."""
        return (self.storage.chunk_key(self.node, entry, coord),)

    def chunk_owner(self, entry: ArrayEntry, coord: Coord) -> str | None:
        """The version itself, where the chunk exists or an adopted source may have it."""
        own = self.storage.chunk_key(self.node, entry, coord)
        found = self.storage.objects.fetch(own, 0, len(layout.MARKER) if entry.source is not None else 0)
        if found is None:
            return self.node if self.in_source(entry, coord) else None
        return None if is_marker(self.storage.objects, own, found) else self.node

    def chunk_coords(self, entry: ArrayEntry, box: Box | None = None) -> NDArray[np.int64]:
        """Chunks in the array's folder, and those of an adopted array's source."""
        source = self.storage.sources.of(entry)
        coords = set() if source is None else set(source.coords(box))
        for coord, key, size in self.own_chunks(entry):
            if size == len(layout.MARKER) and self.storage.objects.get(key) == layout.MARKER:
                coords.discard(coord)
            else:
                coords.add(coord)
        return rows_of(coords, entry.spec.ndim)

    def in_source(self, entry: ArrayEntry, coord: Coord) -> bool:
        """Whether the source may have a chunk; what the folder holds comes first."""
        source = self.storage.sources.of(entry)
        return source is not None and source.covers(coord)

    def own_chunks(self, entry: ArrayEntry) -> Iterator[tuple[Coord, str, int]]:
        """Chunks in the array's folder: global coordinates, object key and size."""
        found = stored_coords(self.storage.objects, entry, self.own_folder(entry))
        return (row for row in found if self.may_have(entry, row[0]))

    def may_have(self, entry: ArrayEntry, coord: Coord) -> bool:
        """Whether a chunk may be called so: in a plain array no reader counts below 0."""
        return min(coord, default=0) >= 0 or entry.id.path in self._marked

    def own_folder(self, entry: ArrayEntry) -> str:
        """Folder for an array's chunks."""
        return f"{self.folder}/{entry.id.path}" if entry.id.path else self.folder

    def look(self) -> None:
        """Take note of what others changed: one row tells whether there is anything."""
        state, counter = self.authority.node_state(self.node)
        if state == SEALED:
            self._marked = {p: e for p, e in self._load_sealed(self.node).tree.arrays().items() if not e.is_plain}
            return
        if counter == self._counter:
            return
        if counter and not moves.settle(self.authority, self.storage.objects, self.node):
            counter = -1  # look again next time
        prefix = layout.row_tree(self.node, "")
        rows = self.authority.kv.scan(prefix, layout.after(prefix)) if counter else ()
        found = {k[len(prefix) :].decode(): Entry.from_json(orjson.loads(v)) for k, v in rows}
        self._marked = Tree(found).arrays()
        self._counter = counter

    def _read(self, path: str) -> Entry | None:
        if not is_folder(path):
            return None
        base = f"{self.folder}/{path}" if path else self.folder
        docs: _Docs = {}
        for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"):
            data = self.storage.objects.get(f"{base}/{name}")
            if data is not None and read_doc(name, data)[0]:
                docs[name] = data
                if name == "zarr.json":
                    break
        return self._entry_of(path, docs)

    def _entry_of(self, path: str, docs: _Docs) -> Entry | None:
        known = self._parsed.get(path)
        if known is not None and known.docs == docs:
            return known
        if not docs:
            self._parsed.pop(path, None)
            return None
        is_array = any(spec_of(n, d) is not None for n, d in docs.items())
        entry = self._parsed[path] = ArrayEntry(docs, ArrayId(self.node, path)) if is_array else Entry(docs)
        return entry

    def _walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        entry = self._marked.get(path) or self._read(path)
        if entry is not None:
            yield path, entry
            if isinstance(entry, ArrayEntry):
                return
        folders, _files = self.storage.objects.list_dir(f"{self.folder}/{path}" if path else self.folder)
        for name in folders:
            yield from self._walk(f"{path}/{name}" if path else name)

    def _is_part(self, entries: Mapping[str, Entry], key: str) -> bool:
        path, name = split_doc(key)
        if name in DOC_NAMES and path in entries and (name in entries[path].docs or path in self._marked):
            return True
        inside = array_of(entries, key)
        if inside is None:
            return False
        coord = inside[1].spec.coord(key[len(inside[0]) :].lstrip("/"))
        return coord is not None and self.may_have(inside[1], coord)

    # -- changing

    def put_doc(self, key: str, data: bytes) -> None:
        """Set a metadata document."""
        path, name = split_doc(key)
        known, spec = read_doc(name, data)
        if spec is not None and RESERVED.search(path):
            raise InvalidInputError(f"array name {path!r} ends like the folders of arrays made in later versions")
        entry = self.marked().get(path)
        if entry is not None and remakes(entry.docs, name, data):
            self.delete_dir(path)
            entry = None
        if entry is not None and known:
            data, _ = split_origin(name, data)
            changed = replace(entry, docs={**entry.docs, name: data})
            self._edit_marked(lambda _txn: {path: changed})
            return
        self._put(key, data)

    def put_array(self, path: str, docs: Mapping[str, bytes], creator: str) -> None:
        """Make an array; nothing happens when the path has one already."""
        entry = self.entry(path)
        if not isinstance(entry, ArrayEntry):
            for name, data in docs.items():
                self.put_doc(f"{path}/{name}" if path else name, data)

    def delete_doc(self, key: str) -> None:
        """Remove a metadata document."""
        path, name = split_doc(key)
        entry = self.marked().get(path)
        if entry is not None and entry.source is not None and name in entry.docs:
            # With its metadata an adopted array's link to its source goes, and so do the edits on top of it.
            self.delete_dir(path)
            return
        if entry is not None:
            self.authority.edit(self.node, lambda txn: txn.delete(layout.row_tree(self.node, path)))
        self.delete_loose(key)

    def grow(self, path: str, box: Box, step: int = 1, *, exact: bool = False) -> None:
        """Make an array's window cover, or be, a box of voxels (see `with_window`)."""

        def change(txn: Transaction) -> Mapping[str, ArrayEntry]:
            row = txn.get(layout.row_tree(self.node, path))
            old = Entry.from_json(orjson.loads(row)) if row else self._read(path)
            if not isinstance(old, ArrayEntry):
                return {}
            new = with_window(old, box, step, exact=exact)
            if row or not new.is_plain:
                return {path: new}
            for name, data in new.docs.items():
                if data != old.docs[name]:
                    self._put(f"{path}/{name}" if path else name, data)
            return {}

        # A key store may run transactions side by side and one of them again: a plain document is in none of them.
        with moves.alone(self.authority, self.node):
            self._edit_marked(change)

    def rename(self, source: str, target: str) -> None:
        """Move a group or array, and all below it, to another path."""
        if RESERVED.search(target):
            raise InvalidInputError(f"{target!r} ends like the folders of arrays made in later versions")

        def check() -> None:
            check_rename(self, source, target)

        moves.move(self.authority, self.storage.objects, self.node, source, target, check)

    def delete_dir(self, prefix: str) -> None:
        """Remove every key below a folder."""
        gone = list(below(self.marked(), prefix))
        inside = array_of(self._marked, f"{prefix}/")
        with self.writer.write():
            if inside is not None and inside[0] not in gone:
                leading = chunk_prefix(inside[1], prefix[len(inside[0]) :].strip("/"))
                for row in [] if leading is None else self.chunk_coords(inside[1]).tolist():
                    if tuple(row[: len(leading or ())]) == leading:
                        self.delete_chunk(inside[1], tuple(row))
                return
            moves.remove(self.authority, self.storage.objects, self.node, prefix)

    def put_chunk(self, entry: ArrayEntry, coord: Coord, data: bytes) -> None:
        """Store a chunk (global coordinates)."""
        if data == layout.MARKER:
            raise InvalidInputError("these 32 bytes mark a deleted chunk and cannot be stored as one")
        with self.writer.write() as stage:
            self.storage.objects.put(self.storage.chunk_key(self.node, entry, coord), data, stage=stage)

    def delete_chunk(self, entry: ArrayEntry, coord: Coord) -> None:
        """Delete a chunk: a marker where an adopted source has one."""
        key = self.storage.chunk_key(self.node, entry, coord)
        with self.writer.write() as stage:
            if self.source_has(entry, coord):
                self.storage.objects.put(key, layout.MARKER, stage=stage)
            else:
                self.storage.objects.delete(key)

    def adopt(self, groups: Mapping[str, bytes], adopted: Mapping[str, ArrayEntry]) -> None:
        """Write groups, and then take in arrays whose chunks are elsewhere, in one transaction.

        Parameters
        ----------
        groups
            Documents of groups by key.
        adopted
            Entries by path, whose identity this version gives.
        """

        def change(txn: Transaction) -> Mapping[str, ArrayEntry]:
            taken = [p for p in adopted if txn.get(layout.row_tree(self.node, p)) is not None]
            if taken:
                raise AlreadyExistsError(f"there is an array at {taken[0]!r} already")
            return {path: replace(entry, id=ArrayId(self.node, path)) for path, entry in adopted.items()}

        with self.writer.write():
            for key, data in groups.items():
                self._put(key, data)
            if adopted:
                self._edit_marked(change)

    def read_loose(self, key: str, offset: int = 0, length: int | None = None) -> Found | None:
        """Bytes of a key that is no chunk and no metadata, at its own place."""
        if self._is_part(self._marked, key):
            return None
        return self.storage.objects.fetch(f"{self.folder}/{key}", offset, length)

    def put_loose(self, key: str, data: bytes) -> None:
        """Store any key at its own place."""
        self._put(key, data)

    def delete_loose(self, key: str) -> None:
        """Remove any key from its own place."""
        with self.writer.write():
            self.storage.objects.delete(f"{self.folder}/{key}")

    def _put(self, key: str, data: bytes) -> None:
        with self.writer.write() as stage:
            self.storage.objects.put(f"{self.folder}/{key}", data, stage=stage)

    def _edit_marked(self, change: Callable[[Transaction], Mapping[str, ArrayEntry]]) -> None:
        """Write rows of arrays that are not plain, then their documents: cut off between, the rows are the truth."""
        done: dict[str, ArrayEntry] = {}

        def run(txn: Transaction) -> None:
            done.clear()
            done.update(change(txn))
            for path, entry in done.items():
                txn.put(layout.row_tree(self.node, path), orjson.dumps(entry.to_json()))

        with self.writer.write():
            self.authority.edit(self.node, run)
            for path, entry in done.items():
                for name, data in marked(entry.docs, entry.origin).items():
                    self._put(f"{path}/{name}" if path else name, data)


class _Known(Mapping[str, Entry]):
    """The folder's groups and arrays as a mapping that looks when asked."""

    def __init__(self, view: RootView) -> None:
        self._view = view

    def __getitem__(self, path: str) -> Entry:
        entry = self._view._marked.get(path) or self._view._read(path)
        if entry is None:
            raise KeyError(path)
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.entries)

    def __len__(self) -> int:
        return len(self._view.entries)
