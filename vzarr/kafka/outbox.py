"""What of a repo is not yet in Kafka, in the order in which it happened.

Mutation ids are given in the order in which their transactions are committed.  So once the next id is known, every
record of a smaller one is there to be read, and never changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import NamedTuple, Protocol

import orjson

from vzarr.kafka import cursors, messages
from vzarr.kafka.cursors import EntryCursor, MutationCursor
from vzarr.kafka.topics import Topics
from vzarr.overlay.history.state import InstanceInfo, State
from vzarr.overlay.kv import written
from vzarr.overlay.kv.base import OrderedKV
from vzarr.overlay.kv.mutationids import FIRST_MUTATION_ID, STRIPE_MUTATIONS, peek_mutation_id
from vzarr.overlay.repo import Repo
from vzarr.types import blobs, mutations

BATCH_MESSAGES = 1000
BATCH_BYTES = 1 << 20

Numbered = tuple[int, bytes]
"""A mutation id and its record."""


class Batch(NamedTuple):
    """Messages of a topic, in order, and the cursor that says that they were published."""

    messages: list[bytes]
    cursor: bytes


class Moment(NamedTuple):
    """What there is to publish.

    Parameters
    ----------
    before
        The repo before `end` was read: what is sealed in it gets no mutation from `end` on.
    end
        The next mutation id to be given: all smaller ones are there.
    now
        The repo after that: it has every version and instance with a smaller id.
    """

    before: State
    end: int
    now: State


class Source(Protocol):
    """What one topic is made of."""

    @property
    def topic(self) -> str:
        """Name of the topic."""

    def batches(self, stored: bytes | None, moment: Moment) -> Iterator[Batch]:
        """What a topic with this cursor lacks; the last batch may be empty, to note that nothing is left."""

    def count(self, stored: bytes | None, moment: Moment) -> Iterator[None]:
        """One item for each entry or record that is not yet published."""


@dataclass(frozen=True)
class Versions:
    """The repo log, as the topic of what happens to versions."""

    repo: Repo
    topic: str

    def batches(self, stored: bytes | None, moment: Moment) -> Iterator[Batch]:
        """See `Source.batches`."""
        number = self._start(stored)
        keep = _keeper(self.repo)
        while number < moment.now.next:
            entries = list(islice(self.repo.entries(number), min(BATCH_MESSAGES, moment.now.next - number)))
            number += len(entries)
            found = [m for entry in entries for m in messages.of_entry(entry, moment.now)]
            yield Batch([messages.fitting(m, keep) for m in found], EntryCursor(number).encode())

    def count(self, stored: bytes | None, moment: Moment) -> Iterator[None]:
        """See `Source.count`."""
        return (None for _ in range(self._start(stored), moment.now.next))

    def _start(self, stored: bytes | None) -> int:
        return 0 if stored is None else EntryCursor.decode(stored).entry


@dataclass(frozen=True)
class Mutations:
    """The mutation log of an instance, as a topic."""

    repo: Repo
    info: InstanceInfo
    topic: str

    def batches(self, stored: bytes | None, moment: Moment) -> Iterator[Batch]:
        """See `Source.batches`."""
        cursor = self._start(stored)
        keep = _keeper(self.repo)
        for records in _batched(self._records(cursor, moment)):
            cursor = replace(cursor, mutation=records[-1][0] + 1)
            found = [m for _, record in records for m in messages.of_mutation(orjson.loads(record), keep)]
            yield Batch(found, cursor.encode())
        if self.info.versioned:
            complete = cursor.complete(moment.end, moment.before)
            if stored is None or replace(complete, mutation=cursor.mutation) != cursor:
                yield Batch([], complete.encode())

    def count(self, stored: bytes | None, moment: Moment) -> Iterator[None]:
        """See `Source.count`."""
        return (None for _ in self._records(self._start(stored), moment))

    def _start(self, stored: bytes | None) -> MutationCursor:
        first = FIRST_MUTATION_ID + self.repo.first_stripe * STRIPE_MUTATIONS
        return MutationCursor(first) if stored is None else MutationCursor.decode(stored)

    def _records(self, cursor: MutationCursor, moment: Moment) -> Iterator[Numbered]:
        """Records from the cursor on, in the order of their ids, whatever version they were made at."""
        if cursor.mutation >= moment.end:
            return iter(())
        kv, instance, nodes = self.repo.authority.kv, bytes.fromhex(self.info.data_uuid), moment.now.nodes
        if self.info.versioned:
            places = [(n, nodes.numbered(n).id) for n in cursor.candidates(moment.now)]
        else:
            places = [(0, self.repo.outside.uuid)]
        ranges = [(n, *mutations.rows_of(uuid, cursor.mutation, moment.end)) for n, uuid in places]
        found = written.any_written(kv, instance, ranges)
        there = [_numbered(kv, instance, *place) for place, some in zip(ranges, found, strict=True) if some]
        return merge(*there, key=itemgetter(0))


def sources(repo: Repo, topics: Topics, moment: Moment) -> list[Source]:
    """Everything of a repo that has a topic; also instances that were deleted, as long as their data are there."""
    instances = sorted(moment.now.kept_instances(), key=lambda info: info.data_uuid)
    logs = [Mutations(repo, i, topics.of_instance(repo.uuid, i.data_uuid)) for i in instances]
    return [Versions(repo, topics.of_repo(repo.uuid)), *logs]


def look(repo: Repo, before: State) -> Moment:
    """What there is to publish now; `before` is any earlier state of the repo."""
    end = peek_mutation_id(repo.authority.kv)
    return Moment(before, end, repo.state)


def _numbered(kv: OrderedKV, instance: bytes, version: int, start: bytes, end: bytes) -> Iterator[Numbered]:
    """Records in a range of rows; of many such iterators that are begun each holds no more than one record."""
    for limit in (1, None):
        for row, record in written.values(kv, instance, version, start, end, limit=limit):
            yield mutations.id_of(row), record
            start = row + b"\0"


def _batched(records: Iterator[Numbered]) -> Iterator[list[Numbered]]:
    """Records, as many at a time as make a batch."""
    some: list[Numbered] = []
    size = 0
    for number, record in records:
        some.append((number, record))
        size += len(record)
        if len(some) >= BATCH_MESSAGES or size >= BATCH_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _keeper(repo: Repo) -> messages.Keep:
    return lambda content: blobs.put(repo.root, content)


def waiting(repo: Repo, topics: Topics, most: int) -> dict[str, int]:
    """How many entries and records of each topic are not yet published, counted up to `most`."""
    moment = look(repo, repo.state)
    every = sources(repo, topics, moment)
    stored = cursors.read(repo.authority.kv, [source.topic for source in every])
    counts = (sum(1 for _ in islice(s.count(c, moment), most)) for s, c in zip(every, stored, strict=True))
    return {source.topic: count for source, count in zip(every, counts, strict=True)}
