"""Rows that say which versions wrote a key, and the rule by which one of these writes is seen.

The layout of the rows and the rule are described in `vzarr.overlay.kv.versioned`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv.base import Item, Reader

IsAncestor = Callable[[int, int], bool]

VALUE, TOMBSTONE = b"\1", b"\0"
TERMINATOR = b"\0\1"

# A key with more index rows than this is looked up by seeks instead of reading them all.
SHORT_HISTORY = 8

TAIL = struct.Struct(">II")
LAST = 0xFFFF_FFFF


class Write(NamedTuple):
    """One write to a key: where, and whether it was a value or a tombstone."""

    line: int
    version: int
    flag: bytes


Newest = Callable[[int, int], Write | None]
"""``newest(line, version)``: a key's newest write on a line at or before a version."""


def value_prefix(instance: bytes, version: int) -> bytes:
    """What the rows of values that a version wrote begin with."""
    return b"V" + instance + version.to_bytes(4, "big")


def stem_of(instance: bytes, key: bytes) -> bytes:
    """What all index rows of a key begin with, and no others."""
    return b"I" + instance + key.replace(b"\0", b"\0\xff") + TERMINATOR


def stem_key(stem: bytes) -> bytes:
    """Inverse of `stem_of`."""
    return stem[17 : -len(TERMINATOR)].replace(b"\0\xff", b"\0")


def index_row(stem: bytes, line: int, version: int) -> bytes:
    """The row that says that a version wrote a key."""
    return stem + TAIL.pack(line, LAST - version)


def write_of(row: bytes, flag: bytes) -> Write:
    """What a row says."""
    line, inverted = TAIL.unpack(row[-TAIL.size :])
    return Write(line, LAST - inverted, flag)


def seeking(view: Reader, stem: bytes) -> Newest:
    """`Newest` by one seek each."""

    def newest(line: int, version: int) -> Write | None:
        start, end = index_row(stem, line, version), index_row(stem, line, 0) + b"\0"
        found = next(iter(view.scan(start, end, limit=1)), None)
        return None if found is None else write_of(*found)

    return newest


def picking(history: Sequence[Write]) -> Newest:
    """`Newest` among writes that were read already."""

    def newest(line: int, version: int) -> Write | None:
        return max((w for w in history if w.line == line and w.version <= version), default=None)

    return newest


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


def histories(
    view: Reader, low: bytes, high: bytes | None, reverse: bool
) -> Iterator[tuple[bytes, list[Write] | None]]:
    """The stems of a range of index rows, each with all its writes, or None for a long history."""
    while True:
        stem, history = b"", list[Write]()
        for row, flag in view.scan(low, high, reverse=reverse):
            if row[: -TAIL.size] != stem:
                if history:
                    yield stem, history
                stem, history = row[: -TAIL.size], []
            history.append(write_of(row, flag))
            if len(history) > SHORT_HISTORY:
                break
        else:
            if history:
                yield stem, history
            return
        yield stem, None
        if reverse:
            high = stem
        else:
            low = index_row(stem, LAST, 0) + b"\0"


def firsts(view: Reader, ranges: Sequence[tuple[bytes, bytes]]) -> list[Item | None]:
    """First pair of each of many ranges, None for an empty one; one statement where the store has one for it."""
    if isinstance(view, Seeker):
        return view.firsts(ranges)
    return [next(iter(view.scan(start, end, limit=1)), None) for start, end in ranges]


def all_of(view: Reader, ranges: Sequence[tuple[bytes, bytes]]) -> list[list[Item]]:
    """All pairs of each of many ranges, together like `firsts`."""
    if isinstance(view, Seeker):
        return view.all_of(ranges)
    return [list(view.scan(start, end)) for start, end in ranges]


@runtime_checkable
class Seeker(Protocol):
    """A reader that looks up many ranges at once."""

    def firsts(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[Item | None]:
        """First pair of each range, None for an empty one."""

    def all_of(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[list[Item]]:
        """All pairs of each range."""


def newest_of(view: Reader, stems: Sequence[bytes], line: int, version: int) -> list[Write | None]:
    """Newest write of each of many keys on a line at or before a version."""
    ranges = [(index_row(stem, line, version), index_row(stem, line, 0) + b"\0") for stem in stems]
    return [None if item is None else write_of(*item) for item in firsts(view, ranges)]
