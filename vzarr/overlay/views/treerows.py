"""The metadata tree of an open version that inherits, as a transaction sees it: rows over what the base has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import TypeVar

import orjson

from vzarr.geometry import Coord
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.meaning import same_meaning
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId, Entry, below, is_array_doc, parse_doc
from vzarr.overlay.kv.base import Item, Transaction

T = TypeVar("T")
GONE = b""
"""Value of a row that hides what the base has."""


class TreeRows:
    """Rows of one version's groups and arrays within one transaction.

    Parameters
    ----------
    txn
        The transaction.
    node
        Id of the version.
    base
        Groups and arrays of what it builds on, by path.
    """

    def __init__(self, txn: Transaction, node: str, base: Mapping[str, Entry]) -> None:
        self._txn, self._node, self._base = txn, node, base

    def get(self, path: str) -> Entry | None:
        """The group or array at a path."""
        row = self._txn.get(layout.row_tree(self._node, path))
        return self._base.get(path) if row is None else _entry(row)

    def put(self, path: str, entry: Entry | None) -> None:
        """Set the group or array at a path; None removes it."""
        row = layout.row_tree(self._node, path)
        if entry is None and path not in self._base:
            self._txn.delete(row)
        else:
            self._txn.put(row, orjson.dumps(entry.to_json()) if entry is not None else GONE)

    def below(self, path: str) -> dict[str, Entry]:
        """Groups and arrays at a path and below it; everything for an empty path."""
        prefix = layout.row_tree(self._node, "")
        scanned = self._txn.scan(prefix + path.encode(), layout.after(prefix + path.encode()))
        rows = {key[len(prefix) :].decode(): value for key, value in scanned}
        found = {p: self._base[p] for p in below(self._base, path)}
        for p in list(below(rows, path)):
            found.pop(p, None)
            entry = _entry(rows[p])
            if entry is not None:
                found[p] = entry
        return found

    def free_id(self, creator: str, path: str) -> ArrayId:
        """An identity that no array of the version has, or that it inherited has.

        What an array of that identity once stored here must not come back, nor be shared with one that was renamed.
        """
        taken = {e.id for e in (*self.below("").values(), *self._base.values()) if isinstance(e, ArrayEntry)}
        return next(i for n in count() if (i := ArrayId(creator, path, n)) not in taken)

    def described(self, path: str, docs: Mapping[str, bytes], old: Entry | None) -> Entry:
        """What documents make of a path: the array that was there, unless what is stored would mean another."""
        if not any(is_array_doc(n, parse_doc(n, d) or {}) for n, d in docs.items()):
            return Entry(docs)
        if isinstance(old, ArrayEntry) and same_meaning(docs, old.docs):
            return replace(old, docs=docs)
        row = self._txn.get(layout.row_state(self._node))
        return ArrayEntry(docs, ArrayId(self._node, path, orjson.loads(row)["counter"] if row else 0))


def _entry(row: bytes) -> Entry | None:
    return Entry.from_json(orjson.loads(row)) if row else None


def overlaid(
    node: str, rows: Iterable[Item], entries: Mapping[str, Entry], loose: Mapping[str, str]
) -> tuple[dict[str, Entry], dict[str, str], dict[ArrayId, list[Coord]]]:
    """What a version has: its rows over what its base has.

    Parameters
    ----------
    rows
        All rows of the version (see `layout.node_rows`).
    entries, loose
        The base's groups and arrays by path, and its loose keys with the ids of the versions that stored them.

    Returns
    -------
    tuple
        Groups and arrays; loose keys; deleted parts of the base: array -> leading chunk coordinates of what is gone.
    """
    entries, loose, masks = dict(entries), dict(loose), dict[ArrayId, list[Coord]]()
    start = len(layout.node_rows(node))
    for key, value in rows:
        kind, name = key[start : start + 1], key[start + 1 :]
        if kind == b"t":
            _set(entries, name.decode(), Entry.from_json(orjson.loads(value)) if value else None)
        elif kind == b"l":
            _set(loose, name.decode(), node if value else None)
        elif kind == b"m":
            mask = orjson.loads(value)
            masks.setdefault(ArrayId(*mask["id"]), []).append(tuple(mask["prefix"]))
    return entries, loose, masks


def _set(mapping: dict[str, T], key: str, value: T | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value
