"""Keys and their values on the wire, in pieces: one JSON object, a tar archive, or DVID's protobuf ``KeyValues``.

Of a large value one part at a time is in memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import orjson

from vzarr.errors import InvalidInputError
from vzarr.types import messages
from vzarr.types.bytecodecs import varint
from vzarr.types.largevalues import Part

Pair: TypeAlias = tuple[str, bytes | Part | None]
"""A key and its value, whole or to be read as it is sent; None for a key without one."""

_TAR_BLOCK = 512
_VALUES_TAG, _VALUE_TAG = b"\x0a", b"\x12"  # field 1 of KeyValues and field 2 of KeyValue, both with a length


def json_stream(pairs: Iterable[Pair]) -> Iterator[bytes]:
    """One JSON object of all pairs, the values pasted as they are; an absent or empty one becomes ``{}``."""
    separator = b"{"
    for key, value in pairs:
        yield separator + orjson.dumps(key) + b":"
        size, pieces = _content(value)
        yield from pieces if size else [b"{}"]
        separator = b","
    yield b"{}" if separator == b"{" else b"}"


def check_json(pairs: Iterable[Pair]) -> None:
    """Refuse values that are no JSON; an absent or empty one is.

    Raises
    ------
    InvalidInputError
        If one is none; it is named.
    """
    for key, value in pairs:
        try:
            orjson.loads(b"".join(_content(value)[1]) or b"{}")
        except orjson.JSONDecodeError as error:
            raise InvalidInputError(f'the value of key "{key}" is no JSON: {error}') from error


def tar_stream(pairs: Iterable[Pair]) -> Iterator[bytes]:
    """A tar archive with one file for each pair, named by its key; an absent value is an empty file."""
    for key, value in pairs:
        size, pieces = _content(value)
        entry = tarfile.TarInfo(key)
        entry.size, entry.mode = size, 0o755
        yield entry.tobuf(tarfile.PAX_FORMAT)
        yield from pieces
        yield bytes(-size % _TAR_BLOCK)
    yield bytes(2 * _TAR_BLOCK)


def protobuf_stream(pairs: Iterable[Pair]) -> Iterator[bytes]:
    """One ``KeyValues`` message, a pair at a time: messages with repeated fields join by concatenation."""
    for key, value in pairs:
        size, pieces = _content(value)
        head: bytes = messages.KeyValue(key=key).SerializeToString()
        if size:
            head += _VALUE_TAG + varint(size)
        yield _VALUES_TAG + varint(len(head) + size) + head
        yield from pieces


def _content(value: bytes | Part | None) -> tuple[int, Iterable[bytes]]:
    """Size of a value, and its bytes in pieces."""
    if isinstance(value, Part):
        return value.size, value.read()
    return len(value or b""), [value or b""]
