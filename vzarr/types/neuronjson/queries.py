"""Queries: what records should say, as DVID writes it in JSON (DVID HTTP API, neuronjson, ``D/query``).

A query is an object, or a list of objects of which one must hold; of an object every field must hold.  A field holds
where the record's value, or an item of it when that is a list, equals the query's, or one of the query's when that is
a list.  Numbers are equal by value.  A text ``re/PATTERN`` is found anywhere in a text; ``exists/0`` and ``exists/1``
ask whether a record has the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from vzarr.errors import InvalidInputError
from vzarr.types.neuronjson.rows import Scalar, is_companion

LONGEST_PATTERN = 4096
_PATTERN_MEMORY = 1 << 20  # bytes; a larger pattern is refused
_EXISTS = {"exists/0": False, "exists/1": True}
_QUANTIFIERS = tuple("*+?{")


@dataclass(frozen=True)
class Pattern:
    """A regular expression (RE2 syntax: time grows with the text, whatever the pattern)."""

    compiled: Any

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        Raises
        ------
        InvalidInputError
            If it is malformed, or too large.
        """
        if len(text) > LONGEST_PATTERN:
            raise InvalidInputError(f"a pattern has at most {LONGEST_PATTERN} characters, not {len(text)}")
        return cls(_compile(text))

    def found_in(self, text: bytes) -> bool:
        """Whether some part of a UTF-8 text matches."""
        return self.compiled.search(text) is not None

    def bounds(self) -> tuple[bytes, bytes] | None:
        """Least and greatest text that may match, or None where that is not known."""
        text: str = self.compiled.pattern
        # The engine tells the range of texts that match as a whole; only a pattern like this must match from the start.
        if not text.startswith("^") or text[1:].startswith(_QUANTIFIERS) or "|" in text or "(?" in text:
            return None
        try:
            low, high = _compile(f"(?:{text})(?s:.*)").possiblematchrange(32)
        except (re2.error, InvalidInputError):
            return None
        return low, high


@lru_cache(256)
def _compile(text: str) -> Any:
    options = re2.Options()
    options.log_errors, options.max_mem = False, _PATTERN_MEMORY
    try:
        return re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else error
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise InvalidInputError(f"re/{text:.100} is no regular expression (RE2 syntax): {reason:.200}") from error


@dataclass(frozen=True)
class Test:
    """What a field should say: one of some values, a text with one of some patterns, or whether it is there."""

    field: str
    values: tuple[Scalar, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    exists: bool | None = None

    __test__ = False  # no test of ours, whatever it is called

    @classmethod
    def parse(cls, field: str, wanted: Any) -> Test:
        """Read one field of a query.

        Raises
        ------
        InvalidInputError
            If it asks for something that cannot be asked for.
        """
        _check_text(field)
        if isinstance(wanted, str) and wanted.startswith("exists/"):
            if wanted not in _EXISTS:
                raise InvalidInputError(f"field {field!r:.100}: ask for exists/1 or exists/0, not {wanted!r:.100}")
            return cls(field, exists=_EXISTS[wanted])
        items = wanted if isinstance(wanted, list) else [wanted]
        for item in items:
            if not isinstance(item, Scalar):
                raise InvalidInputError(
                    f'field {field!r:.100}: ask for text, number, boolean, or "exists/0" for none, not {item!r:.80}'
                )
            _check_text(item)
        texts = [item[3:] for item in items if isinstance(item, str) and item.startswith("re/")]
        values = tuple(item for item in items if not (isinstance(item, str) and item.startswith("re/")))
        return cls(field, values, tuple(map(Pattern.parse, texts)))

    @property
    def indexed(self) -> bool:
        """Whether index rows lead to the records for which it holds."""
        return self.exists is not False and self.field != "bodyid" and not is_companion(self.field)

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a record says it."""
        value = record.get(self.field)
        if self.exists is not None:
            return (value is not None) is self.exists
        return any(self._equals(item) for item in (value if isinstance(value, list) else [value]))

    def _equals(self, item: Any) -> bool:
        if any(item == value and isinstance(item, bool) is isinstance(value, bool) for value in self.values):
            return True
        return isinstance(item, str) and any(pattern.found_in(item.encode()) for pattern in self.patterns)


def _check_text(value: object) -> None:
    """Refuse halves of characters, which Python's texts may hold and no record does."""
    try:
        _ = isinstance(value, str) and value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"a query must be UTF-8 text, not {value!r:.100}") from error


Tests = tuple[Test, ...]


@dataclass(frozen=True)
class Query:
    """Alternatives, each of tests that must all hold; one without tests never does."""

    alternatives: tuple[Tests, ...]

    @classmethod
    def parse(cls, value: Any) -> Query:
        """Read a query.

        Raises
        ------
        InvalidInputError
            If it is no object or list of objects, or as `Test.parse`.
        """
        asked: Sequence[Any] = value if isinstance(value, list) else [value]
        if not asked:
            raise InvalidInputError("no query provided")
        if not all(isinstance(each, dict) for each in asked):
            raise InvalidInputError("a query should be a JSON object, or a list of such")
        return cls(tuple(tuple(Test.parse(field, wanted) for field, wanted in each.items()) for each in asked))

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is asked for."""
        return any(tests and all(test.holds(record) for test in tests) for tests in self.alternatives)

    def bodies(self) -> list[int] | None:
        """Bodies in the order in which the query names them, if it asks for nothing but bodies."""
        named = [named_bodies(tests) for tests in self.alternatives if len(tests) == 1]
        if len(named) < len(self.alternatives) or None in named:
            return None
        return list(dict.fromkeys(body for bodies in named for body in bodies or ()))


def named_bodies(tests: Tests) -> list[int] | None:
    """Bodies that one of the tests names, or None when none does."""
    for test in tests:
        if test.field == "bodyid" and test.exists is None and not test.patterns:
            numbers = (v for v in test.values if not isinstance(v, str | bool) and 0 < v < 1 << 64)
            return [int(v) for v in numbers if v == int(v)]
    return None
