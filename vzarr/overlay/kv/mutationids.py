"""Numbers of mutations: one row of a repo's key store, from which every transaction takes the next one."""

from __future__ import annotations

from vzarr.overlay.kv.base import Reader, Transaction

FIRST_MUTATION_ID = 1_000_000_000
STRIPE_MUTATIONS = 1_000_000_000
"""How many mutation ids each clone of a repo has of its own."""


def next_mutation_id(txn: Transaction) -> int:
    """Take the repo's next mutation id: 1,000,000,000 first, then one more each time."""
    given = peek_mutation_id(txn)
    txn.put(b"M", (given + 1).to_bytes(8, "big"))
    return given


def begin_mutation_ids(txn: Transaction, first: int) -> None:
    """Let the next mutation id be at least `first`."""
    if peek_mutation_id(txn) < first:
        txn.put(b"M", first.to_bytes(8, "big"))


def peek_mutation_id(view: Reader) -> int:
    """The id that the next mutation will get."""
    row = view.get(b"M")
    return FIRST_MUTATION_ID if row is None else int.from_bytes(row, "big")
