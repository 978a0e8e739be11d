"""Arrays that belong to no version, on their way between repos: what they are, and how they are put in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.naming import shared_folder
from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry, is_doc
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.kv.base import Reader, Transaction
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.sealing import seal

PLACE = layout.zarr(layout.UNVERSIONED)
Rows = Mapping[str, Any]
"""Entries (see `Entry.to_json`) of arrays that are not plain, by path."""


@dataclass(frozen=True)
class Arrays:
    """All that an unversioned instance has stored.

    Parameters
    ----------
    objects
        SHA-256 and size of each object, by key below ``nodes/unversioned/zarr/``.
    rows
        Of its arrays that are not plain.
    """

    objects: Mapping[str, tuple[str, int]]
    rows: Rows

    def to_bytes(self) -> bytes:
        """Deterministic JSON."""
        return orjson.dumps({"objects": self.objects, "rows": self.rows}, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, data: bytes) -> Arrays:
        """Inverse of `to_bytes`.

        Raises
        ------
        FormatError
            If the bytes are none.
        """
        try:
            plain = orjson.loads(data)
            objects = {str(key): (str(digest), int(size)) for key, (digest, size) in plain["objects"].items()}
            return cls(objects, dict(plain["rows"]))
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, AttributeError) as e:
            raise FormatError(f"a list of what an unversioned instance has stored is damaged: {e}") from e

    def check(self, info: InstanceInfo) -> None:
        """Refuse what is not in the instance's own folder, or is no entry of an array.

        Raises
        ------
        FormatError
            Naming it.
        """
        folder = shared_folder(info)
        for name in (*self.objects, *self.rows):
            inside = name == folder or name.startswith(f"{folder}/")
            if not inside or "\\" in name or {"", ".", ".."} & set(name.split("/")):
                raise FormatError(f"{name!r} is nothing that {info.name!r} can have stored")
        for path, row in self.rows.items():
            try:
                good = isinstance(Entry.from_json(row), ArrayEntry)
            except (LookupError, TypeError, ValueError, AttributeError) as e:
                raise FormatError(f"{path!r} is said to be an array, and its entry is damaged: {e}") from e
            if not good:
                raise FormatError(f"{path!r} is said to be an array, and its entry is none")


def rows_of(view: Reader) -> dict[str, Any]:
    """Entries of all arrays outside of versions that are not plain."""
    prefix = layout.row_tree(layout.UNVERSIONED, "")
    rows = view.scan(prefix, layout.after(prefix))
    return {key[len(prefix) :].decode(): orjson.loads(value) for key, value in rows}


def is_data(key: str) -> bool:
    """Whether an object is more than the metadata that an array has from its beginning."""
    return not is_doc(key.rpartition("/")[2])


def stored(objects: Objects, info: InstanceInfo) -> Iterator[str]:
    """Keys of what an instance has stored."""
    return (key for key, _size in objects.walk(f"{PLACE}/{shared_folder(info)}"))


def place(objects: Objects, info: InstanceInfo, arrays: Arrays, stage: str) -> None:
    """Put objects in place that wait, in the stead of what is there; may be done again after it was interrupted.

    Raises
    ------
    StorageError
        If one neither waits nor is in place.
    """
    wanted = {f"{PLACE}/{key}": digest for key, (digest, _size) in arrays.objects.items()}

    def put(item: tuple[str, str]) -> None:
        key, digest = item
        data = objects.get(layout.arrived(digest))
        if data is not None:
            objects.put(key, data, stage=stage)
        elif seal.sha256(objects.get(key) or b"") != digest:
            raise StorageError(f"{layout.arrived(digest)} is missing")

    share(put, sorted(wanted.items()), max(4, objects.concurrency))
    for key in set(stored(objects, info)) - wanted.keys():
        objects.delete(key)


def write_rows(txn: Transaction, info: InstanceInfo, rows: Rows) -> None:
    """Let rows say which of an instance's arrays are not plain, and count the change."""
    prefix = layout.row_tree(layout.UNVERSIONED, shared_folder(info))
    for key, _value in list(txn.scan(prefix, layout.after(prefix))):
        txn.delete(key)
    for path, entry in rows.items():
        txn.put(layout.row_tree(layout.UNVERSIONED, path), orjson.dumps(entry))
    state = orjson.loads(txn.get(layout.row_state(layout.UNVERSIONED)) or b'{"state": "open", "counter": 0}')
    txn.put(layout.row_state(layout.UNVERSIONED), orjson.dumps({**state, "counter": state["counter"] + 1}))
