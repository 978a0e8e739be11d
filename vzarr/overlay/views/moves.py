"""Renames and removals of folders in an open root: announced first, so that who comes after a killed one finishes it.

A row says what goes where, and under whose lease.  Moving the folder and the rows of arrays that are not plain, and
taking the announcement back, is one transaction; only the folder is there for all to see before it ends.  Where there
are no real folders, objects are copied and deleted one by one, and the announcement may find some at either place.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson

from vzarr.errors import StorageError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Entry
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.objects.base import Objects


@contextmanager
def alone(authority: Authority, node: str) -> Iterator[None]:
    """Context in which nobody else moves, removes or adopts anything of an open root, nor makes an array larger.

    It is part of one write, which begins first: whoever waits for the lock then holds a lease, and who has the lock
    must never have to take one, since a pause of all writers waits for every lease.

    Raises
    ------
    SealedError
        If the root does not take writes.
    """
    with authority.writer(node).write(), authority.locks.alone(layout.stages(node)):
        yield


def move(
    authority: Authority, objects: Objects, node: str, source: str, target: str, check: Callable[[], object]
) -> None:
    """Move all at a path of an open root, and below it, to another path.

    Parameters
    ----------
    check
        Raises if the paths are not, or no longer, fit; called while nobody else moves anything.

    Raises
    ------
    SealedError
        If the root does not take writes.
    StorageError
        If the folder cannot be moved; where nothing was moved, nothing has changed.
    """
    with alone(authority, node):
        check()
        _carry_out(authority, objects, node, {"from": source, "to": target})


def remove(authority: Authority, objects: Objects, node: str, path: str) -> None:
    """Remove all at a path of an open root, and below it; errors as for `move`."""
    with alone(authority, node):
        _carry_out(authority, objects, node, {"from": path, "to": None})


def settle(authority: Authority, objects: Objects, node: str) -> bool:
    """Finish what killed writers began; whether nothing is on its way now."""
    prefix = layout.row_moving(node, "")
    rows = [(key, orjson.loads(value)) for key, value in authority.kv.scan(prefix, layout.after(prefix))]
    alive = authority.leases(node) if rows else set()
    for row, said in rows:
        if said["lease"] not in alive:
            _finish(authority, objects, node, row, said)
    return not any(said["lease"] in alive for _, said in rows)


def _carry_out(authority: Authority, objects: Objects, node: str, said: dict[str, Any]) -> None:
    row = layout.row_moving(node, secrets.token_hex(8))
    with authority.writer(node).write() as stage:
        said["lease"] = stage.rpartition("/")[2]
        authority.edit(node, lambda txn: txn.put(row, orjson.dumps(said)))
        try:
            _finish(authority, objects, node, row, said)
        except StorageError:
            touched = said["from"] if said["to"] is None else said["to"]
            if _is_there(objects, node, touched) == (said["to"] is None):
                authority.edit(node, lambda txn: txn.delete(row))
            raise


def _finish(authority: Authority, objects: Objects, node: str, row: bytes, said: Mapping[str, Any]) -> None:
    if said["to"] is None:
        # May be done again, and takes long where there are many objects.
        objects.delete_tree(_place(node, said["from"]))
    authority.edit(node, _finisher(objects, node, row, said["from"], said["to"]), late=True)


def _finisher(
    objects: Objects, node: str, row: bytes, source: str, target: str | None
) -> Callable[[Transaction], None]:
    def finish(txn: Transaction) -> None:
        if txn.get(row) is None:
            return  # somebody else has
        for key, value in _rows_below(txn, node, source):
            txn.delete(key)
            if target is not None:
                moved = target + key[len(layout.row_tree(node, source)) :].decode()
                txn.put(layout.row_tree(node, moved), _moved(value, ArrayId(node, moved)))
        if target is not None and _is_there(objects, node, source):
            objects.rename_tree(_place(node, source), _place(node, target))
        txn.delete(row)

    return finish


def _rows_below(txn: Transaction, node: str, path: str) -> list[tuple[bytes, bytes]]:
    """Rows of arrays at a path and below it."""
    own, below = layout.row_tree(node, path), layout.row_tree(node, f"{path}/" if path else "")
    return [*txn.scan(own, own + b"\0"), *txn.scan(below, layout.after(below))]


def _moved(row: bytes, name: ArrayId) -> bytes:
    entry = Entry.from_json(orjson.loads(row))
    return orjson.dumps((replace(entry, id=name) if isinstance(entry, ArrayEntry) else entry).to_json())


def _place(node: str, path: str) -> str:
    return f"{layout.zarr(node)}/{path}" if path else layout.zarr(node)


def _is_there(objects: Objects, node: str, path: str) -> bool:
    return next(iter(objects.walk(_place(node, path))), None) is not None
