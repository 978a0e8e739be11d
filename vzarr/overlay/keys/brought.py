"""Keys of no version that come from another repo: they wait beside the versions, and are taken in at one stroke.

Who brings them writes their objects, each under its own hash, and then a row that says what they are.  Whoever uses the
keys next takes them in, if that did not come to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

import orjson

from vzarr.errors import StorageError
from vzarr.overlay import layout
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.unversioned import POSITION, Snapshot, forget, read, store, write
from vzarr.overlay.kv.base import OrderedKV, Transaction
from vzarr.overlay.kv.sealed import folded
from vzarr.overlay.kv.sidecar import Sidecar
from vzarr.overlay.kv.versioned import VersionedKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal


@dataclass(frozen=True)
class Brought:
    """Snapshots of another repo.

    Parameters
    ----------
    snapshots
        By data id.
    replace
        Whether they take the place of what is there; otherwise instances that have data keep them.
    added
        Data ids of which single keys are added: such as blobs, which have no instance and are named by their content.
    """

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    replace: bool = False
    added: frozenset[str] = frozenset()

    def against(self, state: State) -> Brought | None:
        """What of it can be taken in by a repo; None if that does not know all instances yet.

        What versioned instances keep outside of versions, such as the last label given, is each repo's own.
        """
        infos = {info.data_uuid: info for info in state.every_instance()}
        if not (infos.keys() | self.added).issuperset(self.snapshots):
            return None
        snapshots = {i: s for i, s in self.snapshots.items() if i not in infos or not infos[i].versioned}
        return Brought(snapshots, self.replace, frozenset(self.added) - infos.keys())

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        snapshots = {instance: asdict(snapshot) for instance, snapshot in self.snapshots.items()}
        return {"snapshots": snapshots, "replace": self.replace, "added": sorted(self.added)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Brought:
        """Inverse of `to_json`."""
        snapshots = {instance: Snapshot(**row) for instance, row in data["snapshots"].items()}
        return cls(snapshots, data["replace"], frozenset(data["added"]))


def parts(objects: Objects, snapshot: Snapshot) -> dict[str, str]:
    """Keys of the objects of a snapshot that waits, by their names in its sidecar.

    Raises
    ------
    StorageError
        If the list of them is missing.
    """
    sums = objects.get(layout.arrived(snapshot.sums))
    if sums is None:
        raise StorageError(f"{layout.arrived(snapshot.sums)} is missing")
    return {part: layout.arrived(digest) for part, _size, digest in seal.read_sums(sums)}


def mark(kv: OrderedKV, brought: Brought) -> None:
    """Note what waits, all of whose objects are in place."""
    kv.transact(lambda txn: txn.put(layout.row_pending(layout.UNVERSIONED), orjson.dumps(brought.to_json())))


def take_in(objects: Objects, kv: OrderedKV, versioned: VersionedKV, state: State) -> list[str]:
    """Take in what waits, in one transaction.

    Returns
    -------
    list of str
        Data ids of which the repo kept data of its own that differ.
    """
    pending = layout.row_pending(layout.UNVERSIONED)
    row = kv.get(pending)
    if row is None:
        return []
    brought = Brought.from_json(orjson.loads(row))
    meant = brought.against(state)
    if meant is None:
        return []  # they go with versions that have not been published
    sidecars = {instance: _waiting(objects, snapshot) for instance, snapshot in meant.snapshots.items()}

    def change(txn: Transaction) -> list[str] | None:
        if txn.get(pending) != row:
            return None
        txn.delete(pending)
        return [i for i in meant.snapshots if not _take_in(txn, versioned, i, sidecars[i], meant)]

    left = kv.transact(change)
    if left is not None:
        drop(objects, brought)
    return left or []


def _waiting(objects: Objects, snapshot: Snapshot) -> Sidecar:
    """Keys that wait."""
    places = parts(objects, snapshot)
    return Sidecar(lambda name: objects.get(places[name]) if name in places else None)


def _take_in(txn: Transaction, versioned: VersionedKV, instance: str, rows: Sidecar, brought: Brought) -> bool:
    """Take in the keys of one instance; False if other ones are kept."""
    keys = versioned.within(txn, bytes.fromhex(instance), POSITION)
    if instance not in brought.added:
        mine = list(keys.scan())
        if all(a == b for a, b in zip_longest(mine, rows)):
            return True
        if mine and not brought.replace:
            return False
        for key, _value in mine:
            keys.delete(key)
    for key, value in rows:
        assert value is not None  # nothing lies below that could be deleted
        if instance not in brought.added or keys.get(key) is None:
            keys.put(key, value)
    return True


def show(objects: Objects, brought: Brought) -> list[str]:
    """The same where there are no keys: the snapshots become those that readers see."""
    known, left, dropped = read(objects), [], set[str]()
    for instance, snapshot in brought.snapshots.items():
        mine, rows = known.get(instance), _waiting(objects, snapshot)
        if mine is not None and mine.sums == snapshot.sums:
            continue
        if mine is not None and mine.keys and instance in brought.added:
            joined = folded([mine.open(objects).sidecars[0], rows], keep_deleted=False)
        elif mine is not None and mine.keys and not brought.replace:
            left.append(instance)
            continue
        else:
            joined = iter(rows)
        known[instance] = store(objects, instance, joined, snapshot.time, mine)
        dropped.add(mine.before if mine is not None else "")
    write(objects, known)
    forget(objects, dropped)
    drop(objects, brought)
    return left


def drop(objects: Objects, brought: Brought) -> None:
    """Remove objects that waited."""
    for snapshot in brought.snapshots.values():
        if objects.size(layout.arrived(snapshot.sums)) is not None:
            for key in parts(objects, snapshot).values():
                objects.delete(key)
            objects.delete(layout.arrived(snapshot.sums))
