"""Keys of no version on their way: which instances' a transfer brings, and the copying of their snapshots.

Who has none of an instance's gets them.  Data that both repos have are left alone, for nothing tells whose are newer,
unless the sender's are asked to take their place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.brought import Brought
from vzarr.overlay.keys.unversioned import Snapshot
from vzarr.overlay.sealing import seal
from vzarr.overlay.transfer.copying import Progress, Reading, Row, Writing, checked, copy_rows
from vzarr.overlay.views.paths import is_key

Snapshots = Mapping[str, Snapshot]
"""The newest ones of a repo, by data id."""


def choose(
    state: State, known: Collection[str], theirs: Snapshots, mine: Snapshots, *, replace: bool
) -> tuple[Brought, list[str]]:
    """What is brought to a repo, and data ids of what it keeps of its own instead.

    Parameters
    ----------
    state
        What the sender's log says.
    known
        Data ids of instances that the receiver has, or will have.
    theirs, mine
        The sender's snapshots and the receiver's.
    replace
        Whether the sender's data take the place of the receiver's.
    """
    infos = {info.data_uuid: info for info in state.every_instance()}
    fresh = {i: s for i, s in theirs.items() if i not in mine or mine[i].sums != s.sums}
    added = fresh.keys() - infos.keys()
    # What a versioned instance keeps outside of versions is each repo's own (see `Brought.against`).
    meant = {i for i in fresh if i in added or (i in known and not infos[i].versioned)}
    left = [i for i in meant - added if not replace and i in mine and mine[i].keys]
    return Brought({i: fresh[i] for i in sorted(meant.difference(left))}, replace, frozenset(added)), sorted(left)


def copy(source: Reading, target: Writing, brought: Brought, progress: Progress | None = None) -> int:
    """Copy the objects of snapshots to where they wait to be taken in, each checked; gives the number of bytes.

    Raises
    ------
    FormatError
        If one is not what its snapshot says.
    StorageError
        If one is missing.
    """
    found = [row for snapshot in brought.snapshots.values() for row in rows(source, snapshot)]
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


def check_waiting(target: Reading, brought: Brought) -> None:
    """Refuse snapshots of which not every object waits whole.

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
