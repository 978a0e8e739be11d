"""Writing voxels and index as if at one stroke: lock, intent, voxels, index (`vzarr.types.labelmap.intents`).

One process writes voxels of an instance at a version at a time, and in it one thread.  Edits of bodies go on beside it,
except those that would divide what is being split: all edits are as if made one after the other.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from vzarr.geometry import Coord
from vzarr.types import voxels
from vzarr.types.atonce import will_wait
from vzarr.types.labelmap import allocate, edits, index, mapping, pyramid, rows
from vzarr.types.labelmap.cuts import Join, Split
from vzarr.types.labelmap.differences import Difference, apply_difference
from vzarr.types.labelmap.edits import NOBODY, Author, Edit
from vzarr.types.labelmap.intents import Intent
from vzarr.types.labelmap.rows import Labels, pack_blocks, unpack_blocks
from vzarr.types.labelmap.tally import tally
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.types.base import Instance

T = TypeVar("T")
Blocks = Mapping[Coord, Labels]
Recut = Split | Join
Decide = Callable[["InstanceTxn"], "Recut | None"]

_POLL_SECONDS = 0.05

_locks: WeakValueDictionary[tuple[str, str, str], threading.Lock] = WeakValueDictionary()
_locks_lock = threading.Lock()


@dataclass(frozen=True)
class Plan:
    """Voxels that are about to be written.

    Parameters
    ----------
    stored
        Blocks that will change (zyx, scale 0) as they are stored, None where there is none.
    blocks
        What will be there, given what was decided.
    decide
        Makes the last checks and takes new ids, in the transaction that leaves the intent; None for a write
        that does not split.  Raises `StaleError` if bodies changed meanwhile in a way that matters.
    downres
        Whether the coarser scales follow.
    aside
        Where `blocks` wait already (see `put_aside`), so that all of them are written once one is; "" for a split,
        which whoever finishes it makes again.
    author
        Who writes.
    indexed
        Whether the index follows; if not, what is stored need not be known.
    """

    stored: Mapping[Coord, Labels | None]
    blocks: Callable[[Recut | None], Blocks]
    decide: Decide
    downres: bool = True
    aside: str = ""
    author: Author = NOBODY
    indexed: bool = True


def carry_out(instance: Instance, plan: Callable[[], Plan]) -> tuple[Recut | None, int]:
    """Write voxels, and let coarser scales and index follow.

    Parameters
    ----------
    plan
        Called when nobody else writes; again if a change of voxels came between, or if others took this process for
        dead.  Edits that move bodies go on meanwhile, and would else keep it from ever being carried out.

    Returns
    -------
    split, mutation_id
        What was decided, and the edit's number.
    """
    while True:
        with _lock_of(instance), instance.version.writing():
            if _finish_abandoned(instance):
                mark = index.read_voxel_change(instance.keys)
                planned = plan()
                intent = _begin(instance, mark, planned)
                number = None if intent is None else _write(instance, planned, intent)
                if intent is not None and number is not None:
                    return intent.split, number
        time.sleep(_POLL_SECONDS)


class StaleError(Exception):
    """What a plan was made of has changed since."""


class _CrossedError(Exception):
    """An edit would divide what is being split."""


def run(instance: Instance, author: Author, change: Callable[[Edit], T]) -> T:
    """`edits.run` for edits of bodies: waits for the end of a split that it would come across."""
    return run_all(instance, author, [change])[0]


def run_all(instance: Instance, author: Author, changes: Sequence[Callable[[Edit], T]]) -> list[T]:
    """`edits.run_all` for edits of bodies: waits for the end of a split that they would come across."""

    def careful(change: Callable[[Edit], T], edit: Edit) -> T:
        result = change(edit)
        value = edit.tx.get(rows.INTENT)
        recut = None if value is None else Intent.decode(value).split
        if recut is not None and recut.is_crossed_by(edit):
            raise _CrossedError
        return result

    while True:
        try:
            return edits.run_all(instance, author, [partial(careful, change) for change in changes])
        except _CrossedError:
            if not recover(instance):
                time.sleep(_POLL_SECONDS)


def _lock_of(instance: Instance) -> threading.Lock:
    """The lock behind which this process writes voxels of an instance at a version."""
    place = instance.version.uuid if instance.info.versioned else ""
    key = (instance.version.repo.url, instance.info.data_uuid, place)
    with _locks_lock:
        return _locks.setdefault(key, threading.Lock())


def _begin(instance: Instance, mark: bytes, plan: Plan) -> Intent | None:
    """Leave an intent; None while another process has one, or if what was just looked at has changed."""
    before = tally(plan.stored.items())
    blocks = pack_blocks(np.array(list(plan.stored)))
    owner = instance.version.repo.authority.writer(instance.version.view.node).holder

    def begin(tx: InstanceTxn) -> Intent | None:
        # Another process may have begun, or have begun and finished, since the blocks were read.
        if tx.get(rows.INTENT) is not None or index.read_voxel_change(tx) != mark:
            return None
        what = before, plan.downres, plan.decide(tx), owner, plan.aside, plan.author, plan.indexed
        intent = Intent.begin(blocks, *what)
        tx.put(rows.INTENT, intent.encode())
        return intent

    try:
        return instance.transact(begin)
    except StaleError:
        return None


def _write(instance: Instance, plan: Plan, intent: Intent) -> int | None:
    """Write voxels and let the index follow; None if the intent is gone: nobody knows what counted then."""
    try:
        return _store(instance, intent, intent.encode(), plan.blocks(intent.split))
    except Exception:
        _finish(instance, intent, intent.encode())
        raise


def _finish_abandoned(instance: Instance) -> bool:
    """Finish what a writer that is gone has begun; False while another process is writing.

    Only behind the lock: an intent of this process is nobody's then.
    """
    value = instance.keys.get(rows.INTENT)
    if value is None:
        return True
    intent, authority, node = Intent.decode(value), instance.version.repo.authority, instance.version.view.node
    is_last = authority.writer(node).is_last  # who waits for no lease any more must not leave it to its writer
    held, lasts = partial(authority.has_lease, node), partial(authority.is_writing, node)
    if not is_last and not intent.is_left(authority.presence, held, lasts):
        return False
    taken = intent.taken_over(authority.presence.name)

    def take_over(tx: InstanceTxn) -> bool:
        is_there = tx.get(rows.INTENT) == value
        if is_there:
            tx.put(rows.INTENT, taken.encode())
        return is_there

    # Two who finished it at once would write when the first of them is done, and others have begun anew.
    if not instance.transact(take_over):
        return False
    _finish(instance, taken, taken.encode())
    return True


def recover(instance: Instance, *, wait: bool = True) -> bool:
    """Finish what a writer that is gone has begun; whether nothing is left to finish.

    For who is about to seal the version, or to rely on the index: writers of voxels do it by themselves.

    Parameters
    ----------
    wait
        Whether to wait for writers of this process; if not, what they are at is left to them.
    """
    if instance.keys.get(rows.INTENT) is None:
        return True
    will_wait("finishing what a writer left")
    lock = _lock_of(instance)
    if not lock.acquire(blocking=wait):
        return False
    try:
        with instance.version.writing():
            return _finish_abandoned(instance)
    finally:
        lock.release()


def _finish(instance: Instance, intent: Intent, row: bytes) -> None:
    """Do the rest of a split, or put blocks in place that wait; then let coarser scales and index follow."""
    shape = VoxelGeometry.of(instance.config).block_zyx
    coords = [tuple(c) for c in unpack_blocks(intent.blocks).tolist()]
    if intent.aside:
        instance.version.place_chunks(voxels.array_path(instance.folder), intent.aside)
    found = instance.version.read_chunks(voxels.array_path(instance.folder), coords)
    stored = {c: np.zeros(shape, np.uint64) if b is None else b for c, b in found}
    _store(instance, intent, row, intent.split.rewrite(stored, shape) if intent.split else stored)


def _store(instance: Instance, intent: Intent, row: bytes, blocks: Blocks) -> int | None:
    """Store blocks and all that follows from them, and take the intent away; None if it was gone.

    Parameters
    ----------
    row
        The intent as it lies in the keys, perhaps as an earlier release wrote it.
    """
    if intent.aside:
        instance.version.place_chunks(voxels.array_path(instance.folder), intent.aside)
    else:
        put_chunks(instance, blocks)
    if intent.downres:
        pyramid.write_coarser(instance, blocks)
    after = tally(blocks.items())
    difference = after.minus(intent.before)

    def change(edit: Edit) -> int | None:
        if edit.tx.get(rows.INTENT) != row:
            return None
        if intent.split:
            intent.split.map_parts(edit)
        if intent.indexed:
            _apply(edit, difference)
        allocate.raise_max(edit.tx, instance, after.largest)
        if intent.split:
            intent.split.finish(edit)
        else:
            edit.note(posted(intent.blocks))
        edit.tx.delete(rows.INTENT)
        return edit.number

    return edits.run(instance, intent.split.author if intent.split else intent.author, change)


def posted(blocks: Labels, scale: int = 0) -> dict[str, Any]:
    """What the mutation log says of blocks (packed) that were written: how many, and their first and last, x, y, z."""
    coords = unpack_blocks(blocks)[:, ::-1]
    box = {"MinBlock": coords.min(0).tolist(), "MaxBlock": coords.max(0).tolist()}
    return {"Action": "post-voxels", "Scale": scale, "Blocks": len(coords), **box}


def put_chunks(instance: Instance, blocks: Blocks, scale: int = 0, aside: str = "") -> None:
    """Store whole blocks of a scale."""
    step = pyramid.grain(VoxelGeometry.of(instance.config), scale)
    instance.version.write_chunks(voxels.array_path(instance.folder, scale), blocks, step=step, aside=aside)


def put_aside(instance: Instance, blocks: Blocks) -> str:
    """Write blocks of scale 0 where nobody reads them, until a `Plan` with this name is carried out.

    What is never put in place is removed when the version is sealed.
    """
    name = secrets.token_hex(8)
    put_chunks(instance, blocks, aside=name)
    return name


def _apply(edit: Edit, difference: Difference) -> None:
    """Change the index by a difference of voxels; ids that are no supervoxels any more stay out of it."""
    svs = np.unique(difference.supervoxels)
    bodies = mapping.bodies_within(edit.tx, svs.tolist())
    retired = np.array([sv for sv, body in bodies.items() if not body], np.uint64)
    if retired.size:
        kept = ~np.isin(difference.supervoxels, retired)
        for stray in np.unique(difference.supervoxels[~kept & (difference.voxels > 0)]).tolist():
            edit.tx.put(rows.stray_key(stray), b"")
        difference = difference.where(kept)
    apply_difference(edit.tx, difference, bodies)
    edit.touched.update(bodies)
