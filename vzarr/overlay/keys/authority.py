"""The key authority's part in open versions: their state, their metadata counter, and their writers' leases.

A commit closes a node and then waits until no lease (see `writers`) is left, so that nothing acknowledged is missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import orjson

from vzarr.errors import AuthorityUnavailableError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.history.looks import once, within_one_look
from vzarr.overlay.keys import handover, writers
from vzarr.overlay.keys.locks import Locks
from vzarr.overlay.keys.writers import Writer, clock
from vzarr.overlay.kv.base import OrderedKV, Transaction, stamp_of
from vzarr.overlay.objects.base import Objects

OPEN, CLOSING, SEALED = "open", "closing", "sealed"
LOST = "lost"
"""State of a version that was open when its rows were lost (see `rebuildkeys`)."""

T = TypeVar("T")


class Authority:
    """State of open nodes, in the key authority of one repo.

    Parameters
    ----------
    kv
        The ordered key/value store.
    objects
        Where the repo lives; writers' folders are made and removed there.
    locks
        Keep out others who use the same keys.
    number
        Id of the keys.
    """

    def __init__(self, kv: OrderedKV, objects: Objects, locks: Locks, number: str = "") -> None:
        self.kv, self.objects, self.locks, self.presence = kv, objects, locks, locks.presence
        self.number = number
        self._writers: dict[str, Writer] = {}
        self._states: dict[str, tuple[Hashable | None, tuple[str, int]]] = {}
        self._lock = threading.Lock()

    def stamp(self) -> Hashable | None:
        """What is equal for as long as nobody commits keys (see `stamp_of`); asked once within `one_look`."""
        return once(self, lambda: stamp_of(self.kv))

    def node_state(self, node: str) -> tuple[str, int]:
        """State of a node, and how often its metadata changed.

        Raises
        ------
        AuthorityUnavailableError
            If the keys have moved elsewhere, and so what is here is not how the node is now.
        """
        known = self._states.get(node)
        # First: what is read now is at least as new.  Who may look no second time needs none.
        stamp = self.stamp() if known is not None or within_one_look() else None
        if known is None or known[0] is None or known[0] != stamp:
            known = self._states[node] = stamp, _parse(self.kv.get(layout.row_state(node)))
        if known[1][0] == handover.MOVING and (left := handover.read(self.kv)) is not None and left.done:
            raise left.error()
        return known[1]

    def edit(self, node: str, change: Callable[[Transaction], T], *, late: bool = False) -> T:
        """Change a node's metadata rows in one transaction and count it; `late` finishes what was begun in time.

        Raises
        ------
        SealedError
            If the node is being sealed or is sealed.
        """

        def run(txn: Transaction) -> T:
            if not late:
                self.check_open(txn, node)
            result = change(txn)
            state, counter = _parse(txn.get(layout.row_state(node)))
            txn.put(layout.row_state(node), orjson.dumps({"state": state, "counter": counter + 1}))
            return result

        return self.kv.transact(run)

    def kept_state(self, node: str) -> tuple[str, int]:
        """State of an open node whose rows are there, and its metadata counter: 0 where there never were any.

        Raises
        ------
        AuthorityUnavailableError
            If they were lost, saying what is left.
        """
        state, counter = self.node_state(node)
        if state == LOST:
            raise self.loss(node)
        return state, counter

    def loss(self, node: str) -> AuthorityUnavailableError:
        """What is left of an open version whose rows were lost."""
        return AuthorityUnavailableError(
            f"version {node} was open when the repo's keys were lost, and with them its keys and metadata; its chunks"
            f" are in {layout.node(node)}: look at its nearest sealed ancestor ({node}@sealed), or go on with what is"
            " left (vzarr rebuild-keys REPO --accept-loss)"
        )

    def is_closing(self, node: str) -> bool:
        """Whether somebody has begun to close a node, and is not done or was cut off."""
        return self.node_state(node)[0] == CLOSING

    def begin_close(self, node: str) -> None:
        """Refuse new writes from now on, and wait until no writer's lease is left."""

        def close(txn: Transaction) -> None:
            state, counter = self.state_and_counter(txn, node)
            if state == handover.MOVING:
                raise self._moving(txn)
            if state == OPEN:
                txn.put(layout.row_state(node), orjson.dumps({"state": CLOSING, "counter": counter}))
            # Whoever sees it sealed must know that it is not folded yet.
            txn.put(layout.row_pending(node), layout.UNFOLDED)

        self.kv.transact(close)
        self.writer(node).finish()
        seen: dict[bytes, tuple[bytes, float]] = {}
        while self.live_leases(node, seen):
            time.sleep(writers.POLL_SECONDS)

    def finish_close(self, node: str, *, folded: bool = False) -> None:
        """Forget an open node's rows, after the log has its seal; only the word `sealed` stays.

        Parameters
        ----------
        folded
            Whether it has no keys to fold (see `upkeep`).
        """

        def forget(txn: Transaction) -> None:
            prefix = layout.node_rows(node)
            for key, _ in list(txn.scan(prefix, layout.after(prefix))):
                txn.delete(key)
            txn.put(layout.row_state(node), orjson.dumps({"state": SEALED, "counter": 0}))
            if folded:
                txn.delete(layout.row_pending(node))

        self.kv.transact(forget)

    def check_open(self, txn: Transaction, node: str) -> int:
        """Metadata counter of a node that takes writes.

        A node that is closing, or whose keys are about to be moved, still takes what belongs to a write that began
        before (see `Writer.write`).

        Raises
        ------
        SealedError
            If it takes none.
        AuthorityUnavailableError
            If its keys are being moved, or have moved elsewhere.
        """
        state, counter = self.state_and_counter(txn, node)
        if state == OPEN or (state in (CLOSING, handover.MOVING) and self.writer(node).held):
            return counter
        if state == LOST:
            raise self.loss(node)
        raise self._moving(txn) if state == handover.MOVING else _refusal(node, state)

    def check_outside(self, txn: Transaction) -> None:
        """Refuse to change keys outside of versions while all are moved, but for a write that began before.

        Raises
        ------
        AuthorityUnavailableError
            If they are being moved, or have moved elsewhere.
        """
        if not self.writer(layout.UNVERSIONED).held:
            handover.check(txn, self.presence)

    def state_and_counter(self, txn: Transaction, node: str) -> tuple[str, int]:
        """State of a node, as a transaction sees it, and its metadata counter.

        A node without a row may have been made while keys were moved; a move of which the process is gone is taken
        back.
        """
        row = txn.get(layout.row_state(node))
        state, counter = _parse(row)
        if (row is None or state == handover.MOVING) and not handover.stands(txn, self.presence):
            return _parse(txn.get(layout.row_state(node)))
        return (state if row is not None else handover.MOVING), counter

    def _moving(self, txn: Transaction) -> AuthorityUnavailableError:
        found = handover.read(txn)
        return handover.moved() if found is None else found.error()

    def wants_quiet(self, node: str) -> bool:
        """Whether somebody waits until no lease on a node is left: a committer, or who asks its writers to pause."""
        state, pause = self.kv.get_many([layout.row_state(node), layout.row_pause(node)])
        return _parse(state)[0] != OPEN or pause is not None

    def writer(self, node: str) -> Writer:
        """The writer of a node in this process."""
        with self._lock:
            return self._writers.setdefault(node, Writer(self, node))

    def close(self) -> None:
        """Give up every lease of this process and close the key store."""
        with self._lock:
            writers = list(self._writers.values())
        for writer in writers:
            writer.finish()
        self.kv.close()

    def leases(self, node: str) -> set[str]:
        """Names of the leases on a node whose writers may still write."""
        prefix = layout.row_lease(node, "")
        rows = [(key, value) for key, value in self.kv.scan(prefix, layout.after(prefix)) if _lasts(value)]
        gone = self.presence.gone(_holder(value) for _, value in rows)
        return {key[len(prefix) :].decode() for key, value in rows if _holder(value) not in gone}

    def has_lease(self, node: str, process: str) -> bool:
        """Whether a process, by its name, has a lease on a node that was not given up, nor taken from it."""
        prefix = layout.row_lease(node, "")
        return any(_holder(value) == process for _, value in self.kv.scan(prefix, layout.after(prefix)))

    def is_writing(self, node: str, process: str) -> bool:
        """Whether a process, by its name, has a lease on a node and may still write."""
        prefix = layout.row_lease(node, "")
        rows = self.kv.scan(prefix, layout.after(prefix))
        lasting = any(_holder(value) == process and _lasts(value) for _, value in rows)
        return lasting and not self.presence.is_gone(process)

    def live_leases(self, node: str, seen: dict[bytes, tuple[bytes, float]]) -> bool:
        """Whether a writer may still write; `seen` is each row and when it was first seen so, kept between calls.

        Who has not renewed while others waited for as long as a lease lasts has none.  Nobody's wall clock counts.
        Of one who is gone, but may live on, an object may be on its way: `seen` says since when he is known to be gone.
        """
        prefix, patience = layout.row_lease(node, ""), writers.LEASE_SECONDS + self.objects.late_seconds
        live = False
        rows = list(self.kv.scan(prefix, layout.after(prefix)))
        gone = self.presence.gone(_holder(value) for _, value in rows)
        late = 0.0 if self.presence.has_ended else self.objects.late_seconds
        for key, value in rows:
            if key not in seen or seen[key][0] != value:
                seen[key] = value, clock()
            since = seen.setdefault(b"gone " + key, (value, clock()))[1] if _holder(value) in gone else None
            waiting = clock() - seen[key][1] < patience and (since is None or clock() - since < late)
            live = waiting or not self._bury(node, key[len(prefix) :].decode(), value) or live
        return live

    def _bury(self, node: str, lease: str, row: bytes) -> bool:
        """End another's lease, unless it was renewed after all."""
        key = layout.row_lease(node, lease)

        def drop(txn: Transaction) -> bool:
            dead = txn.get(key) in (row, None)
            if dead:
                txn.delete(key)
            return dead

        dead = self.kv.transact(drop)
        if dead:
            # From here on it cannot be renewed; and without its folder a stalled rename fails.
            self.objects.delete_tree(layout.stage(node, lease))
        return dead

    def drop_lease(self, node: str, lease: str) -> None:
        """End a lease of one's own: its unfinished files go first, so that a stalled rename fails."""
        self.objects.close_stage(layout.stage(node, lease))
        self.kv.transact(lambda txn: txn.delete(layout.row_lease(node, lease)))


def _holder(row: bytes) -> str:
    return row.split(b" ")[1].decode()


def _lasts(row: bytes) -> bool:
    return float(row.split(b" ", 1)[0]) > time.time()


def _refusal(node: str, state: str) -> SealedError:
    if state == SEALED:
        return SealedError(f"version {node} is sealed")
    return SealedError(f"version {node} is being sealed; if its commit was interrupted, commit it again")


def _parse(row: bytes | None) -> tuple[str, int]:
    if row is None:
        return OPEN, 0
    data: dict[str, Any] = orjson.loads(row)
    return data["state"], data["counter"]
