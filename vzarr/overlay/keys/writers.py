"""Leases: one process's right to write chunks into one open node without any transaction per chunk.

A lease starts at the first write, is renewed in the background, and ends after a pause in writing, or when its keeper
finds that the node is closing or that somebody asks its writers to pause.  Who writes while a lease is on its way out
waits for that, and then takes a new one, or is refused.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from vzarr.errors import InvalidInputError, SealedError, VzarrError
from vzarr.overlay import layout
from vzarr.overlay.kv.base import Transaction

if TYPE_CHECKING:
    from vzarr.overlay.keys.authority import Authority

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound="Leased")

LEASE_SECONDS = 30.0
"""How long a lease lasts without renewal; a commit waits this long for a writer that it cannot tell to be dead."""
RENEW_SECONDS = 5.0
MARGIN_SECONDS = 5.0
"""A writer stops trusting its lease this long before others stop waiting for it."""
LOOK_SECONDS = 1.0
"""How often a lease's keeper looks whether it should end."""
POLL_SECONDS = 0.05

_COMMIT = "commit"
"""In place of a lease's name, for the committer's own writes."""

_holding: ContextVar[frozenset[Writer]] = ContextVar("vzarr_writes", default=frozenset())
"""Writers inside whose `write` the caller is."""


class Writer:
    """One process's right to write chunks into one open node (see the module's text)."""

    def __init__(self, authority: Authority, node: str) -> None:
        self._authority, self._node = authority, node
        self._changed = threading.Condition()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lease = self._holder = ""
        self._valid_until = 0.0
        self._last_write = 0.0
        self._busy = 0
        self._finishing = False
        self._leaving = False
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
            if self._lease == _COMMIT:
                self._authority.objects.make_dir(layout.stage(self._node, _COMMIT))
            yield layout.stage(self._node, self._lease)
            return
        with self._changed:
            if self._pid != os.getpid():
                self._reset()
            self._acquire()
            self._busy += 1
            lease = self._lease
        token, done = _holding.set(_holding.get() | {self}), False
        try:
            yield layout.stage(self._node, lease)
            done = True
        finally:
            _holding.reset(token)
            with self._changed:
                self._busy -= 1
                self._last_write = clock()
                self._changed.notify_all()
                late = done and not self._trusts(lease)
        if late:
            raise SealedError(f"version {self._node} closed before the write was done; it does not count")

    @contextmanager
    def last_write(self) -> Iterator[None]:
        """Context for what a committer itself still has to write, once the node is closing and no lease is left."""
        self._lease = _COMMIT
        token = _holding.set(_holding.get() | {self})
        try:
            yield
        finally:
            _holding.reset(token)
            self._lease = ""

    @property
    def holder(self) -> str:
        """Name under which this process has its lease: it may go by another since."""
        return self._holder

    @property
    def is_last(self) -> bool:
        """Whether the caller is inside `last_write`: nobody else may write any more."""
        return self.held and self._lease == _COMMIT

    @property
    def held(self) -> bool:
        """Whether the caller is inside `write`."""
        return self in _holding.get()

    def finish(self) -> None:
        """Let writes under way end, then give the lease up; writes that begin meanwhile are refused."""
        if self.held:
            raise InvalidInputError(f"version {self._node} cannot be sealed from within a write to it")
        with self._changed:
            if self._pid != os.getpid() or self._lease in ("", _COMMIT):
                return
            self._finishing = True
            self._changed.wait_for(lambda: self._busy == 0)
            if self._lease:  # another thread that waited too may have given it up
                self._release()

    def give_way(self, seconds: float) -> None:
        """Let writes under way end, then give the lease up, if that takes no longer; others wait meanwhile."""
        if self.held:
            raise InvalidInputError(f"version {self._node} cannot be looked at whole from within a write to it")
        with self._changed:
            if self._pid == os.getpid() and self._lease not in ("", _COMMIT):
                self._leave(seconds)

    def _acquire(self) -> None:
        seen: dict[bytes, float] = {}
        over: set[bytes] = set()
        while not self._has_lease():
            pause = self._take(over)
            if pause is None:
                return
            asker = pause.split(b" ")[0].decode()
            if clock() - seen.setdefault(pause, clock()) >= LEASE_SECONDS or self._authority.presence.is_gone(asker):
                over.add(pause)
            else:
                self._changed.wait(POLL_SECONDS)

    def _has_lease(self) -> bool:
        """Whether there is a lease to write under; waits while one is about to be given up."""
        # Not for ever: who is waited for might himself be waiting for this write.
        self._changed.wait_for(lambda: not self._leaving, LEASE_SECONDS)
        if self._finishing:
            raise SealedError(f"version {self._node} is being sealed")
        if self._lease and self._trusts(self._lease):
            return True
        if self._busy:
            raise SealedError(f"the lease on version {self._node} ran out while writes were under way; try again")
        return False

    def _take(self, over: set[bytes]) -> bytes | None:
        """Take a lease; while writers are asked to pause, give the row that says so instead, unless it is `over`.

        A pause that lasts longer than a lease, or whose process is gone, does not count any more.
        """
        lease, holder = secrets.token_hex(8), self._authority.presence.name
        started = clock()

        def take(txn: Transaction) -> bytes | None:
            self._authority.check_open(txn, self._node)
            pause = txn.get(layout.row_pause(self._node))
            if pause is not None:
                if pause not in over:
                    return pause
                txn.delete(layout.row_pause(self._node))
            if self._lease:
                txn.delete(layout.row_lease(self._node, self._lease))
            txn.put(layout.row_lease(self._node, lease), _lease_row(holder))
            return None

        pause = self._authority.kv.transact(take)
        if pause is None:
            self._begin(lease, holder, started)
        return pause

    def _begin(self, lease: str, holder: str, started: float) -> None:
        self._lease, self._holder, self._valid_until = lease, holder, started + LEASE_SECONDS - MARGIN_SECONDS
        self._authority.objects.open_stage(layout.stage(self._node, lease), lambda: self._trusts(lease))
        self._last_write = started
        self._released = threading.Event()
        keeper = threading.Thread(
            target=self._keep, args=(lease, self._released), name=f"vzarr-lease-{lease}", daemon=True
        )
        keeper.start()

    def _trusts(self, lease: str) -> bool:
        """Whether what is written now under a lease is sure to be waited for: it lasts, and others know its holder."""
        # The name first: it may be long in coming.
        return lease == self._lease and self._authority.presence.name == self._holder and clock() < self._valid_until

    def _keep(self, lease: str, released: threading.Event) -> None:
        renewed = clock()
        while not released.wait(min(LOOK_SECONDS, RENEW_SECONDS)):
            with self._changed:
                if self._lease != lease or self._pid != os.getpid():
                    return
                try:
                    if self._should_end() and self._leave(RENEW_SECONDS):
                        return
                    if self._lease == lease and clock() - renewed >= RENEW_SECONDS:
                        self._renew()
                        renewed = clock()
                except VzarrError:
                    # Without the authority the lease is not renewed; it runs out, and the next write says so.
                    continue

    def _should_end(self) -> bool:
        """Whether nobody writes any more, or somebody waits for the lease to end."""
        idle = not self._busy and clock() - self._last_write > RENEW_SECONDS
        return idle or self._authority.wants_quiet(self._node)

    def _leave(self, seconds: float) -> bool:
        """Give the lease up once no write is under way; False if that takes too long."""
        self._leaving = True
        try:
            free = self._changed.wait_for(lambda: not self._busy or not self._lease, seconds)
            if free and self._lease:
                self._release()
            return free
        finally:
            self._leaving = False
            self._changed.notify_all()

    def _renew(self) -> None:
        """Extend the lease; a write under way may outlast the closing of its node, and the commit waits for it."""
        started = clock()

        def extend(txn: Transaction) -> bool:
            key = layout.row_lease(self._node, self._lease)
            if txn.get(key) is None:
                return False
            txn.put(key, _lease_row(self._holder))
            return True

        if self._authority.kv.transact(extend):
            self._valid_until = started + LEASE_SECONDS - MARGIN_SECONDS

    def _release(self) -> None:
        self._finishing, self._valid_until = False, 0.0
        # If this fails the lease stays known, so that whoever commits next gives it up instead of waiting for its end.
        self._authority.drop_lease(self._node, self._lease)
        self._lease = ""
        self._released.set()


def _lease_row(holder: str) -> bytes:
    """About until when it lasts, for people; whose it is; and what makes each renewal differ from the last."""
    return f"{time.time() + LEASE_SECONDS:.3f} {holder} {secrets.token_hex(4)}".encode()


class Leased:
    """What is written to under leases on a node of an authority."""

    authority: Authority
    node: str

    @cached_property
    def writer(self) -> Writer:
        """Right of this process to write into the node; made by who asks first, for most only read."""
        return self.authority.writer(self.node)


def one_write(
    change: Callable[Concatenate[W, P], T],
) -> Callable[Concatenate[W, P], T]:
    """Make a method that takes several steps one write: who waits for writes to end never sees half of it."""

    @wraps(change)
    def inside(self: W, /, *args: P.args, **named: P.kwargs) -> T:
        with self.writer.write():
            return change(self, *args, **named)

    return inside


def clock() -> float:
    """Seconds that never go back, and go on while the machine sleeps where it can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
