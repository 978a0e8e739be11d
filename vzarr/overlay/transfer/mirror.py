"""A mirror: a backup that is brought up to date again and again, with the log word for word and all that is sealed.

Its keys stay with the repo, so it can be read, not written, until ``vzarr rebuild-keys`` makes it a repo of its own.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import replace

import orjson

from vzarr.errors import AlreadyExistsError, AuthorityUnavailableError, InvalidInputError
from vzarr.overlay import layout, opening
from vzarr.overlay.history.state import State
from vzarr.overlay.keys import unversioned
from vzarr.overlay.keys.unversioned import Snapshot
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.memory import MemoryObjects
from vzarr.overlay.transfer import outside
from vzarr.overlay.transfer.copying import Progress, adding_up, copy_nodes, copy_rows
from vzarr.overlay.transfer.places import Place, StoredPlace, existing
from vzarr.overlay.transfer.verbs import Transferred


def mirror(source: Place, target: Place, *, progress: Progress | None = None) -> Transferred:
    """Make a mirror of a repo, or bring one up to date.

    Parameters
    ----------
    source, target
        From where to where; neither a server's.
    progress
        Told of each object.

    Raises
    ------
    InvalidInputError
        If either cannot be mirrored, or be a mirror.
    AlreadyExistsError
        If the target is something else, or was used as a repo of its own.
    NotFoundError
        If the source is no repo.
    """
    if not isinstance(source, StoredPlace) or not isinstance(target, StoredPlace):
        raise InvalidInputError("a mirror is made from a folder or store to another one; servers take clones")
    if isinstance(target.objects, MemoryObjects):
        raise InvalidInputError("a mirror in memory would end with this process")
    state = existing(source)
    meta = opening.read_meta(source.objects)
    if meta.get("partial"):
        raise InvalidInputError(f"{source.url} is a partial clone, and a mirror has everything: mirror the original")
    _claim(target.objects, meta)
    there, progress = target.state(), adding_up(progress)
    _check_follows(source.objects, target.objects, there)
    nodes = [n for n, info in state.nodes.items() if info.sealed and not _has(there, n)]
    moved = copy_nodes(source, target, state, nodes, progress)
    moved += _copy_unversioned(source, target, progress)
    for number in range(there.next, state.next):
        data = source.objects.get(layout.log_entry(number))
        assert data is not None  # the state is made of these
        target.objects.create(layout.log_entry(number), data)
    if state.next > there.next:
        _write_hints(target.objects, state)
    return Transferred(nodes, moved)


def _has(state: State, node: str) -> bool:
    return node in state.nodes and state.nodes[node].sealed


def _claim(objects: Objects, meta: dict[str, object]) -> None:
    """Make ``vzarr.json``; what is there must be a mirror of the same repo that nobody works in."""
    keys = {"id": secrets.token_hex(16), "url": opening.EMBEDDED}
    made = {**meta, "keys": keys, "mirror": True}
    if objects.create(layout.REPO, orjson.dumps(made, option=orjson.OPT_INDENT_2)):
        return
    found = opening.read_meta(objects)
    if not found.get("mirror") or found["root"] != meta["root"]:
        raise AlreadyExistsError(f"{objects.url} is a repo already, and no mirror of this one")
    try:
        with closing(opening.open_authority(objects, found)):
            pass
    except AuthorityUnavailableError:
        return
    raise AlreadyExistsError(f"{objects.url} has keys of its own now: it is a repo, and pulls")


def _check_follows(source: Objects, target: Objects, there: State) -> None:
    """Refuse a mirror whose newest entry is not the source's."""
    if there.next:
        key = layout.log_entry(there.next - 1)
        if source.get(key) != target.get(key):
            raise AlreadyExistsError(f"{target.url} does not follow {source.url}: their logs differ at {key}")


def _copy_unversioned(source: StoredPlace, target: StoredPlace, progress: Progress | None) -> int:
    """Snapshots of keys that belong to no version; the list of them last."""
    known, dropped, rows = unversioned.read(target.objects), set[str](), []
    for instance, snapshot in source.snapshots().items():
        old = known.get(instance, Snapshot("", 0, ""))
        if old.name != snapshot.name:
            rows += outside.rows(source, snapshot)
            known[instance] = replace(snapshot, before=old.name)
            dropped.add(old.before)
    moved = copy_rows(source, target, rows, progress)
    if rows:
        unversioned.write(target.objects, known)
    unversioned.forget(target.objects, dropped)
    return moved


def _write_hints(objects: Objects, state: State) -> None:
    base = state.compact()
    objects.put(layout.checkpoint(state.next - 1), base.to_bytes())
    hint = {"checkpoint": state.next - 1, "state": base.since(base)}
    objects.put(layout.LATEST, orjson.dumps(hint))
