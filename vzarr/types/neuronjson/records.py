"""Records as values: what may be posted, how a post changes a record, and which of its fields are shown.

The rules are those of DVID (DVID HTTP API, neuronjson, ``POST D/key/{id}``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import orjson

from vzarr.errors import InvalidInputError
from vzarr.types.neuronjson.rows import LONGEST_FIELD, is_companion

Record: TypeAlias = dict[str, Any]

_SHOWS = {"": (), "user": ("_user",), "time": ("_time",), "all": ("_user", "_time")}
_UNMARKED = frozenset({"bodyid", "user"})


def check_body(body: object) -> int:
    """A body that may have a record, as a Python integer.

    Raises
    ------
    InvalidInputError
        If it is no integer, 0, negative or of more than 64 bits.
    """
    found = integer(body)
    if not found:
        raise InvalidInputError("a body id should be between 1 and 18446744073709551615, not 0")
    return found


def integer(body: object) -> int:
    """A body, or an end of a range of bodies, as a Python integer.

    Raises
    ------
    InvalidInputError
        If it is no integer, negative or of more than 64 bits.
    """
    if isinstance(body, bool) or not isinstance(body, int | np.integer):
        raise InvalidInputError(f"a body id should be an integer, not {body!r:.100}")
    found = int(body)
    if not 0 <= found < 1 << 64:
        raise InvalidInputError(f"a body id should be between 1 and 18446744073709551615, not {found}")
    return found


def decode(content: bytes, body: int) -> Record:
    """What is posted for a body, from JSON.

    Raises
    ------
    InvalidInputError
        If it is malformed, or as `checked`.
    """
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the record of body {body} should be a JSON object: {error}") from error
    return checked(found, body)


def checked(posted: Any, body: int) -> Record:
    """What is posted for a body, as it will be read: lists for tuples, and texts for times.

    Raises
    ------
    InvalidInputError
        If it is no object, its ``bodyid`` is not `body`, a field's name cannot be kept, or it holds what JSON cannot.
    """
    body = check_body(body)
    if not isinstance(posted, dict):
        raise InvalidInputError(f"the record of body {body} should be a JSON object, not {type(posted).__name__}")
    if "bodyid" not in posted:
        raise InvalidInputError("neuronjson data must have 'bodyid' field")
    named = posted["bodyid"]
    if isinstance(named, bool) or not isinstance(named, int | np.integer) or named != body:
        raise InvalidInputError(f"'bodyid' is {named!r:.100} in the record of body {body}")
    record = {**posted, "bodyid": body}
    for field, value in record.items():
        _check_field(field)
        _check_numbers(field, value)
    found: Record = orjson.loads(encode(record))
    return found


def _check_numbers(field: str, value: Any) -> None:
    """Refuse what JSON has no number for; it would be kept as null."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, float) and not math.isfinite(each):
            raise InvalidInputError(f"a record should be JSON, which has no number {each}: field {field!r:.100}")
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each


def _check_field(field: object) -> None:
    if not isinstance(field, str):
        raise InvalidInputError(f"a field is named by a string, not by {field!r:.100}")
    if field in ("bodyid_user", "bodyid_time"):
        raise InvalidInputError(f"a record cannot have the field '{field}'")
    try:
        size = len(field.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError("a field's name must be UTF-8 text") from error
    if not 0 < size <= LONGEST_FIELD or "\0" in field:
        raise InvalidInputError(f"a field's name has 1 to {LONGEST_FIELD} bytes, none of them zero, not {size} bytes")


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as it is kept.

    Raises
    ------
    InvalidInputError
        If it holds what JSON cannot, or is nested too deep.
    """
    try:
        return orjson.dumps(record)
    except TypeError as error:
        raise InvalidInputError(f"a record should be JSON: {error}") from error


@dataclass(frozen=True)
class Post:
    """How records are to be changed.

    Parameters
    ----------
    user
        Who; said of every field that is set or changed.
    time
        When, as RFC 3339.
    conditional
        Fields that keep the value that they have.
    replace
        Whether fields that are not posted go.
    """

    user: str
    time: str
    conditional: Sequence[str] = ()
    replace: bool = False

    def apply(self, old: Mapping[str, Any], posted: Mapping[str, Any]) -> Record:
        """The record that a post makes of an old one.

        A field of null goes, but who took it and when stays.
        """
        kept = {} if self.replace else dict(old)
        for field, value in posted.items():
            if field in self.conditional and field in old:
                value = old[field]
            if value is None:
                kept.pop(field, None)
            else:
                kept[field] = value
        for field in posted:
            if field not in _UNMARKED and not is_companion(field):
                same = field in kept and field in old and _same(old[field], kept[field])
                self._mark(kept, field, old if same else None, posted)
        return kept

    def _mark(self, kept: Record, field: str, old: Mapping[str, Any] | None, posted: Mapping[str, Any]) -> None:
        """Say who and when of a field, as `old` does where it is unchanged, unless the post itself does."""
        for suffix, said in (("_user", self.user), ("_time", self.time)):
            name = field + suffix
            if name not in posted:
                value = said if old is None else old.get(name)
                if value is not None:
                    kept[name] = value


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of the same kind: 1 is neither 1.0 nor true."""
    return orjson.dumps(a, option=orjson.OPT_SORT_KEYS) == orjson.dumps(b, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True)
class Shown:
    """Which fields of a record are shown.

    Parameters
    ----------
    fields
        Only these and ``bodyid``; all when empty.
    show
        Whether fields that say who and when are shown too: "", ``user``, ``time`` or ``all``.

    Raises
    ------
    InvalidInputError
        If `show` is something else.
    """

    fields: tuple[str, ...] = ()
    show: str = ""

    def __post_init__(self) -> None:
        if self.show not in _SHOWS:
            raise InvalidInputError(f"show should be user, time or all, not {self.show!r:.100}")

    @property
    def everything(self) -> bool:
        """Whether records are shown as they are kept."""
        return not self.fields and self.show == "all"

    def of(self, record: Mapping[str, Any]) -> Record:
        """A record without what is not shown; ``bodyid`` always is."""
        suffixes = _SHOWS[self.show]
        if self.fields:
            wanted = {"bodyid", *self.fields, *(field + s for field in self.fields for s in suffixes)}
            return {field: value for field, value in record.items() if field in wanted}
        return {f: value for f, value in record.items() if not is_companion(f) or f.endswith(suffixes)}

    def encoded(self, content: bytes) -> bytes:
        """`of` from JSON to JSON."""
        return content if self.everything else orjson.dumps(self.of(orjson.loads(content)))
