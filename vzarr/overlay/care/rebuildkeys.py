"""A repo's keys made again from its folders, after their store was lost, or to give a copy of a repo keys of its own.

Sealed versions have all their keys in their folders, and keys outside of versions lie there as the last commit found
them.  What only the key store knew is lost: keys and, but for a root's, metadata of versions that were open.  Such a
version is marked and refused, until somebody accepts to go on with what is left of it; of a root, arrays can be read.
What a mirror holds of open versions comes back with them (`reopening`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import strftime
from typing import TYPE_CHECKING, Any

import orjson

from vzarr.errors import AuthorityUnavailableError, InvalidInputError
from vzarr.overlay import layout, opening
from vzarr.overlay.care.reopening import Reopening
from vzarr.overlay.history import plans
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.state import State
from vzarr.overlay.keys import unversioned
from vzarr.overlay.keys.authority import LOST, OPEN, Authority
from vzarr.overlay.keys.locks import FileLocks
from vzarr.overlay.keys.repokeys import UNVERSIONED, RepoKeys
from vzarr.overlay.kv import open_kv
from vzarr.overlay.kv.base import OrderedKV, Transaction
from vzarr.overlay.kv.mutationids import FIRST_MUTATION_ID, STRIPE_MUTATIONS, begin_mutation_ids
from vzarr.overlay.kv.section import Section
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.overlay.kv.versioned import InstanceTxn
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.sealing.seal import load_record
from vzarr.overlay.transfer import stripes
from vzarr.overlay.views.base import Storage
from vzarr.overlay.views.shelf import Shelf

if TYPE_CHECKING:
    from vzarr.overlay.repo import Repo

SPARED_MUTATIONS = 10**7
"""Mutation ids that are left out, since versions that were open may have used them."""


@dataclass(frozen=True)
class Rebuilt:
    """What became of a repo's keys.

    Parameters
    ----------
    restored
        Whether there was no usable key store, so that one was made.
    versions
        Number of sealed versions whose keys were taken in then.
    lost
        Ids of versions of which open rows are lost, and nobody has accepted that yet.
    accepted
        Ids of such versions that may be used again with what is left of them.
    aside
        Where a damaged database was moved; "" if there was none.
    reopened
        Ids of open versions that came back, as a mirror held them.
    time
        As of when (UTC); "" if none did.
    unversioned
        Names of unversioned instances whose keys are those of a snapshot, and of when that is (UTC): what was written
        after it is lost.  "" where there is none, and nothing is left.
    voxels_lost
        Whether arrays that these had are lost, too: a mirror has them only with open versions.
    """

    restored: bool
    versions: int
    lost: tuple[str, ...]
    accepted: tuple[str, ...]
    aside: str = ""
    reopened: tuple[str, ...] = ()
    time: str = ""
    unversioned: tuple[tuple[str, str], ...] = ()
    voxels_lost: bool = False


def rebuild_keys(repo: Repo, *, keys: str | None = None, accept_loss: bool = False) -> Rebuilt:
    """Make the repo's keys again from its folders (see `rebuild`); closes this handle, so open the repo anew."""
    repo.close()
    return rebuild(opening.open_objects(repo.url), keys=keys, accept_loss=accept_loss)


def rebuild(objects: Objects, *, keys: str | None = None, accept_loss: bool = False) -> Rebuilt:
    """Make a repo's keys again from its folders.  May be done again after it was interrupted.

    No other process may use the repo meanwhile.  Keys that are there and sound stay as they are.

    Parameters
    ----------
    objects
        The repo.
    keys
        URL of a new place for the keys; by default the place that the repo names.
    accept_loss
        Let versions that were open be used again: with the metadata and keys of their parents, and those chunks in
        their folders that belong to arrays of these.  Their logs will say so.

    Raises
    ------
    NotFoundError, FormatError
        If there is no repo, or it is damaged.
    InvalidInputError
        If `keys` is given although the repo's keys can be reached, or is needed and not given; or if other processes
        use the repo.
    AuthorityUnavailableError
        If the new place cannot be reached.
    """
    meta, state = opening.read_meta(objects), RepoLog(objects).open()
    was_mirror = opening.is_mirror(objects, meta)
    reason, aside = _defect(objects, meta), ""
    if reason and not keys and opening.lacks_keys(objects, meta):
        raise InvalidInputError(f"{reason}; name a place for the new ones")
    if keys is not None:
        keys = _check_place(objects, keys, reason)
    back = Reopening.of(objects, state) if reason else None
    if reason:
        meta, aside = _make(objects, meta, state, keys, back)
    with closing(opening.open_authority(objects, meta)) as authority:
        if back is not None:
            back.forget()
        _take_in(objects, authority)
        lost = [n for n, info in state.nodes.items() if not info.sealed and authority.node_state(n)[0] == LOST]
        accepted = lost if accept_loss else []
        for node in accepted:
            _accept(objects, authority, node)
    stripes.learn(objects, stripes.Stripes())  # a mirror has the number that its original had when it was made
    versions = sum(info.sealed for info in state.nodes.values()) if reason else 0
    came = () if back is None else tuple(n for n in back.nodes if n != layout.UNVERSIONED)
    time = back.moment.time if back is not None else ""
    outside = _unversioned(objects, state) if reason and back is None else ()
    still, elsewhere = () if accept_loss else tuple(lost), bool(outside) and was_mirror
    return Rebuilt(bool(reason), versions, still, tuple(accepted), aside, came, time, outside, elsewhere)


def _check_place(objects: Objects, keys: str, reason: str) -> str:
    """URL of a new place for keys, if they are not where they should be."""
    keys = opening.check_keys(objects, keys)
    if not reason:
        raise InvalidInputError(
            f"the keys of {objects.url} are in their place: they can be rebuilt elsewhere only when they are lost"
        )
    return keys


def _unversioned(objects: Objects, state: State) -> tuple[tuple[str, str], ...]:
    """Unversioned instances, and of when their snapshots are."""
    taken = {instance: snapshot.time for instance, snapshot in unversioned.read(objects).items()}
    return tuple((i.name, taken.get(i.data_uuid, "")) for i in state.kept_instances() if not i.versioned)


def _defect(objects: Objects, meta: dict[str, Any]) -> str:
    """Why the repo's keys cannot be used; "" where they can."""
    try:
        with closing(opening.open_authority(objects, meta)) as authority:
            check_store(authority.kv)
    except AuthorityUnavailableError as e:
        return str(e)
    return ""


def check_store(kv: OrderedKV) -> None:
    """Look through a key store whose file may be damaged.

    Raises
    ------
    AuthorityUnavailableError
        If it is.
    """
    if isinstance(kv, Section):
        kv = kv.whole
    if isinstance(kv, SqliteKV):
        kv.check()


def _make(
    objects: Objects, meta: dict[str, Any], state: State, keys: str | None, back: Reopening | None
) -> tuple[dict[str, Any], str]:
    """Make the keys; gives what ``vzarr.json`` says then, and where a damaged database was moved."""
    if back is not None:
        back.place()
    first = partial(_first, objects, state, int(meta.get("stripe", 0)), back)
    url = keys or opening.keys_named(meta)[0]
    if url == opening.EMBEDDED:
        return meta, _make_embedded(objects, first)
    return _make_elsewhere(objects, meta, url, first), ""


def _make_embedded(objects: Objects, first: Callable[[Transaction], None]) -> str:
    """Make the repo's own database, visible when it is whole; gives where a damaged one was moved."""
    assert isinstance(objects, FileObjects)  # those in memory end with their process
    _check_alone(objects)
    database = Path(objects.path(layout.database()))
    database.parent.mkdir(exist_ok=True)
    for left in database.parent.glob(f"{database.name}.*.new*"):
        left.unlink()
    draft = database.with_name(f"{database.name}.{secrets.token_hex(8)}.new")
    with closing(SqliteKV(draft)) as kv:
        kv.transact(first)
    aside = f"{database}.damaged-{strftime('%Y%m%dT%H%M%S')}" if database.exists() else ""
    # Without its database too: a log that lies beside a new one would be written into that.
    for ending in ("-wal", "-shm", ""):
        part = Path(f"{database}{ending}")
        if part.exists():
            part.rename(f"{aside or f'{database}.left'}{ending}")
    draft.rename(database)
    return aside


def _check_alone(objects: FileObjects) -> None:
    """Refuse where others may still write into the old file."""
    presence = FileLocks(objects.root, keep=True).presence
    names = set(objects.list_dir(layout.process("").rstrip("/"))[1]) - {presence.name}
    running = [name for name in names if presence.is_running(name)]
    if running:
        raise InvalidInputError(f"{len(running)} other processes use {objects.url}: end them first, then rebuild")


def _make_elsewhere(
    objects: Objects, meta: dict[str, Any], url: str, first: Callable[[Transaction], None]
) -> dict[str, Any]:
    """Make the keys in a store of their own, under a new id: whoever has old ones finds that they count no longer."""
    number = secrets.token_hex(16)
    made = {**meta, "keys": {"id": number, "url": url}}

    def begin(txn: Transaction) -> None:
        first(txn)
        txn.put(opening.OWNER, orjson.dumps({"root": meta["root"]}))

    durability = str(meta.get("durability", opening.PROCESS))
    with closing(Section(open_kv(url, durability=durability), opening.section(number))) as kv:
        kv.transact(begin)
    objects.put(layout.REPO, orjson.dumps(made, option=orjson.OPT_INDENT_2))
    return made


def _first(objects: Objects, state: State, stripe: int, back: Reopening | None, txn: Transaction) -> None:
    """All that the new store must hold before anybody sees it; keys of sealed versions are taken in after that."""
    sealed = [n for n, info in state.nodes.items() if info.sealed]
    begin_mutation_ids(txn, _next_mutation(objects, state, sealed, stripe))
    for node, info in state.nodes.items():
        if info.sealed:
            txn.put(layout.row_pending(node), b"")
        elif back is None or node not in back.nodes:
            txn.put(layout.row_state(node), orjson.dumps({"state": LOST, "counter": 0}))
    if back is not None:
        begin_mutation_ids(txn, back.moment.mutations + SPARED_MUTATIONS)
        back.restore(txn)
        return
    for instance, snapshot in unversioned.read(objects).items():
        keys = InstanceTxn(txn, bytes.fromhex(instance), UNVERSIONED, lambda a, b: a == b)
        for key, value in snapshot.open(objects).scan():
            keys.restore(key, value)


def _next_mutation(objects: Objects, state: State, sealed: Iterable[str], stripe: int) -> int:
    """An id above all that this clone can have given."""
    low = FIRST_MUTATION_ID + stripe * STRIPE_MUTATIONS
    records = (load_record(objects, layout.seal(n), state.nodes[n].seal) for n in sealed)
    given = [r.mutations for r in records if low <= r.mutations < low + STRIPE_MUTATIONS]
    return max(given, default=low) + SPARED_MUTATIONS


def _take_in(objects: Objects, authority: Authority) -> None:
    log = RepoLog(objects)
    state = log.open()
    shelf = Shelf(Storage.of(objects, state.root), authority, log)
    RepoKeys(objects, authority, lambda: state, shelf.record).arrive()


def _accept(objects: Objects, authority: Authority, node: str) -> None:
    """Let a version be used again, once its log says what happened to it."""
    line = "the repo's keys were lost while this version was open: what it had changed in metadata and keys is gone"
    log = RepoLog(objects)
    log.open()
    log.publish(plans.on_open(node, {"op": "node_log", "id": node, "lines": [line]}))

    def reopen(txn: Transaction) -> None:
        txn.put(layout.row_state(node), orjson.dumps({"state": OPEN, "counter": 1}))

    authority.kv.transact(reopen)
