"""A pause of all who write into open versions, in any process: who begins a write meanwhile waits for its end.

A row asks writers to wait; those that have leases give them up once what they are at is done (see `writers`).  It
lasts a moment, and if it cannot, it is given up: neither side ever waits for the other longer than a lease lasts.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from vzarr.errors import ConflictError
from vzarr.overlay import layout
from vzarr.overlay.keys import writers
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.keys.writers import clock
from vzarr.overlay.kv.base import Transaction

LONGEST_SECONDS = 20.0
"""A pause counts only if it is over by then; writers wait longer, so that none begins before its end."""


@contextmanager
def paused(authority: Authority, nodes: Sequence[str]) -> Iterator[None]:
    """Context in which nobody writes chunks into some open versions, nor seals one of them.

    Transactions on keys go on: what belongs together with chunks is part of the same write, and waits with it.

    Raises
    ------
    ConflictError
        If writers did not end in time, or the context lasted too long to have been a pause; nothing that was looked
        at in it may be relied on then.
    InvalidInputError
        From within a write.
    """
    with ExitStack() as stack:
        # First, and in one order for all: who waits for a commit holds nobody up.
        for node in sorted(nodes, key=lambda n: (n == layout.UNVERSIONED, n)):
            stack.enter_context(authority.locks.alone(layout.node(node)))
        row = f"{authority.presence.name} {secrets.token_hex(8)}".encode()
        end = clock() + LONGEST_SECONDS
        authority.kv.transact(lambda txn: _ask(txn, nodes, row))
        kept = False
        try:
            _wait(authority, nodes, end)
            yield
        finally:
            kept = authority.kv.transact(lambda txn: _take_back(txn, nodes, row))
        if not kept or clock() > end:
            raise ConflictError(f"writers waited for {LONGEST_SECONDS:.0f} s and then went on: try again")


def _ask(txn: Transaction, nodes: Sequence[str], row: bytes) -> None:
    for node in nodes:
        txn.put(layout.row_pause(node), row)


def _take_back(txn: Transaction, nodes: Sequence[str], row: bytes) -> bool:
    """Let writers go on; whether all of them have waited until now."""
    held = [node for node in nodes if txn.get(layout.row_pause(node)) == row]
    for node in held:
        txn.delete(layout.row_pause(node))
    return len(held) == len(nodes)


def _wait(authority: Authority, nodes: Sequence[str], end: float) -> None:
    seen: dict[bytes, tuple[bytes, float]] = {}
    for node in nodes:
        authority.writer(node).give_way(max(0.0, end - clock()))
        while authority.live_leases(node, seen):
            if clock() > end:
                raise ConflictError(
                    f"version {node} is written to without a pause, such as by a large write: try again"
                )
            time.sleep(writers.POLL_SECONDS)
