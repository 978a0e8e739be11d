"""Snapshots of keys that belong to no version, beside the versions: for readers without keys, and for `rebuildkeys`.

A commit writes one of each instance whose keys outside of versions changed since its last, and so does who is about to
copy them.  It says what they were at that time; it is no part of any seal.  The few rows that a versioned instance
keeps outside of versions stand in the list of snapshots itself, for they change with most edits.  The format is in
docs/format.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import orjson

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.history.dag import Position
from vzarr.overlay.keys import keylayers
from vzarr.overlay.keys.locks import Locks
from vzarr.overlay.kv import sidecar
from vzarr.overlay.kv.base import OrderedKV, Transaction
from vzarr.overlay.kv.batches import batched
from vzarr.overlay.kv.sealed import Layer, SealedKeys, Stack
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.kv.versioned import VersionedKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal

POSITION = Position(0, 0)
"""In place of a version's."""
LISTED = 1024
"""Bytes of keys and values that stand in the list of snapshots."""


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
        SHA-256 of the list of its objects' checksums, or of `rows`; equal for equal keys.  "" in snapshots of early
        repos.
    rows
        Keys and their values, both in hex, where there is no sidecar.
    """

    name: str
    keys: int
    time: str
    before: str = ""
    sums: str = ""
    rows: Mapping[str, str] | None = None

    def open(self, objects: Objects) -> SealedKeys:
        """The keys."""
        stack = Stack((Layer(layout.UNVERSIONED, self.name, self.keys),))
        if self.rows is None:
            return keylayers.keys_of(objects, stack)
        made: dict[str, bytes] = {}
        changes = ((bytes.fromhex(key), bytes.fromhex(value)) for key, value in sorted(self.rows.items()))
        sidecar.write(changes, lambda part, data: made.update({f"{self.name}/{part}": data}))
        return SealedKeys(stack, lambda _node, name: made.get(name))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def is_sound(self) -> bool:
        """Whether the rows that it lists are those that were."""
        return self.rows is None or _sums_of(self.rows) == self.sums


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
    # A repo may be a stranger's: no name leads out of the folder of snapshots, where they are removed by name.
    names = (name for s in found.values() for name in (s.name, s.before or s.name))
    strange = next((name for name in names if not layout.SNAPSHOT.fullmatch(str(name))), None)
    if strange is not None:
        raise FormatError(f"{layout.unversioned()} names {strange!r}, which is no snapshot")
    return found


def write(objects: Objects, snapshots: Mapping[str, Snapshot]) -> None:
    """Make some snapshots, by data id, the newest; what they replace is removed by `forget`."""
    plain = {"format": layout.FORMAT, "instances": {i: s.to_json() for i, s in sorted(snapshots.items())}}
    objects.put(layout.unversioned(), orjson.dumps(plain, option=orjson.OPT_INDENT_2))


def forget(objects: Objects, names: Iterable[str]) -> None:
    """Remove snapshots that nobody is about to open any more."""
    for name in set(names) - {""}:
        objects.delete_tree(layout.keys(layout.UNVERSIONED, name))
        objects.delete(layout.snapshot_sums(name))


def take(
    objects: Objects, kv: OrderedKV, versioned: VersionedKV, own: Collection[str], alone: AbstractContextManager[object]
) -> None:
    """Write a snapshot of every instance whose keys outside of versions changed since the last one.

    Parameters
    ----------
    own
        Data ids of versioned instances: what they keep outside of versions is each repo's own.
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
                is_own = instance.hex() in own
                few = next(batched(rows, weight=LISTED), []) if is_own else []
                if is_own and sum(len(key) + len(value or b"") for key, value in few) < LISTED:
                    known[instance.hex()] = _listed(instance.hex(), few, time, last)
                else:
                    known[instance.hex()] = store(objects, instance.hex(), chain(few, rows), time, last)
                dropped.add("" if last is None else last.before)
        write(objects, known)
        kv.transact(_unmark(changed, turn))
        forget(objects, dropped)


def store(objects: Objects, instance: str, rows: Iterable[Change], time: str, last: Snapshot | None) -> Snapshot:
    """Write the objects of a snapshot, in place of the last one; it counts once `write` names it."""
    name, lines = _new_name(instance), dict[str, str]()

    def put(part: str, data: bytes) -> None:
        objects.put(f"{layout.keys(layout.UNVERSIONED, name)}/{part}", data)
        lines[part] = f"{seal.sha256(data)} {len(data)} {part}\n"

    count = sidecar.write(rows, put)
    sums = "".join(line for _, line in sorted(lines.items())).encode()
    objects.put(layout.snapshot_sums(name), sums)
    return Snapshot(name, count, time, _sidecar_of(last), seal.sha256(sums))


def _listed(instance: str, changes: Iterable[Change], time: str, last: Snapshot | None) -> Snapshot:
    rows = {key.hex(): value.hex() for key, value in changes if value is not None}
    return Snapshot(_new_name(instance), len(rows), time, _sidecar_of(last), _sums_of(rows), rows)


def _new_name(instance: str) -> str:
    return f"{instance}~{secrets.token_hex(8)}"


def _sidecar_of(snapshot: Snapshot | None) -> str:
    return snapshot.name if snapshot is not None and snapshot.rows is None else ""


def _sums_of(rows: Mapping[str, str]) -> str:
    return seal.sha256(orjson.dumps(rows, option=orjson.OPT_SORT_KEYS))


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
