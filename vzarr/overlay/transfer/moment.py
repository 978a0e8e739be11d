"""Open versions as they were at one moment, beside a mirror: what lies there.

Every object lies under its own hash, and one list names them all (docs/format.md), so a moment is there whole or not at
all, and the next one shares with it what did not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import orjson

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal
from vzarr.overlay.views.paths import is_key

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

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"format": layout.FORMAT, **asdict(self)}

    def to_bytes(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self.to_json(), option=orjson.OPT_INDENT_2)

    @classmethod
    def from_bytes(cls, data: bytes) -> Moment:
        """Inverse of `to_bytes`.

        Raises
        ------
        FormatError
            If the data are damaged, or of a newer format.
        """
        try:
            plain = orjson.loads(data)
            if plain.pop("format") > layout.FORMAT:
                raise FormatError(f"{layout.moment()} is of a newer format: upgrade vzarr")
            return cls(**{**plain, "nodes": tuple(plain["nodes"])})
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as e:
            raise FormatError(f"{layout.moment()} is damaged: {e}") from e


def read(objects: Objects) -> Moment | None:
    """What a mirror has of open versions; None if nothing.

    Raises
    ------
    FormatError
        If it is damaged, or of a newer format.
    """
    data = objects.get(layout.moment())
    return None if data is None else Moment.from_bytes(data)


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
    return listed_in(load(objects, moment.sums))


def listed_in(data: bytes) -> dict[str, Held]:
    """Inverse of `listing`.

    Raises
    ------
    FormatError
        If the list is damaged, or names what is no object.
    """
    try:
        rows = (line.split(" ", 3) for line in data.decode().split("\n")[:-1])
        found = {name: Held(digest, int(size), stamp.strip("-")) for digest, size, stamp, name in rows}
    except ValueError as e:
        raise FormatError(f"{layout.moment_object(seal.sha256(data))} is damaged: {e}") from e
    # A mirror may be a stranger's: no name leads out of a version's folder.
    strange = [name for name in found if not is_key(name)]
    if strange:
        raise FormatError(f"{layout.moment_object(seal.sha256(data))} names {strange[0]!r}, which is no object")
    return found


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
