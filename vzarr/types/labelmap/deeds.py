"""What each edit did to supervoxels, so that it can be undone and so that a body's history can be told.

The mutation log says what a client asked for; a *deed* says which supervoxels that moved.  Rows: ``u`` + version id +
a zero byte + mutation id (8 bytes, big-endian); values are JSON objects, of which edits that are no edits of bodies
(posted voxels, mappings, indices) have an empty one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from vzarr.types.labelmap import rows

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys

Move = tuple[int, int, tuple[int, ...]]
"""From which body, to which body, which supervoxels."""
CutRow = tuple[int, int, int]
"""Supervoxel that was cut, the part under the runs, the rest."""


@dataclass(frozen=True)
class Deed:
    """What one edit did.

    Parameters
    ----------
    action
        ``merge``, ``cleave``, ``renumber``, ``agglomerate``, ``split``, ``split-supervoxel`` or ``undo``; empty for
        all else.
    moves
        Supervoxels that changed bodies; those made by cuts under their new ids.
    cuts
        Supervoxels that were cut.
    body
        Body whose supervoxels were cut; 0 for none.
    undoes
        Mutation that was undone; 0 for none.
    left
        Bodies that an agglomeration took something from and that kept something.
    empty
        Rests of cuts that had no voxel: the supervoxel went into the part as a whole.
    """

    action: str = ""
    moves: tuple[Move, ...] = ()
    cuts: tuple[CutRow, ...] = ()
    body: int = 0
    undoes: int = 0
    left: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()

    @property
    def bodies(self) -> set[int]:
        """Bodies that gained or lost something, or whose supervoxels were cut."""
        return {body for source, target, _ in self.moves for body in (source, target)} | ({self.body} - {0})

    def encode(self) -> bytes:
        """As JSON."""
        if not self.action:
            return b"{}"
        fields = {
            "moves": self.moves,
            "cuts": [[*c] for c in self.cuts],
            "body": self.body,
            "undoes": self.undoes,
            "left": self.left,
            "empty": self.empty,
        }
        return orjson.dumps({"action": self.action, **{k: v for k, v in fields.items() if v}})

    @classmethod
    def decode(cls, value: bytes) -> Deed:
        """Inverse of `encode`."""
        found = orjson.loads(value)
        moves = tuple((s, t, tuple(svs)) for s, t, svs in found.pop("moves", ()))
        cuts = tuple((sv, split, remain) for sv, split, remain in found.pop("cuts", ()))
        left, empty = (tuple(found.pop(name, ())) for name in ("left", "empty"))
        return cls(moves=moves, cuts=cuts, left=left, empty=empty, **found)


def key(uuid: str, mutation_id: int) -> bytes:
    """Key of the deed of a mutation at a version."""
    return _prefix(uuid) + rows.number(mutation_id)


def _prefix(uuid: str) -> bytes:
    return rows.DEED + uuid.encode() + b"\0"


def read(keys: InstanceKeys, uuid: str, mutation_id: int) -> Deed | None:
    """What a mutation at a version did; None when there was none of this number."""
    value = keys.get(key(uuid, mutation_id))
    return None if value is None else Deed.decode(value)


def read_all(keys: InstanceKeys, uuid: str, *, newest_first: bool = False) -> Iterator[tuple[int, Deed]]:
    """Mutation ids at a version and what they did."""
    prefix = _prefix(uuid)
    for row, value in keys.scan(prefix, prefix[:-1] + b"\1", reverse=newest_first):
        yield int.from_bytes(row[-8:], "big"), Deed.decode(value)
