"""Merging branches: what all sides did to bodies, composed, and the index of what that touched made anew.

**What hangs together is decided together** (`agreement`).  Supervoxels that are in a body of one number on some sides,
or of which one was cut from the other, form a group; no body is in two groups.

**Where the sides agree**, it is three-way, supervoxel by supervoxel: who moved it since the common ancestors wins.
What one side added to a body that another made part of something larger goes on there with it; parts of a supervoxel
that one side cut follow to where the others moved it.

**A group is in dispute** if one of its supervoxels was moved to different bodies, or to one that another side tore
apart; if two sides cut it; if one cut it and another stored blocks with it that the first did not see; or if two sides
made different bodies under one number.  The group is a conflict that is named by body.

**A group in dispute is taken from one side, whole**: from the side that was chosen, else the first that disagrees.
Every supervoxel of it that this side knows is where this side has it.  Blocks may be another side's, and hold what
this side does not have: that is where this side has what it was cut from, or else where the side whose block it is
has it.  So voxels that are foreground on the side from which the merge has their block are foreground in the merge.

**Index.**  A block of the merged voxels is that of one of the sides, whose index knows what it holds: no voxel is read.
Blocks that stay in conflict count as empty until they are written.

A version that joins others is composed once, by whoever opens it first (`ensure`): the merge itself has checked before
that nothing is in conflict, or was told to keep conflicts, and has recorded what was decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from vzarr.errors import ConflictError
from vzarr.overlay.keys.mergekeys import Decided
from vzarr.types.atonce import will_wait
from vzarr.types.labelmap import edits, pages, pyramid, rows
from vzarr.types.labelmap.agreement import Agreement, Group
from vzarr.types.labelmap.bodyconflict import BodyConflict
from vzarr.types.labelmap.edits import NOBODY, Edit
from vzarr.types.labelmap.joinedindex import JoinedIndex, supervoxels_in_conflict
from vzarr.types.labelmap.sides import Sides

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceTxn
    from vzarr.types.base import Instance


def conflicts(heads: Sequence[Instance]) -> list[BodyConflict]:
    """What the sides of a merge that is about to be made disagree about."""
    return [group.conflict for group in Agreement(Sides.of(heads)).groups if group.conflict is not None]


def is_derived(path: str) -> bool:
    """Whether an array of a labelmap (path below the instance) is made from others: a coarser scale is."""
    return path.isdigit() and path != "0"


def ensure(instance: Instance) -> None:
    """Compose what a version joins, unless that was done; one look-up then."""
    info = instance.version.info
    if len(info.parents) < 2 or not instance.info.versioned or _is_composed(instance, info.version_id):
        return
    will_wait("composing a merge")
    heads = [instance.at(parent) for parent in instance.version.parents]
    sides = Sides.of(heads, supervoxels_in_conflict(instance, heads))
    pyramid.mend(instance)
    decided = Decided.load(instance.version.repo.objects, instance.version.uuid)
    joined = JoinedIndex(sides, instance)
    bodies = _composed(sides, joined, decided.places.get(instance.name, {}))
    wanted = dict(_wanted(sides, joined, bodies))

    def change(edit: Edit) -> None:
        if _is_composed(instance, info.version_id):
            return
        for key, value in wanted.items():
            _make(edit.tx, key, value)
        edit.moved.update(bodies)
        edit.touched.update(bodies)
        edit.deed = None

    edits.run(instance, NOBODY, change)


def _is_composed(instance: Instance, version: int) -> bool:
    """Whether the version left a mark of its own."""
    try:
        found = instance.keys.get_with_version(rows.CHANGE)
    except ConflictError:
        return False
    return found is not None and found[0] == version


# ---------------------------------------------------------------- mapping


def _composed(sides: Sides, joined: JoinedIndex, places: Mapping[str, int]) -> dict[int, int]:
    """Body of every supervoxel that some side changed.

    Parameters
    ----------
    places
        Which side is right, by the number of one of the supervoxels in dispute.
    """
    agreement = Agreement(sides)
    bodies: dict[int, int] = {}
    for group in agreement.groups:
        place = _place(group, places)
        for supervoxel in group.supervoxels:
            agreed = agreement.bodies[supervoxel]
            if place is not None:
                bodies[supervoxel] = _taken(sides, joined, supervoxel, place)
            elif agreed is not None:
                bodies[supervoxel] = agreed
    return bodies


def _place(group: Group, places: Mapping[str, int]) -> int | None:
    """The side from which a group is taken; None where all agree."""
    conflict = group.conflict
    if conflict is None:
        return None
    chosen = (places.get(str(sv)) for sv in (conflict.supervoxel, *conflict.others))
    return next((place for place in chosen if place is not None), conflict.changed[0])


def _taken(sides: Sides, joined: JoinedIndex, supervoxel: int, place: int) -> int:
    """Body of a supervoxel of a group that is taken from one side."""
    at, known = sides.at_heads[place], sides.known[place]
    for sv in (supervoxel, *sides.origins(supervoxel)):
        if at[sv] and sv in known:
            return at[sv]
    there = (sides.at_heads[k][supervoxel] for k in joined.places(supervoxel))
    # An id that some side gave to a body or to what it cut, and that has no voxels, stays taken.
    unused = 0 if any(not bodies[supervoxel] for bodies in sides.at_heads) else at[supervoxel]
    return next((body for body in there if body), unused)


# ---------------------------------------------------------------- rows


def _wanted(sides: Sides, joined: JoinedIndex, bodies: Mapping[int, int]) -> Iterator[tuple[bytes, bytes | None]]:
    """All rows that the merge decides about; None for those that must not be."""
    for side in sides.sides:
        yield from ((key, None) for key in side.changed if key[:1] == rows.INDEX)
    # The pages become those of the first side; what they say of a supervoxel is right, or a row of its own says more.
    first = sides.sides[0].keys
    yield from ((key, first.get(key)) for s in sides.sides for key in s.changed if key[:1] == rows.PAGE)
    paged, every = pages.lookup(first, list(bodies)), joined.counts(bodies)
    for sv, body in bodies.items():
        yield rows.mapping_key(sv), None if paged.get(sv, sv) == body else rows.number(body)
        for at in (*sides.at_heads, *sides.at_bases):
            if at[sv] and at[sv] != body:
                yield rows.index_key(at[sv], sv), None
        if body:
            yield rows.index_key(body, sv), every[sv].encode() if every[sv].blocks.size else None
    for body, header in joined.headers(bodies, every).items():
        yield rows.header_key(body), header.encode() if header.voxels > 0 else None


def _make(tx: InstanceTxn, key: bytes, value: bytes | None) -> None:
    """Write a row unless it is so already."""
    with suppress(ConflictError):
        if tx.get(key) == value:
            return
    if value is None:
        tx.delete(key)
    else:
        tx.put(key, value)
