"""Data of no version that come from another repo: they wait beside the versions, and then are taken in.

Who brings them writes their objects, each under its own hash, and then a row that says what they are.  Whoever uses the
keys next takes them in, if that did not come to it: keys at one stroke, after arrays were put in place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import orjson

from vzarr.errors import StorageError
from vzarr.overlay import datatypes, layout
from vzarr.overlay.hierarchy.tree import Entry, Tree
from vzarr.overlay.history.state import InstanceInfo, State
from vzarr.overlay.keys import sharedarrays
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.keys.sharedarrays import Arrays
from vzarr.overlay.keys.unversioned import POSITION, Snapshot, forget, read, store, write
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.kv.sealed import folded
from vzarr.overlay.kv.sidecar import Sidecar
from vzarr.overlay.kv.versioned import VersionedKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal

_WAITING = layout.arrived("").rstrip("/")
"""Folder of what waits."""


@dataclass(frozen=True)
class Brought:
    """What comes from another repo.

    Parameters
    ----------
    snapshots
        Of keys, by data id.
    replace
        Whether they take the place of what is there; otherwise instances that have data keep them.
    added
        Data ids of which single keys are added: such as blobs, which have no instance and are named by their content.
    arrays
        SHA-256 of a list of all objects (see `Arrays`) of instances that have arrays, by data id.
    decided
        Data ids that are being taken in, once that has begun.
    """

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    replace: bool = False
    added: frozenset[str] = frozenset()
    arrays: Mapping[str, str] = field(default_factory=dict)
    decided: tuple[str, ...] | None = None

    @property
    def instances(self) -> list[str]:
        """Data ids of all that something is brought of."""
        return sorted({*self.snapshots, *self.arrays})

    def against(self, state: State) -> Brought | None:
        """What of it can be taken in by a repo; None if that does not know all instances yet.

        What versioned instances keep outside of versions, such as the last label given, is each repo's own.
        """
        infos = {info.data_uuid: info for info in state.every_instance()}
        if not (infos.keys() | self.added).issuperset(self.instances):
            return None
        meant = {i for i in self.instances if i not in infos or not infos[i].versioned}
        snapshots = {i: s for i, s in self.snapshots.items() if i in meant}
        arrays = {i: digest for i, digest in self.arrays.items() if i in meant and i in infos}
        return replace(self, snapshots=snapshots, arrays=arrays, added=frozenset(self.added) - infos.keys())

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        snapshots = {instance: snapshot.to_json() for instance, snapshot in self.snapshots.items()}
        plain = {"snapshots": snapshots, "replace": self.replace, "added": sorted(self.added), "arrays": self.arrays}
        return plain if self.decided is None else {**plain, "decided": self.decided}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Brought:
        """Inverse of `to_json`."""
        snapshots = {instance: Snapshot(**row) for instance, row in data["snapshots"].items()}
        decided = tuple(data["decided"]) if "decided" in data else None
        return cls(snapshots, data["replace"], frozenset(data["added"]), data.get("arrays", {}), decided)


def waiting_arrays(objects: Objects, brought: Brought, info: InstanceInfo) -> Arrays | None:
    """What of an instance's arrays waits; None for nothing.

    Raises
    ------
    StorageError, FormatError
        If the list of it is missing, or damaged, or names what is not the instance's.
    """
    digest = brought.arrays.get(info.data_uuid)
    if digest is None:
        return None
    found = Arrays.from_bytes(_present(objects, layout.arrived(digest)))
    found.check(info)
    return found


def parts(objects: Objects, snapshot: Snapshot) -> dict[str, str]:
    """Keys of the objects of a snapshot that waits, by their names in its sidecar.

    Raises
    ------
    StorageError
        If the list of them is missing.
    """
    sums = _present(objects, layout.arrived(snapshot.sums))
    return {part: layout.arrived(digest) for part, _size, digest in seal.read_sums(sums)}


def mark(authority: Authority, brought: Brought) -> None:
    """Note what waits, all of whose objects are in place.

    Raises
    ------
    AuthorityUnavailableError
        If the keys are being moved.
    """

    def note(txn: Transaction) -> None:
        authority.check_outside(txn)
        txn.put(layout.row_pending(layout.UNVERSIONED), orjson.dumps(brought.to_json()))

    authority.kv.transact(note)


@contextmanager
def alone(authority: Authority) -> Iterator[None]:
    """Context in which nobody else brings anything, nor takes it in.

    There is one row for what waits, and what two bring may be the same objects.
    """
    with authority.locks.alone(_WAITING):
        yield


def check_waits(objects: Objects, brought: Brought) -> None:
    """Refuse what is brought if some of it is not there any more.

    Raises
    ------
    StorageError
        Naming an object: somebody else brought the same meanwhile, and it was removed once it was taken in.
    """
    there = {key for key, _size in objects.walk(_WAITING)}
    lists = [layout.arrived(digest) for digest in brought.arrays.values()]
    lists += [layout.arrived(snapshot.sums) for snapshot in brought.snapshots.values()]
    gone = [key for key in lists if key not in there] or [key for key in _waited(objects, brought) if key not in there]
    if gone:
        raise StorageError(f"{gone[0]} does not wait any more, as if others brought the same at this time: try again")


def _waited(objects: Objects, brought: Brought) -> Iterator[str]:
    """Keys of all that is brought but for the lists of it, which are there."""
    for snapshot in brought.snapshots.values():
        yield from parts(objects, snapshot).values()
    for digest in brought.arrays.values():
        listed = Arrays.from_bytes(_present(objects, layout.arrived(digest)))
        yield from (layout.arrived(part) for part, _size in listed.objects.values())


def take_in(authority: Authority, versioned: VersionedKV, state: State) -> None:
    """Take in what somebody brought and left waiting.

    Raises
    ------
    AuthorityUnavailableError
        If something waits while the keys are being moved.
    """
    if authority.kv.get(layout.row_pending(layout.UNVERSIONED)) is not None:
        with alone(authority):
            take_in_alone(authority, versioned, state)


def take_in_alone(authority: Authority, versioned: VersionedKV, state: State) -> list[str]:
    """Take in what waits (see `alone`): arrays first, then all keys in one transaction.

    Returns
    -------
    list of str
        Data ids of which the repo kept data of its own that differ.

    Raises
    ------
    AuthorityUnavailableError
        If something waits while the keys are being moved.
    """
    kv, objects = authority.kv, authority.objects
    row = kv.get(layout.row_pending(layout.UNVERSIONED))
    brought = None if row is None else Brought.from_json(orjson.loads(row)).against(state)
    if row is None or brought is None:
        return []  # or they go with versions that have not been published
    taking = _Taking(authority, versioned, brought, {info.data_uuid: info for info in state.every_instance()})
    with authority.writer(layout.UNVERSIONED).write() as stage:
        if brought.arrays and brought.decided is None:
            # From here on arrays change: who comes after a crash must not take them for the repo's own.
            brought = taking.brought = replace(brought, decided=tuple(taking.decided()))
            row = orjson.dumps(brought.to_json())
            mark(authority, brought)
        taking.place(stage)
        left = kv.transact(lambda txn: taking.write(txn, row))
    if left is not None:
        drop(objects, brought)
    return left or []


@dataclass
class _Taking:
    authority: Authority
    versioned: VersionedKV
    brought: Brought
    infos: Mapping[str, InstanceInfo]

    def decided(self) -> list[str]:
        """Instances that are taken in: those without data here, or all."""
        return [i for i in self.brought.instances if self.brought.replace or not self._has_data(i)]

    def _has_data(self, instance: str) -> bool:
        keys = self.versioned.at(bytes.fromhex(instance), POSITION)
        if next(iter(keys.scan_keys(limit=1)), None) is not None:
            return True
        info = self.infos.get(instance)
        return info is not None and any(map(sharedarrays.is_data, sharedarrays.stored(self.authority.objects, info)))

    def place(self, stage: str) -> None:
        """Put the arrays of instances in place."""
        for instance in self.brought.decided or ():
            arrays = waiting_arrays(self.authority.objects, self.brought, self.infos[instance])
            if arrays is not None:
                sharedarrays.place(self.authority.objects, self.infos[instance], arrays, stage)

    def write(self, txn: Transaction, row: bytes) -> list[str] | None:
        """Write keys and rows, and forget what waited; None if another has done so."""
        pending = layout.row_pending(layout.UNVERSIONED)
        if txn.get(pending) != row:
            return None
        txn.delete(pending)
        return [i for i in self.brought.instances if not self._write(txn, i)]

    def _write(self, txn: Transaction, instance: str) -> bool:
        """Take in one instance; False if other data are kept."""
        brought, objects = self.brought, self.authority.objects
        keys = self.versioned.within(txn, bytes.fromhex(instance), POSITION)
        info, snapshot = self.infos.get(instance), brought.snapshots.get(instance)
        rows = [] if snapshot is None else list(_waiting(objects, snapshot))
        if instance not in brought.added:
            # Some keys stay with each repo, such as the last label given.
            mine = [item for item in keys.scan() if not _is_own(info, item[0])]
            rows = [item for item in rows if not _is_own(info, item[0])]
            if brought.decided is None:
                if all(a == b for a, b in zip_longest(mine, rows)):
                    return True
                if mine and not brought.replace:
                    return False
            elif instance not in brought.decided:
                return False
            for key, _value in mine:
                keys.delete(key)
        if info is not None:
            datatypes.known().arrived(info, keys, rows)
        for key, value in rows:
            assert value is not None  # nothing lies below that could be deleted
            if instance not in brought.added or keys.get(key) is None:
                keys.put(key, value)
        arrays = None if info is None else waiting_arrays(objects, brought, info)
        if info is not None and arrays is not None:
            sharedarrays.write_rows(txn, info, arrays.rows)
        return True


def _is_own(info: InstanceInfo | None, key: bytes) -> bool:
    return info is not None and datatypes.known().is_own_key(info, key)


def _waiting(objects: Objects, snapshot: Snapshot) -> Sidecar:
    """Keys that wait."""
    places = parts(objects, snapshot)
    return Sidecar(lambda name: objects.get(places[name]) if name in places else None)


def show(objects: Objects, brought: Brought, state: State, own: Collection[str]) -> list[str]:
    """The same where there are no keys: what was brought becomes what readers see.

    Parameters
    ----------
    state
        What the sender's log says.
    own
        Data ids of instances that the repo has already.
    """
    known, left, dropped = read(objects), [], set[str]()
    infos = {info.data_uuid: info for info in state.every_instance()}
    shown = dict(Tree.from_bytes(objects.get(layout.tree(layout.UNVERSIONED)) or Tree().to_bytes()).entries)
    for instance in brought.instances:
        snapshot, mine, info = brought.snapshots.get(instance), known.get(instance), infos.get(instance)
        stored = sharedarrays.stored(objects, info) if info is not None and instance in own else ()
        has_arrays = any(map(sharedarrays.is_data, stored))
        if snapshot is not None and mine is not None and mine.sums == snapshot.sums and instance not in brought.arrays:
            continue
        if ((mine is not None and mine.keys) or has_arrays) and not brought.replace and instance not in brought.added:
            left.append(instance)
            continue
        arrays = None if info is None else waiting_arrays(objects, brought, info)
        if info is not None and arrays is not None:
            sharedarrays.place(objects, info, arrays, "tmp")
            shown |= {path: Entry.from_json(entry) for path, entry in arrays.rows.items()}
        if snapshot is not None:
            rows = _waiting(objects, snapshot)
            joined = iter(rows)
            if mine is not None and mine.keys and instance in brought.added:
                joined = folded([mine.open(objects).sidecars[0], rows], keep_deleted=False)
            known[instance] = store(objects, instance, joined, snapshot.time, mine)
            dropped.add(mine.before if mine is not None else "")
    if brought.arrays:
        objects.put(layout.tree(layout.UNVERSIONED), Tree(shown).to_bytes())
    write(objects, known)
    forget(objects, dropped)
    drop(objects, brought)
    return left


def _present(objects: Objects, key: str) -> bytes:
    data = objects.get(key)
    if data is None:
        raise StorageError(f"{key} is missing")
    return data


def drop(objects: Objects, brought: Brought) -> None:
    """Remove objects that waited."""
    for snapshot in brought.snapshots.values():
        if objects.size(layout.arrived(snapshot.sums)) is not None:
            for key in parts(objects, snapshot).values():
                objects.delete(key)
            objects.delete(layout.arrived(snapshot.sums))
    for digest in brought.arrays.values():
        listed = objects.get(layout.arrived(digest))
        if listed is not None:
            for part, _size in set(Arrays.from_bytes(listed).objects.values()):
                objects.delete(layout.arrived(part))
            objects.delete(layout.arrived(digest))
