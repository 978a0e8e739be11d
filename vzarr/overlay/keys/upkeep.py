"""What must happen to the rows of sealed versions before what comes after them is looked at.

The keys of versions that came from another repo are taken in, and what a version wrote is folded (see `kv.versioned`).
What came with them of keys outside of versions is taken in too.
A row for each such version says what is left to do; it is there before the log names the version as sealed, and goes
when all is done.  So whoever looks finds what others did not come to.  Everything here may be cut off and done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from vzarr.overlay import datatypes, layout
from vzarr.overlay.history.state import State
from vzarr.overlay.keys import brought, handover
from vzarr.overlay.keys.authority import SEALED, Authority
from vzarr.overlay.keys.unversioned import POSITION
from vzarr.overlay.kv.base import OrderedKV, Transaction, prefix_end
from vzarr.overlay.kv.batches import BATCH, batched
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.kv.versioned import VersionedKV

ROWS = b"2"
"""Which rows the keys of a store are made of.  Earlier releases left no such mark, and kept an index below ``I``."""


class Upkeep:
    """The rows of one repo's sealed versions.

    Parameters
    ----------
    authority, versioned
        The repo's.
    sealed_changes
        ``sealed_changes(node)``: what a sealed version's folder says that it wrote, by data id.
    """

    def __init__(
        self,
        authority: Authority,
        versioned: VersionedKV,
        sealed_changes: Callable[[str], Mapping[str, Iterable[Change]]],
    ) -> None:
        self._authority, self._versioned, self._sealed_changes = authority, versioned, sealed_changes
        self._pending: dict[str, bytes] = {}
        self._looked = -1
        self._ready: set[str] = set()

    def ready(self, node: str, state: State) -> None:
        """See to it that a version can be looked at: its ancestors are folded, and all that arrived is in the store.

        That is more than its own keys: the labels that are in use, for one, are known from those of all versions.
        """
        self._look(state)
        if node in self._ready:
            return
        at = state.nodes[node].version_id
        for other, left in list(self._pending.items()):
            comes_before = other != node and state.is_ancestor(state.nodes[other].version_id, at)
            if left == layout.ARRIVED or comes_before:
                self._do(other, state)
        self._ready.add(node)

    def all(self, state: State) -> None:
        """Do all that is left to do."""
        self._look(state)
        for node in list(self._pending):
            self._do(node, state)

    def is_folded(self, node: str, state: State) -> bool:
        """Whether a version is known to be folded."""
        self._look(state)
        return state.nodes[node].sealed and node not in self._pending

    def close(self, node: str, state: State) -> bool:
        """Forget that a version was open, once the log has its seal; whether it is left to fold it."""
        changed = any(self._versioned.instances_changed(state.nodes[node].version_id))
        self._authority.finish_close(node, folded=not changed)
        if not changed:
            self._pending.pop(node, None)
        return changed

    def one(self, node: str, state: State) -> None:
        """Do what is left to do of one version."""
        self._look(state)
        if node in self._pending:
            self._do(node, state)

    def fold(self, node: str, state: State) -> None:
        """Fold a version that is sealed, for who keeps others out of it."""
        position = state.position(node)
        for instance in list(self._versioned.instances_changed(position.version)):
            self._versioned.fold(instance, position)
        self._authority.kv.transact(lambda txn: txn.delete(layout.row_pending(node)))
        self._pending.pop(node, None)

    def _look(self, state: State) -> None:
        """Find what is left to do; once after each change of history."""
        if state.next == self._looked:
            return
        rows = _pending_rows(self._authority.kv)
        if rows.pop("", b"") != ROWS:
            _renew(self._authority.kv, state)
            rows = _pending_rows(self._authority.kv)
        found = {node: left for node, left in rows.items() if node in state.nodes and state.nodes[node].sealed}
        if layout.UNVERSIONED in rows:
            brought.take_in(self._authority, self._versioned, state)
        # Oldest first: heads then only get newer.
        self._pending = dict(sorted(found.items(), key=lambda row: state.nodes[row[0]].version_id))
        self._looked = state.next
        self._ready.clear()

    def _do(self, node: str, state: State) -> None:
        """Do what is left of one version, unless somebody else did meanwhile."""
        kv, row = self._authority.kv, layout.row_pending(node)
        with self._authority.locks.alone(layout.node(node)):
            left = kv.get(row)
            if left == layout.ARRIVED:
                self._take_in(node, state)
            if left is not None:
                if self._authority.node_state(node)[0] != SEALED:
                    self._authority.finish_close(node)  # a committer that was cut off: the log has its seal
                self.fold(node, state)
        self._pending.pop(node, None)

    def _take_in(self, node: str, state: State) -> None:
        position, infos = state.position(node), {info.data_uuid: info for info in state.every_instance()}

        def restore(txn: Transaction, instance: str, rows: Sequence[Change]) -> None:
            if instance in infos:
                outside = self._versioned.within(txn, bytes.fromhex(instance), POSITION)
                datatypes.known().arrived(infos[instance], outside, rows)
            keys = self._versioned.within(txn, bytes.fromhex(instance), position)
            for key, value in rows:
                keys.restore(key, value)

        for instance, changes in self._sealed_changes(node).items():
            for some in batched(changes):
                self._authority.kv.transact(partial(restore, instance=instance, rows=some))


def mark_pending(authority: Authority, nodes: Iterable[str]) -> None:
    """Note versions that are about to arrive with keys in their folders.

    Raises
    ------
    AuthorityUnavailableError
        If the keys are being moved.
    """
    rows = [layout.row_pending(node) for node in nodes]

    def mark(txn: Transaction) -> None:
        handover.check(txn, authority.presence)
        for row in rows:
            txn.put(row, layout.ARRIVED)

    authority.kv.transact(mark)


def _pending_rows(kv: OrderedKV) -> dict[str, bytes]:
    """What is left to do by version; and `ROWS` in place of a version's id."""
    rows = kv.scan(layout.PENDING, layout.after(layout.PENDING))
    return {row[len(layout.PENDING) :].decode(): left for row, left in rows}


def _renew(kv: OrderedKV, state: State) -> None:
    """Give a store that is new, or of an earlier release, the rows of this one: all versions are to be folded."""
    while _forget_some(kv):
        pass
    sealed = [layout.row_pending(node) for node, info in state.nodes.items() if info.sealed]

    def mark(txn: Transaction) -> None:
        if txn.get(layout.PENDING) == ROWS:
            return
        known = txn.get_many(sealed)
        for row in (row for row, left in zip(sealed, known, strict=True) if left is None):
            txn.put(row, layout.UNFOLDED)
        txn.put(layout.PENDING, ROWS)

    kv.transact(mark)


def _forget_some(kv: OrderedKV) -> bool:
    """Forget some of the index rows of an earlier release; whether there may be more."""
    [rows] = kv.scan_many([(b"I", prefix_end(b"I"))], limit=BATCH)

    def forget(txn: Transaction) -> None:
        for row, _ in rows:
            txn.delete(row)

    if rows:
        kv.transact(forget)
    return len(rows) == BATCH
