"""Short cuts into the log: a hint that says what changed since the newest checkpoint, and the checkpoint itself.

The hint repeats the checkpoint's head.  The rows, of all versions until then, are read when somebody asks for one that
the hint does not have: who opens the newest version of a deep history needs none of them.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import orjson

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.history.nodes import Packed
from vzarr.overlay.history.state import Entry, State, replay
from vzarr.overlay.objects.base import Objects

_log = logging.getLogger(__name__)
LONGEST_HEAD = 1 << 13
"""Bytes of a checkpoint's head up to which a hint repeats it."""


def head_of(base: State) -> bytes:
    """Head of a state's checkpoint as a hint repeats it; nothing where it is too long, or there is no checkpoint."""
    head = base.head() if base.next else b""
    return head if len(head) <= LONGEST_HEAD else b""


def write_hint(objects: Objects, base: State, state: State, head: bytes) -> None:
    """Say what became of a state since its checkpoint, or since there was nothing."""
    hint: dict[str, Any] = {"checkpoint": max(0, base.next - 1), "state": state.since(base)}
    if head:
        hint["head"] = orjson.Fragment(head)
    objects.put(layout.LATEST, orjson.dumps(hint))


def read_hint(objects: Objects, data: bytes, *, whole: bool = False) -> tuple[State, State] | None:
    """State at the checkpoint that a hint names, and the one that the hint leads to.

    Parameters
    ----------
    whole
        Whether to read the checkpoint at once, even where the hint repeats its head.

    Returns
    -------
    pair of State, or None
        None when the checkpoint is missing, and is read.

    Raises
    ------
    FormatError
        If hint or checkpoint are damaged; of the checkpoint's rows only once they are read.
    """
    hint = parsed(layout.LATEST, data)
    number, head = hint.get("checkpoint", 0), hint.get("head")
    try:
        if head is None or whole:
            base = read_checkpoint(objects, number)
        else:
            base = State.from_head(head, Packed.later(head["nodes"], partial(_rows, objects, number, head["nodes"])))
        if base is None:
            return None
        if "state" in hint:
            return base, base.then(hint["state"])
        # As earlier releases wrote it.
        return base, replay(base, [entry_of(layout.LATEST, e) for e in hint.get("entries", ())])
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        raise FormatError(f"{layout.LATEST} is damaged: {e!r}") from e


def read_checkpoint(objects: Objects, number: int) -> State | None:
    """State after entry `number` by its checkpoint, or None where that is missing; 0 stands for an empty one.

    Raises
    ------
    FormatError
        If it is damaged.
    """
    if not number:
        return State()
    key = layout.checkpoint(number)
    data = objects.get(key)
    try:
        if data is not None:
            return State.from_bytes(data)
        key = layout.checkpoint_json(number)
        data = objects.get(key)
        return None if data is None else State.from_json(parsed(key, data))
    except (ValueError, LookupError, TypeError) as e:
        raise FormatError(f"{key} is damaged: {e!r}") from e


def _rows(objects: Objects, number: int, head: dict[str, Any]) -> Packed:
    """Versions as of a checkpoint; where it is gone or damaged, the log says the same."""
    try:
        state = read_checkpoint(objects, number)
    except FormatError as e:
        _log.warning("%s; the log is read instead, until vzarr verify --rebuild mends it", e)
        state = None
    if state is None:
        state = replay(State(), (_entry(objects, n) for n in range(number + 1))).compact()
    rows = state.nodes.packed
    if rows.head() != head:
        raise FormatError(f"{layout.checkpoint(number)} is damaged: it has other versions than the hint says")
    return rows


def _entry(objects: Objects, number: int) -> Entry:
    key = layout.log_entry(number)
    return entry_of(key, parsed(key, objects.get(key) or b""))


def parsed(key: str, data: bytes) -> dict[str, Any]:
    """An object of the log as plain data.

    Raises
    ------
    FormatError
        If it is no JSON object.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise FormatError(f"{key} is damaged: {e}") from e
    if not isinstance(value, dict):
        raise FormatError(f"{key} is damaged: not a JSON object")
    return value


def entry_of(key: str, data: dict[str, Any]) -> Entry:
    """An entry of the log from plain data.

    Raises
    ------
    FormatError
        If it lacks something.
    """
    try:
        return Entry(**{**data, "ops": tuple(data["ops"])})
    except (TypeError, KeyError) as e:
        raise FormatError(f"{key} is damaged: {e}") from e
