"""Rows of a neuronjson in its keys: records, the index of what their fields say, and stored documents.

==============================================  ===============  ==================================================
row key                                         row value        what for
==============================================  ===============  ==================================================
``k`` body                                      record           JSON with all fields; a body is 8 bytes, big-endian
``x`` field ``00`` term body                    nothing          index: the field of the record says this
``s`` name                                      document         ``json_schema``, ``schema``, ``schema_batch``
``j`` version                                   nothing          index rows of what a merge decided are written
``m`` …                                         record           the mutation log (`vzarr.types.mutations`)
==============================================  ===============  ==================================================

Terms begin with a letter: ``s`` text ``00``; ``l`` BLAKE2b of 16 bytes of a text that is long or holds a zero;
``n`` number in decimals ``00``; ``b`` and ``0`` or ``1``; ``w`` a list of too many values to index each; ``o``
anything that no query can equal.  A list has the terms of its items.  Fields that say who and when are not indexed.

Every write of a record writes all of its index rows, not only those that change, so that whichever side of a merge a
record is seen from, its index rows are seen too.  Rows may be left over from sides that are not seen; whoever finds a
record by its index looks at the record before believing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

RECORD, DOCUMENT, JOINED, INDEX = b"k", b"s", b"j", b"x"
TEXT, LONG, NUMBER, BOOLEAN, WIDE, OTHER = b"s", b"l", b"n", b"b", b"w", b"o"

LONGEST_TEXT = 96
"""Bytes of a text that an index row holds."""
MOST_TERMS = 256
"""Terms of a list that are indexed each."""
LONGEST_FIELD = 255
"""Bytes of a field's name."""

_BODY = 8
_COMPANIONS = ("_user", "_time")

Scalar = str | int | float | bool


def is_companion(field: str) -> bool:
    """Whether a field says who set another one, or when."""
    return field.endswith(_COMPANIONS)


def record_row(body: int) -> bytes:
    """Row of a body's record."""
    return RECORD + body.to_bytes(_BODY, "big")


def record_range(first: int = 0, last: int = (1 << 64) - 1) -> tuple[bytes, bytes]:
    """Half-open range of the rows of the records of bodies `first` to `last`, both included."""
    return record_row(first), record_row(last) + b"\0"


def body_of(row: bytes) -> int:
    """Body that a row of a record or of the index ends with."""
    return int.from_bytes(row[-_BODY:], "big")


def document_row(name: str) -> bytes:
    """Row of a stored document."""
    return DOCUMENT + name.encode()


def joined_row(uuid: str) -> bytes:
    """Row that says that what a merge decided is indexed."""
    return JOINED + uuid.encode()


def field_prefix(field: str) -> bytes:
    """What the index rows of a field begin with, and no others."""
    return INDEX + field.encode() + b"\0"


def term(value: Scalar) -> bytes:
    """Term of a text, number or truth value."""
    if isinstance(value, bool):
        return BOOLEAN + (b"1" if value else b"0")
    if isinstance(value, str):
        text = value.encode()
        if len(text) > LONGEST_TEXT or b"\0" in text:
            return LONG + blake2b(text, digest_size=16).digest()
        return TEXT + text + b"\0"
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1 << 64
    return NUMBER + repr(int(value) if whole else value).encode() + b"\0"


def text_of(row: bytes, prefix: bytes) -> bytes:
    """Text of an index row with a text's term; `prefix` is that of the field."""
    return row[len(prefix) + len(TEXT) : -_BODY - 1]


def index_rows(record: Mapping[str, Any]) -> set[bytes]:
    """Index rows of a record."""
    body = int(record["bodyid"]).to_bytes(_BODY, "big")
    return {
        field_prefix(field) + found + body
        for field, value in record.items()
        if field != "bodyid" and not is_companion(field)
        for found in _terms(value)
    }


def _terms(value: Any) -> Iterable[bytes]:
    items = value if isinstance(value, list) else [value]
    found = {term(item) for item in items if isinstance(item, Scalar)}
    return [WIDE] if len(found) > MOST_TERMS else found or [OTHER]
