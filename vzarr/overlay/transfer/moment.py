"""Open versions as they were at one moment, beside a mirror: what lies there.

Every object lies under its own hash, and one list names them all (docs/format.md), so a moment is there whole or not at
all, and the next one shares with it what did not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import orjson

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal

ROWS, KEYS = "rows", "keys"
"""First parts of the names of what is no object of the repo: rows of versions, and their key changes by instance."""


class Held(NamedTuple):
    """An object as it was: its hash and size, and its stamp then (see `Objects.stamped`)."""

    digest: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Moment:
    """Which open versions there are, and when they were so.

    Parameters
    ----------
    time
        UTC, RFC 3339: each write that was acknowledged before is there.
    entries
        Number of log entries then.
    mutations
        Mutation id that the repo was to give next.
    nodes
        Their ids; ``unversioned`` too, for what belongs to none.
    sums
        SHA-256 of the list of all objects.
    """

    time: str
    entries: int
    mutations: int
    nodes: tuple[str, ...]
    sums: str

    def to_bytes(self) -> bytes:
        """As JSON."""
        return orjson.dumps({"format": layout.FORMAT, **asdict(self)}, option=orjson.OPT_INDENT_2)


def read(objects: Objects) -> Moment | None:
    """What a mirror has of open versions; None if nothing.

    Raises
    ------
    FormatError
        If it is damaged, or of a newer format.
    """
    data = objects.get(layout.moment())
    if data is None:
        return None
    try:
        plain = orjson.loads(data)
        if plain.pop("format") > layout.FORMAT:
            raise FormatError(f"{layout.moment()} is of a newer format: upgrade vzarr")
        return Moment(**{**plain, "nodes": tuple(plain["nodes"])})
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as e:
        raise FormatError(f"{layout.moment()} is damaged: {e}") from e


def listing(held: Mapping[str, Held]) -> bytes:
    """The list of objects, ``HASH SIZE STAMP NAME`` each, sorted by name."""
    rows = (f"{h.digest} {h.size} {h.stamp or '-'} {name}\n" for name, h in sorted(held.items()))
    return "".join(rows).encode()


def listed(objects: Objects, moment: Moment) -> dict[str, Held]:
    """Every object of a moment, by name: its key in the repo, or what the module says of rows and keys.

    Raises
    ------
    StorageError, FormatError
        If the list is missing or damaged.
    """
    data = load(objects, moment.sums)
    try:
        rows = (line.split(" ", 3) for line in data.decode().split("\n")[:-1])
        return {name: Held(digest, int(size), stamp.strip("-")) for digest, size, stamp, name in rows}
    except ValueError as e:
        raise FormatError(f"{layout.moment_object(moment.sums)} is damaged: {e}") from e


def load(objects: Objects, digest: str) -> bytes:
    """An object of a moment, by its hash.

    Raises
    ------
    StorageError, FormatError
        If it is missing or damaged.
    """
    key = layout.moment_object(digest)
    data = objects.get(key)
    if data is None:
        raise StorageError(f"{key} is missing")
    if seal.sha256(data) != digest:
        raise FormatError(f"{key} is damaged: its checksum differs")
    return data
