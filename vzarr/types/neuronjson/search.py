"""Records by what they say, found through the index: costs what is found, and loads nothing beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import orjson

from vzarr.errors import ConflictError
from vzarr.overlay.kv.base import prefix_end
from vzarr.types.neuronjson import rows
from vzarr.types.neuronjson.queries import Pattern, Query, Test, Tests, named_bodies
from vzarr.types.neuronjson.records import Record

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys

Found = tuple[int, bytes]
"""A body, and its record as it is kept."""

_FEW = 64
_TOGETHER = 512
_REPEATED = 32
"""After so many equal texts that don't match, the next text is sought instead of read up to."""


def find(keys: InstanceKeys, query: Query) -> Iterator[tuple[Found, Record]]:
    """Records that a query asks for, by ascending body, or in the order of a query that names bodies alone.

    Raises
    ------
    ConflictError
        If a record that may be asked for was changed differently in merged versions.
    """
    named = query.bodies()
    if named is None and not all(_leads(tests) for tests in query.alternatives):
        found: Iterable[Found] = ((rows.body_of(row), value) for row, value in keys.scan(*rows.record_range()))
    else:
        wanted = named or sorted(set().union(*(_candidates(keys, tests) for tests in query.alternatives)))
        found = fetch(keys, wanted)
    for body, content in found:
        record = orjson.loads(content)
        if query.holds(record):
            yield (body, content), record


def fetch(keys: InstanceKeys, bodies: Iterable[int]) -> Iterator[Found]:
    """Records of bodies in their order, without those that have none."""
    rest = iter(bodies)
    while some := list(islice(rest, _TOGETHER)):
        contents = keys.get_many([rows.record_row(body) for body in some])
        yield from ((body, content) for body, content in zip(some, contents, strict=True) if content is not None)


def _leads(tests: Tests) -> bool:
    """Whether an alternative need not look at every record."""
    return not tests or named_bodies(tests) is not None or any(test.indexed for test in tests)


def _candidates(keys: InstanceKeys, tests: Tests) -> Iterable[int]:
    """Bodies among which are all whose records pass: by the test that leads to the fewest, as far as is known."""
    named = named_bodies(tests)
    if named is not None or not tests:
        return named or ()
    return _shortest([_bodies(keys, test) for test in tests if test.indexed])


def _shortest(walks: Sequence[Iterator[int]]) -> list[int]:
    """What the shortest of several walks gives, none of which is walked much further than that."""
    found: list[list[int]] = [[] for _ in walks]
    count = _FEW
    while True:
        for walk, bodies in zip(walks, found, strict=True):
            before = len(bodies)
            bodies.extend(islice(walk, count))
            if len(bodies) - before < count:
                return bodies
        count *= 2


def _bodies(keys: InstanceKeys, test: Test) -> Iterator[int]:
    """Bodies to which the index leads for a test."""
    prefix = rows.field_prefix(test.field)
    if test.exists:
        return map(rows.body_of, _scan(keys, prefix))
    terms = {rows.term(value) for value in test.values}
    walks = [_scan(keys, prefix + term) for term in sorted(terms)]
    walks.append(_scan(keys, prefix + rows.WIDE))
    for pattern in test.patterns:
        walks.append(_matching(keys, prefix, pattern))
    if test.patterns:
        walks.append(_scan(keys, prefix + rows.LONG))
    return map(rows.body_of, chain.from_iterable(walks))


def _matching(keys: InstanceKeys, prefix: bytes, pattern: Pattern) -> Iterator[bytes]:
    """Index rows of texts in which a pattern is found."""
    texts = prefix + rows.TEXT
    low, high = pattern.bounds() or (b"", b"\xff")
    at: bytes | None = texts + low
    while at is not None:
        walk, at = _rows(keys, at, texts + high + b"\1"), None
        last, matches, passed = None, False, 0
        for row in walk:
            text = rows.text_of(row, prefix)
            if text != last:
                last, matches, passed = text, pattern.found_in(text), 0
            passed += 1
            if matches:
                yield row
            elif passed > _REPEATED:
                at = texts + text + b"\1"
                break


def _scan(keys: InstanceKeys, prefix: bytes) -> Iterator[bytes]:
    return _rows(keys, prefix, prefix_end(prefix))


def _rows(keys: InstanceKeys, start: bytes, end: bytes | None) -> Iterator[bytes]:
    """Index rows of a range; one in conflict is there, for whether it counts is told by its record."""
    while True:
        try:
            for row in keys.scan_keys(start, end):
                yield row
                start = row + b"\0"
            return
        except ConflictError as error:
            disputed: bytes = error.conflicts[0]
        yield from keys.scan_keys(start, disputed)
        yield disputed
        start = disputed + b"\0"
