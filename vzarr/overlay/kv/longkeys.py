"""Keys of any length, in order, in a store whose own keys are limited.

A key that fits is a row of the main space.  A longer one is cut: what its first bytes leave is a row of a space that
belongs to these bytes, named by their digest, and so on.  A *sign* beside the first bytes, one byte longer than any row
may be, says that longer keys begin with them: who scans meets it where they belong, and looks there.  So a key
is found by one look-up, and a range of keys that begin alike by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

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


class _Level(NamedTuple):
    """A space that a scan looks at.

    Parameters
    ----------
    rows
        What is left of it.
    space
        What its rows begin with.
    size
        Bytes with which its keys begin alike.
    digest
        Of these bytes.
    at_start, at_end
        Whether the start of the scan, or its end, begins with them.
    """

    rows: Iterator[Item]
    space: bytes
    size: int
    digest: Any
    at_start: bool
    at_end: bool


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
        over = len(key) - self.plain
        if over <= 0:
            return Row(False, key)
        cut = self.plain + (over - 1) // self._step * self._step
        return Row(True, sha256(key[:cut]).digest() + key[cut:])

    def signs_to(self, key: bytes) -> list[Row]:
        """The signs by which a scan finds a key, the outermost first; a key of the main space has none."""
        found, begin, space = list[Row](), 0, b""
        for cut, below in zip(self._cuts(key), self.spaces_of(key), strict=True):
            found.append(Row(begin > 0, space + key[begin:cut] + _SIGN))
            begin, space = cut, below
        return found

    def spaces_of(self, key: bytes) -> list[bytes]:
        """What the rows begin with to which each of `signs_to` leads."""
        found, begin, digest = list[bytes](), 0, sha256()
        for cut in self._cuts(key):
            digest.update(key[begin:cut])
            found.append(digest.digest())
            begin = cut
        return found

    def _cuts(self, key: bytes) -> range:
        """Where a key is cut."""
        return range(self.plain, len(key), self._step)

    def is_sign(self, name: bytes) -> bool:
        """Whether a stored name is a sign."""
        return len(name) > self.plain

    def scan(self, rows: Rows, start: bytes, end: bytes | None, reverse: bool) -> Iterator[Item]:
        """Keys of a range and their values, in order."""
        common = 0
        if end is not None:
            for cut in self._cuts(start):
                if start[common:cut] != end[common:cut]:
                    break
                common = cut

        def opened(size: int, digest: Any, at_start: bool, at_end: bool) -> _Level:
            space = digest.digest() if size else b""
            longest = self._step if size else self.plain
            low, high = space, prefix_end(space)
            if at_start:
                low = space + _clipped(start[size:], longest, _SIGN)
            if end is not None and at_end:
                high = space + _clipped(end[size:], longest, _BEHIND_SIGN)
            return _Level(rows(size > 0, low, high, reverse), space, size, digest, at_start, at_end)

        known = bytearray(start[:common])
        # A level for every part of a key: as many as a long key has, so that functions must not call each other.
        levels = [opened(common, sha256(known), True, end is not None)]
        while levels:
            level = levels[-1]
            del known[level.size :]
            beginning, skipped = bytes(known), len(level.space)
            for name, value in level.rows:
                if len(name) <= self.plain:
                    yield beginning + name[skipped:], value
                    continue
                part = name[skipped : -len(_SIGN)]
                known += part
                digest, behind = level.digest.copy(), len(known)
                digest.update(part)
                at_start = level.at_start and start[level.size : behind] == part
                at_end = level.at_end and end is not None and end[level.size : behind] == part
                levels.append(opened(behind, digest, at_start, at_end))
                break
            else:
                levels.pop()


def _clipped(rest: bytes, size: int, tail: bytes) -> bytes:
    """A bound among names: at the sign before what is longer than a name, or behind it."""
    return rest if len(rest) <= size else rest[:size] + tail
