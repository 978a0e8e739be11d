"""The rule by which one of the writes to a key is seen, or several are in conflict; no storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv.rows import TOMBSTONE

IsAncestor = Callable[[int, int], bool]


class Write(NamedTuple):
    """One write to a key.

    Parameters
    ----------
    version
        Who made it.
    own
        Its own row, or None where that was not read yet, and is no deletion.
    """

    version: int
    own: bytes | None

    @property
    def gone(self) -> bool:
        """Whether it deleted the key."""
        return self.own == TOMBSTONE


Newest = Callable[[int, int], Write | None]
"""``newest(line, version)``: a key's newest write on a line at or before a version."""


def undescended(newest: Newest, positions: Iterable[Position], is_ancestor: IsAncestor) -> list[Write]:
    """The writes at or before `positions` that no other of them descends from."""
    found: dict[int, Write] = {}
    seen: set[tuple[int, int]] = set()
    todo = list(positions)
    while todo:
        at = todo.pop()
        if (at.line, at.version) in seen:
            continue
        seen.add((at.line, at.version))
        write = newest(at.line, at.version)
        if write is None:
            todo.extend(at.parents)
        else:
            found[write.version] = write
    if len(found) > 1:
        shadowed = {v for v in found if any(v != later and is_ancestor(v, later) for later in found)}
        found = {version: write for version, write in found.items() if version not in shadowed}
    return list(found.values())
