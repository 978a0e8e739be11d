"""Owner pages and table of a sealed version, made again from the folders after they were lost or damaged."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vzarr.errors import FormatError, StorageError, UnsupportedError
from vzarr.geometry import Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Tree
from vzarr.overlay.history.logcheck import Finding, read_log
from vzarr.overlay.history.state import State
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.owners.directory import DELETED, Changes, Owners, PackWriter, Table
from vzarr.overlay.sealing import seal
from vzarr.overlay.views.base import Storage, loose_place, stored_coords

_REBUILT = ("/owners/table.json", "/owners/pages")


def rebuild_pages(objects: Objects, state: State, node: str) -> list[str]:
    """Write a sealed version's owner table and pages again, and give the keys of what was written.

    Nothing is written but the very bytes that were sealed, by their checksums.

    Raises
    ------
    UnsupportedError
        If the version is open, or a merge, whose pages come from more than its folder.
    FormatError
        If the folder does not lead to what was sealed: a chunk is lost or too many, or whole parts of an array were
        deleted at once, of which a folder keeps no trace.
    StorageError
        If what the pages build on is missing.
    """
    info = state.nodes[node]
    if not info.sealed or len(info.parents) > 1:
        raise UnsupportedError(f"version {node} is {'a merge' if info.sealed else 'open'}: its pages cannot be rebuilt")
    storage = Storage.of(objects, state.root)
    record = seal.load_record(objects, layout.seal(node), info.seal)
    if record.table[0] != node:
        return []
    tree = Tree.from_bytes(seal.load_part(objects, layout.tree, record.tree))
    entries = [entry for _, entry in sorted(tree.arrays().items())]
    beside = {loose_place(storage, node, key) for key in tree.loose}
    changes: dict[ArrayId, Changes] = {e.id: _changes(storage, node, e, beside) for e in entries}
    pack = PackWriter(node)
    table = pack.update(_base(storage, state, info.parents), changes, changes).to_bytes()
    made = {layout.owner_table(node): table, layout.owner_pages(node): b"".join(pack.parts)}
    sealed = {f"{layout.node(node)}/{key}": digest for key, _size, digest in _sums(objects, node, record.sums)}
    for key, data in made.items():
        if seal.sha256(data) != sealed.get(key, seal.sha256(b"")):
            raise FormatError(f"{key} cannot be rebuilt: the folder does not lead to what was sealed")
    written = [key for key, data in made.items() if key in sealed and objects.get(key) != data]
    for key in written:
        objects.put(key, made[key])
    return written


def rebuild_damaged(objects: Objects, findings: Iterable[Finding]) -> tuple[list[str], list[Finding]]:
    """Rebuild the tables and pages in which `verify` found damage: the keys written, and what could not be rebuilt."""
    harmed = {f.key.split("/")[1] for f in findings if f.damage and f.key.endswith(_REBUILT)}
    state, _ = read_log(objects)
    written: list[str] = []
    failed: list[Finding] = []
    for node in (n for n in state.nodes if n in harmed):  # parents first: pages build on theirs
        try:
            written += rebuild_pages(objects, state, node)
        except (FormatError, StorageError, UnsupportedError) as e:
            failed.append(Finding("not-rebuilt", f"{layout.node(node)}/owners", str(e)))
    return written, failed


def _base(storage: Storage, state: State, parents: tuple[str, ...]) -> Owners:
    if not parents:
        return Owners(Table(), storage.pages)
    record = seal.load_record(storage.objects, layout.seal(parents[0]), state.nodes[parents[0]].seal)
    table = seal.load_part(storage.objects, layout.owner_table, record.table)
    return Owners(Table.from_bytes(table), storage.pages)


def _changes(storage: Storage, node: str, entry: ArrayEntry, beside: Collection[str]) -> dict[Coord, str | int]:
    """What a version's folder says that it did to an array's chunks; what lies `beside` arrays may be named alike."""
    objects, folder = storage.objects, entry.id.folder(of_root=node == storage.root, root=storage.root)
    found: dict[Coord, str | int] = {}
    for coord, key, size in stored_coords(objects, entry, f"{layout.zarr(node)}/{folder}".rstrip("/")):
        if key in beside:
            continue
        gone = size == len(layout.MARKER) and objects.get(key) == layout.MARKER
        found[coord] = DELETED if gone else node
    return found


def _sums(objects: Objects, node: str, digest: str) -> list[tuple[str, int, str]]:
    data = objects.get(layout.sums(node))
    if data is None or seal.sha256(data) != digest:
        raise FormatError(f"{layout.sums(node)} is missing or damaged, and without it nothing can be rebuilt")
    return list(seal.read_sums(data))
