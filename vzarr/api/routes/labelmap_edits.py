"""Routes of labelmaps that edit bodies, and the log of these edits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, params, wire
from vzarr.api.errors import DependedOnError
from vzarr.api.hub import Hub
from vzarr.api.routes.labelmap_params import (
    INDEXED,
    App,
    Body,
    Handle,
    JsonBody,
    Label,
    User,
    ids_of,
)
from vzarr.api.routing import brief, read
from vzarr.errors import ConflictError, InvalidInputError
from vzarr.types import mutations
from vzarr.types.labelmap import history, splits
from vzarr.types.labelmap.sparsevol import decode_posted
from vzarr.types.labelmap.splits import Choice

router = APIRouter()

AllRepos = Annotated[Hub, Depends(deps.hub)]


async def _chosen(split: str = "", remain: str = "") -> Choice:
    """Ids for the parts of a supervoxel, by ``?split=`` and ``?remain=``."""
    return Choice(
        params.parse_uint64(split, "split") if split else 0,
        params.parse_uint64(remain, "remain") if remain else 0,
    )


Chosen = Annotated[Choice, Depends(_chosen)]


@router.post("/merge", dependencies=INDEXED)
@brief
def post_merge(handle: Handle, body: JsonBody, user: User, app: App) -> Response:
    """Make bodies part of another (DVID: ``POST D/merge``); body ``[target, label, ...]``."""
    labels = ids_of(body)
    if len(labels) < 2:
        raise InvalidInputError("merge needs a target and at least one label to merge into it")
    return wire.json({"MutationID": handle.merge(labels[0], labels[1:], user=user, app=app)})


@router.post("/cleave/{label}", dependencies=INDEXED)
@brief
def post_cleave(handle: Handle, label: Label, body: JsonBody, user: User, app: App) -> Response:
    """Make supervoxels of a body a new body (DVID: ``POST D/cleave/{label}``); body ``[supervoxel, ...]``."""
    made = handle.cleave(label, ids_of(body, "supervoxels"), user=user, app=app)
    return wire.json({"CleavedLabel": made.body, "MutationID": made.mutation_id})


@router.post("/renumber", dependencies=INDEXED)
@brief
def post_renumber(handle: Handle, body: JsonBody, user: User, app: App) -> Response:
    """Give bodies other numbers (DVID: ``POST D/renumber``); body ``[new, old, new, old, ...]``.

    One after the other, as one transaction: where a pair is refused, none is renumbered.
    """
    labels = ids_of(body)
    if len(labels) % 2 or not labels:
        raise InvalidInputError("renumber needs pairs: the new label, then the old one")
    handle.renumber_all(list(zip(labels[::2], labels[1::2], strict=True)), user=user, app=app)
    return wire.empty()


@router.post("/split-supervoxel/{label}", dependencies=INDEXED)
def post_split_supervoxel(
    handle: Handle, label: Label, body: Body, chosen: Chosen, user: User, app: App, downres: str | None = None
) -> Response:
    """Cut a supervoxel (DVID: ``POST D/split-supervoxel/{supervoxel}``); body rles of one of the parts.

    The runs are sorted by z, y, x and don't overlap.  ``?split=`` and ``?remain=`` choose the ids of the parts;
    ``?downres=false`` leaves the coarser scales alone.
    """
    coarser = params.parse_bool(downres, True)
    made = handle.split_supervoxel(label, decode_posted(body), choice=chosen, downres=coarser, user=user, app=app)
    return wire.json(
        {
            "SplitSupervoxel": made.split,
            "RemainSupervoxel": made.remain,
            "MutationID": made.mutation_id,
        }
    )


@router.post("/split/{label}", dependencies=INDEXED)
def post_split(handle: Handle, label: Label, body: Body, user: User, app: App) -> Response:
    """Make a part of a body a new body (DVID: ``POST D/split/{label}``); body rles of the part, sorted."""
    made = handle.split(label, decode_posted(body), user=user, app=app)
    return wire.json({"label": made.body, "MutationID": made.mutation_id})


@read(router, "/supervoxel-splits")
def get_supervoxel_splits(handle: Handle) -> Response:
    """Supervoxels that were cut, newest version first (DVID: ``GET D/supervoxel-splits``)."""
    found: list[Any] = []
    for uuid, cuts in splits.history(handle):
        found += [uuid, cuts]
    return wire.json(found)


@read(router, "/mutations")
def get_mutations(handle: Handle) -> Response:
    """Edits of this version, oldest first (DVID: ``GET D/mutations``)."""
    return _log(mutations.read(handle))


@read(router, "/mutations-range/{first}/{last}")
def get_mutations_range(handle: Handle, hub: AllRepos, first: str, last: str) -> Response:
    """Edits from one version back to another (DVID: ``GET D/mutations-range/{first}/{last}``)."""
    return _log(mutations.read_range(handle, hub.find(first)[1], hub.find(last)[1]))


def _log(records: Iterator[bytes]) -> Response:
    """Those records that DVID has: of edits of bodies that are complete."""
    complete = mutations.shown(records, lambda action: action.endswith("-complete"))
    return wire.stream(mutations.json_list(complete), wire.TEXT)


@read(router, "/history/{label}/{first}/{last}")
def get_history(handle: Handle, hub: AllRepos, label: Label, first: str, last: str) -> Response:
    """Edits that concern supervoxels of a body (DVID: ``GET D/history/{label}/{first}/{last}``).

    One JSON list of records as ``mutations`` gives them, oldest first, of the versions from `first` to `last`, both
    included; the body is one of `last`.
    """
    found = history.of_body(handle, label, hub.find(first)[1], hub.find(last)[1])
    return wire.stream(mutations.json_list(mutations.shown(iter(found))), wire.JSON)


@router.post("/undo", dependencies=INDEXED)
def post_undo(handle: Handle, body: Body, user: User, app: App) -> Response:
    """Undo an edit of bodies of this version; body empty for the last one, or ``{"MutationID": n}``.

    The last one is the last that is no undo and was not undone.  409 if a later edit depends on it; 400 for posted
    voxels, mappings and indices, which stay.
    """
    given = deps.as_object(deps.parse_json(body)) if body.strip() else {}
    number = given.get("MutationID")
    if given.keys() - {"MutationID"} or not (number is None or type(number) is int):
        raise InvalidInputError('the body should be empty or {"MutationID": number}')
    try:
        done = handle.undo(number, user=user, app=app)
    except ConflictError as error:
        raise DependedOnError(str(error), error.conflicts) from error
    return wire.json({"MutationID": done.mutation_id, "Undone": done.undone})
