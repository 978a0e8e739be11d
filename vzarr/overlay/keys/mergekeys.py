"""Sidecar keys when versions are merged: which are in conflict, and what was decided about them.

Most keys need no merging, since the rule by which they are read joins versions by itself (`kv.versioned`).  Only what
was decided about a conflict is written into the new version; it is recorded beside the version first
(``decided.json``, see docs/format.md), so that whoever opens a merge that was cut off finishes it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from vzarr.errors import FormatError, InvalidInputError
from vzarr.overlay import layout
from vzarr.overlay.history.state import InstanceInfo, State
from vzarr.overlay.keys.authority import SEALED, Authority
from vzarr.overlay.kv.base import Reader, Transaction
from vzarr.overlay.kv.versioned import VersionedKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.threeway.disputes import Dispute, Held, Judge, KeyConflict, Value, first_places
from vzarr.overlay.threeway.rule import Clash, History, Join, Tips, decide

NameOf = Callable[[InstanceInfo, bytes], str | None]
"""What a datatype calls a key that can be in conflict; None for one that follows from others."""


_Seen = frozenset[str]
"""Versions that wrote what is seen of a key: one, or several that are in conflict."""


@dataclass(frozen=True)
class Choice:
    """What a key becomes at a merge: what it is in the version `side`, or else `value`."""

    key: bytes
    side: str | None
    value: bytes = b""


@dataclass
class Decided:
    """What was decided about conflicts that are not in the hierarchy.

    Parameters
    ----------
    keys
        By the data id of an instance.
    places
        What datatypes have in conflict: name of an instance -> what it calls the conflict -> place of the side that
        is right, among the versions of which none descends from another.
    """

    keys: dict[str, list[Choice]] = field(default_factory=dict)
    places: dict[str, dict[str, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.keys or self.places)

    def to_bytes(self) -> bytes:
        """Deterministic JSON."""
        keys = {
            data_id: [[b64encode(c.key).decode(), c.side, b64encode(c.value).decode()] for c in choices]
            for data_id, choices in sorted(self.keys.items())
        }
        plain = {"format": layout.FORMAT, "keys": keys, "places": self.places}
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, data: bytes) -> Decided:
        """Inverse of `to_bytes`.

        Raises
        ------
        FormatError
            If the bytes are something else, or of a newer format.
        """
        try:
            plain: dict[str, Any] = orjson.loads(data)
            if plain["format"] > layout.FORMAT:
                raise FormatError(f"what a merge decided has format {plain['format']}, newer than this release")
            keys = {
                data_id: [Choice(b64decode(key), side, b64decode(value)) for key, side, value in rows]
                for data_id, rows in plain["keys"].items()
            }
            return cls(keys, {name: dict(places) for name, places in plain["places"].items()})
        except (ValueError, LookupError, TypeError, AttributeError) as e:
            raise FormatError(f"what a merge decided is damaged: {e}") from e

    @classmethod
    def load(cls, objects: Objects, node: str) -> Decided:
        """What was decided when a version was made; nothing for one that is no merge, or had no conflicts."""
        data = objects.get(layout.decided(node))
        return cls() if data is None else cls.from_bytes(data)


class KeyMerge:
    """The sidecar keys of versions that are about to be merged.

    Parameters
    ----------
    keys
        The versioned keys.
    view
        One moment of the store.
    state, history
        The graph.
    tips
        Versions of which none descends from another.
    """

    def __init__(self, keys: VersionedKV, view: Reader, state: State, history: History, tips: Tips) -> None:
        self._keys, self._view, self._state, self._tips = keys, view, state, tips
        self._bases = history.bases(tips)
        lines = [history.above(t) for t in tips]
        alone = frozenset.union(*lines) - frozenset.intersection(*lines)
        self._alone = sorted(state.nodes[n].version_id for n in alone)
        self._ids = {info.version_id: info.id for info in state.nodes.values()}
        self._history, self._newest = history, _newest(history)

    def decide(self, judge: Judge, name_of: NameOf) -> dict[str, list[Choice]]:
        """Let a judge decide about every key in conflict; costs what the versions changed."""
        found: dict[str, list[Choice]] = {}
        for info in self._state.kept_instances():
            if info.versioned:
                choices = list(self._decide_instance(info, judge, name_of))
                if choices:
                    found[info.data_uuid] = choices
        return found

    def _decide_instance(self, info: InstanceInfo, judge: Judge, name_of: NameOf) -> Iterator[Choice]:
        data_id = bytes.fromhex(info.data_uuid)
        for key in self._changed(data_id):
            name = name_of(info, key)
            found = (
                None
                if name is None
                else decide(self._history, self._tips, partial(self._seen, data_id, key), self._newest)
            )
            # What one version left in conflict, and no other resolved, is a conflict of the merge too.
            if name is not None and (isinstance(found, Clash) or (found is not None and len(found) > 1)):
                clash = found if isinstance(found, Clash) else Clash((found,))
                choice = self._choose(KeyConflict(info.name, name), data_id, key, clash, judge)
                if choice is not None:
                    yield choice

    def _seen(self, data_id: bytes, key: bytes, node: str) -> _Seen | None:
        latest = self._keys.latest(data_id, key, self._state.position(node), self._view)
        return frozenset(self._ids[w.version] for w in latest if not w.gone) or None

    def _changed(self, data_id: bytes) -> list[bytes]:
        """Keys that were written in versions behind some of the tips, but not behind all."""
        written = (self._keys.changed_keys(data_id, version, view=self._view) for version in self._alone)
        return sorted({key for keys in written for key in keys})

    def _choose(self, conflict: KeyConflict, data_id: bytes, key: bytes, clash: Clash, judge: Judge) -> Choice | None:
        seen = [self._seen(data_id, key, tip) for tip in self._tips]
        # A side that was left in conflict itself can decide nothing.
        able = [s for s in clash.values if s is None or len(s) == 1]
        if self._alike(data_id, key, seen, clash):
            return Choice(key, next(t for t, s in zip(self._tips, seen, strict=True) if s in clash.values))
        sides, bases = (tuple(self._held(n, data_id, key) for n in nodes) for nodes in (self._tips, self._bases))
        answer = judge.decide(Dispute(conflict, sides, bases, first_places(seen, able or clash.values)))
        if answer is None:
            return None
        if isinstance(answer, Value):
            if not isinstance(answer.value, bytes):
                raise InvalidInputError(f"{conflict}: answer with bytes, not {type(answer.value).__name__}")
            return Choice(key, None, answer.value)
        side = seen[answer]
        return Choice(key, self._tips[answer]) if side is None or len(side) == 1 else None

    def _alike(self, data_id: bytes, key: bytes, seen: Sequence[_Seen | None], clash: Clash) -> bool:
        """Whether all who changed a key gave it the same value."""
        if any(s is None or len(s) > 1 for s in clash.values):
            return False
        tips = [self._tips[seen.index(s)] for s in clash.values]
        return len({self._held(tip, data_id, key).value for tip in tips}) == 1

    def _held(self, node: str, data_id: bytes, key: bytes) -> Held:
        position = self._state.position(node)
        return Held(node, lambda: self._keys.at(data_id, position).get(key))


def _newest(history: History) -> Join:
    """Joins what versions see of a key: who knew the others' writes wins."""

    def join(values: tuple[_Seen | None, ...]) -> _Seen | Clash | None:
        written = sorted(set().union(*(v for v in values if v is not None)))
        last = set(history.last(written))
        left = tuple(v for v in values if v is None or v & last)
        return left[0] if len(left) == 1 else Clash(left)

    return join


def finish(authority: Authority, keys: VersionedKV, state: State, node: str) -> None:
    """Write what a merge decided into the keys of the version that it made, unless that was done."""
    info = state.nodes[node]
    if len(info.parents) < 2 or info.sealed:
        return
    decided = Decided.load(authority.objects, node)

    def write(txn: Transaction) -> None:
        mark = layout.row_decided(node)
        if txn.get(mark) is not None or authority.state_and_counter(txn, node)[0] == SEALED:
            return
        for data_id, choices in decided.keys.items():
            _write(txn, keys, state, node, bytes.fromhex(data_id), choices)
        txn.put(mark, b"1")

    if decided.keys:
        authority.kv.transact(write)


def _write(
    txn: Transaction, keys: VersionedKV, state: State, node: str, data_id: bytes, choices: Sequence[Choice]
) -> None:
    here = keys.within(txn, data_id, state.position(node))
    for choice in choices:
        value: bytes | None = choice.value
        if choice.side is not None:
            value = keys.within(txn, data_id, state.position(choice.side)).get(choice.key)
        if value is None:
            here.delete(choice.key)
        else:
            here.put(choice.key, value)
