"""Undoing an edit: a new edit that puts supervoxels back where they were.

What later edits built on cannot be taken from under them: such an undo is refused, and names what is in the way.
Only edits of bodies made at the same version can be undone; what a voxel held before it was overwritten is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vzarr.errors import ConflictError, InvalidInputError, NotFoundError
from vzarr.types import voxels
from vzarr.types.labelmap import deeds, index, mapping, rows, underway
from vzarr.types.labelmap.cuts import Cut, Join
from vzarr.types.labelmap.deeds import Deed, Move
from vzarr.types.labelmap.edits import NOBODY, Author, Edit
from vzarr.types.labelmap.rows import Counts, unpack_blocks
from vzarr.types.labelmap.underway import Plan
from vzarr.types.voxels import VoxelGeometry

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys, InstanceTxn
    from vzarr.types.base import Instance


class Undone(NamedTuple):
    """The mutation id of an undo, and that of what it undid."""

    mutation_id: int
    undone: int


def undo(instance: Instance, mutation_id: int | None = None, author: Author = NOBODY) -> Undone:
    """Undo an edit of bodies made at this version, as a new edit.

    Parameters
    ----------
    mutation_id
        Which; by default the last one that was neither undone nor is an undo.

    Raises
    ------
    NotFoundError
        If there is no such mutation at this version, or nothing is left to undo.
    InvalidInputError
        If it was undone already, or is no edit of bodies: posted voxels, mappings and indices stay.
    ConflictError
        If a later edit depends on it.
    """
    number = _last(instance) if mutation_id is None else mutation_id
    deed = _undoable(instance, number)
    if deed.cuts:
        return Undone(_join(instance, number, deed, author), number)

    def change(edit: Edit) -> int:
        _refuse_twice(edit.tx, instance, number)
        restored: set[int] = set()
        for move in reversed(deed.moves):
            _move_back(edit, deed, move, restored)
        edit.deed = Deed(undoes=number)
        edit.log({"Action": "undo-complete", "Undone": number})
        return edit.number

    return Undone(underway.run(instance, author, change), number)


def _last(instance: Instance) -> int:
    undone: set[int] = set()
    for number, deed in deeds.read_all(instance.keys, instance.version.uuid, newest_first=True):
        if deed.action == "undo":
            undone.add(deed.undoes)
        elif number not in undone:
            return number
    raise NotFoundError(f'nothing is left to undo in data "{instance.name}" at version {instance.version.uuid}')


def _undoable(instance: Instance, number: int) -> Deed:
    known = 0 <= number < 1 << 64
    deed = deeds.read(instance.keys, instance.version.uuid, number) if known else None
    if deed is None:
        raise NotFoundError(f'no mutation {number} of data "{instance.name}" at version {instance.version.uuid}')
    if deed.action == "undo":
        raise InvalidInputError(f"mutation {number} is an undo: edit again what it undid")
    if not deed.action:
        raise InvalidInputError(
            f"mutation {number} posted voxels, mappings or indices, which cannot be undone; name an earlier mutation"
        )
    _refuse_twice(instance.keys, instance, number)
    return deed


def _refuse_twice(keys: InstanceKeys, instance: Instance, number: int) -> None:
    later = deeds.read_all(keys, instance.version.uuid, newest_first=True)
    for at, deed in later:
        if at <= number:
            return
        if deed.undoes == number:
            raise InvalidInputError(f"mutation {number} was undone already, by mutation {at}")


# ---------------------------------------------------------------- moves


def _move_back(edit: Edit, deed: Deed, move: Move, restored: set[int]) -> None:
    """Move supervoxels back to the body that they came from, which `restored` then has."""
    source, target, moved = move
    _check_together(edit.tx, moved, target)
    counts = _counts(edit.tx, target, moved)
    total = sum(c.total for c in counts.values())
    there, back = index.read_header(edit.tx, target), index.read_header(edit.tx, source)
    left = (0 if there is None else there.voxels) - total
    if deed.action == "cleave" or source in deed.left:
        if back is None:
            raise _dependent(f"body {source}, from which body {target} was made, is no more", source)
    elif back is not None and source not in restored:
        raise _dependent(f"another body has the number {source} now", source)
    if deed.action not in ("merge", "agglomerate") and left:
        raise _dependent(f"body {target} has become part of something larger", target)
    restored.add(source)
    index.move_rows(edit.tx, {target: {sv: c.encode() for sv, c in counts.items()}}, source)
    edit.map_to(source, counts)
    edit.map_to(source, [sv for sv in moved if sv not in counts])
    edit.put_header(target, left)
    edit.put_header(source, (0 if back is None else back.voxels) + total)


def _check_together(keys: InstanceKeys, supervoxels: Sequence[int], body: int) -> None:
    """Refuse when supervoxels have left a body since."""
    bodies = mapping.bodies_within(keys, supervoxels)
    gone = next((sv for sv, now in bodies.items() if now != body), None)
    if gone is not None:
        where = f"is in body {bodies[gone]}" if bodies[gone] else "was cut"
        raise _dependent(f"supervoxel {gone} has left body {body} and {where} now", body)


def _counts(keys: InstanceKeys, body: int, supervoxels: Sequence[int]) -> dict[int, Counts]:
    return index.read_parts(keys, dict.fromkeys(supervoxels, body))


def _dependent(why: str, body: int) -> ConflictError:
    return ConflictError(f"a later edit depends on what is to be undone: {why}", [body])


# ---------------------------------------------------------------- splits


def _join(instance: Instance, number: int, deed: Deed, author: Author) -> int:
    """Undo a split: the parts get the id of what was cut, in voxels and index."""
    new_body = deed.moves[0][1] if deed.moves else 0
    join = Join(tuple(Cut(*c) for c in deed.cuts), new_body, number, author)
    shape = VoxelGeometry.of(instance.config).block_zyx

    def plan() -> Plan:
        # In a transaction: an edit between two looks must not be taken for one that depends on the split.
        found = instance.transact(lambda tx: _check_parts(tx, join, deed.empty))
        packed = np.unique(np.concatenate([c.blocks for c in found.values()]))
        coords = [tuple(c) for c in unpack_blocks(packed).tolist()]
        read = instance.version.read_chunks(voxels.array_path(instance.folder), coords)
        stored = {c: b for c, b in read if b is not None}

        def decide(tx: InstanceTxn) -> Join:
            _refuse_twice(tx, instance, number)
            _check_parts(tx, join, deed.empty)
            return join

        return Plan(stored, lambda _: join.rewrite(stored, shape), decide)

    return underway.carry_out(instance, plan)[1]


def _check_parts(keys: InstanceKeys, join: Join, empty: Sequence[int]) -> dict[int, Counts]:
    """Where the parts of a split are; refuses when they are not all there, or not where they can be joined.

    Parameters
    ----------
    empty
        Those that had no voxel from the beginning.
    """
    bodies = mapping.bodies_within(keys, [sv for cut in join.cuts for sv in cut])
    found = index.read_parts(keys, {sv: bodies[sv] for cut in join.cuts for sv in (cut.split, cut.remain)})
    for cut in join.cuts:
        lost = next((sv for sv in (cut.split, cut.remain) if sv not in found and sv not in empty), None)
        if lost is not None:
            raise _dependent(f"supervoxel {lost} was cut or overwritten", bodies[lost])
        if bodies[cut.supervoxel]:
            raise _dependent(f"the id {cut.supervoxel} is in use again", bodies[cut.supervoxel])
        if keys.get(rows.stray_key(cut.supervoxel)) is not None:
            why = f"voxels of supervoxel {cut.supervoxel} were posted since it was cut, and count as background"
            raise _dependent(why, bodies[cut.remain])
        home = bodies[cut.remain]
        if cut.remain in empty and index.read_header(keys, home) is None:
            raise _dependent(f"body {home}, of which supervoxel {cut.supervoxel} was, is no more", home)
        if bodies[cut.split] != (join.new_body or bodies[cut.remain]):
            raise _dependent(f"supervoxel {cut.split} is in body {bodies[cut.split]} now", bodies[cut.split])
    if join.new_body:
        header = index.read_header(keys, join.new_body)
        if header is None or header.voxels != sum(found[c.split].total for c in join.cuts):
            raise _dependent(f"body {join.new_body} has become part of something larger", join.new_body)
    return found
