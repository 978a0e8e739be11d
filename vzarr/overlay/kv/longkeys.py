"""Keys of any length, in order, in a store whose own keys are limited.

A key that fits is a row of the main space.  A longer one is cut: what its first bytes leave is a row of a space that
belongs to these bytes, named by their digest, and so on.  A *sign* beside the first bytes, one byte longer than any row
may be, says that longer keys begin with them: who scans meets it where they belong, and looks there.  So a key
is found by one look-up, and a range of keys that begin alike by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import NamedTuple

from vzarr.overlay.kv.base import Item, prefix_end

DIGEST = 32
"""Bytes before a row that is not of the main space."""
_SIGN = b"\0"
_BEHIND_SIGN = b"\1"


class Row(NamedTuple):
    """Where something is stored.

    Parameters
    ----------
    apart
        Whether it lies outside of the main space.
    name
        Its name there, of bounded length.
    """

    apart: bool
    name: bytes


Rows = Callable[[bool, bytes, bytes | None, bool], Iterator[Item]]
"""``rows(apart, start, end, reverse)``: what is stored in the main space or apart from it, by names in order."""


class LongKeys:
    """Where the keys of a store are stored.

    Parameters
    ----------
    longest
        Bytes of the longest name that the store takes.
    """

    def __init__(self, longest: int) -> None:
        self.plain = longest - len(_SIGN)
        """Bytes of the longest key that is a row of the main space."""
        self._step = self.plain - DIGEST

    def row_of(self, key: bytes) -> Row:
        """Where a key's value is."""
        cut = self._cut(key)
        return Row(cut > 0, _space(key[:cut]) + key[cut:])

    def signs_to(self, key: bytes) -> list[Row]:
        """The signs by which a scan finds a key, the outermost first; a key of the main space has none."""
        found, begin = list[Row](), 0
        for cut in range(self.plain, len(key), self._step):
            found.append(Row(begin > 0, _space(key[:begin]) + key[begin:cut] + _SIGN))
            begin = cut
        return found

    def spaces_of(self, key: bytes) -> list[bytes]:
        """What the rows begin with to which each of `signs_to` leads."""
        return [_space(key[:cut]) for cut in range(self.plain, len(key), self._step)]

    def is_sign(self, name: bytes) -> bool:
        """Whether a stored name is a sign."""
        return len(name) > self.plain

    def scan(self, rows: Rows, start: bytes, end: bytes | None, reverse: bool) -> Iterator[Item]:
        """Keys of a range and their values, in order."""
        common = 0
        if end is not None:
            for cut in range(self.plain, len(start), self._step):
                if start[:cut] != end[:cut]:
                    break
                common = cut
        return self._within(rows, start[:common], start, end, reverse)

    def _within(self, rows: Rows, known: bytes, start: bytes, end: bytes | None, reverse: bool) -> Iterator[Item]:
        """Those that begin with `known`, whose space is looked at."""
        space = _space(known)
        size = self._step if known else self.plain
        first = start[len(known) :] if start.startswith(known) else b""
        low, high = space + _clipped(first, size, _SIGN), prefix_end(space)
        if end is not None and end.startswith(known):
            high = space + _clipped(end[len(known) :], size, _BEHIND_SIGN)
        for name, value in rows(bool(known), low, high, reverse):
            if self.is_sign(name):
                beginning = known + name[len(space) : -len(_SIGN)]
                yield from self._within(rows, beginning, start, end, reverse)
            else:
                yield known + name[len(space) :], value

    def _cut(self, key: bytes) -> int:
        """Where the part of a key begins that its row is named by."""
        over = len(key) - self.plain
        return 0 if over <= 0 else self.plain + (over - 1) // self._step * self._step


def _space(beginning: bytes) -> bytes:
    """What the rows of keys begin with that begin alike; nothing in the main space."""
    return sha256(beginning).digest() if beginning else b""


def _clipped(rest: bytes, size: int, tail: bytes) -> bytes:
    """A bound among names: at the sign before what is longer than a name, or behind it."""
    return rest if len(rest) <= size else rest[:size] + tail
