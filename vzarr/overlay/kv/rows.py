"""Names and contents of the rows that versioned keys consist of; what they are for is said in `versioned`."""

from __future__ import annotations

import struct

TOMBSTONE, VALUE, APART = b"\0", b"\1", b"\2"
"""How an own row begins: with a deletion, a value that follows, the size of a value that has a row of its own."""
LARGE = 800
"""Bytes of the largest value that stands in an own row: with its key it still fits a cell of SQLite (1,002 bytes)."""
PREFIX = 21
"""Bytes before the key in all rows but past ones."""
OWN = 8
"""Bytes before the own row in a head."""

_SIZE = struct.Struct(">I")
_PLACES = struct.Struct(">II")
_TERMINATOR = b"\0\1"
_LAST = 0xFFFF_FFFF


def prefixes_of(instance: bytes) -> list[bytes]:
    """What all rows of an instance's keys begin with."""
    return [kind + instance for kind in (b"V", b"B", b"H", b"P")]


def own_prefix(instance: bytes, version: int) -> bytes:
    """What the rows of a version's own changes begin with."""
    return b"V" + instance + _SIZE.pack(version)


def apart_prefix(instance: bytes, version: int) -> bytes:
    """What the rows of large values that a version wrote begin with."""
    return b"B" + instance + _SIZE.pack(version)


def head_prefix(instance: bytes, line: int) -> bytes:
    """What the heads of a line begin with."""
    return b"H" + instance + _SIZE.pack(line)


def own_row(value: bytes | None) -> bytes:
    """The row of a change; None stands for a deletion, and a large value has a row of its own."""
    if value is None:
        return TOMBSTONE
    return VALUE + value if len(value) <= LARGE else APART + _SIZE.pack(len(value))


def weight(row: bytes) -> int:
    """Bytes of the value of an own row."""
    return _SIZE.unpack_from(row, 1)[0] if row[:1] == APART else len(row) - 1


def head(version: int, first: int, own: bytes) -> bytes:
    """The row that says what the newest folded write on a line is.

    Parameters
    ----------
    version
        Who made it.
    first
        Version of the key's first write on the line.
    own
        Its own row.
    """
    return _PLACES.pack(version, first) + own


def head_places(row: bytes) -> tuple[int, int]:
    """Version of a head, and version of the key's first write on its line."""
    return _PLACES.unpack_from(row)


def after_version(version: int) -> bytes:
    """What is above the heads of a version and of all before it, and not above others."""
    return _SIZE.pack(version + 1)


def stem_of(instance: bytes, key: bytes) -> bytes:
    """What all past rows of a key begin with, and no others."""
    return b"P" + instance + key.replace(b"\0", b"\0\xff") + _TERMINATOR


def past_row(stem: bytes, line: int, version: int) -> bytes:
    """The row that says that a version wrote a key, and another on its line did after it."""
    return stem + _PLACES.pack(line, _LAST - version)


def past_flag(own: bytes) -> bytes:
    """What a past row says of a write: whether it was a deletion."""
    return TOMBSTONE if own == TOMBSTONE else VALUE


def past_range(stem: bytes, line: int, version: int) -> tuple[bytes, bytes]:
    """Where a key's past writes on a line are, from that of a version on to older ones."""
    return past_row(stem, line, version), past_row(stem, line, 0) + b"\0"


def past_version(row: bytes) -> int:
    """Which version a past row is about."""
    return _LAST - int(_PLACES.unpack_from(row, len(row) - _PLACES.size)[1])
