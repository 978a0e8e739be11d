"""What clients of several servers did, in the order of the mutation log, on a dense model: was it one history?

Clients note every request when it is sent and when it is answered, by one clock.  The log says in which order the
changes happened, and which of those happened whose server was killed.  A read is right if the model says the same at
some moment between the last change that was acknowledged before it and the first that was sent after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.types.labelmap.labelmodel import Model

Block = tuple[int, int, int]
ACKNOWLEDGED, REFUSED, LOST = "acknowledged", "refused", "lost"
VOXELS = {"post", "cut", "split"}
"""Changes that write voxels."""


@dataclass
class Change:
    """A request that changes something.

    Parameters
    ----------
    tag
        Names it in the log, as its application.
    kind, what
        What was asked for.
    sent, done
        When; `done` is infinite while nobody has heard of it.
    end
        How it ended.
    answer
        JSON of the answer.
    """

    tag: str
    kind: str
    what: Mapping[str, Any]
    sent: float
    done: float = float("inf")
    end: str = LOST
    answer: Any = None


@dataclass
class Look:
    """A request that reads something."""

    kind: str
    what: Any
    sent: float
    done: float
    value: Any


@dataclass
class State:
    """All that the clients change."""

    labels: Model
    block: int
    keys: dict[str, str] = field(default_factory=dict)
    records: dict[str, dict[str, str]] = field(default_factory=dict)

    def places(self, coord: Block) -> tuple[slice, ...]:
        return tuple(slice(self.block * c, self.block * (c + 1)) for c in coord)

    # ------------------------------------------------------------ reading

    def says(self, look: Look) -> Any:
        return getattr(self, f"_says_{look.kind}")(look.what)

    def _says_mapping(self, supervoxels: list[int]) -> list[int]:
        return [self.labels.body_of(sv) for sv in supervoxels]

    def _says_voxels(self, coord: Block) -> bytes:
        return self.labels.labels[self.places(coord)].tobytes()

    def _says_key(self, key: str) -> str:
        return self.keys.get(key, "")

    def _says_record(self, body: str) -> dict[str, str]:
        return self.records.get(body, {})

    # ------------------------------------------------------------ changing

    def apply(self, change: Change, record: Mapping[str, Any]) -> None:
        getattr(self, f"_{change.kind}")(record, **change.what)

    def _merge(self, record: Mapping[str, Any], target: int, others: list[int]) -> None:
        parts = self.labels.parts
        assert {target, *others} <= parts.keys(), "a body was merged that there was not"
        self.labels.move([sv for body in others for sv in parts[body]], target)

    def _cleave(self, record: Mapping[str, Any], body: int, supervoxels: list[int]) -> None:
        there = [sv for sv in supervoxels if sv in self.labels.parts[body]]
        assert sorted(there) == sorted(record["CleavedSupervoxels"])
        assert set(there) < self.labels.parts[body]
        label = record["CleavedLabel"]
        sizes = sum(self.labels.where[sv].size for sv in there), self.labels.size(body)
        assert (record["CleavedSize"], record["RemainSize"]) == (sizes[0], sizes[1] - sizes[0])
        self.labels.move(there, label, retired=[label])

    def _renumber(self, record: Mapping[str, Any], new: int, old: int) -> None:
        assert new not in self.labels.parts
        self.labels.move(list(self.labels.parts[old]), new, retired=[new])

    def _cut(self, record: Mapping[str, Any], supervoxel: int, voxels: np.ndarray) -> None:
        assert np.isin(voxels, self.labels.where[supervoxel]).all()
        self.labels.cut({supervoxel: (record["SplitSupervoxel"], record["RemainSupervoxel"])}, voxels)

    def _split(self, record: Mapping[str, Any], body: int, voxels: np.ndarray) -> None:
        # A split has its number once its voxels are written: the body may have become part of another one meanwhile.
        assert np.isin(voxels, self.labels.voxels(record["Target"])).all()
        cuts = {int(sv): (parts["Split"], parts["Remain"]) for sv, parts in record["SVSplits"].items()}
        under = set(np.unique(self.labels.labels.reshape(-1)[voxels]).tolist())
        assert cuts.keys() == under
        self.labels.cut(cuts, voxels, record["NewLabel"])

    def _post(self, record: Mapping[str, Any], blocks: Mapping[Block, np.ndarray]) -> None:
        assert record["Blocks"] == len(blocks)
        for coord, block in blocks.items():
            self.labels.post(self.places(coord), block)

    def _reserve(self, record: Mapping[str, Any], count: int) -> None:
        assert record["End Label"] - record["Start Label"] + 1 == count

    def _put_key(self, record: Mapping[str, Any], key: str, value: str) -> None:
        self.keys[key] = value

    def _delete_key(self, record: Mapping[str, Any], key: str) -> None:
        self.keys.pop(key, None)

    def _put_record(self, record: Mapping[str, Any], body: str, fields: Mapping[str, str], replace: bool) -> None:
        self.records[body] = {**({} if replace else self.records.get(body, {})), **fields}

    def _delete_record(self, record: Mapping[str, Any], body: str) -> None:
        self.records.pop(body, None)


def replay(state: State, changes: Iterable[Change], looks: Iterable[Look], log: Iterable[Mapping[str, Any]]) -> int:
    """Carry out what the log says, in its order, and hold every answer against it; how many changes there were."""
    by_tag = {change.tag: change for change in changes}
    logged = sorted((r for r in log if r.get("App") in by_tag), key=lambda r: r["MutationID"])
    numbers = {r["App"]: r["MutationID"] for r in logged}
    assert len(numbers) == len(logged), "a change was made twice"
    check_ends(by_tag.values(), numbers)
    waiting = windows(by_tag.values(), list(looks), numbers)
    active: list[tuple[int, Look]] = []
    for before, record in itertools.pairwise([None, *logged]):
        assert record is not None
        number = record["MutationID"]
        active = seen(state, active, waiting, 0 if before is None else before["MutationID"], number)
        state.apply(by_tag[record["App"]], record)
    assert not seen(state, active, waiting, logged[-1]["MutationID"], 1 << 64), "a read saw what never was"
    assert not waiting
    return len(logged)


def check_ends(changes: Iterable[Change], numbers: Mapping[str, int]) -> None:
    """What was acknowledged is in the log, by the number that was said; what was refused is not; later ones follow."""
    every = sorted(changes, key=lambda c: c.sent)
    for change in every:
        if change.end == ACKNOWLEDGED:
            assert change.tag in numbers, f"{change.kind} {change.tag} was acknowledged and is lost"
            said = (change.answer or {}).get("MutationID", numbers[change.tag])
            assert numbers[change.tag] == said
        assert change.end != REFUSED or change.tag not in numbers, (
            f"{change.kind} {change.tag} was refused and is there"
        )
    done = sorted((c for c in every if c.end == ACKNOWLEDGED), key=lambda c: c.done)
    last, at = 0, 0
    for change in (c for c in every if c.tag in numbers):
        while at < len(done) and done[at].done < change.sent:
            last, at = max(last, numbers[done[at].tag]), at + 1
        assert numbers[change.tag] > last, f"{change.tag} comes before what was acknowledged before it was sent"


def windows(changes: Iterable[Change], looks: list[Look], numbers: Mapping[str, int]) -> list[tuple[int, int, Look]]:
    """Of each read the first and the last change, by number, between which it may have been; the earliest come last.

    Voxels are there before the change that they belong to has its number, so that others may get theirs in between;
    among themselves changes of voxels are in order.
    """
    made = [c for c in changes if c.tag in numbers]
    done = sorted((c.done, numbers[c.tag]) for c in made if c.end == ACKNOWLEDGED)
    ends, lows = [t for t, _ in done], _running(done, max, 0)
    sent = {
        kind: sorted(((c.sent, numbers[c.tag]) for c in made if kind != "voxels" or c.kind in VOXELS), reverse=True)
        for kind in {look.kind for look in looks}
    }
    highs = {kind: _running(pairs, min, 1 << 64) for kind, pairs in sent.items()}
    begins = {kind: [t for t, _ in reversed(pairs)] for kind, pairs in sent.items()}
    found = []
    for look in looks:
        low = lows[int(np.searchsorted(ends, look.sent))]
        later = len(begins[look.kind]) - int(np.searchsorted(begins[look.kind], look.done, "right"))
        found.append((low, highs[look.kind][later], look))
    return sorted(found, key=lambda f: f[0], reverse=True)


def _running(pairs: list[tuple[float, int]], pick: Callable[[int, int], int], start: int) -> list[int]:
    return list(itertools.accumulate((number for _, number in pairs), pick, initial=start))


def seen(
    state: State,
    active: list[tuple[int, Look]],
    waiting: list[tuple[int, int, Look]],
    now: int,
    following: int,
) -> list[tuple[int, Look]]:
    """Reads that are not yet explained, once the state after change `now` has been looked at."""
    while waiting and waiting[-1][0] <= now:
        _, high, look = waiting.pop()
        active.append((high, look))
    left = []
    for high, look in active:
        if state.says(look) == look.value:
            continue
        assert following < high, f"{look.kind} of {look.what} is stale or was never so: {look.value!r}"[:500]
        left.append((high, look))
    return left
