"""Edits of bodies that touch no voxel: merge, cleave, renumber, and mappings and indices given by hand.

Each checks first and changes afterwards, in one transaction: a refused edit changes nothing and takes no
number (DVID HTTP API, section 5.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import allocate, index, mapping, rows, underway
from vzarr.types.labelmap.edits import NOBODY, Author, Edit
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.rows import Counts

if TYPE_CHECKING:
    from vzarr.types.base import Instance


class Cleaved(NamedTuple):
    """What a cleave made."""

    body: int
    mutation_id: int


def merge(instance: Instance, target: int, bodies: Sequence[int], author: Author = NOBODY) -> int:
    """Make bodies part of another one; costs the supervoxels of those that are merged.

    Parameters
    ----------
    target
        The body that stays.
    bodies
        Those that become part of it; repeats count once.

    Returns
    -------
    int
        The mutation id.

    Raises
    ------
    InvalidInputError
        If there is nothing to merge, a body does not exist, or the target is to be merged into itself.
    """
    merged = list(dict.fromkeys(bodies))
    if not merged:
        raise InvalidInputError("merge needs a target and at least one label to merge into it")
    if 0 in (target, *merged):
        raise InvalidInputError("label 0 is background and cannot be merged")
    if target in merged:
        raise InvalidInputError(f"label {target} cannot be merged into itself")

    def change(edit: Edit) -> int:
        total = sum(edit.sizes([target, *merged]))
        edit.move(index.read_rows_of(edit.tx, merged), target)
        edit.tx.delete_many([rows.header_key(body) for body in merged])
        edit.put_header(target, total)
        allocate.raise_max(edit.tx, instance, target)
        edit.log({"Action": "merge-complete", "Target": target, "Labels": merged})
        return edit.number

    return underway.run(instance, author, change)


def cleave(instance: Instance, body: int, supervoxels: Sequence[int], author: Author = NOBODY) -> Cleaved:
    """Make some supervoxels of a body a new body; costs those supervoxels, however large the rest is.

    Supervoxels that are mapped to the body but have no voxels are passed over, as DVID does.

    Raises
    ------
    InvalidInputError
        If there is no such body, it has not all of the supervoxels, or none would be cleaved or none remain.
    """
    wanted = list(dict.fromkeys(supervoxels))
    if not wanted:
        raise InvalidInputError(f"no supervoxels given to cleave from label {body}")

    def change(edit: Edit) -> Cleaved:
        header = edit.header(body)
        counts = _rows_to_cleave(edit, body, wanted)
        cleaved = sum(Counts.decode(value).total for value in counts.values())
        if cleaved >= header.voxels:
            raise InvalidInputError(f"cannot cleave all supervoxels from the label {body}")
        label = allocate.take(edit.tx, instance)
        edit.move({body: counts}, label)
        edit.retire(label)
        edit.put_header(label, cleaved)
        edit.put_header(body, header.voxels - cleaved)
        edit.log(
            {
                "Action": "cleave-complete",
                "OrigLabel": body,
                "CleavedLabel": label,
                "CleavedSupervoxels": list(counts),
                "CleavedSize": cleaved,
                "RemainSize": header.voxels - cleaved,
            }
        )
        return Cleaved(label, edit.number)

    return underway.run(instance, author, change)


def _rows_to_cleave(edit: Edit, body: int, wanted: Sequence[int]) -> dict[int, bytes]:
    values = edit.tx.get_many([rows.index_key(body, sv) for sv in wanted])
    found = {sv: value for sv, value in zip(wanted, values, strict=True) if value is not None}
    absent = [sv for sv in wanted if sv not in found]
    for supervoxel, there in mapping.bodies_within(edit.tx, absent).items():
        if there != body or supervoxel == body:
            name = edit.instance.name
            raise InvalidInputError(
                f"cannot cleave supervoxel {supervoxel}, which does not exist in label {body} ({name})"
            )
    if not found:
        raise InvalidInputError(f"none of the supervoxels to cleave from label {body} has a voxel")
    return found


def renumber(instance: Instance, pairs: Sequence[tuple[int, int]], author: Author = NOBODY) -> list[int]:
    """Give bodies other numbers, one after the other, all or none; the mutation ids.

    Parameters
    ----------
    pairs
        (new number, body).

    Raises
    ------
    InvalidInputError
        If a body does not exist, or a body has a new number already, or that is no label.
    """
    for new, _ in pairs:
        if not new:
            raise InvalidInputError("label 0 is background: no body can get this number")
        allocate.check_label(new)
    return underway.run_all(instance, author, [partial(_renumber, new=new, old=old) for new, old in pairs])


def _renumber(edit: Edit, new: int, old: int) -> int:
    header = edit.header(old)
    if index.read_header(edit.tx, new) is not None:
        raise InvalidInputError(f"target label for renumber ({new}) already exists in mapping")
    counts = index.read_rows_of(edit.tx, [old])[old]
    if new not in counts and not mapping.is_mapped(edit.tx, new):
        edit.retire(new)
    edit.move({old: counts}, new)
    edit.tx.delete(rows.header_key(old))
    edit.put_header(new, header.voxels)
    allocate.raise_max(edit.tx, edit.instance, new)
    edit.log({"Action": "renumber-complete", "NewLabel": new, "OrigLabel": old})
    return edit.number


def post_mappings(instance: Instance, pairs: Iterable[tuple[int, int]], author: Author = NOBODY) -> None:
    """Map supervoxels to bodies by hand; indices and the largest label stay as they are.

    Parameters
    ----------
    pairs
        (supervoxel, body); body 0 says that the id is no supervoxel.

    Raises
    ------
    InvalidInputError
        If a supervoxel is 0, or a number is no label.
    """
    given = dict(pairs)
    if 0 in given:
        raise InvalidInputError("label 0 is background and cannot be mapped")
    allocate.check_label(max((*given, *given.values()), default=0))

    def change(edit: Edit) -> None:
        for supervoxel, body in given.items():
            edit.map_to(body, [supervoxel])
        edit.note({"Action": "post-mappings", "Supervoxels": len(given)})

    underway.run(instance, author, change)


def post_indices(instance: Instance, indices: Sequence[LabelIndex], author: Author = NOBODY) -> None:
    """Replace indices of bodies by hand; an empty one removes the body.

    A header without a mutation id gets this edit's.

    Raises
    ------
    InvalidInputError
        If a label is 0, or a number is no label.
    """
    if any(i.label == 0 or 0 in i.counts for i in indices):
        raise InvalidInputError("label 0 is background and has no index")
    allocate.check_label(max((n for i in indices for n in (i.label, *i.counts)), default=0))

    def change(edit: Edit) -> None:
        for given in indices:
            edit.touched.update(index.read_supervoxels(edit.tx, given.label))
            edit.touched.update(given.counts)
            header = given.header
            if not header.mutation_id:
                header = replace(header, mutation_id=edit.number, time=header.time or edit.time)
            index.put_index(edit.tx, LabelIndex(given.label, header, given.counts))
            if header.voxels:
                allocate.raise_max(edit.tx, instance, given.label)
        edit.note({"Action": "post-indices", "Bodies": len(indices)})

    underway.run(instance, author, change)
