"""What is seen of an instance's keys from a position: the newest folded writes along its lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from vzarr.errors import FormatError
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv.base import Reader
from vzarr.overlay.kv.rows import (
    OWN,
    TOMBSTONE,
    VALUE,
    after_version,
    head_places,
    head_prefix,
    past_range,
    past_version,
    stem_of,
)
from vzarr.overlay.kv.rule import IsAncestor, Write, undescended
from vzarr.overlay.kv.seen import Seen

HeadsOf = Callable[[int, Sequence[bytes]], Mapping[bytes, bytes]]
"""``heads(line, keys)``: the heads of some keys on a line, by key; those of others may be among them."""
Clash = Callable[[bytes, list[int]], None]
"""``clash(key, versions)`` is told of a key that has the values of several versions."""
_PLAIN = VALUE[0]


def lines_of(position: Position) -> Iterator[int]:
    """The lines on which a version and its ancestors stand, nearest first, each once."""
    todo, known = [position], {position.line}
    while todo:
        yield from (at.line for at in todo)
        above = {parent.line: parent for at in todo for parent in at.parents if parent.line not in known}
        known |= above.keys()
        todo = list(above.values())


def stored_heads(view: Reader, instance: bytes, known: dict[int, Mapping[bytes, bytes]]) -> HeadsOf:
    """Heads by one statement for each line, of which some were read already; asked for the same keys each time."""

    def heads(line: int, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        if line not in known:
            prefix = head_prefix(instance, line)
            known[line] = found_rows(keys, view.get_many([prefix + key for key in keys]))
        return known[line]

    return heads


def found_rows(keys: Sequence[bytes], rows: Sequence[bytes | None]) -> dict[bytes, bytes]:
    """The rows that there are, by key."""
    return {key: row for key, row in zip(keys, rows, strict=True) if row is not None}


class Folded:
    """The folded writes to an instance's keys, as a position sees them.

    Parameters
    ----------
    instance, position, is_ancestor
        As in `VersionedKV`.
    """

    def __init__(self, instance: bytes, position: Position, is_ancestor: IsAncestor) -> None:
        self._instance, self._position = instance, position
        self._is_ancestor = is_ancestor

    def add(self, view: Reader, keys: Sequence[bytes], heads: HeadsOf, clash: Clash, seen: Seen) -> None:
        """Note what is seen of keys; nothing of those that nobody wrote or that clash."""
        at, todo = self._position, keys
        while todo:
            todo = self._along(view, at, todo, heads(at.line, todo), seen)
            if len(at.parents) != 1:
                break
            at = at.parents[0]
        if at.parents:
            for key in todo:
                writes = self.latest(view, key, lambda line, _, left=todo: heads(line, left), at.parents)  # type: ignore[misc]
                values = [write for write in writes if not write.gone]
                if len(values) > 1:
                    clash(key, sorted(write.version for write in values))
                elif values:
                    seen.note(key, values[0])

    def latest(
        self, view: Reader, key: bytes, heads: HeadsOf, positions: Sequence[Position] | None = None
    ) -> list[Write]:
        """The writes to a key that no other of them descends from, at or before this position, or some others."""

        def newest(line: int, version: int) -> Write | None:
            row = heads(line, [key]).get(key)
            last, first = (0, version + 1) if row is None else head_places(row)
            if row is None or first > version:
                return None
            return Write(last, row[OWN:]) if last <= version else self._past(view, [key], line, version)[0]

        return undescended(newest, [self._position] if positions is None else positions, self._is_ancestor)

    def _along(
        self, view: Reader, at: Position, keys: Sequence[bytes], heads: Mapping[bytes, bytes], seen: Seen
    ) -> Sequence[bytes]:
        """Note newest writes on one line; gives the keys that were not written on it, up to there."""
        above, get = after_version(at.version), heads.get
        # What most rows are: a value in place, by the version or before it.
        plain = {
            key: row[OWN + 1 :] for key in keys if (row := get(key)) is not None and row < above and row[OWN] == _PLAIN
        }
        seen.values.update(plain)
        if len(plain) == len(keys):
            return ()
        left, past = [], []
        for key in keys:
            row = get(key)
            if key in plain:
                continue
            if row is None or head_places(row)[1] > at.version:
                left.append(key)
            elif row < above:
                seen.note(key, Write(head_places(row)[0], row[OWN:]))
            else:
                past.append(key)
        for key, write in zip(past, self._past(view, past, at.line, at.version), strict=True):
            seen.note(key, write)
        return left

    def _past(self, view: Reader, keys: Sequence[bytes], line: int, version: int) -> list[Write]:
        """The newest writes to keys on a line up to a version, where there are some, and others after them."""
        ranges = [past_range(stem_of(self._instance, key), line, version) for key in keys]
        found = view.scan_many(ranges, limit=1) if ranges else []
        for key, rows in zip(keys, found, strict=True):
            if not rows:
                raise FormatError(f"no row says who wrote key {key!r} at or before version {version}")
        return [Write(past_version(row), TOMBSTONE if flag == TOMBSTONE else None) for [(row, flag)] in found]
