"""How far topics were published: a row of the repo's keys for each, changed only by who knows what it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from vzarr.overlay import layout
from vzarr.overlay.history.state import State
from vzarr.overlay.kv.base import OrderedKV, Transaction


@dataclass(frozen=True)
class EntryCursor:
    """Entries of the repo log before this number were published."""

    entry: int = 0

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self)

    @classmethod
    def decode(cls, stored: bytes) -> EntryCursor:
        """Inverse of `encode`."""
        return cls(**orjson.loads(stored))


@dataclass(frozen=True)
class MutationCursor:
    """Mutations of an instance with a smaller id were published.

    Parameters
    ----------
    mutation
        The id.
    versions
        How many versions there were when all smaller ids had been given.
    open
        Numbers of those versions that were open then.  All other of them have no mutation from `mutation` on: only
        these, and newer versions, need to be looked at.
    """

    mutation: int
    versions: int = 0
    open: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self)

    @classmethod
    def decode(cls, stored: bytes) -> MutationCursor:
        """Inverse of `encode`."""
        plain = orjson.loads(stored)
        return cls(plain["mutation"], plain["versions"], tuple(plain["open"]))

    def candidates(self, state: State) -> list[int]:
        """Numbers of versions that may have mutations which were not published."""
        return [*self.open, *range(self.versions + 1, len(state.nodes) + 1)]

    def complete(self, end: int, before: State) -> MutationCursor:
        """The cursor once all mutations below `end` were published.

        Parameters
        ----------
        before
            The repo at a moment before `end` was the next id to be given: what was sealed then has all its mutations.
        """
        known = len(before.nodes)  # the cursor may have come from somebody who knew more
        left = [n for n in self.candidates(before) if n > known or not before.nodes.numbered(n).sealed]
        return MutationCursor(end, max(self.versions, known), tuple(left))


class OvertakenError(Exception):
    """Somebody else published the topic meanwhile."""


def read(kv: OrderedKV, topics: Sequence[str]) -> list[bytes | None]:
    """Cursors of topics, as they are stored."""
    return kv.get_many([layout.row_published(topic) for topic in topics])


def move(kv: OrderedKV, topic: str, known: bytes | None, to: bytes) -> None:
    """Store where a topic is.

    Parameters
    ----------
    known
        What was stored before.

    Raises
    ------
    OvertakenError
        If it was not.
    """
    row = layout.row_published(topic)

    def change(txn: Transaction) -> None:
        if txn.get(row) != known:
            raise OvertakenError
        txn.put(row, to)

    kv.transact(change)
