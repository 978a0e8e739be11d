"""The keys of a repo's instances: in its key store, and of sealed versions in folders where that cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from vzarr.errors import AuthorityUnavailableError, ConflictError
from vzarr.overlay import datatypes, layout
from vzarr.overlay.history import plans
from vzarr.overlay.history.dag import Position, ancestry
from vzarr.overlay.history.state import InstanceInfo, NodeInfo, State
from vzarr.overlay.keys import brought, handover, keylayers, mergekeys, unversioned
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.keys.keylayers import KeyChanges, Rows
from vzarr.overlay.kv.base import Reader, Transaction
from vzarr.overlay.kv.mutationids import FIRST_MUTATION_ID, peek_mutation_id
from vzarr.overlay.kv.sealed import Stack
from vzarr.overlay.kv.section import Unreachable
from vzarr.overlay.kv.sidecar import Change, Sidecar
from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn, VersionedKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing.seal import Record

T = TypeVar("T")
UNVERSIONED = unversioned.POSITION
BATCH, WEIGHT = 5000, 4 << 20
"""Keys that are taken in by one transaction, and bytes of their values."""


class RepoKeys:
    """Keys by version and instance.

    Parameters
    ----------
    objects, authority
        The repo.
    state
        Gives what the log says now.
    record
        Gives the seal of a sealed version.
    """

    def __init__(
        self, objects: Objects, authority: Authority, state: Callable[[], State], record: Callable[[str], Record]
    ) -> None:
        self._objects, self._authority, self._state, self._record = objects, authority, state, record
        self.versioned = VersionedKV(authority.kv, lambda a, b: state().is_ancestor(a, b))
        self._finished: set[str] = set()
        self._arrived = -1
        self._known: tuple[State | None, dict[tuple[str, str, bool], InstanceKeys]] = None, {}

    @property
    def reachable(self) -> bool:
        """Whether the key store can be reached from here."""
        return not isinstance(self._authority.kv, Unreachable)

    def at(self, node: str, info: InstanceInfo) -> InstanceKeys:
        """Keys of an instance at a version.

        Raises
        ------
        AuthorityUnavailableError
            If the key store cannot be reached, and the folders do not have them: the version is open or was sealed by
            an earlier release, or the instance is not versioned and no commit took a snapshot of its keys.
        """
        if self.reachable:
            return self._stored(node, info)
        stacks = self._stacks(node) if info.versioned and self._state().nodes[node].sealed else None
        snapshot = None if info.versioned else unversioned.read(self._objects).get(info.data_uuid)
        if snapshot is not None:
            return snapshot.open(self._objects)
        if stacks is None:
            assert isinstance(self._authority.kv, Unreachable)
            raise AuthorityUnavailableError(f"keys of {info.name!r}: {self._authority.kv.reason}")
        return keylayers.keys_of(self._objects, stacks.get(info.data_uuid, Stack()))

    def _stored(self, node: str, info: InstanceInfo) -> InstanceKeys:
        """Keys in the key store; they stay the same until the log has a new entry."""
        state = self._state()
        seen, known = self._known
        if seen is not state:
            known = {}
            self._known = state, known
        name = node, info.data_uuid, info.versioned
        found = known.get(name)
        if found is None:
            if self._authority.number in state.moved:
                raise handover.moved()
            self._finish(node, state)
            found = self.versioned.at(bytes.fromhex(info.data_uuid), _position(state, node, info))
            known[name] = found
        return found

    def transact(self, node: str, info: InstanceInfo, change: Callable[[InstanceTxn], T]) -> T:
        """Change an instance's keys in one transaction (see `Version.transact`)."""
        state = self._state()
        if info.versioned:
            plans.check_open(state, node)
            self._finish(node, state)
        position = _position(state, node, info)

        def run(txn: Transaction) -> T:
            if info.versioned:
                self._authority.check_open(txn, node)
            else:
                self._authority.check_outside(txn)
            return change(self.versioned.within(txn, bytes.fromhex(info.data_uuid), position))

        return self._authority.kv.transact(run)

    def arrive(self) -> None:
        """Take in the keys of versions that came from another repo, if whoever brought them did not come to that.

        Looks once after each change of history.
        """
        self._arrive(self._state())

    def _arrive(self, state: State) -> None:
        if state.next == self._arrived:
            return
        for row, _ in list(self._authority.kv.scan(layout.PENDING, layout.after(layout.PENDING))):
            node = row[len(layout.PENDING) :].decode()
            if node in state.nodes:
                self._take_in(node, row)
        brought.take_in(self._authority, self.versioned, state)
        self._arrived = state.next

    def _take_in(self, node: str, row: bytes) -> None:
        state = self._state()
        position, infos = state.position(node), {info.data_uuid: info for info in state.every_instance()}
        for instance, rows in self._sealed_changes(node).items():
            for some in batched(rows, BATCH, WEIGHT):
                restore = partial(
                    self._restore, instance=instance, info=infos.get(instance), position=position, rows=some
                )
                self._authority.kv.transact(restore)
        self._authority.kv.transact(lambda txn: txn.delete(row))

    def _restore(
        self, txn: Transaction, instance: str, info: InstanceInfo | None, position: Position, rows: Sequence[Change]
    ) -> None:
        keys = self.versioned.within(txn, bytes.fromhex(instance), position)
        if info is not None:
            outside = self.versioned.within(txn, bytes.fromhex(instance), UNVERSIONED)
            datatypes.known().arrived(info, outside, rows)
        for key, value in rows:
            keys.restore(key, value)

    def finish(self, node: str) -> None:
        """Write what a merge decided, if whoever made the version did not come to that; looks once a version."""
        self._finish(node, self._state())

    def _finish(self, node: str, state: State) -> None:
        self._arrive(state)
        if node not in self._finished:
            if not state.nodes[node].sealed:
                self._authority.kept_state(node)
            mergekeys.finish(self._authority, self.versioned, state, node)
            self._finished.add(node)

    def changes(self, node: str, info: InstanceInfo) -> list[Change]:
        """What was written to an instance's keys at exactly one version, in key order; None for a deletion."""
        if self.reachable:
            self.arrive()
            return list(self.versioned.changes(bytes.fromhex(info.data_uuid), self._state().nodes[node].version_id))
        return list(self._sealed_changes(node).get(info.data_uuid, ()))

    def strays(self) -> list[str]:
        """Data ids under which keys lie outside of versions, and that are no instance's, such as that of blobs."""
        known = {info.data_uuid for info in self._state().every_instance()}
        if self.reachable:
            self.arrive()
            found = [instance.hex() for instance in self.versioned.instances_changed(0)]
        else:
            found = [*unversioned.read(self._objects)]
        return [instance for instance in found if instance not in known]

    def written(self, a: str, b: str) -> dict[str, int]:
        """Instance -> number of keys that were written in versions behind only one of two versions."""
        state = self._state()
        names = {i.data_uuid: i.name for i in state.instances.values()}
        if self.reachable:
            self.arrive()
        alone = set(ancestry(a, state.parents)) ^ set(ancestry(b, state.parents))
        touched: dict[str, set[bytes]] = {}
        for node in alone:
            rows = self._own(state.nodes[node]) if self.reachable else self._sealed_changes(node)
            for instance, changes in rows.items():
                touched.setdefault(names.get(instance, instance), set()).update(key for key, _value in changes)
        return {name: len(keys) for name, keys in sorted(touched.items())}

    def sealing(self, info: NodeInfo) -> KeyChanges:
        """What the commit of a version has to write of its keys; those outside of versions are written at once."""
        self.arrive()
        alone = self._authority.locks.alone(layout.node(layout.UNVERSIONED))
        unversioned.take(self._objects, self._authority.kv, self.versioned, alone)
        own = self._own(info)  # nobody writes any more
        with self._authority.kv.snapshot() as moment:
            given = peek_mutation_id(moment)
            mutations = given if given > FIRST_MUTATION_ID else 0
            if not info.parents:
                return KeyChanges(own, mutations=mutations)
            # Without stacks the parent was sealed by an earlier release: everything is written once.
            below = self._stacks(info.parents[0])
            if below is not None and len(info.parents) == 1:
                return KeyChanges(own, below, mutations=mutations)
            brought = self._brought(info, None if below is None else info.parents[0], moment)
            return KeyChanges(own, below or {}, *self._seen(info, brought, moment), mutations)

    def _own(self, info: NodeInfo, view: Reader | None = None) -> dict[str, Iterable[Change]]:
        changed = self.versioned.instances_changed(info.version_id, view=view)
        changes = self.versioned.changes
        return {i.hex(): Rows(partial(changes, i, info.version_id, view=view)) for i in changed}

    def _brought(self, info: NodeInfo, known: str | None, view: Reader) -> dict[str, set[bytes]]:
        """Keys by instance that a version may see otherwise than an ancestor of it: all that was written since."""
        state = self._state()
        beside = set(ancestry(info.id, state.parents)) - set(ancestry(known, state.parents) if known else ())
        found: dict[str, set[bytes]] = {}
        for node in beside:
            for instance, rows in self._own(state.nodes[node], view).items():
                found.setdefault(instance, set()).update(key for key, _value in rows)
        return found

    def _seen(
        self, info: NodeInfo, asked: Mapping[str, Iterable[bytes]], view: Reader
    ) -> tuple[dict[str, list[Change]], dict[str, list[bytes]]]:
        """What a version sees of keys, and those in conflict."""
        joined: dict[str, list[Change]] = {}
        conflicts: dict[str, list[bytes]] = {}
        position = self._state().position(info.id)
        for instance, names in asked.items():
            keys = self.versioned.at(bytes.fromhex(instance), position, view=view)
            joined[instance] = []
            for key in sorted(names):
                try:
                    joined[instance].append((key, keys.get(key)))
                except ConflictError:
                    conflicts.setdefault(instance, []).append(key)
        return joined, conflicts

    def _stacks(self, node: str) -> dict[str, Stack] | None:
        part = self._record(node).layers
        return None if part is None else keylayers.read(self._objects, part)

    def _sealed_changes(self, node: str) -> dict[str, Iterable[Change]]:
        if not self._state().nodes[node].sealed:
            return {}
        return {i: Sidecar(self._reader(layout.keys(node, i))) for i in self._record(node).keys}

    def _reader(self, folder: str) -> Callable[[str], bytes | None]:
        return lambda name: self._objects.get(f"{folder}/{name}")


def _position(state: State, node: str, info: InstanceInfo) -> Position:
    return state.position(node) if info.versioned else UNVERSIONED


def mark_pending(authority: Authority, nodes: Iterable[str]) -> None:
    """Note versions that are about to arrive with keys in their folders; `RepoKeys.arrive` takes those in.

    Raises
    ------
    AuthorityUnavailableError
        If the keys are being moved.
    """
    rows = [layout.row_pending(node) for node in nodes]

    def mark(txn: Transaction) -> None:
        handover.check(txn, authority.presence)
        for row in rows:
            txn.put(row, b"")

    authority.kv.transact(mark)


def batched(rows: Iterable[Change], count: int, weight: int) -> Iterator[list[Change]]:
    """Rows, so many at a time, or fewer that come to so many bytes."""
    part: list[Change] = []
    size = 0
    for key, value in rows:
        part.append((key, value))
        size += len(key) + len(value or b"")
        if len(part) == count or size >= weight:
            yield part
            part, size = [], 0
    if part:
        yield part
