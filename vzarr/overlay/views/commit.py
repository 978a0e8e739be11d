"""What a commit writes: from an open version's rows and folder to the sealed record, deterministically."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import orjson

from vzarr.geometry import Coord, intersect, iter_coords
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.marks import marked
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Tree
from vzarr.overlay.keys import keylayers
from vzarr.overlay.keys.keylayers import KeyChanges
from vzarr.overlay.keys.locks import Hold
from vzarr.overlay.owners.directory import DELETED, FIRST_OWNER, Changes, Owners, PackWriter
from vzarr.overlay.sealing import seal
from vzarr.overlay.sources.adopted import source_box
from vzarr.overlay.views.base import SealedView, View, nothing
from vzarr.overlay.views.inventory import Inventory, Places, Row, sealable
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.rootview import RootView


@dataclass(frozen=True)
class Base:
    """What an open version builds on: the record of its parent, or of what the merge of its parents made."""

    record: seal.Record | None
    owners: Owners


def seal_version(
    view: OpenView | RootView, base: Base, parents: tuple[str, ...], changes: KeyChanges, hold: Hold
) -> bytes:
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
    hold
        Of the lock that keeps other committers out.

    Raises
    ------
    InvalidInputError
        If something is in its folder that cannot be sealed, such as a symbolic link.
    """
    objects, node = view.storage.objects, view.node
    objects.delete_tree(layout.stages(node))
    view.look()
    tree, inventory = _taken_stock(view)
    # By path, so that the same pages can be made again from the tree as it was written.
    ids = [e.id for _, e in sorted(tree.arrays().items())]
    kept_pages = _merge_pages(view, base)
    pack = PackWriter(node, len(kept_pages))
    table = pack.update(base.owners, _chunk_changes(view, tree, inventory), ids)
    _write_masks(view, tree)
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
    data = replace(record, sums=seal.write_sums(objects, node, inventory.sums)).to_bytes()
    hold()  # else another may have sealed it meanwhile, and a record says what was the case outside of it, too
    objects.put(layout.seal(node), data)
    return data


def _taken_stock(view: OpenView | RootView) -> tuple[Tree, Inventory]:
    """The version's tree, and what is in its folder: without dead chunks, with each array's metadata."""
    objects, node = view.storage.objects, view.node
    rows = sealable(objects.walk(layout.zarr(node)))
    if isinstance(view, RootView):
        entries = dict(view.entries)
        places = Places(node, {p: e for p, e in entries.items() if isinstance(e, ArrayEntry)}, view.may_have)
        inventory = Inventory(objects, node, rows, places)
        return view.tree(entries, inventory.beside), inventory
    tree = view.tree()
    root = view.storage.root
    folders = {e.id.folder(of_root=False, root=root): e for e in tree.arrays().values()}
    places = Places(node, folders, lambda _entry, _coord: True)
    live, changed = _without_dead(view, list(rows), places)
    live |= _write_own_docs(view, tree, changed)
    return tree, Inventory(objects, node, sorted(live.items()), places)


def base_owners(view: View) -> Owners:
    """Owners of the empty base that a root builds on."""
    return nothing(view.storage, view.node).owners


def _merge_pages(view: View, base: Base) -> bytes:
    """Pages that the merge wrote before the version took changes; those of an interrupted commit are dropped."""
    size = base.record.pages if base.record is not None else 0
    # Early releases wrote the table of a base where that of the version stands.
    if not size or base.record is None or base.record.table[0] not in (layout.of_base(view.node), view.node):
        return b""
    return view.storage.objects.get(layout.owner_pages(view.node), 0, size) or b""


def _chunk_changes(view: OpenView | RootView, tree: Tree, inventory: Inventory) -> dict[ArrayId, Changes]:
    changes: dict[ArrayId, Changes] = {}
    for entry in tree.arrays().values():
        own, masked = inventory.chunks(entry.id), _masked(view, entry)
        if masked:
            changes[entry.id] = {**masked, **(own.as_mapping() if own is not None else {})}
        elif own is not None:
            changes[entry.id] = own
    return changes


def array_changes(view: OpenView | RootView, entry: ArrayEntry) -> Changes:
    """What an open version did so far to the chunks of one array, by a new look at its folder."""
    found: dict[Coord, str | int] = dict(_masked(view, entry))
    for coord, key, size in view.own_chunks(entry):
        gone = size == len(layout.MARKER) and view.storage.objects.get(key) == layout.MARKER
        found[coord] = DELETED if gone else view.node
    return found


def _masked(view: OpenView | RootView, entry: ArrayEntry) -> dict[Coord, str | int]:
    return {} if isinstance(view, RootView) else mask_changes(view.base, entry, view.masks().get(entry.id, ()))


def _write_masks(view: OpenView | RootView, tree: Tree) -> None:
    """Note whole parts of arrays that were deleted at once: of them no chunk's folder keeps a trace."""
    known = {} if isinstance(view, RootView) else view.masks()
    rows = [[e.id.to_json(), sorted(known[e.id])] for _, e in sorted(tree.arrays().items()) if e.id in known]
    if rows:
        view.storage.objects.put(layout.masks(view.node), orjson.dumps(rows))


def mask_changes(base: SealedView, entry: ArrayEntry, masks: Iterable[Coord]) -> dict[Coord, str | int]:
    """The chunks of an array that a version had from its base and deleted by their leading coordinates (`masks`)."""
    masks = list(masks)
    found: dict[Coord, str | int] = {}
    if not masks:
        return found
    for coords, page, local in base.owners.chunks(entry.id, entry.spec.ndim):
        for coord, code in zip(map(tuple, coords.tolist()), page.codes[local].tolist(), strict=True):
            if code >= FIRST_OWNER and any(coord[: len(m)] == m for m in masks):
                found[coord] = DELETED
    box = source_box(entry)
    if box is not None:
        for mask in masks:
            inside = (*mask, *box[0][len(mask) :]), (*(c + 1 for c in mask), *box[1][len(mask) :])
            found |= {c: DELETED for c in iter_coords(intersect(box, inside)) if base.in_source(entry, c)}
    return found


def _without_dead(view: OpenView, rows: Iterable[Row], places: Places) -> tuple[dict[str, int], set[ArrayId]]:
    """The rows that remain when chunks of arrays that were deleted or made anew before the commit are deleted.

    And the arrays of which there are chunks.
    """
    live: dict[str, int] = {}
    changed: set[ArrayId] = set()
    for key, size in rows:
        place = places.of(key)
        if place is None:
            view.storage.objects.delete(key)
            continue
        live[key] = size
        if place[1] is not None:
            changed.add(place[0].id)
    return live, changed


def _write_own_docs(view: OpenView, tree: Tree, changed: Collection[ArrayId]) -> dict[str, int]:
    """Beside its chunks each array's own metadata, marked so that other readers refuse the folder; gives the rows."""
    written = {}
    for path, entry in tree.arrays().items():
        if view.base.entries.get(path) != entry or entry.id in changed:
            for name, data in marked(entry.docs, entry.origin).items():
                key = f"{view.own_folder(entry)}/{name}"
                view.storage.objects.put(key, data)
                written[key] = len(data)
    return written
