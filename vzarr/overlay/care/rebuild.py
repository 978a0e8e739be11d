"""What a sealed version lost and its folder or its relatives still tell, made again: the very bytes, or nothing.

The log vouches for seals, a seal for tree, table, layers and the list of checksums, and that list for every other
object.  Whatever is made again is written only if it has the checksum that is vouched for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import orjson

from vzarr.errors import ConflictError, FormatError, InvalidInputError, StorageError, UnsupportedError
from vzarr.geometry import Coord
from vzarr.overlay import layout, merge
from vzarr.overlay.care import shortcuts
from vzarr.overlay.care.draft import Draft
from vzarr.overlay.care.remakeseals import find_record, layers_of, list_sums
from vzarr.overlay.care.remaketrees import find_tree
from vzarr.overlay.hierarchy.marks import marked
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Tree
from vzarr.overlay.history.logcheck import Finding, read_log
from vzarr.overlay.history.state import State
from vzarr.overlay.joining import kinds
from vzarr.overlay.keys import keylayers
from vzarr.overlay.kv import sealed
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.owners.directory import DELETED, Changes, Owners, PackWriter, Table
from vzarr.overlay.sealing import leftout, seal
from vzarr.overlay.threeway.disputes import FAIL, OURS, THEIRS, Judge
from vzarr.overlay.threeway.rule import History
from vzarr.overlay.views.base import SealedView, Storage, loose_place, stored_coords
from vzarr.overlay.views.commit import mask_changes

_BROKEN = (FormatError, StorageError, UnsupportedError, InvalidInputError, ConflictError, ValueError, LookupError)
"""What building on something damaged may end in."""
_FROM_A_CLONE = "copy it from a clone or mirror of the repo, where it has the same name"
_NEAR = 16
"""So many versions that come from one are asked for what they say of it."""


def rebuild_damaged(objects: Objects, findings: Iterable[Finding]) -> tuple[list[str], list[Finding]]:
    """Make again what `verify` found damaged, as far as that can be: the keys written, and what could not be made."""
    damaged = [f for f in findings if f.damage]
    harmed = {f.key.split("/")[1] for f in damaged if f.key.startswith("nodes/")}
    written = shortcuts.renew(objects, damaged)
    state, _ = read_log(objects)
    failed: list[Finding] = []
    for node in (n for n in state.nodes if n in harmed):  # parents first: others build on theirs
        done, lost = rebuild_version(objects, state, node)
        written += done
        failed += [Finding("not-rebuilt", key, why) for key, why in lost.items()]
    return written, failed


def rebuild_version(objects: Objects, state: State, node: str) -> tuple[list[str], dict[str, str]]:
    """Make again what of a version's own objects is lost or damaged.

    Returns
    -------
    tuple of list and dict
        Keys of what was written; and by the key of each object that could not be made, why and what to do.
    """
    return _Remaker(objects, state, node).run()


class _Remaker:
    """One version's damaged objects, made again one after the other, what vouches for others first."""

    def __init__(self, objects: Objects, state: State, node: str) -> None:
        self.objects, self.state, self.node = objects, state, node
        self.info, self.draft = state.nodes[node], Draft(objects)
        self.lost: dict[str, str] = {}
        self._left = frozenset[str]()

    def run(self) -> tuple[list[str], dict[str, str]]:
        """See `rebuild_version`."""
        with suppress(*_BROKEN):
            self._left = leftout.read(self.objects, self.node)
        seal_key, sums_key = layout.seal(self.node), layout.sums(self.node)
        sums = self.objects.get(sums_key)
        record = self._record(sums) if self.info.sealed else None
        if record is None:
            return self._written(), self.lost
        whole = sums is not None and seal.sha256(sums) == record.sums
        wanted = self._wanted(record, sums if whole else None)
        for make in (self._tree, self._documents, self._base, self._pages, self._layers):
            bad = self._bad(wanted)
            if bad:
                with suppress(*_BROKEN):
                    make(record, wanted, bad)
        self._check(wanted)
        if not whole:
            listed = list_sums(self.draft, self.node)
            if seal.sha256(listed) == record.sums and not self._left:
                self.draft.put(sums_key, listed)
            else:
                self._forget(wanted)
                why = "what is in the folder is not what was sealed" if not self._left else "this clone is partial"
                self.lost[sums_key] = f"it cannot be made again: {why}; {_FROM_A_CLONE}"
        for key in self._bad(wanted):
            self.lost[key] = f"nothing else in the repo says what it was; {_FROM_A_CLONE}"
        self.lost.pop(seal_key, None)
        return self._written(), self.lost

    # -- what vouches for the rest

    def _record(self, sums: bytes | None) -> seal.Record | None:
        key, digest = layout.seal(self.node), self.info.seal
        with suppress(*_BROKEN):
            return seal.load_record(self.objects, key, digest)
        bases = [r for r in (self._base_record(), *map(self._sealed, self.info.parents)) if r is not None]
        near = [r for r in map(self._sealed, (*self.info.parents, *self._below())) if r is not None]
        # Of a tag the list is empty, but there.
        for listed in (*([] if sums is None else [sums]), list_sums(self.objects, self.node)):
            with suppress(*_BROKEN):
                data = find_record(self.objects, self.node, listed, digest or "", bases, self.info.parents, near)
                if data is not None:
                    self.draft.put(key, data)
                    return seal.Record.from_bytes(data)
        self.lost[key] = f"it cannot be made again from what is in the folder; {_FROM_A_CLONE}"
        return None

    def _sealed(self, node: str) -> seal.Record | None:
        with suppress(*_BROKEN):
            return seal.load_record(self.draft, layout.seal(node), self.state.nodes[node].seal)
        return None

    def _base_record(self) -> seal.Record | None:
        data = self.draft.get(layout.base(self.node)) if len(self.info.parents) > 1 else None
        with suppress(*_BROKEN):
            return None if data is None else seal.Record.from_bytes(data)
        return None

    def _below(self) -> list[str]:
        """Versions that come from this one, the nearest first."""
        found, ring = list[str](), [self.node]
        while ring and len(found) < _NEAR:
            ring = [c for n in ring for c in self.state.children(n)]
            found += [c for c in ring if c not in found]
        return found

    def _wanted(self, record: seal.Record, sums: bytes | None) -> dict[str, str]:
        """SHA-256 of every object that is vouched for, by key."""
        rows = seal.read_sums(sums) if sums is not None else ()
        wanted = {f"{layout.node(self.node)}/{name}": digest for name, _size, digest in rows}
        for part, place in ((record.tree, layout.tree), (record.table, layout.owner_table)):
            if part[0] in (self.node, layout.of_base(self.node)):
                wanted[place(part[0])] = part[1]
        if record.layers is not None and record.layers[0] == self.node:
            wanted[layout.key_layers(self.node)] = record.layers[1]
        base = self._base_record()
        if base is not None and sums is not None:
            wanted |= {layout.tree(base.tree[0]): base.tree[1], layout.owner_table(base.table[0]): base.table[1]}
        return {key: digest for key, digest in wanted.items() if key not in self._left}

    def _bad(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Those that are lost or damaged, drafts counted."""

        def differs(key: str) -> bool:
            try:
                data = self.draft.get(key)
            except StorageError:
                return True
            return data is None or seal.sha256(data) != wanted[key]

        return {key: digest for key, digest in wanted.items() if differs(key)}

    # -- each kind of object

    def _tree(self, record: seal.Record, _wanted: Mapping[str, str], bad: Mapping[str, str]) -> None:
        key = layout.tree(self.node)
        if key in bad and record.tree[0] == self.node:
            trees = [t for t in map(self._tree_of, self._below()) if t is not None]
            data = find_tree(self.draft, self.state.root, self.node, bad[key], self._tree_above() or Tree(), trees)
            if data is not None:
                self.draft.put(key, data)

    def _tree_of(self, node: str) -> Tree | None:
        record = self._sealed(node)
        return None if record is None else self._tree_at(record.tree)

    def _tree_at(self, part: seal.Part) -> Tree | None:
        with suppress(*_BROKEN):
            return Tree.from_bytes(seal.load_part(self.draft, layout.tree, part))
        return None

    def _tree_above(self) -> Tree | None:
        base = self._base_record()
        if base is not None:
            return self._tree_at(base.tree)
        return self._tree_of(self.info.parents[0]) if self.info.parents else None

    def _documents(self, record: seal.Record, _wanted: Mapping[str, str], bad: Mapping[str, str]) -> None:
        """Documents beside chunks, which the tree tells, and markers of deleted chunks."""
        tree, folder = self._tree_at(record.tree) or Tree(), layout.zarr(self.node)
        of_root = self.node == self.state.root
        told: dict[str, bytes] = {}
        for path, entry in tree.entries.items():
            docs, at = entry.docs, path
            if isinstance(entry, ArrayEntry):
                at = entry.id.folder(of_root=of_root, root=self.state.root)
                docs = entry.docs if of_root and entry.is_plain else marked(entry.docs, entry.origin)
            told |= {"/".join(filter(None, (folder, at, name))): data for name, data in docs.items()}
        marker = seal.sha256(layout.MARKER)
        for key, digest in bad.items():
            data = layout.MARKER if digest == marker else told.get(key)
            if data is not None and seal.sha256(data) == digest:
                self.draft.put(key, data)

    def _base(self, record: seal.Record, wanted: dict[str, str], bad: Mapping[str, str]) -> None:
        """What a merge wrote before the version took changes: the merge is done again."""
        node, key = self.node, layout.base(self.node)
        place = layout.of_base(node)
        ours = (key, layout.tree(place), layout.owner_table(place), layout.owner_pages(node))
        if len(self.info.parents) < 2 or not bad.keys() & {*ours}:
            return
        storage = Storage.of(self.draft, self.state.root)
        views: dict[str, SealedView] = {}

        def load(version: str) -> SealedView:
            if version not in views:
                found = seal.load_record(self.draft, layout.seal(version), self.state.nodes[version].seal)
                views[version] = SealedView.load(storage, version, found)
            return views[version]

        history = History(self.state.parents)
        tips = history.tips(self.info.parents)
        for strategy in (FAIL, OURS, THEIRS):
            judge = Judge(strategy, keep=True)
            joined = merge.Merger(node, tips, history, load, judge, kinds(self.state)).join()
            attempt, before = Draft(self.draft), dict(self.draft.made)
            attempt.put(key, merge.write_base(attempt, node, self.info.parents, joined).to_bytes())
            self.draft.made |= {k: attempt.made[k] for k in ours if k in attempt.made and k in bad}
            with suppress(*_BROKEN):
                # What the version changed after the merge lies behind the merge's pages.
                self._pages(record, wanted, self._bad(wanted))
                if not self._bad(wanted).keys() & {*ours}:
                    return
            self.draft.made = before

    def _pages(self, record: seal.Record, wanted: dict[str, str], bad: Mapping[str, str]) -> None:
        node = self.node
        mine = (layout.owner_table(node), layout.owner_pages(node))
        if record.table[0] != node or not any(k in bad or self.objects.get(k) is None for k in mine):
            return
        storage = Storage.of(self.draft, self.state.root)
        tree = Tree.from_bytes(seal.load_part(self.draft, layout.tree, record.tree))
        kept = (self.draft.get(mine[1]) or b"")[: record.pages]
        pack = PackWriter(node, len(kept))
        entries = [entry for _, entry in sorted(tree.arrays().items())]
        beside = {loose_place(storage, node, key) for key in tree.loose}
        base = SealedView(storage, node, Tree(), self._owners_below(storage))
        masks = self._masks()
        changes = {e.id: _changes(storage, node, e, beside, base, masks.get(e.id, ())) for e in entries}
        made = {mine[0]: pack.update(base.owners, changes, changes).to_bytes(), mine[1]: kept + b"".join(pack.parts)}
        for key, data in made.items():
            # Pages stand in the list of checksums alone: without it the table that leads to them must be right.
            vouched = wanted.get(key) or (seal.sha256(data) if seal.sha256(made[mine[0]]) == record.table[1] else "")
            if data and seal.sha256(data) == vouched:
                self.draft.put(key, data)

    def _owners_below(self, storage: Storage) -> Owners:
        record = self._base_record()
        if record is None and self.info.parents:
            first = self.info.parents[0]
            record = seal.load_record(self.draft, layout.seal(first), self.state.nodes[first].seal)
        if record is None:
            return Owners(Table(), storage.pages)
        return Owners(Table.from_bytes(seal.load_part(self.draft, layout.owner_table, record.table)), storage.pages)

    def _masks(self) -> dict[ArrayId, list[Coord]]:
        data = self.draft.get(layout.masks(self.node))
        return {} if data is None else {ArrayId(*i): [tuple(p) for p in found] for i, found in orjson.loads(data)}

    def _layers(self, record: seal.Record, _wanted: Mapping[str, str], bad: Mapping[str, str]) -> None:
        key = layout.key_layers(self.node)
        if key in bad:
            above = self._sealed(self.info.parents[0]) if self.info.parents else None
            below = keylayers.read(self.draft, above.layers) if above is not None and above.layers else {}
            data = sealed.to_bytes(layers_of(self.draft, self.node, record.keys, below))
            if seal.sha256(data) == bad[key]:
                self.draft.put(key, data)

    # -- the end

    def _check(self, wanted: Mapping[str, str]) -> None:
        """Forget drafts that are not what is vouched for; those of which nothing is known wait for the list."""
        made = self.draft.made
        wrong = [key for key, data in made.items() if key in wanted and seal.sha256(data) != wanted[key]]
        for key in wrong:
            del made[key]

    def _forget(self, wanted: Mapping[str, str]) -> None:
        """Forget drafts that only a list of checksums could have vouched for."""
        for key in [k for k in self.draft.made if k not in wanted and k != layout.seal(self.node)]:
            del self.draft.made[key]

    def _written(self) -> list[str]:
        fresh = [key for key, data in sorted(self.draft.made.items()) if self._stored(key) != data]
        for key in fresh:
            self.objects.put(key, self.draft.made[key])
        return fresh

    def _stored(self, key: str) -> bytes | None:
        with suppress(StorageError):
            return self.objects.get(key)
        return None


def _changes(
    storage: Storage, node: str, entry: ArrayEntry, beside: Iterable[str], base: SealedView, masks: Iterable[Coord]
) -> Changes:
    """What a version's folder says that it did to an array's chunks; what lies `beside` arrays may be named alike."""
    objects, folder = storage.objects, entry.id.folder(of_root=node == storage.root, root=storage.root)
    found: dict[Coord, str | int] = dict(mask_changes(base, entry, masks))
    for coord, key, size in stored_coords(objects, entry, f"{layout.zarr(node)}/{folder}".rstrip("/")):
        if key not in beside:
            gone = size == len(layout.MARKER) and objects.get(key) == layout.MARKER
            found[coord] = DELETED if gone else node
    return found
