"""What a commit writes: from an open version's rows and folder to the sealed record, deterministically."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from vzarr.errors import InvalidInputError
from vzarr.geometry import Coord, intersect, iter_coords
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.marks import marked
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Tree
from vzarr.overlay.keys import keylayers
from vzarr.overlay.keys.keylayers import KeyChanges
from vzarr.overlay.objects.base import LINK, Objects
from vzarr.overlay.owners.directory import DELETED, FIRST_OWNER, Changes, Owners, PackWriter
from vzarr.overlay.sealing import seal
from vzarr.overlay.sources.adopted import source_box
from vzarr.overlay.views.base import View, nothing
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.paths import is_key
from vzarr.overlay.views.rootview import RootView


@dataclass(frozen=True)
class Base:
    """What an open version builds on: the record of its parent, or of what the merge of its parents made."""

    record: seal.Record | None
    owners: Owners


class Listing:
    """The files below a folder as one walk found them, to be asked again and again.

    Parameters
    ----------
    objects
        Where they are.
    folder
        The folder.
    """

    def __init__(self, objects: Objects, folder: str) -> None:
        self._rows = sorted(objects.walk(folder))

    @property
    def keys(self) -> list[str]:
        """All of them."""
        return [key for key, _size in self._rows]

    def check(self) -> None:
        """Refuse a folder with symbolic links, or with names that are no keys.

        Raises
        ------
        InvalidInputError
            Naming them.
        """
        links = [key for key, size in self._rows if size == LINK]
        if links:
            advice = "put what they lead to in their place, or adopt it (vzarr adopt), and commit again"
            raise InvalidInputError(f"symbolic links cannot be sealed: {_some(links)}; {advice}")
        odd = [key for key, _size in self._rows if not is_key(key)]
        if odd:
            advice = "they have line breaks, or are no UTF-8; rename them, and commit again"
            raise InvalidInputError(f"files of these names cannot be sealed: {_some(odd)}; {advice}")

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below a folder, and their sizes."""
        for at in range(bisect_left(self._rows, (f"{prefix}/", 0)), len(self._rows)):
            if not self._rows[at][0].startswith(f"{prefix}/"):
                return
            yield self._rows[at]


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(ascii(key)[1:-1] for key in keys[:3]) + more


def seal_version(view: OpenView | RootView, base: Base, parents: tuple[str, ...], changes: KeyChanges) -> bytes:
    """Write all that seals a version but the log entry, and give the bytes of its record.

    Parameters
    ----------
    view
        The version; no writer's lease may be left on it.
    base
        What it builds on.
    parents
        Ids of its parents.
    changes
        Its key changes.

    Raises
    ------
    InvalidInputError
        If something is in its folder that cannot be sealed, such as a symbolic link.
    """
    objects, node = view.storage.objects, view.node
    objects.delete_tree(layout.stages(node))
    view.look()
    # One walk is the truth for pages and checksums alike; a root's folder may have millions of files.
    listing = Listing(objects, layout.zarr(node))
    listing.check()
    tree, stored = _cleared(view, listing)
    # By path, so that the same pages can be made again from the tree as it was written.
    ids = [e.id for _, e in sorted(tree.arrays().items())]
    kept_pages = _merge_pages(view, base)
    pack = PackWriter(node, len(kept_pages))
    table = pack.update(base.owners, _chunk_changes(view, tree, listing), ids)
    if pack.parts:
        objects.put(layout.owner_pages(node), kept_pages + b"".join(pack.parts))
    record = base.record
    counts, layers = keylayers.write(objects, node, changes, record.layers if record else None)
    record = seal.Record(
        parents=parents,
        tree=seal.write_part(objects, node, layout.tree, tree.to_bytes(), record.tree if record else None),
        table=seal.write_part(objects, node, layout.owner_table, table.to_bytes(), record.table if record else None),
        keys=counts,
        pages=len(kept_pages),
        layers=layers,
        mutations=changes.mutations,
    )
    sums = seal.write_sums(objects, node, stored)
    data = seal.Record(**{**record.__dict__, "sums": sums}).to_bytes()
    objects.put(layout.seal(node), data)
    return data


def _cleared(view: OpenView | RootView, listing: Listing) -> tuple[Tree, set[str]]:
    """The version's tree, and the keys below ``zarr/`` that remain: without dead chunks, with each array's metadata."""
    if isinstance(view, RootView):
        return view.tree(listing.keys), set(listing.keys)
    tree = view.tree()
    left = set(listing.keys) - _remove_dead_folders(view, tree, listing)
    return tree, left | _write_own_docs(view, tree, listing)


def base_owners(view: View) -> Owners:
    """Owners of the empty base that a root builds on."""
    return nothing(view.storage, view.node).owners


def _merge_pages(view: View, base: Base) -> bytes:
    """Pages that the merge wrote before the version took changes; those of an interrupted commit are dropped."""
    size = base.record.pages if base.record is not None else 0
    if not size or base.record is None or base.record.table[0] != view.node:
        return b""
    return view.storage.objects.get(layout.owner_pages(view.node), 0, size) or b""


def _chunk_changes(view: OpenView | RootView, tree: Tree, listing: Listing) -> dict[ArrayId, Changes]:
    changes: dict[ArrayId, Changes] = {}
    for entry in tree.arrays().values():
        found = array_changes(view, entry, listing)
        if found:
            changes[entry.id] = found
    return changes


def array_changes(view: OpenView | RootView, entry: ArrayEntry, listing: Listing | None = None) -> Changes:
    """What an open version did so far to the chunks of one array, by a new look at its folder unless one is given."""
    return {**_masked(view, entry), **_own(view, entry, listing)}


def _own(view: OpenView | RootView, entry: ArrayEntry, listing: Listing | None) -> dict[Coord, str | int]:
    found: dict[Coord, str | int] = {}
    for coord, key, size in view.own_chunks(entry, listing):
        gone = size == len(layout.MARKER) and view.storage.objects.get(key) == layout.MARKER
        found[coord] = DELETED if gone else view.node
    return found


def _masked(view: OpenView | RootView, entry: ArrayEntry) -> dict[Coord, str | int]:
    if isinstance(view, RootView) or entry.id not in view.masks():
        return {}
    masks = view.masks()[entry.id]
    found: dict[Coord, str | int] = {}
    for coords, page, local in view.base.owners.chunks(entry.id, entry.spec.ndim):
        for coord, code in zip(map(tuple, coords.tolist()), page.codes[local].tolist(), strict=True):
            if code >= FIRST_OWNER and any(coord[: len(m)] == m for m in masks):
                found[coord] = DELETED
    box = source_box(entry)
    if box is not None:
        for mask in masks:
            inside = (*mask, *box[0][len(mask) :]), (*(c + 1 for c in mask), *box[1][len(mask) :])
            found |= {c: DELETED for c in iter_coords(intersect(box, inside)) if view.base.in_source(entry, c)}
    return found


def _remove_dead_folders(view: OpenView, tree: Tree, listing: Listing) -> set[str]:
    """Delete chunks of arrays that were deleted or made anew before the commit: they belong to nothing.  Their keys."""
    live = tuple(f"{view.own_folder(e)}/" for e in tree.arrays().values())
    dead = {key for key in listing.keys if not key.startswith(live)}
    for key in dead:
        view.storage.objects.delete(key)
    return dead


def _write_own_docs(view: OpenView, tree: Tree, listing: Listing) -> set[str]:
    """Beside its chunks each array's own metadata, marked so that other readers refuse the folder; gives the keys."""
    written = set()
    for path, entry in tree.arrays().items():
        folder = view.own_folder(entry)
        if view.base.entries.get(path) == entry and not any(True for _ in view.own_chunks(entry, listing)):
            continue
        for name, data in marked(entry.docs, entry.origin).items():
            view.storage.objects.put(f"{folder}/{name}", data)
            written.add(f"{folder}/{name}")
    return written
