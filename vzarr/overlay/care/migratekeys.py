"""A repo's keys moved to another store: from SQLite to PostgreSQL, back into the repo, or elsewhere.

Reading goes on meanwhile, and writing is refused (see `vzarr.overlay.keys.handover`).  Steps, each of which may be the
last that a killed process does: new keys under an id of their own, which nobody uses before they are whole; the old
store says that they are; ``vzarr.json`` names them; the log says so to all who have the repo open.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from vzarr.errors import AuthorityUnavailableError, InvalidInputError
from vzarr.overlay import layout, opening
from vzarr.overlay.history import plans
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.keys import handover
from vzarr.overlay.keys.authority import OPEN, Authority
from vzarr.overlay.keys.handover import MOVING, Handover
from vzarr.overlay.keys.repokeys import RepoKeys
from vzarr.overlay.kv import open_kv
from vzarr.overlay.kv.base import Item, OrderedKV, Transaction
from vzarr.overlay.kv.batches import BATCH, batched
from vzarr.overlay.kv.section import Section
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.opening import EMBEDDED
from vzarr.overlay.views.base import Storage
from vzarr.overlay.views.shelf import Shelf

POLL_SECONDS = 0.05

Progress = Callable[[int | None, int], None]
"""Told of each batch of rows: nobody knows how many there are to be; and its bytes."""
Told = Callable[[Authority], None]


@dataclass(frozen=True)
class Migrated:
    """What became of a repo's keys: where they are, where they were, and how many rows there are."""

    url: str
    left: str
    rows: int


def migrate(
    objects: Objects, keys: str, *, drop: bool = False, progress: Progress | None = None, switched: Told | None = None
) -> Migrated:
    """Move a repo's keys to another store.  May be done again after it was interrupted.

    Parameters
    ----------
    objects
        The repo.
    keys
        URL of the new place, as for `vzarr.create`; ``embedded`` is the repo itself.
    drop
        Remove the old keys at once: who still has them open then sees none.  By default they stay where they are.
    progress
        Told of each batch of rows; what it raises ends the move, and all stays as it was.
    switched
        Given the new keys just before they count, for rows that must not be as they were when they were copied.

    Raises
    ------
    NotFoundError, FormatError
        If there is no repo, or it is damaged.
    InvalidInputError
        If the new place is the old one, or unfit.
    AuthorityUnavailableError
        If either place cannot be reached, or somebody else moves the keys.
    """
    meta = opening.read_meta(objects)
    objects = opening.as_durable(objects, meta)
    left, number = opening.keys_named(meta)
    url = opening.check_keys(objects, keys)
    with closing(opening.open_authority(objects, meta)) as old, old.locks.alone(layout.KEYS):
        found, rows = handover.read(old.kv), 0
        if found is None or not found.done:
            if url == left:
                raise InvalidInputError(f"the keys of {objects.url} are there already: {url}")
            _take_in(objects, old)
            with _moving(objects, old, url, found) as found:
                rows = _copy(objects, meta, old, found, progress)
                with closing(opening.open_authority(objects, _named(meta, found))) as new:
                    if switched is not None:
                        switched(new)
                    old.kv.transact(partial(_conclude, found))
        elif found.url != url:
            raise InvalidInputError(f"the keys have moved to {found.url} already: move them from there")
        _name(objects, found)
        _tell(objects, number)
        if drop:
            _drop(objects, old, left)
    return Migrated(url, left, rows)


def _take_in(objects: Objects, old: Authority) -> None:
    """Take in keys that came from other repos: what waits for that must not wait at two places."""
    log = RepoLog(objects)
    shelf = Shelf(Storage.of(objects, log.open().root), old, log)
    RepoKeys(objects, old, log.refresh, shelf.record).arrive()


@contextmanager
def _moving(objects: Objects, old: Authority, url: str, previous: Handover | None) -> Iterator[Handover]:
    """Context in which nobody writes; all is as it was if it ends with an error before the move was concluded."""
    if previous is not None and (previous.given_up or old.presence.is_gone(previous.process)):
        with suppress(AuthorityUnavailableError):  # what cannot be reached cannot be cleared, and counts nowhere
            _discard(objects, previous)
    state = RepoLog(objects).open()
    nodes = [*(node for node, info in state.nodes.items() if not info.sealed), layout.UNVERSIONED]
    made = Handover(secrets.token_hex(16), url, old.presence.name, nodes)
    old.kv.transact(partial(_begin, old, made))
    try:
        _wait_for_writers(old, nodes)
        yield made
    except BaseException:
        now = handover.read(old.kv)
        if now is not None and not now.done:
            old.kv.transact(lambda txn: handover.take_back(txn, made))
            _discard(objects, made)
        raise


def _begin(old: Authority, made: Handover, txn: Transaction) -> None:
    handover.check(txn, old.presence)
    for node in made.nodes:
        state, counter = old.state_and_counter(txn, node)
        if state == OPEN:
            txn.put(layout.row_state(node), orjson.dumps({"state": MOVING, "counter": counter}))
    txn.put(layout.HANDOVER, made.to_bytes())


def _wait_for_writers(old: Authority, nodes: Sequence[str]) -> None:
    for node in nodes:
        seen: dict[bytes, tuple[bytes, float]] = {}
        while old.live_leases(node, seen):
            time.sleep(POLL_SECONDS)


def _conclude(found: Handover, txn: Transaction) -> None:
    txn.put(layout.HANDOVER, replace(found, done=True).to_bytes())


def _named(meta: Mapping[str, Any], found: Handover) -> dict[str, Any]:
    """``vzarr.json`` with the new keys."""
    return {**meta, "keys": {"id": found.id, "url": found.url}}


def _name(objects: Objects, found: Handover) -> None:
    """Let ``vzarr.json`` name the new keys; others may have changed it before the lock was had."""
    objects.put(layout.REPO, orjson.dumps(_named(opening.read_meta(objects), found), option=orjson.OPT_INDENT_2))


def _tell(objects: Objects, number: str) -> None:
    """Let all who have the repo open know that its keys are elsewhere."""
    log = RepoLog(objects)
    if number not in log.open().moved:
        log.publish(plans.keys_moved(number))


# -- rows


def _copy(objects: Objects, meta: Mapping[str, Any], old: Authority, found: Handover, progress: Progress | None) -> int:
    """Copy all rows but those of writers and of the move itself, and give their number."""
    count = 0
    with _new_store(objects, found) as new, old.kv.snapshot() as moment:
        for some in batched(filter(None, map(_row, moment.scan(b"")))):
            new.transact(partial(_put, some))
            count += len(some)
            if progress is not None:
                progress(None, sum(len(value or b"") for _key, value in some))
        if isinstance(new, Section):
            mark = orjson.dumps({"root": meta["root"]})
            new.transact(lambda txn: txn.put(opening.OWNER, mark))
    if found.url == EMBEDDED:
        _place(objects, found)
    return count


def _row(item: Item) -> Item | None:
    """A row as the new store has it; None for one that it has not."""
    key, value = item
    if key in (layout.HANDOVER, opening.OWNER):
        return None
    if key[:1] == b"N":
        prefix = key[: key.index(b"\0") + 1]
        if key[len(prefix) : len(prefix) + 1] == b"w":
            return None
        plain = orjson.loads(value) if key == prefix + b"s" else {}
        if plain.get("state") == MOVING:
            return key, orjson.dumps({**plain, "state": OPEN})
    return item


def _put(rows: Iterable[Change], txn: Transaction) -> None:
    for key, value in rows:
        assert value is not None
        txn.put(key, value)


@contextmanager
def _new_store(objects: Objects, found: Handover) -> Iterator[OrderedKV]:
    durability = str(opening.read_meta(objects).get("durability", opening.PROCESS))
    if found.url == EMBEDDED:
        store: OrderedKV = SqliteKV(_draft(objects, found), durability=durability)
    else:
        store = Section(open_kv(found.url, durability=durability), opening.section(found.id))
    with closing(store):
        yield store


def _draft(objects: Objects, found: Handover) -> Path:
    """The database that is to lie in the repo, before it is whole."""
    assert isinstance(objects, FileObjects)
    database = Path(objects.path(layout.database()))
    database.parent.mkdir(exist_ok=True)
    return database.with_name(f"{database.name}.{found.id}.new")


def _place(objects: Objects, found: Handover) -> None:
    """Put the new database in place of one that keys have left before."""
    draft = _draft(objects, found)
    _remove_database(draft.with_name(Path(layout.database()).name))
    objects.move(f"{layout.database()}.{found.id}.new", layout.database())


def _discard(objects: Objects, found: Handover) -> None:
    """Remove what there is of keys that were never whole."""
    if found.url == EMBEDDED:
        _remove_database(_draft(objects, found))
    else:
        with _new_store(objects, found) as store:
            _delete_all(store)


def _drop(objects: Objects, old: Authority, url: str) -> None:
    """Remove keys that have been left."""
    if url == EMBEDDED:
        assert isinstance(objects, FileObjects)
        _remove_database(Path(objects.path(layout.database())))
    else:
        _delete_all(old.kv)


def _delete_all(kv: OrderedKV) -> None:
    while some := list(kv.scan(b"", limit=BATCH)):
        kv.transact(partial(_forget, [key for key, _value in some]))


def _forget(keys: Iterable[bytes], txn: Transaction) -> None:
    for key in keys:
        txn.delete(key)


def _remove_database(database: Path) -> None:
    # Its log first: one that lies beside a new database would be written into that.
    for ending in ("-wal", "-shm", ""):
        Path(f"{database}{ending}").unlink(missing_ok=True)
