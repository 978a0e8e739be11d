"""The keys of a repo's instances: in its key store, and of sealed versions in folders where that cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from heapq import merge as merged
from itertools import groupby, islice
from typing import TypeVar

from vzarr.errors import AuthorityUnavailableError
from vzarr.overlay import datatypes, layout
from vzarr.overlay.history import plans
from vzarr.overlay.history.dag import Position, ancestry
from vzarr.overlay.history.state import InstanceInfo, NodeInfo, State
from vzarr.overlay.keys import handover, keylayers, mergekeys, unversioned
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.keys.keylayers import Joined, KeyChanges, Rows
from vzarr.overlay.keys.upkeep import Upkeep
from vzarr.overlay.keys.upkeep import mark_pending as mark_pending
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.kv.mutationids import FIRST_MUTATION_ID, peek_mutation_id
from vzarr.overlay.kv.sealed import Stack
from vzarr.overlay.kv.section import Unreachable
from vzarr.overlay.kv.sidecar import Change, Sidecar
from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn, VersionedKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing.seal import Record

T = TypeVar("T")
UNVERSIONED = unversioned.POSITION
TOGETHER = 1000
"""Keys that a merge changed and whose values are looked up at once."""


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
        self._sealed_changes = partial(_sealed_changes, objects, state, record)
        self._upkeep = Upkeep(authority, self.versioned, self._sealed_changes)
        self._finished: set[str] = set()
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
            folded = info.versioned and self._upkeep.is_folded(node, state)
            position = _position(state, node, info)
            found = self.versioned.at(bytes.fromhex(info.data_uuid), position, folded=folded)
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
        """Do all that is left to do to the rows of sealed versions (see `upkeep`)."""
        self._upkeep.all(self._state())

    def close(self, node: str, *, fold: bool) -> bool:
        """Forget that a version was open, once the log has its seal, and fold it; for who keeps others out of it.

        Parameters
        ----------
        fold
            False to leave that to `catch_up`, or to whoever looks at a later version.

        Returns
        -------
        bool
            Whether something is left to do.
        """
        left = self._upkeep.close(node, self._state())
        if left and fold:
            self._upkeep.fold(node, self._state())
        return left and not fold

    def catch_up(self, node: str) -> None:
        """Do what is left to do to the rows of one sealed version."""
        self._upkeep.one(node, self._state())

    def finish(self, node: str) -> None:
        """Write what a merge decided, if whoever made the version did not come to that; looks once a version."""
        self._finish(node, self._state())

    def _finish(self, node: str, state: State) -> None:
        self._upkeep.ready(node, state)
        if node not in self._finished:
            if not state.nodes[node].sealed:
                self._authority.kept_state(node)
            mergekeys.finish(self._authority, self.versioned, state, node)
            self._finished.add(node)

    def changes(self, node: str, info: InstanceInfo) -> Iterator[Change]:
        """What was written to an instance's keys at exactly one version, in key order; None for a deletion."""
        if not self.reachable:
            return iter(self._sealed_changes(node).get(info.data_uuid, ()))
        return self.versioned.changes(bytes.fromhex(info.data_uuid), self._number(node))

    def changed(self, node: str, info: InstanceInfo) -> Iterator[bytes]:
        """The keys that `changes` gives; large values are not read."""
        if not self.reachable:
            return (key for key, _value in self.changes(node, info))
        return self.versioned.changed_keys(bytes.fromhex(info.data_uuid), self._number(node))

    def _number(self, node: str) -> int:
        """Number of a version whose own keys are in the store."""
        state = self._state()
        self._upkeep.ready(node, state)
        return state.nodes[node].version_id

    def strays(self) -> list[str]:
        """Data ids under which keys lie outside of versions, and that are no instance's, such as that of blobs."""
        known = {info.data_uuid for info in self._state().every_instance()}
        if self.reachable:
            self.arrive()
            found = [instance.hex() for instance in self.versioned.instances_changed(0)]
        else:
            found = [*unversioned.read(self._objects)]
        return [instance for instance in found if instance not in known]

    def written(self, a: str, b: str) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Instance -> number of keys that were written in versions behind only one of two versions, and their names.

        What follows from other keys has no name.
        """
        state = self._state()
        infos = {i.data_uuid: i for i in state.instances.values()}
        if self.reachable:
            for node in (a, b):
                self._upkeep.ready(node, state)
        touched: dict[str, set[bytes]] = {}
        for node in set(ancestry(a, state.parents)) ^ set(ancestry(b, state.parents)):
            for instance, keys in self._keys_of(state.nodes[node]).items():
                touched.setdefault(instance, set()).update(keys)
        found = {}
        for instance, keys in touched.items():
            info, name_of = infos.get(instance), datatypes.known().key_name
            names = (name_of(info, key) for key in keys) if info is not None else ()
            found[info.name if info is not None else instance] = len(keys), tuple(sorted(filter(None, names)))
        return dict(sorted(found.items()))

    def _keys_of(self, info: NodeInfo) -> dict[str, Iterable[bytes]]:
        """Keys that a version wrote, by data id."""
        if not self.reachable:
            return {i: (key for key, _ in rows) for i, rows in self._sealed_changes(info.id).items()}
        instances, number = self.versioned.instances_changed(info.version_id), info.version_id
        return {i.hex(): self.versioned.changed_keys(i, number) for i in instances}

    def sealing(self, info: NodeInfo) -> KeyChanges:
        """What the commit of a version has to write of its keys; those outside of versions are written at once.

        Nobody may write to the version any more: its changes are read while they are written.
        """
        alone = self._authority.locks.alone(layout.node(layout.UNVERSIONED))
        listed = {info.data_uuid for info in self._state().every_instance() if info.versioned}
        unversioned.take(self._objects, self._authority.kv, self.versioned, listed, alone)
        given = peek_mutation_id(self._authority.kv)
        mutations = given if given > FIRST_MUTATION_ID else 0
        changed = self.versioned.instances_changed(info.version_id)
        own = {i.hex(): Rows(partial(self.versioned.changes, i, info.version_id)) for i in changed}
        if not info.parents:
            return KeyChanges(own, mutations=mutations)
        # Without stacks the parent was sealed by an earlier release: everything is written once.
        below = self._stacks(info.parents[0])
        if below is not None and len(info.parents) == 1:
            return KeyChanges(own, below, mutations=mutations)
        joined = self._joined(info, None if below is None else info.parents[0])
        return KeyChanges(own, below or {}, joined, mutations)

    def _joined(self, info: NodeInfo, known: str | None) -> dict[str, Joined]:
        """By instance what a version may see otherwise than an ancestor of it: all that was written since."""
        state = self._state()
        beside = set(ancestry(info.id, state.parents)) - set(ancestry(known, state.parents) if known else ())
        found: dict[bytes, list[int]] = {}
        for number in sorted(state.nodes[node].version_id for node in beside):
            for instance in self.versioned.instances_changed(number):
                found.setdefault(instance, []).append(number)
        position = state.position(info.id)
        return {i.hex(): partial(self._seen, i, numbers, position) for i, numbers in found.items()}

    def _seen(
        self, instance: bytes, versions: Sequence[int], position: Position, clashing: list[bytes]
    ) -> Iterator[Change]:
        """What a version sees of the keys that others wrote; those in conflict are noted."""
        written = merged(*(self.versioned.changed_keys(instance, version) for version in versions))
        keys = (key for key, _ in groupby(written))
        at = self.versioned.at(instance, position)
        while some := list(islice(keys, TOGETHER)):
            yield from at.settled(some, clashing)

    def _stacks(self, node: str) -> dict[str, Stack] | None:
        part = self._record(node).layers
        return None if part is None else keylayers.read(self._objects, part)


def _sealed_changes(
    objects: Objects, state: Callable[[], State], record: Callable[[str], Record], node: str
) -> dict[str, Iterable[Change]]:
    """What a sealed version's folder says that it wrote, by data id."""
    if not state().nodes[node].sealed:
        return {}
    return {i: Sidecar(_reader(objects, layout.keys(node, i))) for i in record(node).keys}


def _reader(objects: Objects, folder: str) -> Callable[[str], bytes | None]:
    return lambda name: objects.get(f"{folder}/{name}")


def _position(state: State, node: str, info: InstanceInfo) -> Position:
    return state.position(node) if info.versioned else UNVERSIONED
