"""Data of no version on their way: whose a transfer brings, and the copying of keys and arrays to where they wait.

Who has none of an instance's gets them.  Data that both repos have are left alone, for nothing tells whose are newer,
unless the sender's are asked to take their place.

Arrays change while they are copied.  So they are looked at again and again, until nothing has changed between two
looks; where that does not come to an end, writers of the source pause for the last one, if it lets them.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from vzarr.errors import FormatError
from vzarr.overlay import datatypes, layout
from vzarr.overlay.history.state import InstanceInfo, State
from vzarr.overlay.keys.brought import Brought
from vzarr.overlay.keys.sharedarrays import PLACE, Arrays
from vzarr.overlay.keys.unversioned import Snapshot
from vzarr.overlay.kv.sidecar import Change, Sidecar
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.sealing import seal
from vzarr.overlay.transfer.copying import WORKERS, Progress, Reading, Row, Writing, checked, copy_rows
from vzarr.overlay.transfer.place import Place
from vzarr.overlay.transfer.shared import Shared
from vzarr.overlay.views.paths import is_key

LOOKS = 4
"""How often arrays are looked at before their writers must pause."""


@dataclass(frozen=True)
class Choice:
    """What of a sender's data of no version a receiver gets.

    Parameters
    ----------
    instances
        Unversioned instances whose data are brought.
    added
        Data ids of keys that belong to no instance, and are added.
    kept
        Names of instances of which the receiver keeps other data of its own.
    """

    instances: tuple[InstanceInfo, ...]
    added: frozenset[str]
    kept: tuple[str, ...]


def choose(
    source: Place, target: Place, state: State, known: Collection[str], theirs: Shared, *, replace: bool
) -> Choice:
    """What is brought to a repo.

    Parameters
    ----------
    source, target
        From where to where.
    state
        What the sender's log says.
    known
        Data ids of instances that the receiver has, or will have.
    theirs
        What the source has.
    replace
        Whether the sender's data take the place of the receiver's.
    """
    infos, mine = {info.data_uuid: info for info in state.every_instance()}, target.shared()
    fresh = {i for i, s in theirs.snapshots.items() if i not in mine.snapshots or mine.snapshots[i].sums != s.sums}
    taken, kept = [], []
    for info in infos.values():
        # What a versioned instance keeps outside of versions is each repo's own (see `Brought.against`).
        if info.versioned or info.data_uuid not in known:
            continue
        if not theirs.has(info):
            taken += [info] if theirs.below(info) and not mine.below(info) else []
        elif not mine.has(info) or replace:
            taken += [info] if info.data_uuid in fresh or theirs.below(info) else []
        elif theirs.sizes(info) != mine.sizes(info) or _keys_differ(source, target, theirs, mine, info):
            kept.append(info.name)
    return Choice(tuple(taken), frozenset(fresh - infos.keys()), tuple(sorted(kept)))


def _keys_differ(source: Place, target: Place, theirs: Shared, mine: Shared, info: InstanceInfo) -> bool:
    """Whether two repos have different keys of an instance, but for those that are each repo's own."""
    a, b = theirs.snapshots.get(info.data_uuid), mine.snapshots.get(info.data_uuid)
    if a is not None and b is not None and a.sums == b.sums:
        return False
    return any(x != y for x, y in zip_longest(_shared_keys(source, a, info), _shared_keys(target, b, info)))


def _shared_keys(place: Place, snapshot: Snapshot | None, info: InstanceInfo) -> Iterator[Change]:
    if snapshot is not None:
        folder = layout.keys(layout.UNVERSIONED, snapshot.name)
        keys = Sidecar(lambda name: place.get(f"{folder}/{name}"))
        yield from (item for item in keys if not datatypes.known().is_own_key(info, item[0]))


def bring(
    source: Place, target: Place, seen: Shared, choice: Choice, *, replace: bool, progress: Progress | None = None
) -> tuple[Brought, int]:
    """Copy keys and arrays to where they wait, all of one moment; what waits, and the number of bytes.

    Parameters
    ----------
    source, target
        From where to where.
    seen
        What the source had at the first look.
    choice
        What is copied.
    replace
        Whether they will take the place of what is there.
    progress
        Told of each object.

    Raises
    ------
    ConflictError
        If arrays change all the time.
    FormatError, StorageError
        If an object is not what it was said to be, or is missing.
    """
    infos = choice.instances
    copies = _Copies(source, target, progress)
    for _ in range(LOOKS if any(map(seen.below, infos)) else 0):
        if not copies.catch_up(seen, infos):
            break
        seen = source.shared()
    else:
        if any(map(seen.below, infos)):
            with source.quiet():
                seen = source.shared()
                copies.catch_up(seen, infos)
    arrays = {}
    for info in infos:
        if seen.below(info):
            arrays[info.data_uuid] = copies.put(copies.arrays(seen, info).to_bytes()).digest
    wanted = choice.added | {info.data_uuid for info in choice.instances}
    snapshots = {i: snapshot for i, snapshot in sorted(seen.snapshots.items()) if i in wanted}
    moved = _copy_keys(source, target, snapshots.values(), progress)
    return Brought(snapshots, replace, choice.added, arrays), copies.nbytes + moved


class _Copies:
    """Objects of arrays that were copied, each as it was when its stamp was read."""

    def __init__(self, source: Place, target: Place, progress: Progress | None) -> None:
        self._source, self._target, self._progress = source, target, progress
        self._held: dict[str, tuple[str, Row]] = {}
        self._keys: dict[str, str] = {}
        self._lock = threading.Lock()
        self.nbytes = 0

    def catch_up(self, seen: Shared, infos: Sequence[InstanceInfo]) -> bool:
        """Copy what is not as it was; whether there was anything, of arrays or of keys."""
        found = {key: stamp for info in infos for key, (_size, stamp) in seen.below(info).items()}
        keys = {i: snapshot.sums for i, snapshot in seen.snapshots.items()}
        changed = self._held.keys() - found.keys() or keys != self._keys
        for key in self._held.keys() - found.keys():
            del self._held[key]
        self._keys = keys
        held = self._held
        todo = [(k, stamp) for k, stamp in found.items() if not stamp or k not in held or held[k][0] != stamp]

        def copy(item: tuple[str, str]) -> bool:
            key, stamp = item
            data = self._source.get(f"{PLACE}/{key}")
            row = None if data is None else self.put(data)
            old = self._held.pop(key, None)
            if row is not None:
                self._held[key] = stamp, row
            if self._progress is not None:
                self._progress(len(todo), len(data or b""))
            return row != (None if old is None else old[1])

        return any(share(copy, todo, WORKERS)) or bool(changed)

    def put(self, data: bytes) -> Row:
        """Let an object wait, under its hash."""
        digest = seal.sha256(data)
        row = Row(layout.arrived(digest), len(data), digest)
        if self._target.lacking([row]):
            self._target.put(row.key, data)
            with self._lock:
                self.nbytes += len(data)
        return row

    def arrays(self, seen: Shared, info: InstanceInfo) -> Arrays:
        """What was copied of an instance."""
        held = {key: self._held[key][1] for key in seen.below(info) if key in self._held}
        return Arrays({key: (row.digest, row.size) for key, row in held.items()}, seen.rows_of(info))


def _copy_keys(source: Reading, target: Writing, snapshots: Iterable[Snapshot], progress: Progress | None) -> int:
    """Copy the objects of snapshots to where they wait, each checked."""
    found = [row for snapshot in snapshots for row in rows(source, snapshot)]
    waiting = {row.digest: Row(layout.arrived(row.digest), row.size, row.digest, row.key) for row in found}
    return copy_rows(source, target, list(waiting.values()), progress)


def rows(source: Reading, snapshot: Snapshot) -> list[Row]:
    """Every object of a snapshot; the list of their checksums comes last.

    Raises
    ------
    FormatError
        If that list is not the snapshot's, or it is of a release that wrote none.
    StorageError
        If it is missing.
    """
    folder, listed = layout.keys(layout.UNVERSIONED, snapshot.name), layout.snapshot_sums(snapshot.name)
    if not snapshot.sums:
        raise FormatError(
            f"{folder} was written by an early release without checksums: commit once, where its keys are"
        )
    data = checked(source, listed, snapshot.sums)
    try:
        found = [Row(f"{folder}/{part}", size, digest) for part, size, digest in seal.read_sums(data)]
    except ValueError as e:
        raise FormatError(f"{listed} is damaged: {e}") from e
    strange = [row.key for row in found if not is_key(row.key) or "\\" in row.key]
    if strange:
        raise FormatError(f"{listed} names {strange[0]!r}, which is no object of the snapshot")
    return [*found, Row(listed, len(data), snapshot.sums)]


def check_waiting(target: Reading, brought: Brought, infos: Iterable[InstanceInfo]) -> None:
    """Refuse what is brought if not every object of it waits whole, or it is not what its instance can have stored.

    Parameters
    ----------
    infos
        Of all instances that the target has, or is about to have.

    Raises
    ------
    StorageError, FormatError
        Naming the first.
    """
    for snapshot in brought.snapshots.values():
        sums = checked(target, layout.arrived(snapshot.sums), snapshot.sums)
        try:
            for _part, _size, digest in seal.read_sums(sums):
                checked(target, layout.arrived(digest), digest)
        except ValueError as e:
            raise FormatError(f"{layout.arrived(snapshot.sums)} is damaged: {e}") from e
    known = {info.data_uuid: info for info in infos}
    for instance, digest in brought.arrays.items():
        arrays = Arrays.from_bytes(checked(target, layout.arrived(digest), digest))
        if instance not in known:
            raise FormatError(f"arrays are brought of {instance}, which is no instance")
        arrays.check(known[instance])
        waiting = sorted(set(arrays.objects.values()))
        share(lambda part: checked(target, layout.arrived(part[0]), part[0]), waiting, WORKERS)
