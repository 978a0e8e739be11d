"""Verify: what a repo holds against what it says it holds, from the log down to every byte, without any database.

The chain of hashes is followed: the log names seals, a seal names its tree, table and list of checksums, and that list
names every object.  What the pages say is held against the folders and against the parents' pages.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from vzarr.errors import FormatError, StorageError
from vzarr.geometry import Coord
from vzarr.overlay import layout, opening
from vzarr.overlay.care.sourcecheck import check_source
from vzarr.overlay.hierarchy.tree import ArrayEntry, Tree
from vzarr.overlay.history import refs
from vzarr.overlay.history.logcheck import Finding, read_log
from vzarr.overlay.history.state import NodeInfo, State
from vzarr.overlay.keys import unversioned
from vzarr.overlay.kv.sealed import Stack, from_bytes
from vzarr.overlay.kv.sidecar import Sidecar
from vzarr.overlay.objects.base import LINK, Objects
from vzarr.overlay.owners.directory import CONFLICT, DELETED, FIRST_OWNER, Owners, Page, Ref, Table, coords_in, side
from vzarr.overlay.sealing import leftout, seal
from vzarr.overlay.threeway.pages import common_codes
from vzarr.overlay.transfer import moment
from vzarr.overlay.views.base import Storage, loose_place

T = TypeVar("T")
V = TypeVar("V")
BATCH = 1024
WORKERS = 4
KEPT = 16
Steps = Generator[Finding, None, V]
"""A check that gives findings as it goes, and comes to something at its end."""
_BROKEN = (FormatError, StorageError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What reading a damaged object may end in."""


def verify(objects: Objects, ref: str | None = None) -> Iterator[Finding]:
    """Look for damage and for what interrupted writes left behind.

    Parameters
    ----------
    objects
        Where the repo lives; no key authority is needed.
    ref
        Look at this version only, at everything that it needs, wherever it is stored; by default at every object of
        every version.

    Raises
    ------
    NotFoundError
        If there is no repo, or no such version.
    """
    try:
        root = opening.read_meta(objects)["root"]
    except FormatError as e:
        yield Finding("repo-damaged", layout.REPO, str(e))
        return
    state, findings = read_log(objects)
    yield from findings
    if state.root != root:
        yield Finding("repo-damaged", layout.REPO, f"it names the root {root}, the log {state.root or 'none'}")
        return
    with ThreadPoolExecutor(max(WORKERS, objects.concurrency)) as pool:
        check = _Check(Storage.of(objects, root), state, pool)
        if ref is not None:
            yield from _once(check.version(state.nodes[refs.resolve(state, ref)], whole=True))
            return
        yield from _once(f for info in state.nodes.values() for f in check.version(info, whole=False))
        yield from check.snapshots()
        yield from check.held()
    yield from _litter(objects, state)


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings without repetition: several versions may need one damaged object."""
    seen: set[Finding] = set()
    for finding in findings:
        if finding not in seen:
            seen.add(finding)
            yield finding


def _litter(objects: Objects, state: State) -> Iterator[Finding]:
    for node in objects.list_dir("nodes")[0]:
        folder = layout.node(node)
        sealed = objects.size(layout.seal(node)) is not None
        if node not in state.nodes and node != layout.UNVERSIONED:
            name = "seal-without-entry" if sealed else "node-unknown"
            yield Finding(name, folder, "the log knows no such version", damage=False)
        elif sealed and not state.nodes[node].sealed:
            message = "its commit was interrupted; commit it again"
            yield Finding("commit-interrupted", folder, message, damage=False)
        if node in state.nodes and state.nodes[node].sealed and any(True for _ in objects.walk(f"{folder}/journal")):
            yield Finding("journal-left", f"{folder}/journal", "unfinished objects of a sealed version", damage=False)
        if node in state.nodes and not state.nodes[node].sealed:
            yield from (_link(key) for key, size in objects.walk(folder) if size == LINK)
    for name in chain(*objects.list_dir("tmp")):
        yield Finding("unfinished", f"tmp/{name}", "an unfinished object, or a folder on its way out", damage=False)


def _link(key: str) -> Finding:
    return Finding(
        "link", key, "a symbolic link: what it leads to may change, and is no part of the repo", damage=False
    )


class _Check:
    """Checks of versions, with what several of them share kept for a while."""

    def __init__(self, storage: Storage, state: State, pool: ThreadPoolExecutor) -> None:
        self.storage, self.objects, self.state, self.pool = storage, storage.objects, state, pool
        self._kept: dict[seal.Part, Any] = {}
        self._checked: list[Mapping[str, Any]] = []
        self._left: dict[str, frozenset[str]] = {}

    def version(self, info: NodeInfo, *, whole: bool) -> Iterator[Finding]:
        """Findings in one version; with `whole` also in what it takes from its ancestors."""
        if not info.sealed and len(info.parents) < 2:
            return
        key = layout.seal(info.id) if info.sealed else layout.base(info.id)
        record = yield from _decoded(
            "seal", key, seal.Record.from_bytes, (yield from self._load("seal", key, info.seal))
        )
        if record is None:
            return
        if record.parents != info.parents:
            yield Finding("seal-differs", key, f"it names the parents {record.parents}, the log {info.parents}")
        if info.sealed:
            yield from self._stored(info.id, record.sums)
            for instance, count in record.keys.items():
                yield from self._keys(layout.keys(info.id, instance), count)
        tree = yield from self._part("tree", layout.tree, record.tree, Tree.from_bytes)
        table = yield from self._part("table", layout.owner_table, record.table, Table.from_bytes)
        if record.layers is not None:
            stacks = yield from self._part("layers", layout.key_layers, record.layers, from_bytes)
            yield from self._layers(stacks or {}, info.id, whole)
        if tree is not None:
            yield from self._loose(tree)
            yield from self._sources(tree)
        if tree is not None and table is not None:
            pages = _Pages(self, info, Owners(table, self.storage.pages), whole)
            yield from (f for entry in tree.arrays().values() for f in pages.of(entry))

    def snapshots(self) -> Iterator[Finding]:
        """Every object of the snapshots of keys that belong to no version, and rows that are listed."""
        known = yield from _decoded("snapshots", layout.unversioned(), unversioned.read, self.objects)
        for snapshot in (s for s in (known or {}).values() if not s.is_sound):
            yield Finding("snapshots-differ", layout.unversioned(), f"rows of {snapshot.name} are not those that were")
        for snapshot in (s for s in (known or {}).values() if s.sums and s.rows is None):
            listed, folder = layout.snapshot_sums(snapshot.name), layout.keys(layout.UNVERSIONED, snapshot.name)
            data = yield from self._load("sums", listed, snapshot.sums)
            rows = yield from _decoded("sums", listed, lambda d: list(seal.read_sums(d)), data)
            yield from self._objects(folder, rows or [])

    def held(self) -> Iterator[Finding]:
        """Every object of what a mirror holds of open versions."""
        found = yield from _decoded("moment", layout.moment(), moment.read, self.objects)
        if found is None:
            return
        key = layout.moment_object(found.sums)
        rows = yield from _decoded("moment", key, lambda m: moment.listed(self.objects, m), found)
        folder = layout.moment_object("").rstrip("/")
        yield from self._objects(folder, {(h.digest, h.size, h.digest) for h in (rows or {}).values()})

    def owners(self, node: str) -> Owners | None:
        """Pages of a version, or None where they are damaged, which its own check tells."""
        try:
            record = seal.load_record(self.objects, layout.seal(node), self.state.nodes[node].seal)
        except _BROKEN:
            return None
        found = _result(self._part("table", layout.owner_table, record.table, Table.from_bytes))
        return None if found is None else Owners(found, self.storage.pages)

    def share(self, work: Callable[[T], Finding | None], items: Iterable[T]) -> Iterator[Finding]:
        """Findings of `work` on each item, done by several threads, a bounded number of items at a time."""
        rest = iter(items)
        while batch := list(islice(rest, BATCH)):
            yield from filter(None, self.pool.map(work, batch))

    def _load(self, what: str, key: str, digest: str | None) -> Steps[bytes | None]:
        try:
            data = self.objects.get(key)
        except StorageError as e:
            yield Finding(f"{what}-unreadable", key, str(e))
            return None
        if data is None:
            yield Finding(f"{what}-missing", key, "it is missing")
        elif digest is not None and seal.sha256(data) != digest:
            yield Finding(f"{what}-differs", key, "its checksum is not the one that was recorded")
        return data

    def _part(
        self, what: str, place: Callable[[str], str], part: seal.Part, decode: Callable[[bytes], V]
    ) -> Steps[V | None]:
        if part not in self._kept:
            if len(self._kept) > KEPT:
                self._kept.clear()
            key = place(part[0])
            data = yield from self._load(what, key, part[1])
            self._kept[part] = yield from _decoded(what, key, decode, data)
        found: V | None = self._kept[part]
        return found

    def _stored(self, node: str, digest: str) -> Iterator[Finding]:
        """Every object that a version stored, by its size and hash."""
        data = yield from self._load("sums", layout.sums(node), digest)
        rows = yield from _decoded("sums", layout.sums(node), lambda d: list(seal.read_sums(d)), data)
        if rows is None:
            return
        folder = layout.node(node)
        yield from self._objects(folder, rows)
        if self._left_out(node):
            message = f"{len(self._left_out(node))} of {len(rows)} objects were left out by a partial clone"
            yield Finding("left-out", folder, message, damage=False)
        known = {f"{folder}/{name}" for name, _size, _digest in rows}
        known |= {layout.seal(node), layout.sums(node), layout.left_out(node)}
        for key, size in self.objects.walk(folder):
            if size == LINK:
                yield _link(key)
            elif key not in known and not key.startswith(f"{folder}/journal/"):
                yield Finding("object-unlisted", key, "the version was sealed without it", damage=False)

    def _objects(self, folder: str, rows: Iterable[tuple[str, int, str]]) -> Iterator[Finding]:
        return self.share(lambda row: self._object(f"{folder}/{row[0]}", row[1], row[2]), rows)

    def _object(self, key: str, size: int, digest: str) -> Finding | None:
        try:
            data = self.objects.get(key)
        except StorageError as e:
            return Finding("object-unreadable", key, str(e))
        if data is None:
            return None if key in self._left_out(key.split("/")[1]) else Finding("object-missing", key, "it is missing")
        if len(data) != size:
            return Finding("object-differs", key, f"it has {len(data)} bytes, not {size}")
        return None if seal.sha256(data) == digest else Finding("object-differs", key, "its checksum differs")

    def _keys(self, folder: str, count: int) -> Iterator[Finding]:
        rows = yield from _decoded(
            "keys", folder, lambda at: sum(1 for _ in Sidecar(lambda name: self.objects.get(f"{at}/{name}"))), folder
        )
        if rows is not None and rows != count:
            yield Finding("keys-damaged", folder, f"it holds {rows} keys, not {count}")

    def _layers(self, stacks: Mapping[str, Stack], node: str, whole: bool) -> Iterator[Finding]:
        """Sidecars that a version wrote (with `whole`: needs) beside its own key changes."""
        for stack in stacks.values():
            for layer in stack.layers:
                if (whole or layer.node == node) and "~" in layer.name:
                    yield from self._keys(layout.keys(layer.node, layer.name), layer.size)

    def _loose(self, tree: Tree) -> Iterator[Finding]:
        places = {loose_place(self.storage, node, key): key for key, node in tree.loose.items()}
        yield from self.share(lambda place: self.exists("loose", place, f"loose key {places[place]!r}"), places)

    def _sources(self, tree: Tree) -> Iterator[Finding]:
        for entry in tree.arrays().values():
            if entry.source is not None and entry.source not in self._checked:
                self._checked.append(entry.source)
                yield from check_source(self.objects, entry.source, self.share)

    def exists(self, what: str, key: str, name: str) -> Finding | None:
        """Finding for an object that is not there."""
        try:
            there = self.objects.size(key) is not None
        except StorageError as e:
            return Finding(f"{what}-unreadable", key, str(e))
        if there or key in self._left_out(key.split("/")[1]):
            return None
        return Finding(f"{what}-missing", key, f"{name} is missing")

    def _left_out(self, node: str) -> frozenset[str]:
        """What a partial clone does not have of a version; nothing where the list of it is damaged."""
        if node not in self._left:
            try:
                self._left[node] = leftout.read(self.objects, node)
            except _BROKEN:
                self._left[node] = frozenset()
        return self._left[node]


class _Pages:
    """Checks of one version's owner pages: against the folders, and against the parents' pages.

    Who checks every version needs to look only at the pages that each wrote: what a page says of other owners must be
    what a parent says, and is checked there.
    """

    def __init__(self, check: _Check, info: NodeInfo, owners: Owners, whole: bool) -> None:
        self.check, self.info, self.owners, self.whole = check, info, owners, whole
        above = [] if whole else [check.owners(p) for p in info.parents]
        self.parents = [o for o in above if o is not None]
        self.comparable = not whole and len(self.parents) == len(above)

    def of(self, entry: ArrayEntry) -> Iterator[Finding]:
        """Findings in the pages of one array."""
        for where, ref in self.owners.table.arrays.get(entry.id, {}).items():
            if len(where) != entry.spec.ndim:
                yield Finding("pages-damaged", layout.owner_table(self.info.id), f"{entry.id.path} has other axes")
            elif self.whole or ref.node == self.info.id:
                block = yield from _decoded("pages", layout.owner_pages(ref.node), self.owners.reader.block, ref)
                for local, place in (block or {}).items():
                    if self.whole or place.node == self.info.id:
                        at = tuple(coords_in(where, np.array([local]), side(len(where)), len(where))[0].tolist())
                        yield from self._page(entry, at, place)

    def _page(self, entry: ArrayEntry, at: Coord, ref: Ref) -> Iterator[Finding]:
        key = layout.owner_pages(ref.node)
        page = yield from _decoded("pages", key, self.owners.reader.page, ref)
        if page is None:
            return
        named = f"the page of {entry.id.path} at {at}"
        if page.codes.size != side(len(at)) ** len(at) or page.codes.max() >= FIRST_OWNER + len(page.owners):
            yield Finding("pages-damaged", key, f"{named} is no page of this array")
            return
        strangers = sorted(set(page.owners) - self.check.state.nodes.keys())
        if strangers:
            yield Finding("owner-unknown", key, f"{named} names {', '.join(strangers)}, which the log does not know")
        mine = [FIRST_OWNER + i for i, o in enumerate(page.owners) if self.whole or o == self.info.id]
        local = np.flatnonzero(np.isin(page.codes, mine))
        coords = coords_in(at, local, side(len(at)), len(at)).tolist()
        chunk_key = self.check.storage.chunk_key
        yield from self.check.share(
            lambda row: self.check.exists(
                "chunk", chunk_key(str(page.owner(row[0])), entry, row[1]), f"chunk {row[1]}"
            ),
            zip(local.tolist(), map(tuple, coords), strict=True),
        )
        if self.comparable and not self._explained(entry, at, page):
            yield Finding("owner-unexplained", key, f"{named} says what neither the version nor a parent of it did")

    def _explained(self, entry: ArrayEntry, at: Coord, page: Page) -> bool:
        """Whether each chunk was changed here, or is what it is in some parent."""
        try:
            above = [o.page(entry.id, at) for o in self.parents] or [None]
        except _BROKEN:
            return True  # a parent's damage is told by the parent's own check
        names = {self.info.id, *(o for p in (page, *above) if p is not None for o in p.owners)}
        order = {name: i + FIRST_OWNER for i, name in enumerate(sorted(names))}
        codes = common_codes(page, order, page.codes.size)
        good = np.isin(codes, [DELETED, order[self.info.id], *([CONFLICT] if len(self.parents) > 1 else [])])
        for parent in above:
            good |= codes == common_codes(parent, order, page.codes.size)
        return bool(good.all())


def _decoded(what: str, key: str, decode: Callable[[T], V], data: T | None) -> Steps[V | None]:
    if data is None:
        return None
    try:
        return decode(data)
    except _BROKEN as e:
        yield Finding(f"{what}-damaged", key, f"it cannot be read: {e}")
        return None


def _result(steps: Steps[V]) -> V:
    """What a check came to, whatever it found on the way."""
    while True:
        try:
            next(steps)
        except StopIteration as e:
            found: V = e.value
            return found
