"""Keys that are on their way to another store: who writes meanwhile, and what each who had them open is told.

A row of the old store names the new one and the process that copies.  From then on new writes are refused, and the
copying begins when no writer's lease is left.  When everything is there the row says so, in one transaction: that is
the moment of truth, after which the old store takes nothing more.  A row whose process is gone before counts no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import orjson

from vzarr.errors import AuthorityUnavailableError
from vzarr.overlay import layout
from vzarr.overlay.keys.locks import Presence
from vzarr.overlay.kv.base import Reader, Transaction

MOVING = "moving"
"""State of an open node while its keys are being moved, and for good in the store that they left."""


@dataclass(frozen=True)
class Handover:
    """Where keys go, or went.

    Parameters
    ----------
    id, url
        The new keys, as ``vzarr.json`` is to name them.
    process
        Name of the process that copies.
    nodes
        Open nodes that were told to refuse writes.
    done
        Whether the new store has everything.
    given_up
        Whether its process is gone, and somebody has written since: what it left in the new store counts nowhere.
    """

    id: str
    url: str
    process: str
    nodes: Sequence[str]
    done: bool = False
    given_up: bool = False

    def to_bytes(self) -> bytes:
        """The row."""
        return orjson.dumps(asdict(self))

    def error(self) -> AuthorityUnavailableError:
        """What somebody is told who needs the old store."""
        if self.done:
            return moved(self.url)
        return AuthorityUnavailableError(
            f"the keys are being moved to {self.url}: nothing can be written before that is done; try again later"
        )


def moved(url: str = "") -> AuthorityUnavailableError:
    """The error for a store that keys have left."""
    where = f" to {url}" if url else ""
    return AuthorityUnavailableError(
        f"the keys of this repo have moved{where}: open it again; if that does not help, the move was cut off at its"
        " very end, and `vzarr migrate-keys` with the same place finishes it"
    )


def read(view: Reader) -> Handover | None:
    """The handover of a store, or None."""
    row = view.get(layout.HANDOVER)
    return None if row is None else Handover(**orjson.loads(row))


def check(txn: Transaction, presence: Presence) -> None:
    """Refuse a write where keys are on their way or gone.

    Raises
    ------
    AuthorityUnavailableError
        Saying so.
    """
    if stands(txn, presence) and (found := read(txn)) is not None:
        raise found.error()


def stands(txn: Transaction, presence: Presence) -> bool:
    """Whether keys are on their way or gone; a move that a killed process did not come to conclude is taken back."""
    found = read(txn)
    if found is None or found.given_up:
        return False
    if found.done or not presence.is_gone(found.process):
        return True
    take_back(txn, found)
    txn.put(layout.HANDOVER, replace(found, given_up=True).to_bytes())
    return False


def take_back(txn: Transaction, found: Handover) -> None:
    """Let the old store be written again."""
    for node in found.nodes:
        key = layout.row_state(node)
        row = txn.get(key)
        if row is not None and orjson.loads(row)["state"] == MOVING:
            txn.put(key, orjson.dumps({**orjson.loads(row), "state": "open"}))
    txn.delete(layout.HANDOVER)
