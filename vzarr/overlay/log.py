"""The append-only repo log: one object per entry, made by an exclusive create and never rewritten.

Whoever creates entry N has published it; whoever loses reads what won, validates again on the new state, and
tries N + 1.  ``log/latest`` is a hint that saves a reader from walking the log: the number of the newest checkpoint
and the entries since.  A stale hint costs probes, never truth.
"""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime
from typing import Any

import orjson

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.objects import Objects
from vzarr.overlay.plans import Plan
from vzarr.overlay.state import Entry, State, replay

TOOL = "vzarr/0.1"
"""What entries record as the program that wrote them."""


def now() -> str:
    """Current time in UTC as the log records it: RFC 3339 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class RepoLog:
    """The log of one repo and the state that its entries add up to.

    Parameters
    ----------
    objects
        Where the repo lives.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._lock = threading.RLock()
        self._state = State()
        self._recent: list[Entry] = []
        self._checkpoint = 0

    def open(self) -> State:
        """Read the state from the newest checkpoint that the hint names and all entries after it."""
        with self._lock:
            hint = self._objects.get(layout.LATEST)
            if hint is not None:
                self._start_from(_json(layout.LATEST, hint))
            return self.refresh()

    def refresh(self) -> State:
        """State with every entry that exists now: probes for the next one until it is absent."""
        with self._lock:
            fresh = []
            number = self._state.next
            while (data := self._objects.get(layout.log_entry(number))) is not None:
                fresh.append(_entry(layout.log_entry(number), _json(layout.log_entry(number), data)))
                number += 1
            if fresh:
                self._state = replay(self._state, fresh)
                self._recent.extend(fresh)
                self._follow_checkpoint()
            return self._state

    def publish(self, plan: Plan, *, user: str = "", app: str = "") -> tuple[Entry, State]:
        """Append one entry.

        Parameters
        ----------
        plan
            Gives the operations for a state, or raises because that state does not allow them; called again on
            the newer state whenever another writer was first.
        user, app
            Who publishes, through which application.

        Returns
        -------
        tuple of Entry and State
            The entry as published and the state right after it.
        """
        with self._lock:
            while True:
                state = self.refresh()
                entry = Entry(state.next, secrets.token_hex(16), now(), user, app, TOOL, tuple(plan(state)))
                if self._create(entry):
                    self._state = replay(state, [entry])
                    self._recent.append(entry)
                    self._write_hints(entry.number)
                    return entry, self._state

    def entries(self, start: int = 0) -> list[Entry]:
        """Every entry from `start` on, oldest first."""
        self.refresh()
        found = []
        number = start
        while (data := self._objects.get(layout.log_entry(number))) is not None:
            found.append(_entry(layout.log_entry(number), _json(layout.log_entry(number), data)))
            number += 1
        return found

    def _create(self, entry: Entry) -> bool:
        key = layout.log_entry(entry.number)
        if self._objects.create(key, orjson.dumps(entry)):
            return True
        # A lost answer makes the winner look like a loser: the id tells.
        there = self._objects.get(key)
        return there is not None and _json(key, there).get("id") == entry.id

    def _write_hints(self, number: int) -> None:
        """Checkpoint and hint may lag behind or be lost; readers only probe a little more."""
        if (number + 1) % layout.CHECKPOINT_EVERY == 0:
            self._objects.put(layout.checkpoint(number), orjson.dumps(self._state.to_json()))
            self._checkpoint, self._recent = number, []
            older = number - 2 * layout.CHECKPOINT_EVERY
            if older > 0:
                self._objects.delete(layout.checkpoint(older))
        if (number + 1) % layout.HINT_EVERY == 0:
            recent = [e for e in self._recent if e.number > self._checkpoint or not self._checkpoint]
            self._objects.put(layout.LATEST, orjson.dumps({"checkpoint": self._checkpoint, "entries": recent}))

    def _follow_checkpoint(self) -> None:
        """Let hints build on a checkpoint that another writer made, lest they name one that is gone."""
        number = self._state.next - self._state.next % layout.CHECKPOINT_EVERY - 1
        if number > self._checkpoint and self._objects.size(layout.checkpoint(number)) is not None:
            self._checkpoint = number
            self._recent = [e for e in self._recent if e.number > number]

    def _start_from(self, hint: dict[str, Any]) -> None:
        number = hint.get("checkpoint", 0)
        if number:
            data = self._objects.get(layout.checkpoint(number))
            if data is None:
                return
            self._state = State.from_json(_json(layout.checkpoint(number), data))
            self._checkpoint = number
        entries = [_entry(layout.LATEST, e) for e in hint.get("entries", ())]
        self._state = replay(self._state, entries)
        self._recent = entries


def _json(key: str, data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise FormatError(f"{key} is damaged: {e}") from e
    if not isinstance(value, dict):
        raise FormatError(f"{key} is damaged: not a JSON object")
    return value


def _entry(key: str, data: dict[str, Any]) -> Entry:
    try:
        return Entry(**{**data, "ops": tuple(data["ops"])})
    except (TypeError, KeyError) as e:
        raise FormatError(f"{key} is damaged: {e}") from e
