"""The append-only repo log: one object per entry, made by an exclusive create and never rewritten.

Whoever creates entry N has published it; whoever loses reads what won, validates again on the new state, and
tries N + 1.  ``log/latest`` is a hint that saves a reader from walking the log: the number of the newest checkpoint
and what changed since.  A hint that is stale, lost or damaged costs probes, never truth.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.history.checkpoints import entry_of, head_of, parsed, read_hint, write_hint
from vzarr.overlay.history.looks import once
from vzarr.overlay.history.plans import Plan
from vzarr.overlay.history.state import Entry, State, replay
from vzarr.overlay.objects.base import Objects

_log = logging.getLogger(__name__)
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
        self._state = self._base = State()
        self._base_stored = False
        self._head: bytes | None = None

    def open(self) -> State:
        """Read the state from the newest checkpoint that the hint names and all entries after it."""
        with self._lock:
            hint = self._objects.get(layout.LATEST)
            if hint is not None:
                self._start_from(hint)
            return self.refresh()

    @property
    def known(self) -> State:
        """State as of the last time that the log was asked."""
        return self._state

    def refresh(self) -> State:
        """State with every entry that exists now, or within `one_look` that existed then."""
        once(self, self._probe)
        return self._state

    def _probe(self) -> State:
        """Ask for the next entry until it is absent."""
        with self._lock:
            fresh = []
            number = self._state.next
            while (data := self._objects.get(layout.log_entry(number))) is not None:
                fresh.append(entry_of(layout.log_entry(number), parsed(layout.log_entry(number), data)))
                number += 1
            self._follow(fresh)
            return self._state

    def about(self, node: str) -> State:
        """State that is up to date about one version: a sealed one never changes, so the log need not be asked."""
        known = self._state.nodes.get(node)
        return self._state if known is not None and known.sealed else self.refresh()

    def naming(self, node: str) -> State:
        """State that has a version, if there is one of that id; it may have been sealed since."""
        return self._state if node in self._state.nodes else self.refresh()

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
                state = self._probe()
                entry = Entry(state.next, secrets.token_hex(16), now(), user, app, TOOL, tuple(plan(state)))
                if self._create(entry):
                    self._follow([entry])
                    self._write_hints(entry)
                    return entry, self._state

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Every entry from `start` on, oldest first."""
        self.refresh()
        number = start
        while (data := self._objects.get(layout.log_entry(number))) is not None:
            yield entry_of(layout.log_entry(number), parsed(layout.log_entry(number), data))
            number += 1

    def _create(self, entry: Entry) -> bool:
        key = layout.log_entry(entry.number)
        if self._objects.create(key, orjson.dumps(entry)):
            return True
        # A lost answer makes the winner look like a loser: the id tells.
        there = self._objects.get(key)
        return there is not None and parsed(key, there).get("id") == entry.id

    def _follow(self, entries: list[Entry]) -> None:
        """Add entries to the state; at each checkpoint its versions become a table, whoever writes that."""
        while entries:
            count = min(len(entries), layout.CHECKPOINT_EVERY - self._state.next % layout.CHECKPOINT_EVERY)
            self._state = replay(self._state, entries[:count])
            entries = entries[count:]
            if self._state.next % layout.CHECKPOINT_EVERY == 0:
                self._state = self._base = self._state.compact()
                self._base_stored, self._head = False, None

    def _write_hints(self, entry: Entry) -> None:
        """Checkpoint and hint may lag behind or be lost; readers only probe a little more."""
        number = entry.number
        # What is sealed is opened often, and each entry that the hint lacks is one more to read.
        if (number + 1) % layout.HINT_EVERY == 0 or any(op["op"] == "seal" for op in entry.ops):
            self._store_hints(number)

    def renew_hints(self) -> None:
        """Write checkpoint and hint as the entries have them, whatever is there: `open` must not have been called."""
        with self._lock:
            self._probe()
            self._store_hints(self._base.next - 1)

    def _store_hints(self, number: int) -> None:
        """Store the hint, and the checkpoint if that is missing or ends with the entry `number`."""
        last = self._base.next - 1
        if self._base.next and not self._base_stored:
            # Whoever published its last entry may have died before this, and the hint would name nothing.
            if number == last or self._objects.size(layout.checkpoint(last)) is None:
                self._objects.put(layout.checkpoint(last), self._base.to_bytes())
                older = last - 2 * layout.CHECKPOINT_EVERY
                if older > 0:
                    self._objects.delete(layout.checkpoint(older))
                    self._objects.delete(layout.checkpoint_json(older))
            self._base_stored = True
        if self._head is None:
            self._head = head_of(self._base)
        write_hint(self._objects, self._base, self._state, self._head)

    def _start_from(self, data: bytes) -> None:
        try:
            found = read_hint(self._objects, data)
        except FormatError as e:
            _log.warning("%s; all of the log is read instead, until vzarr verify --rebuild mends it", e)
            found = None
        if found is not None:
            self._base, self._state = found
            self._base_stored = self._base.nodes.packed.at_hand
