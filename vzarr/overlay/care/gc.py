"""Garbage: what interrupted writes left behind and no version needs, found first and removed only on request."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from vzarr.errors import InvalidInputError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry
from vzarr.overlay.history.state import State
from vzarr.overlay.keys import unversioned
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.objects.base import Objects

GRACE_SECONDS = 24 * 3600.0
"""How old what looks unfinished must be before it counts as abandoned: a tag or merge under way looks the same."""
KEPT_CHECKPOINTS = 2
_CHECKPOINT = re.compile(r"checkpoint-\d{20}\.(?:table|json)")


@dataclass(frozen=True)
class Garbage:
    """One thing that nobody needs.

    Parameters
    ----------
    kind
        ``node`` (a folder that the log does not know), ``unfinished`` (an object that was never put in place),
        ``removed`` (a folder whose removal was cut off),
        ``pins`` (of an adoption that was cut off or deleted, in a root that is open), ``journal`` (of a writer that is
        gone), ``snapshot`` (of keys outside of versions, that no list names), ``checkpoint`` (older than those in use),
        ``rows`` (of the key authority, of a version that is sealed) or ``instance`` (what a deleted one keeps outside
        of sealed versions, see `collect`).
    place
        Object, folder, version whose rows they are, or data id; keys are relative to the repo.
    objects, nbytes
        How much there is.
    """

    kind: str
    place: str
    objects: int
    nbytes: int


def find(objects: Objects, authority: Authority, state: State, grace: float = GRACE_SECONDS) -> list[Garbage]:
    """Everything that may be removed now.

    Parameters
    ----------
    objects, authority, state
        The repo, its key authority, and what its log says.
    grace
        Seconds for which nothing may have been written to what looks unfinished.  Where the store does not tell when
        an object was written, such things count only with a grace of 0.

    Raises
    ------
    InvalidInputError
        If the grace is no number of seconds.
    """
    if not 0 <= grace < math.inf:
        raise InvalidInputError(f"what is left alone is younger than 0 or more seconds, not {grace}")
    old = time.time() - grace
    return [
        *_nodes(objects, state, old, grace),
        *_unfinished(objects, old, grace),
        *_pins(objects, authority, state, old, grace),
        *_snapshots(objects, authority, old, grace),
        *_journals(objects, authority, state, old, grace),
        *_checkpoints(objects),
        *_rows(authority, state),
    ]


def remove(objects: Objects, authority: Authority, garbage: Sequence[Garbage]) -> None:
    """Remove what `find` found; may be done again after it was interrupted."""
    for each in garbage:
        if each.kind == "rows":
            authority.finish_close(each.place)
        elif each.kind in ("node", "journal", "snapshot", "removed"):
            objects.delete_tree(each.place)
        elif each.kind == "pins":
            _remove_pins(objects, authority, each.place)
        else:
            objects.delete(each.place)


def _nodes(objects: Objects, state: State, old: float, grace: float) -> Iterator[Garbage]:
    for node in objects.list_dir("nodes")[0]:
        if node not in state.nodes and node != layout.UNVERSIONED:
            yield from _folder(objects, "node", layout.node(node), old, grace)


def _unfinished(objects: Objects, old: float, grace: float) -> Iterator[Garbage]:
    folders, files = objects.list_dir("tmp")
    for name in folders:
        yield from _folder(objects, "removed", f"tmp/{name}", old, grace)
    for key in (f"tmp/{name}" for name in files):
        if _abandoned(objects, key, old, grace):
            yield Garbage("unfinished", key, 1, objects.size(key) or 0)


def _pins(objects: Objects, authority: Authority, state: State, old: float, grace: float) -> Iterator[Garbage]:
    """Pins that no array of the open root names; those of a sealed one are part of its seal."""
    if state.root not in state.nodes or state.nodes[state.root].sealed:
        return
    prefix = layout.row_tree(state.root, "")
    entries = (Entry.from_json(orjson.loads(row)) for _, row in authority.kv.scan(prefix, layout.after(prefix)))
    used = {e.source.get("pins") for e in entries if isinstance(e, ArrayEntry) and e.source is not None}
    for key, size in objects.walk(layout.pins(state.root, "").rstrip("/")):
        if key not in used and _abandoned(objects, key, old, grace):
            yield Garbage("pins", key, 1, size)


def _remove_pins(objects: Objects, authority: Authority, key: str) -> None:
    try:
        # A commit waits for the lease: what it has counted already stays.
        with authority.writer(key.split("/")[1]).write():
            objects.delete(key)
    except SealedError:
        return


def _snapshots(objects: Objects, authority: Authority, old: float, grace: float) -> Iterator[Garbage]:
    """Snapshots that no list names, and objects that wait though no row says so."""
    folder = layout.node(layout.UNVERSIONED)
    used = {name for s in unversioned.read(objects).values() for name in (s.name, s.before)}
    for name in set(objects.list_dir(f"{folder}/keys")[0]) - used:
        yield from _folder(objects, "snapshot", layout.keys(layout.UNVERSIONED, name), old, grace)
    for name in set(objects.list_dir(f"{folder}/sums")[1]) - used:
        if _abandoned(objects, layout.snapshot_sums(name), old, grace):
            yield Garbage("unfinished", layout.snapshot_sums(name), 1, objects.size(layout.snapshot_sums(name)) or 0)
    if authority.kv.get(layout.row_pending(layout.UNVERSIONED)) is None:
        for key, size in objects.walk(layout.arrived("").rstrip("/")):
            if _abandoned(objects, key, old, grace):
                yield Garbage("unfinished", key, 1, size)


def _journals(objects: Objects, authority: Authority, state: State, old: float, grace: float) -> Iterator[Garbage]:
    """Folders of leases that have ended; what waits in an open version to be put in place is not one of them."""
    now = time.time()
    for node in [*state.nodes, layout.UNVERSIONED]:
        sealed = node in state.nodes and state.nodes[node].sealed
        folder = layout.stages(node)
        # Nothing seals what belongs to no version, and so takes away what was never put in place there.
        every = sealed or node == layout.UNVERSIONED
        leases = [n for n in objects.list_dir(folder)[0] if every or not layout.is_aside(n)]
        living = authority.leases(node) if leases and not sealed else set()
        for name in leases:
            if name not in living:
                when = (now, 0.0) if sealed else (old, grace)
                yield from _folder(objects, "journal", f"{folder}/{name}", *when)


def _checkpoints(objects: Objects) -> Iterator[Garbage]:
    names = [n for n in objects.list_dir("log")[1] if _CHECKPOINT.fullmatch(n)]
    for name in names[:-KEPT_CHECKPOINTS]:
        yield Garbage("checkpoint", f"log/{name}", 1, objects.size(f"log/{name}") or 0)


def _rows(authority: Authority, state: State) -> Iterator[Garbage]:
    """Rows that a commit did not come to forget after the log had its seal."""
    for info in state.nodes.values():
        if info.sealed:
            prefix, kept = layout.node_rows(info.id), layout.row_state(info.id)
            rows = [(k, v) for k, v in authority.kv.scan(prefix, layout.after(prefix)) if k != kept]
            if rows:
                yield Garbage("rows", info.id, len(rows), sum(len(k) + len(v) for k, v in rows))


def _folder(objects: Objects, kind: str, folder: str, old: float, grace: float) -> Iterator[Garbage]:
    found = list(objects.walk(folder))
    if all(_abandoned(objects, key, old, grace) for key in [folder, *(k for k, _ in found)]):
        yield Garbage(kind, folder, len(found), sum(max(0, size) for _, size in found))


def _abandoned(objects: Objects, key: str, old: float, grace: float) -> bool:
    """Whether an object or folder was last touched before the moment `old`."""
    path = objects.path(key)
    if path is None:
        return grace <= 0
    try:
        return Path(path).lstat().st_mtime <= old
    except FileNotFoundError:
        return False
