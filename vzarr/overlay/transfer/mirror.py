"""A mirror: a backup that is brought up to date again and again, with the log word for word and all that is sealed.

Its keys stay with the repo, so it can be read, not written, until ``vzarr rebuild-keys`` makes it a repo of its own.
It may hold open versions too, as they were at one moment (`taking`); they come back then.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import orjson

from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError, StorageError
from vzarr.overlay import layout, opening
from vzarr.overlay.history.checkpoints import head_of, write_hint
from vzarr.overlay.history.refs import check_node_id
from vzarr.overlay.history.state import State
from vzarr.overlay.keys import unversioned
from vzarr.overlay.keys.unversioned import Snapshot
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.memory import MemoryObjects
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.transfer import outside, taking
from vzarr.overlay.transfer.copying import Progress, adding_up, copy_nodes, copy_rows
from vzarr.overlay.transfer.places import Place, StoredPlace, existing
from vzarr.overlay.transfer.served import ServedPlace
from vzarr.overlay.transfer.servedmirror import ServedMirror
from vzarr.overlay.transfer.taking import Taken
from vzarr.overlay.transfer.verbs import Transferred

ENTRIES = 256
"""Entries of the log that are read together."""


def mirror(source: Place, target: Place, *, opened: bool = False, progress: Progress | None = None) -> Transferred:
    """Make a mirror of a repo, or bring one up to date.

    Parameters
    ----------
    source, target
        From where to where; of a server's, an administrator's token is needed.
    opened
        Also hold what open versions are at one moment, for which all writers pause; otherwise what the mirror holds of
        them from an earlier time stays.
    progress
        Told of each object.

    Raises
    ------
    InvalidInputError
        If either cannot be mirrored, or be a mirror.
    ForbiddenError
        Without a server's token.
    AlreadyExistsError
        If the target is something else, or was used as a repo of its own.
    NotFoundError
        If the source is no repo.
    AuthorityUnavailableError, ConflictError
        With `opened`: if the source's keys cannot be reached, or writers do not pause (see `taking.take`).
    """
    with _word_for_word(source) as here:
        state = existing(here)
        with _word_for_word(target, state.root) as there:
            _claim(here, there)
            return _bring_up_to_date(here, there, state, opened, adding_up(progress))


def _bring_up_to_date(
    source: StoredPlace, target: StoredPlace, state: State, opened: bool, progress: Progress | None
) -> Transferred:
    target.learn(source.stripes())
    there = target.state()
    _check_follows(source.objects, target.objects, there)
    nodes = _sealed_since(state, there)
    moved = copy_nodes(source, target, state, nodes, progress)
    taken = _take(source, target.objects, progress) if opened else None
    if taken is not None:
        later = [n for n in _sealed_since(taken.state, there) if n not in nodes]
        moved += taken.nbytes + copy_nodes(source, target, taken.state, later, progress)
        state, nodes = taken.state, [*nodes, *later]
    moved += _copy_unversioned(source, target, progress)
    _follow(source.objects, target.objects, range(there.next, state.next))
    if state.next > max(there.next, 1):  # a checkpoint of the first entry would be none
        _write_hints(target.objects, state)
    if taken is not None:
        _hold(target.objects, taken)
    return Transferred(nodes, moved)


def _sealed_since(state: State, there: State) -> list[str]:
    """Ids of versions to be copied; a repo may be a stranger's, and none leads out of the mirror."""
    known = {n for n, info in there.nodes.items() if info.sealed}
    return [check_node_id(n) for n, info in state.nodes.items() if info.sealed and n not in known]


def _follow(source: Objects, target: Objects, numbers: range) -> None:
    """Copy entries of the log, one after the other: none ever lacks the one before."""

    def get(number: int) -> bytes:
        data = source.get(layout.log_entry(number))
        assert data is not None  # the state is made of these
        return data

    for at in range(0, len(numbers), ENTRIES):
        some = numbers[at : at + ENTRIES]
        for number, data in zip(some, share(get, some, source.concurrency), strict=True):
            key = layout.log_entry(number)
            # Somebody else may have been quicker, or the answer to an earlier request was lost.
            if not target.create(key, data) and target.get(key) != data:
                raise AlreadyExistsError(f"{target.url} does not follow {source.url}: their logs differ at {key}")


def _hold(objects: Objects, taken: Taken) -> None:
    """Let what open versions are count, once the log knows them, and remove what was held before."""
    folder = layout.moment_object("").rstrip("/")
    there = {key for key, _size in objects.walk(folder)}
    used = {layout.moment_object(d) for d in [taken.moment.sums, *(h.digest for h in taken.held.values())]}
    if not there.issuperset(used):
        raise StorageError(f"somebody else removed objects below {objects.url}/{folder}: one mirrors here at a time")
    objects.put(layout.moment(), taken.moment.to_bytes())
    share(objects.delete, sorted(there - used), objects.concurrency)


def _take(source: StoredPlace, target: Objects, progress: Progress | None) -> Taken:
    if isinstance(source, ServedMirror):
        return source.take(target, progress)
    return taking.take(source, target, progress)


@contextmanager
def _word_for_word(place: Place, root: str = "") -> Iterator[StoredPlace]:
    """A place with all its objects; a server's is the repo that was named, or the one with that root."""
    if not isinstance(place, ServedPlace):
        assert isinstance(place, StoredPlace)  # there are no others
        yield place
        return
    if root:
        place.name(root)
    elif not place.is_named():
        raise NotFoundError(f"no repo at {place.url}")
    with closing(ServedMirror(place)) as served:
        yield served


def _claim(source: StoredPlace, target: StoredPlace) -> None:
    """Make ``vzarr.json``; what is there must be a mirror of the same repo that nobody works in."""
    objects, meta = target.objects, opening.read_meta(source.objects)
    if isinstance(objects, MemoryObjects):
        raise InvalidInputError("a mirror in memory would end with this process")
    if meta.get("partial"):
        raise InvalidInputError(f"{source.url} is a partial clone, and a mirror has everything: mirror the original")
    keys = {"id": secrets.token_hex(16), "url": opening.EMBEDDED}
    made = {**meta, "keys": keys, "mirror": True}
    if objects.create(layout.REPO, orjson.dumps(made, option=orjson.OPT_INDENT_2)):
        return
    found = opening.read_meta(objects)
    if not found.get("mirror") or found["root"] != meta["root"]:
        raise AlreadyExistsError(f"{objects.url} is a repo already, and no mirror of this one")
    if not target.is_mirror:
        raise AlreadyExistsError(f"{objects.url} has keys of its own now: it is a repo, and pulls")


def _check_follows(source: Objects, target: Objects, there: State) -> None:
    """Refuse a mirror whose newest entry is not the source's."""
    if there.next:
        key = layout.log_entry(there.next - 1)
        if source.get(key) != target.get(key):
            raise AlreadyExistsError(f"{target.url} does not follow {source.url}: their logs differ at {key}")


def _copy_unversioned(source: StoredPlace, target: StoredPlace, progress: Progress | None) -> int:
    """Snapshots of keys that belong to no version; the list of them last."""
    before, dropped, rows = unversioned.read(target.objects), set[str](), []
    known = dict(before)
    for instance, snapshot in source.shared().snapshots.items():
        old = known.get(instance, Snapshot("", 0, ""))
        if old.name != snapshot.name:
            rows += outside.rows(source, snapshot) if snapshot.rows is None else []
            known[instance] = replace(snapshot, before="" if old.rows is not None else old.name)
            dropped.add(old.before)
    moved = copy_rows(source, target, rows, progress)
    if known != before:
        unversioned.write(target.objects, known)
    unversioned.forget(target.objects, dropped)
    return moved


def _write_hints(objects: Objects, state: State) -> None:
    base = state.compact()
    objects.put(layout.checkpoint(state.next - 1), base.to_bytes())
    write_hint(objects, base, base, head_of(base))
