"""Snapshots of keys that belong to no version, beside the versions: for readers without keys, and for `rebuildkeys`.

A commit writes one of each instance whose keys outside of versions changed since its last, and so does who is about to
copy them.  It says what they were at that time; it is no part of any seal.  The format is in docs/format.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import orjson

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.history.dag import Position
from vzarr.overlay.keys import keylayers
from vzarr.overlay.keys.locks import Locks
from vzarr.overlay.kv import sidecar
from vzarr.overlay.kv.base import OrderedKV, Transaction
from vzarr.overlay.kv.sealed import Layer, SealedKeys, Stack
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.kv.versioned import VersionedKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal

POSITION = Position(0, 0)
"""In place of a version's."""


@dataclass(frozen=True)
class Snapshot:
    """Keys of one instance outside of versions, as they were once.

    Parameters
    ----------
    name
        Name of their sidecar below ``nodes/unversioned/keys/``.
    keys
        Their number.
    time
        When (UTC, RFC 3339).
    before
        Name of the one before, which stays for readers who are about to open it; "" for none.
    sums
        SHA-256 of the list of its objects' checksums; equal for equal keys.  "" in snapshots of early repos.
    """

    name: str
    keys: int
    time: str
    before: str = ""
    sums: str = ""

    def open(self, objects: Objects) -> SealedKeys:
        """The keys."""
        return keylayers.keys_of(objects, Stack((Layer(layout.UNVERSIONED, self.name, self.keys),)))


def read(objects: Objects) -> dict[str, Snapshot]:
    """The newest snapshot of each instance that has one, by data id.

    Raises
    ------
    FormatError
        If their list is damaged or of a newer format.
    """
    data = objects.get(layout.unversioned())
    if data is None:
        return {}
    try:
        plain = orjson.loads(data)
        known = plain["format"] <= layout.FORMAT
        found = {instance: Snapshot(**row) for instance, row in plain["instances"].items()} if known else {}
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as e:
        raise FormatError(f"{layout.unversioned()} is damaged: {e}") from e
    if not known:
        raise FormatError(f"{layout.unversioned()} has format {plain['format']}: upgrade vzarr")
    return found


def write(objects: Objects, snapshots: Mapping[str, Snapshot]) -> None:
    """Make some snapshots, by data id, the newest; what they replace is removed by `forget`."""
    plain = {"format": layout.FORMAT, "instances": {i: asdict(s) for i, s in sorted(snapshots.items())}}
    objects.put(layout.unversioned(), orjson.dumps(plain, option=orjson.OPT_INDENT_2))


def forget(objects: Objects, names: Iterable[str]) -> None:
    """Remove snapshots that nobody is about to open any more."""
    for name in set(names) - {""}:
        objects.delete_tree(layout.keys(layout.UNVERSIONED, name))
        objects.delete(layout.snapshot_sums(name))


def take(objects: Objects, kv: OrderedKV, versioned: VersionedKV, alone: AbstractContextManager[None]) -> None:
    """Write a snapshot of every instance whose keys outside of versions changed since the last one.

    Parameters
    ----------
    alone
        Context in which nobody else takes any.
    """
    if not versioned.changed_outside(kv) and all(s.sums for s in read(objects).values()):
        return
    with alone:
        turn = b"snapshot " + secrets.token_hex(4).encode()
        changed, known, dropped = kv.transact(_mark(versioned, turn)), read(objects), set[str]()
        with kv.snapshot() as moment:
            time = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            for instance in {*changed, *(bytes.fromhex(i) for i, s in known.items() if not s.sums)}:
                last = known.get(instance.hex())
                rows = versioned.changes(instance, 0, view=moment)
                known[instance.hex()] = store(objects, instance.hex(), rows, time, last)
                dropped.add("" if last is None else last.before)
        write(objects, known)
        kv.transact(_unmark(changed, turn))
        forget(objects, dropped)


def store(objects: Objects, instance: str, rows: Iterable[Change], time: str, last: Snapshot | None) -> Snapshot:
    """Write the objects of a snapshot, in place of the last one; it counts once `write` names it."""
    name, lines = f"{instance}~{secrets.token_hex(8)}", dict[str, str]()

    def put(part: str, data: bytes) -> None:
        objects.put(f"{layout.keys(layout.UNVERSIONED, name)}/{part}", data)
        lines[part] = f"{seal.sha256(data)} {len(data)} {part}\n"

    count = sidecar.write(rows, put)
    sums = "".join(line for _, line in sorted(lines.items())).encode()
    objects.put(layout.snapshot_sums(name), sums)
    return Snapshot(name, count, time, "" if last is None else last.name, seal.sha256(sums))


def drop(objects: Objects, locks: Locks, instance: str) -> None:
    """Remove the snapshots of an instance, by its data id; nothing happens where there are none."""
    with locks.alone(layout.node(layout.UNVERSIONED)):
        known = read(objects)
        last = known.pop(instance, None)
        if last is not None:
            write(objects, known)
            forget(objects, (last.name, last.before))


def _mark(versioned: VersionedKV, turn: bytes) -> Callable[[Transaction], list[bytes]]:
    """Let who writes from now on say again that the keys changed."""

    def mark(txn: Transaction) -> list[bytes]:
        changed = versioned.changed_outside(txn)
        for instance in changed:
            txn.put(layout.row_changed(instance), turn)
        return changed

    return mark


def _unmark(instances: Iterable[bytes], turn: bytes) -> Callable[[Transaction], None]:
    """Forget that keys changed, of those that did not change again."""

    def unmark(txn: Transaction) -> None:
        for row in map(layout.row_changed, instances):
            if txn.get(row) == turn:
                txn.delete(row)

    return unmark
