"""Sealing: what an open version comes to is written as pages, tree, sidecars, checksums and one small record.

Everything here is deterministic: two committers of one node write the same bytes.  The record's hash goes into the
log entry that seals the version; from there a chain of checksums covers every object the node stored.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.sharing import share

_local = threading.local()
"""The buffer through which a thread reads: fresh memory costs more than reading."""

Part = tuple[str, str]
"""An object that several versions may share: node that wrote it, and its SHA-256."""


@dataclass(frozen=True)
class Record:
    """What ``seal.json`` says.

    Parameters
    ----------
    parents
        Ids of the parents.
    tree, table
        Metadata tree and owner table: the node that wrote them (an ancestor where nothing changed) and hash.
    sums
        SHA-256 of the node's list of checksums, which covers every other object in its folder.
    keys
        Instances whose sidecar keys this node changed, by data id: number of keys.
    pages
        Bytes of packed owner pages that the node wrote before it took changes (of a merge).
    layers
        Which sidecars all keys consist of, shared as `tree` and `table` are; None in a merge's base, and in seals of
        releases that had none.
    mutations
        The mutation id that the repo was to give next; 0 where it had given none.
    """

    parents: tuple[str, ...]
    tree: Part
    table: Part
    sums: str = ""
    keys: Mapping[str, int] = field(default_factory=dict)
    pages: int = 0
    layers: Part | None = None
    mutations: int = 0

    def to_bytes(self) -> bytes:
        """Deterministic JSON."""
        data: dict[str, Any] = {
            "format": layout.FORMAT,
            "parents": list(self.parents),
            "tree": {"node": self.tree[0], "sha256": self.tree[1]},
            "owners": {"node": self.table[0], "sha256": self.table[1]},
            "keys": dict(sorted(self.keys.items())),
            "pages": self.pages,
            "sums": self.sums,
        }
        if self.layers is not None:
            data["layers"] = {"node": self.layers[0], "sha256": self.layers[1]}
        if self.mutations:
            data["mutations"] = self.mutations
        return orjson.dumps(data, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """Inverse of `to_bytes`.

        Raises
        ------
        FormatError
            If the bytes are no record of a format that this release reads.
        """
        try:
            plain: dict[str, Any] = orjson.loads(data)
            if plain["format"] > layout.FORMAT:
                raise FormatError(f"this seal has format {plain['format']}; this release reads up to {layout.FORMAT}")
            tree, table = ((plain[part]["node"], plain[part]["sha256"]) for part in ("tree", "owners"))
            named = plain.get("layers")
            layers = None if named is None else (named["node"], named["sha256"])
            rest = plain["sums"], plain["keys"], plain["pages"], layers, plain.get("mutations", 0)
            return cls(tuple(plain["parents"]), tree, table, *rest)
        except (orjson.JSONDecodeError, LookupError, TypeError) as e:
            raise FormatError(f"a seal is damaged: {e}") from e


def sha256(data: bytes | memoryview) -> str:
    """Hash in hex, as all checksums of the format are."""
    return hashlib.sha256(data).hexdigest()


class Gets(Protocol):
    """Where whole objects come from: those of a repo, or a repo at the other end of a transfer."""

    def get(self, key: str, /) -> bytes | None:
        """Bytes of an object, or None when it is absent."""


def load_record(objects: Gets, key: str, expected: str | None) -> Record:
    """Read a seal (or merge base) and check its hash.

    Raises
    ------
    StorageError
        If it is missing.
    FormatError
        If it is not what the log says.
    """
    data = objects.get(key)
    if data is None:
        raise StorageError(f"{key} is missing")
    if expected is not None and sha256(data) != expected:
        raise FormatError(f"{key} is not what the log sealed: its checksum differs")
    return Record.from_bytes(data)


def load_part(objects: Gets, place: Callable[[str], str], part: Part) -> bytes:
    """Read a tree or table that a record names, and check its hash."""
    key = place(part[0])
    data = objects.get(key)
    if data is None:
        raise StorageError(f"{key} is missing")
    if sha256(data) != part[1]:
        raise FormatError(f"{key} is damaged: its checksum differs from the seal's")
    return data


def write_part(objects: Objects, node: str, place: Callable[[str], str], data: bytes, base: Part | None) -> Part:
    """Write a tree or table, unless the base's is the same: then name that."""
    digest = sha256(data)
    if base is not None and base[1] == digest:
        return base
    objects.put(place(node), data)
    return node, digest


def write_sums(objects: Objects, node: str, stored: Sequence[bytes] = ()) -> str:
    """Hash every object of a node's folder but its seal and journal, write the list, and give the list's hash.

    Lines are ``sha256 size key`` sorted by key, keys relative to the node's folder.

    Parameters
    ----------
    stored
        Lines of the objects below ``zarr/``, sorted (`sum_lines`); these are not looked at again.
    """
    folder = layout.node(node)
    own = {layout.seal(node), layout.sums(node)}
    folders, files = objects.list_dir(folder)
    others = [f"{folder}/{name}" for name in folders if name not in ("zarr", "journal", "sums")]
    found = [*(f"{folder}/{name}" for name in files), *(key for other in others for key, _ in objects.walk(other))]
    keys = sorted({*found} - own)
    before = bisect_left(keys, layout.zarr(node))
    lines = [sum_lines(node, some, digests(objects, some)) for some in (keys[:before], keys[before:])]
    data = b"".join([lines[0], *stored, lines[1]])
    objects.put(layout.sums(node), data)
    return sha256(data)


def digests(objects: Objects, keys: Sequence[str]) -> list[tuple[str, int]]:
    """Hash and size of objects, in order."""
    return share(lambda key: _digest(objects, key), keys, objects.concurrency)


def sum_lines(node: str, keys: Iterable[str], hashes: Iterable[tuple[str, int]]) -> bytes:
    """Lines of a node's list of checksums."""
    cut = len(layout.node(node)) + 1
    return "".join(f"{h} {size} {key[cut:]}\n" for key, (h, size) in zip(keys, hashes, strict=True)).encode()


def read_sums(data: bytes) -> Iterator[tuple[str, int, str]]:
    """Key, size and hash of each object that a list of checksums names.

    Raises
    ------
    ValueError
        If it is none, or its last line is not whole.
    """
    *lines, rest = data.decode().split("\n")
    if rest:
        raise ValueError("its last line has no end")
    for line in lines:
        digest, size, key = line.split(" ", 2)
        yield key, int(size), digest


def object_digests(objects: Objects, node: str) -> dict[str, str]:
    """Hash of each object of a sealed version's folder, by its key; nothing where the list of them is missing.

    Raises
    ------
    StorageError
        If the seal is missing.
    FormatError
        If the list is not what was sealed.
    """
    data = objects.get(layout.sums(node))
    if data is None:
        return {}
    if sha256(data) != load_record(objects, layout.seal(node), None).sums:
        raise FormatError(f"{layout.sums(node)} is damaged: its checksum differs from the seal's")
    return {f"{layout.node(node)}/{key}": digest for key, _size, digest in read_sums(data)}


def _digest(objects: Objects, key: str) -> tuple[str, int]:
    buffer: bytearray | None = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = bytearray(1 << 18)
    data = objects.read_into(key, buffer)
    if data is None:
        raise StorageError(f"{key} vanished while its version was being sealed")
    return sha256(data), len(data)
