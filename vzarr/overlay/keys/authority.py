"""The key authority's part in open versions: their state, their metadata counter, and writers' leases.

A lease belongs to one process and one node.  It starts at the first write, is renewed in the background, and ends
after a pause in writing or when a renewal finds the node closing.  While it is valid, chunks are written without any
transaction; a commit closes the node and then waits until no lease is left, so that nothing acknowledged is missed.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import orjson

from vzarr.errors import AuthorityUnavailableError, InvalidInputError, SealedError, VzarrError
from vzarr.overlay import layout
from vzarr.overlay.history.looks import once
from vzarr.overlay.keys.locks import Locks
from vzarr.overlay.kv.base import OrderedKV, Transaction, stamp_of
from vzarr.overlay.objects.base import Objects

LEASE_SECONDS = 30.0
"""How long a lease lasts without renewal; a commit waits this long for a writer that it cannot tell to be dead."""
RENEW_SECONDS = 5.0
MARGIN_SECONDS = 5.0
"""A writer stops trusting its lease this long before others stop waiting for it."""

_COMMIT = "commit"
"""In place of a lease's name, for the committer's own writes."""

OPEN, CLOSING, SEALED = "open", "closing", "sealed"
LOST = "lost"
"""State of a version that was open when its rows were lost (see `rebuildkeys`)."""

T = TypeVar("T")
_holding: ContextVar[frozenset[Writer]] = ContextVar("vzarr_writes", default=frozenset())
"""Writers inside whose `write` the caller is."""


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
    """

    def __init__(self, kv: OrderedKV, objects: Objects, locks: Locks) -> None:
        self.kv, self.objects, self.locks, self.presence = kv, objects, locks, locks.presence
        self._writers: dict[str, Writer] = {}
        self._states: dict[str, tuple[Hashable | None, tuple[str, int]]] = {}
        self._lock = threading.Lock()

    def stamp(self) -> Hashable | None:
        """What is equal for as long as nobody commits keys (see `stamp_of`); asked once within `one_look`."""
        return once(self, lambda: stamp_of(self.kv))

    def node_state(self, node: str) -> tuple[str, int]:
        """State of a node, and how often its metadata changed."""
        stamp = self.stamp()  # first: what is read now is at least as new
        known = self._states.get(node)
        if known is None or known[0] is None or known[0] != stamp:
            known = self._states[node] = stamp, _parse(self.kv.get(layout.row_state(node)))
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

    def check_kept(self, node: str) -> None:
        """Refuse an open version whose rows were lost.

        Raises
        ------
        AuthorityUnavailableError
            Saying what is left.
        """
        if self.node_state(node)[0] == LOST:
            raise self.loss(node)

    def loss(self, node: str) -> AuthorityUnavailableError:
        """What is left of an open version whose rows were lost."""
        return AuthorityUnavailableError(
            f"version {node} was open when the repo's keys were lost, and with them its keys and metadata; its chunks"
            f" are in {layout.node(node)}: look at its nearest sealed ancestor ({node}@sealed), or go on with what is"
            " left (vzarr rebuild-keys REPO --accept-loss)"
        )

    def begin_close(self, node: str) -> None:
        """Refuse new writes from now on, and wait until no writer's lease is left."""

        def close(txn: Transaction) -> None:
            state, counter = _parse(txn.get(layout.row_state(node)))
            if state == OPEN:
                txn.put(layout.row_state(node), orjson.dumps({"state": CLOSING, "counter": counter}))

        self.kv.transact(close)
        self.writer(node).finish()
        seen: dict[bytes, tuple[bytes, float]] = {}
        while self._live_leases(node, seen):
            time.sleep(0.05)

    def finish_close(self, node: str) -> None:
        """Forget an open node's rows, after the log has its seal; only the word `sealed` stays."""

        def forget(txn: Transaction) -> None:
            prefix = layout.node_rows(node)
            for key, _ in list(txn.scan(prefix, layout.after(prefix))):
                txn.delete(key)
            txn.put(layout.row_state(node), orjson.dumps({"state": SEALED, "counter": 0}))

        self.kv.transact(forget)

    def check_open(self, txn: Transaction, node: str) -> int:
        """Metadata counter of a node that takes writes.

        A node that is closing still takes what belongs to a write that began before (see `Writer.write`).

        Raises
        ------
        SealedError
            If it takes none.
        """
        state, counter = _parse(txn.get(layout.row_state(node)))
        if state == OPEN or (state == CLOSING and self.writer(node).held):
            return counter
        if state == LOST:
            raise self.loss(node)
        raise _refusal(node, state)

    def state_within(self, txn: Transaction, node: str) -> str:
        """State of a node as a transaction sees it."""
        return _parse(txn.get(layout.row_state(node)))[0]

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
        rows = self.kv.scan(prefix, layout.after(prefix))
        return {key[len(prefix) :].decode() for key, value in rows if self._lives(value)}

    def _live_leases(self, node: str, seen: dict[bytes, tuple[bytes, float]]) -> bool:
        """Whether a writer may still write; `seen` is each row and when it was first seen so, kept between calls.

        Who has not renewed while others waited for as long as a lease lasts has none.  Nobody's wall clock counts.
        """
        prefix, patience = layout.row_lease(node, ""), LEASE_SECONDS + self.objects.late_seconds
        live = False
        for key, value in list(self.kv.scan(prefix, layout.after(prefix))):
            if key not in seen or seen[key][0] != value:
                seen[key] = value, clock()
            waiting = clock() - seen[key][1] < patience and self.presence.is_running(_holder(value))
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

    def _lives(self, row: bytes) -> bool:
        return float(row.split(b" ", 1)[0]) > time.time() and self.presence.is_running(_holder(row))

    def drop_lease(self, node: str, lease: str) -> None:
        """End a lease of one's own: its unfinished files go first, so that a stalled rename fails."""
        self.objects.delete_tree(layout.stage(node, lease))
        self.kv.transact(lambda txn: txn.delete(layout.row_lease(node, lease)))


class Writer:
    """One process's right to write chunks into one open node (see the module's text)."""

    def __init__(self, authority: Authority, node: str) -> None:
        self._authority, self._node = authority, node
        self._changed = threading.Condition()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lease = ""
        self._valid_until = 0.0
        self._last_write = 0.0
        self._busy = 0
        self._finishing = False
        self._released = threading.Event()

    @contextmanager
    def write(self) -> Iterator[str]:
        """Context in which objects may be written into the node.

        A commit waits for the whole context; what is written inside it, keys too, is part of one write.

        Yields
        ------
        str
            Folder for unfinished files.

        Raises
        ------
        SealedError
            If the node does not take writes, or stopped taking them before this one was done: the write then
            counts as not made.
        """
        if self.held:
            yield layout.stage(self._node, self._lease)
            return
        with self._changed:
            if self._pid != os.getpid():
                self._reset()
            self._acquire()
            self._busy += 1
            lease = self._lease
        token = _holding.set(_holding.get() | {self})
        try:
            yield layout.stage(self._node, lease)
        finally:
            _holding.reset(token)
            with self._changed:
                self._busy -= 1
                self._last_write = clock()
                late = lease != self._lease or self._last_write > self._valid_until
                self._changed.notify_all()
        if late:
            raise SealedError(f"version {self._node} closed before the write was done; it does not count")

    @contextmanager
    def last_write(self) -> Iterator[None]:
        """Context for what a committer itself still has to write, once the node is closing and no lease is left."""
        self._authority.objects.make_dir(layout.stage(self._node, _COMMIT))
        self._lease = _COMMIT
        token = _holding.set(_holding.get() | {self})
        try:
            yield
        finally:
            _holding.reset(token)
            self._lease = ""

    @property
    def held(self) -> bool:
        """Whether the caller is inside `write`."""
        return self in _holding.get()

    def finish(self) -> None:
        """Let writes under way end, then give the lease up."""
        if self.held:
            raise InvalidInputError(f"version {self._node} cannot be sealed from within a write to it")
        with self._changed:
            if self._pid != os.getpid() or self._lease in ("", _COMMIT):
                return
            self._finishing = True
            self._changed.wait_for(lambda: self._busy == 0)
            if self._lease:  # another thread that waited too may have given it up
                self._release()

    def _acquire(self) -> None:
        if self._finishing:
            raise SealedError(f"version {self._node} is being sealed")
        if self._lease and clock() < self._valid_until:
            return
        if self._busy:
            raise SealedError(f"the lease on version {self._node} ran out while writes were under way; try again")
        lease = secrets.token_hex(8)
        started = clock()

        def take(txn: Transaction) -> None:
            self._authority.check_open(txn, self._node)
            if self._lease:
                txn.delete(layout.row_lease(self._node, self._lease))
            txn.put(layout.row_lease(self._node, lease), self._lease_row())

        self._authority.kv.transact(take)
        self._lease, self._valid_until = lease, started + LEASE_SECONDS - MARGIN_SECONDS
        self._authority.objects.open_stage(layout.stage(self._node, lease), lambda: self._trusts(lease))
        self._last_write = started
        self._released = threading.Event()
        keeper = threading.Thread(
            target=self._keep, args=(lease, self._released), name=f"vzarr-lease-{lease}", daemon=True
        )
        keeper.start()

    def _trusts(self, lease: str) -> bool:
        """Whether what is written now under a lease is sure to be waited for."""
        return lease == self._lease and clock() < self._valid_until

    def _keep(self, lease: str, released: threading.Event) -> None:
        while not released.wait(RENEW_SECONDS):
            with self._changed:
                if self._lease != lease or self._pid != os.getpid():
                    return
                try:
                    if self._ended():
                        self._release()
                        return
                    self._renew()
                except VzarrError:
                    # Without the authority the lease is not renewed; it runs out, and the next write says so.
                    continue

    def _ended(self) -> bool:
        if self._busy:
            return False
        idle = clock() - self._last_write > RENEW_SECONDS
        return idle or self._authority.node_state(self._node)[0] != OPEN

    def _lease_row(self) -> bytes:
        """About until when it lasts, for people; whose it is; and what makes each renewal differ from the last."""
        about = f"{time.time() + LEASE_SECONDS:.3f} {self._authority.presence.name} {secrets.token_hex(4)}"
        return about.encode()

    def _renew(self) -> None:
        """Extend the lease; a write under way may outlast the closing of its node, and the commit waits for it."""
        started = clock()

        def extend(txn: Transaction) -> bool:
            key = layout.row_lease(self._node, self._lease)
            if txn.get(key) is None:
                return False
            txn.put(key, self._lease_row())
            return True

        if self._authority.kv.transact(extend):
            self._valid_until = started + LEASE_SECONDS - MARGIN_SECONDS

    def _release(self) -> None:
        self._finishing, self._valid_until = False, 0.0
        # If this fails the lease stays known, so that whoever commits next gives it up instead of waiting for its end.
        self._authority.drop_lease(self._node, self._lease)
        self._lease = ""
        self._released.set()


def clock() -> float:
    """Seconds that never go back, and go on while the machine sleeps where it can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _holder(row: bytes) -> str:
    return row.split(b" ")[1].decode()


def _refusal(node: str, state: str) -> SealedError:
    if state == SEALED:
        return SealedError(f"version {node} is sealed")
    return SealedError(f"version {node} is being sealed; if its commit was interrupted, commit it again")


def _parse(row: bytes | None) -> tuple[str, int]:
    if row is None:
        return OPEN, 0
    data: dict[str, Any] = orjson.loads(row)
    return data["state"], data["counter"]
