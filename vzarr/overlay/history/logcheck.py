"""The log of a repo, read entry by entry and held against the short cuts that lead into it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.history.checkpoints import read_checkpoint, read_hint
from vzarr.overlay.history.state import Entry, State, replay
from vzarr.overlay.objects.base import Objects

_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"checkpoint-(\d{20})\.(?:table|json)")


@dataclass(frozen=True)
class Finding:
    """One thing that `verify` found.

    Parameters
    ----------
    name
        What it is, for programs, such as ``object-differs``.
    key
        Object or folder that it is about, relative to the repo.
    message
        The same for people.
    damage
        Whether anything is lost or wrong; what an interrupted write left behind is not.
    """

    name: str
    key: str
    message: str
    damage: bool = True


def read_log(objects: Objects) -> tuple[State, list[Finding]]:
    """State after as many entries as follow each other unharmed, and what is wrong with the log."""
    names = objects.list_dir("log")[1]
    numbers = sorted(int(m[1]) for m in map(_ENTRY.fullmatch, names) if m)
    entries, findings = _entries(objects, numbers)
    is_whole = not findings
    checkpoints = sorted({int(m[1]) for m in map(_CHECKPOINT.fullmatch, names) if m})
    state = State()
    for end in [*(c for c in checkpoints if c < len(entries)), len(entries) - 1]:
        try:
            state = replay(state, entries[state.next : end + 1])
        except (FormatError, LookupError, TypeError) as e:
            key = f"log/ (entries up to {end})"
            return state, [*findings, Finding("log-damaged", key, f"the log does not add up: {e!r}")]
        if end in checkpoints:
            findings += _against(objects, end, state)
    return state, [*findings, *_hint(objects, entries, is_whole)]


def _entries(objects: Objects, numbers: list[int]) -> tuple[list[Entry], list[Finding]]:
    found: list[Entry] = []
    for number in numbers:
        key = layout.log_entry(len(found))
        if number != len(found):
            message = f"entry {len(found)} is missing, though there is entry {number}"
            return found, [Finding("log-gap", key, message)]
        try:
            plain = orjson.loads(objects.get(key) or b"")
            entry = Entry(**{**plain, "ops": tuple(plain["ops"])})
        except (ValueError, LookupError, TypeError, StorageError) as e:
            return found, [Finding("log-damaged", key, f"entry {number} cannot be read: {e!r}")]
        if entry.number != number:
            return found, [Finding("log-damaged", key, f"entry {number} says that it is entry {entry.number}")]
        found.append(entry)
    return found, []


def _against(objects: Objects, number: int, state: State) -> Iterator[Finding]:
    try:
        if read_checkpoint(objects, number) == state:
            return
        message = "it is not what the log's entries add up to"
    except (FormatError, StorageError) as e:
        message = f"it cannot be read: {e!r}"
    table = layout.checkpoint(number)
    key = layout.checkpoint_json(number) if objects.size(table) is None else table
    yield Finding("checkpoint-damaged", key, message)


def _hint(objects: Objects, entries: list[Entry], is_whole: bool) -> Iterator[Finding]:
    """What is wrong with the hint; what it says of entries that cannot be read is left alone."""
    try:
        data = objects.get(layout.LATEST)
        found = None if data is None else read_hint(objects, data, whole=True)
        short = None if found is None or data is None else read_hint(objects, data)
        # With the rows of the checkpoint, and as it is read at first.
        states = [state for pair in (found, short) if pair is not None for state in pair]
        known = [state for state in states if is_whole or state.next <= len(entries)]
        wrong = any(state != replay(State(), entries[: state.next]) for state in known)
    except (FormatError, StorageError) as e:
        yield Finding("hint-damaged", layout.LATEST, f"it cannot be read: {e!r}")
        return
    if data is None:
        return
    if found is None:
        yield Finding("hint-damaged", layout.LATEST, "it names a checkpoint that is missing")
    elif wrong:
        yield Finding("hint-damaged", layout.LATEST, "it says what is not what the log's entries add up to")
