"""Renames in an open root, which move folders: announced first, so that who comes after a killed one finishes it.

A row says what is moved where, and under whose lease.  Moving the folder and the rows of arrays that are not plain, and
taking the announcement back, is one transaction; only the folder is there for all to see before it ends.  Where there
are no real folders, objects are copied and then deleted one by one, and the announcement may find both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson

from vzarr.errors import StorageError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Entry
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.objects.base import Objects


def move(authority: Authority, objects: Objects, node: str, source: str, target: str) -> None:
    """Move all at a path of an open root, and below it, to another path.

    Raises
    ------
    SealedError
        If the root does not take writes.
    StorageError
        If the folder cannot be moved; where nothing was moved, nothing has changed.
    """
    row, folder = layout.row_moving(node), layout.zarr(node)
    with authority.writer(node).write() as stage:
        said = orjson.dumps({"from": source, "to": target, "lease": stage.rpartition("/")[2]})
        authority.edit(node, lambda txn: txn.put(row, said))
        try:
            authority.edit(node, _finisher(objects, node), late=True)
        except StorageError:
            if next(iter(objects.walk(f"{folder}/{target}")), None) is None:
                authority.edit(node, lambda txn: txn.delete(row))
            raise


def settle(authority: Authority, objects: Objects, node: str) -> bool:
    """Finish what a killed writer began to move; whether nothing is on its way now."""
    row = authority.kv.get(layout.row_moving(node))
    if row is None:
        return True
    if orjson.loads(row)["lease"] in authority.leases(node):
        return False
    authority.edit(node, _finisher(objects, node), late=True)
    return True


def _finisher(objects: Objects, node: str) -> Callable[[Transaction], None]:
    folder = layout.zarr(node)

    def finish(txn: Transaction) -> None:
        row = txn.get(layout.row_moving(node))
        if row is None:
            return  # somebody else has
        said = orjson.loads(row)
        source, target = said["from"], said["to"]
        for path in (source, f"{source}/"):
            prefix = layout.row_tree(node, path)
            end = layout.after(prefix) if path.endswith("/") else prefix + b"\0"
            for key, value in list(txn.scan(prefix, end)):
                entry = Entry.from_json(orjson.loads(value))
                moved = target + key[len(layout.row_tree(node, source)) :].decode()
                if isinstance(entry, ArrayEntry):
                    entry = replace(entry, id=ArrayId(node, moved))
                txn.delete(key)
                txn.put(layout.row_tree(node, moved), orjson.dumps(entry.to_json()))
        if next(iter(objects.walk(f"{folder}/{source}")), None) is not None:
            objects.rename_tree(f"{folder}/{source}", f"{folder}/{target}")
        txn.delete(layout.row_moving(node))

    return finish
