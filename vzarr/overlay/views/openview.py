"""An open version that inherits: rows of the key authority over a sealed base, and a folder of its own for chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import orjson
from numpy.typing import NDArray

from vzarr.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError
from vzarr.geometry import Box, Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import (
    V3_DOC,
    ArrayEntry,
    ArrayId,
    Entry,
    Tree,
    array_of,
    below,
    is_array_doc,
    join_doc,
    parse_array,
    parse_doc,
    split_doc,
    split_origin,
)
from vzarr.overlay.hierarchy.windows import with_window
from vzarr.overlay.keys.authority import SEALED, Authority
from vzarr.overlay.keys.writers import Leased, one_write
from vzarr.overlay.kv import is_at_hand
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.owners.directory import ABSENT, DELETED
from vzarr.overlay.views.base import SealedView, Storage, View, is_marker, stored_coords
from vzarr.overlay.views.paths import chunk_prefix
from vzarr.overlay.views.treerows import GONE, TreeRows, overlaid


class OpenView(Leased, View):
    """An open version with a parent.

    Parameters
    ----------
    storage
        The repo's objects and pages.
    node
        Id of the version.
    base
        What it inherits: its parent, or what the merge of its parents made.
    authority
        Keeps the version's metadata rows and the writers' leases.
    load_sealed
        Gives the version as it was sealed, once it has been.
    """

    sealed = False

    def __init__(
        self,
        storage: Storage,
        node: str,
        base: SealedView,
        authority: Authority,
        load_sealed: Callable[[str], SealedView],
    ) -> None:
        super().__init__(storage, node)
        self.base, self.authority, self._load_sealed = base, authority, load_sealed
        self.at_hand = is_at_hand(authority.kv)
        self._retired = False
        self._counter = -1
        self._entries: dict[str, Entry] = {}
        self._loose: dict[str, str] = {}
        self._masks: dict[ArrayId, list[Coord]] = {}

    # -- looking

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Groups and arrays by path; one row is read to learn whether they changed."""
        self.look()
        return self._entries

    @property
    def known(self) -> Mapping[str, Entry]:
        """Groups and arrays as of the last look."""
        if self._counter < 0:
            self.look()
        return self._entries

    def loose(self) -> Mapping[str, str]:
        """Loose keys -> node that stored them."""
        self.look()
        return self._loose

    def masks(self) -> Mapping[ArrayId, list[Coord]]:
        """Deleted parts of the base: array -> leading chunk coordinates (global) of what is gone."""
        self.look()
        return self._masks

    def tree(self) -> Tree:
        """The metadata tree as of now."""
        self.look()
        return Tree(self._entries, self._loose)

    def chunk_places(self, entry: ArrayEntry, coord: Coord) -> tuple[str, ...]:
        """The version's own key, then the base's unless that part was deleted."""
        own = self.storage.chunk_key(self.node, entry, coord)
        if self._masked(entry, coord):
            return (own,)
        try:
            return (own, *self.base.chunk_places(entry, coord))
        except ConflictError:
            if self.storage.objects.size(own) is None:
                raise
            return (own,)  # whoever wrote it here has resolved the conflict

    def finder(self, entry: ArrayEntry, coords: Sequence[Coord]) -> Callable[[Coord], tuple[str, ...]]:
        """Looks for chunks of the version's own only if it has a folder for them (see `View.finder`)."""
        if len(coords) < 2 or self.storage.objects.may_hold(self.own_folder(entry)):
            return super().finder(entry, coords)
        return lambda coord: () if self._masked(entry, coord) else self.base.chunk_places(entry, coord)

    def only_inherits(self, entry: ArrayEntry) -> bool:
        """Whether all chunks of an array are the base's, as of now: none was deleted, none can have been written."""
        return entry.id not in self._masks and not self.storage.objects.may_hold(self.own_folder(entry))

    def chunk_owner(self, entry: ArrayEntry, coord: Coord) -> str | None:
        """The version itself when its own folder has the chunk, else the base's owner."""
        own = self.storage.chunk_key(self.node, entry, coord)
        found = self.storage.objects.fetch(own, 0, len(layout.MARKER))
        if found is not None:
            return None if is_marker(self.storage.objects, own, found) else self.node
        return None if self._masked(entry, coord) else self.base.chunk_owner(entry, coord)

    def chunk_coords(self, entry: ArrayEntry, box: Box | None = None) -> NDArray[np.int64]:
        """The base's chunks that are not deleted, and the own ones."""
        inherited = {tuple(c) for c in self.base.chunk_coords(entry, box).tolist()}
        for mask in self._masks.get(entry.id, ()):
            inherited = {c for c in inherited if c[: len(mask)] != mask}
        for coord, key, size in self.own_chunks(entry):
            if size == len(layout.MARKER) and self.storage.objects.get(key) == layout.MARKER:
                inherited.discard(coord)
            else:
                inherited.add(coord)
        return np.array(sorted(inherited), np.int64).reshape(len(inherited), entry.spec.ndim)

    def in_source(self, entry: ArrayEntry, coord: Coord) -> bool:
        """Whether neither this version nor its base ever wrote or deleted a chunk; its own folder is not asked."""
        return not self._masked(entry, coord) and self.base.in_source(entry, coord)

    def own_chunks(self, entry: ArrayEntry) -> Iterator[tuple[Coord, str, int]]:
        """Chunks in the version's own folder: global coordinates, object key and size, markers included."""
        return stored_coords(self.storage.objects, entry, self.own_folder(entry))

    def own_folder(self, entry: ArrayEntry) -> str:
        """Folder for this version's chunks of an array."""
        folder = entry.id.folder(of_root=False, root=self.storage.root)
        return f"{layout.zarr(self.node)}/{folder}" if folder else layout.zarr(self.node)

    def _masked(self, entry: ArrayEntry, coord: Coord) -> bool:
        masks = self._masks.get(entry.id)
        return masks is not None and any(coord[: len(m)] == m for m in masks)

    def look(self) -> None:
        """Take note of what others changed: one row tells whether there is anything (see `Authority.kept_state`)."""
        state, counter = self.authority.kept_state(self.node)
        if state == SEALED and not self._retired:
            # Sealed by another process: from now on this is only another way to read the sealed version.
            self.base, self._retired, self._counter = self._load_sealed(self.node), True, -1
        if counter == self._counter:
            return
        prefix = layout.node_rows(self.node)
        rows = self.authority.kv.scan(prefix, layout.after(prefix)) if counter else ()
        self._entries, self._loose, self._masks = overlaid(self.node, rows, self.base.entries, self.base.loose())
        self._counter = counter

    # -- changing metadata

    @one_write
    def put_doc(self, key: str, data: bytes) -> None:
        """Set a metadata document; bytes that are no Zarr metadata become a loose key.

        So do documents of Zarr 2 beside one of Zarr 3, as which the path then counts.
        """
        path, name = split_doc(key)
        doc, there = parse_doc(name, data), self.entries.get(path, Entry({})).docs
        if doc is None or (V3_DOC in there and name != V3_DOC):
            self.put_loose(key, data)
            return
        data, _origin = split_origin(name, data)
        self._adopt_loose(path, name, data, is_array_doc(name, doc))
        old_format = {n: d for n, d in there.items() if n != V3_DOC} if name == V3_DOC else {}
        self._store_loose({join_doc(path, n): d for n, d in old_format.items()})

        def change(txn: Transaction) -> None:
            rows = self._rows(txn)
            old = rows.get(path)
            docs = {**(old.docs if old and not old_format else {}), name: data}
            rows.put(path, rows.described(path, docs, old))
            for beside in old_format:
                txn.put(layout.row_loose(self.node, join_doc(path, beside)), b"1")
            self._hide_loose(txn, key)

        self.authority.edit(self.node, change)

    def put_array(self, path: str, docs: Mapping[str, bytes], creator: str) -> None:
        """Make an array, unless there is one; its identity names `creator`, and so is the same on any branch."""

        def change(txn: Transaction) -> None:
            rows = self._rows(txn)
            if not isinstance(rows.get(path), ArrayEntry):
                rows.put(path, ArrayEntry(dict(docs), rows.free_id(creator, path)))

        self.authority.edit(self.node, change)

    @one_write
    def delete_doc(self, key: str) -> None:
        """Remove a metadata document; what was an array's chunks become loose keys, as files beside it would."""
        path, name = split_doc(key)
        entry = self.entries.get(path)
        if entry is None or name not in entry.docs:
            self.delete_loose(key)
            return
        if isinstance(entry, ArrayEntry) and name in ("zarr.json", ".zarray"):
            self._release_chunks(path, entry)
        docs = {k: v for k, v in entry.docs.items() if k != name}
        left = (replace(entry, docs=docs) if ".zarray" in docs else Entry(docs)) if docs else None
        self.authority.edit(self.node, lambda txn: self._rows(txn).put(path, left))

    def grow(self, path: str, box: Box, step: int = 1, *, exact: bool = False) -> None:
        """Make an array's window cover, or be, a box of voxels (see `with_window`)."""

        def change(txn: Transaction) -> None:
            old = self._rows(txn).get(path)
            if isinstance(old, ArrayEntry):
                self._rows(txn).put(path, with_window(old, box, step, exact=exact))

        self.authority.edit(self.node, change)

    @one_write
    def rename(self, source: str, target: str) -> None:
        """Give a group or array, and all below it, another path; loose keys are stored anew, before they are seen.

        Raises
        ------
        NotFoundError, AlreadyExistsError
            If somebody else was first to move what is at the source, or to put something at the target.
        """
        self.look()
        loose = {key: target + key[len(source) :] for key in below(self._loose, source)}
        with self.writer.write() as stage:
            for key, new in loose.items():
                found = self.read_loose(key)
                if found is not None:
                    self.storage.objects.put(layout.loose(self.node, new), found[0], stage=stage)

        def change(txn: Transaction) -> None:
            rows = self._rows(txn)
            moved = rows.below(source)
            if source not in moved:
                raise NotFoundError(f"nothing at {source!r} to rename")
            if rows.below(target):
                raise AlreadyExistsError(f"{target!r} exists already")
            for key, new in loose.items():
                txn.put(layout.row_loose(self.node, key), GONE)
                txn.put(layout.row_loose(self.node, new), b"1")
            for path, entry in moved.items():
                rows.put(target + path[len(source) :], entry)
                rows.put(path, None)

        self.authority.edit(self.node, change)

    @one_write
    def delete_dir(self, prefix: str) -> None:
        """Remove every key below a folder: groups, arrays, loose keys, or a part of one array's chunks."""
        inside = array_of(self.entries, f"{prefix}/")
        gone = list(below(self._entries, prefix))
        loose = [k for k in self._loose if not prefix or k.startswith(f"{prefix}/")]
        arrays = [e for p in gone if isinstance(e := self._entries[p], ArrayEntry)]

        def change(txn: Transaction) -> None:
            for path in gone:
                self._rows(txn).put(path, None)
            for key in loose:
                txn.put(layout.row_loose(self.node, key), GONE)

        if gone or loose:
            self.authority.edit(self.node, change)
        for entry in arrays:
            self.storage.objects.delete_tree(self.own_folder(entry))
        if inside is not None and inside[0] not in gone:
            self._delete_chunks_below(inside[1], prefix[len(inside[0]) :].strip("/"))

    # -- changing chunks and loose keys

    def put_chunk(self, entry: ArrayEntry, coord: Coord, data: bytes) -> None:
        """Store a chunk (global coordinates)."""
        if data == layout.MARKER:
            raise InvalidInputError("these 32 bytes mark a deleted chunk and cannot be stored as one")
        with self.writer.write() as stage:
            self.storage.objects.put(self.storage.chunk_key(self.node, entry, coord), data, stage=stage)

    def delete_chunk(self, entry: ArrayEntry, coord: Coord) -> None:
        """Delete a chunk: a marker where the base has one, else just the own object."""
        key = self.storage.chunk_key(self.node, entry, coord)
        inherited = self.base.owners.owner(entry.id, coord) not in (ABSENT, DELETED) or self.source_has(entry, coord)
        with self.writer.write() as stage:
            if inherited and not self._masked(entry, coord):
                self.storage.objects.put(key, layout.MARKER, stage=stage)
            else:
                self.storage.objects.delete(key)

    @one_write
    def put_loose(self, key: str, data: bytes) -> None:
        """Store a key that is no chunk and no metadata."""
        path, name = split_doc(key)
        if name in self.known.get(path, Entry({})).docs:
            self.delete_doc(key)
        self._store_loose({key: data})
        if self._loose.get(key) != self.node:
            self.authority.edit(self.node, lambda txn: txn.put(layout.row_loose(self.node, key), b"1"))

    @one_write
    def delete_loose(self, key: str) -> None:
        """Remove a loose key; nothing happens when there is none."""
        if key in self.loose():
            self.authority.edit(self.node, lambda txn: self._hide_loose(txn, key))
            self.storage.objects.delete(layout.loose(self.node, key))

    # -- parts

    def _store_loose(self, values: Mapping[str, bytes]) -> None:
        with self.writer.write() as stage:
            for key, data in values.items():
                self.storage.objects.put(layout.loose(self.node, key), data, stage=stage)

    def _hide_loose(self, txn: Transaction, key: str) -> None:
        row = layout.row_loose(self.node, key)
        if key in self.base.loose():
            txn.put(row, GONE)
        else:
            txn.delete(row)

    def _rows(self, txn: Transaction) -> TreeRows:
        return TreeRows(txn, self.node, self.base.entries)

    def _adopt_loose(self, path: str, name: str, data: bytes, is_array: bool) -> None:
        """Loose keys that the new array's chunk names cover become its chunks."""
        folder = f"{path}/" if path else ""
        keys = [k for k in self.loose() if k.startswith(folder)] if is_array else []
        spec = parse_array({name: data}) if keys else None
        chunks = {k: c for k in keys if spec is not None and (c := spec.coord(k[len(folder) :])) is not None}
        if not chunks:
            return
        found = {c: self.read_loose(k) for k, c in chunks.items()}

        def change(txn: Transaction) -> None:
            self._rows(txn).put(path, self._rows(txn).described(path, {name: data}, None))

        self.authority.edit(self.node, change)
        entry = self.array(path)
        for coord, value in found.items():
            if value is not None and entry is not None:
                self.put_chunk(entry, coord, value[0])
        for key in chunks:
            self.delete_loose(key)

    def _release_chunks(self, path: str, entry: ArrayEntry) -> None:
        assert entry.spec is not None
        folder = f"{path}/" if path else ""
        # What a source has it keeps: it was seen by the metadata alone.
        for row in self.chunk_coords(replace(entry, source=None)).tolist():
            found = self.read_chunk(entry, tuple(row))
            if found is not None:
                shown = tuple(r - s for r, s in zip(row, entry.shift, strict=True))
                self.put_loose(folder + entry.spec.key(shown), found[0])
        self.storage.objects.delete_tree(self.own_folder(entry))

    def _delete_chunks_below(self, entry: ArrayEntry, rest: str) -> None:
        """Mask the base's chunks below a folder inside an array, and remove the own ones."""
        prefix = chunk_prefix(entry, rest)
        if prefix is None:
            return
        row = orjson.dumps({"id": entry.id.to_json(), "prefix": prefix})
        key = layout.row_mask(self.node, str(entry.id.to_json()), ",".join(map(str, prefix)))
        self.authority.edit(self.node, lambda txn: txn.put(key, row))
        for coord, own, _size in list(self.own_chunks(entry)):
            if coord[: len(prefix)] == prefix:
                self.storage.objects.delete(own)
