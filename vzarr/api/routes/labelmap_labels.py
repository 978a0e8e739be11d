"""Routes of labelmaps about new labels: the largest one, the next one, reserving some."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from vzarr.api import deps, params, wire
from vzarr.api.routes.labelmap_params import INDEXED, App, Handle, User
from vzarr.api.routing import read
from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import allocate
from vzarr.types.labelmap.edits import Author

router = APIRouter()

_ADMIN = [Depends(deps.admin)]


@read(router, "/maxlabel", dependencies=INDEXED)
def get_maxlabel(handle: Handle) -> Response:
    """Largest label of the version and its ancestors (DVID: ``GET D/maxlabel``)."""
    label = handle.max_label
    if not label:
        raise InvalidInputError(f'no maximum label was found in data "{handle.name}"')
    return wire.json({"maxlabel": label})


@router.post("/maxlabel/{number}", dependencies=[*_ADMIN, *INDEXED])
def post_maxlabel(handle: Handle, number: str, user: User, app: App) -> Response:
    """Raise the largest label (DVID: ``POST D/maxlabel/{label}``)."""
    allocate.post_max_label(handle, params.parse_uint64(number, "maxlabel"), Author(user, app))
    return wire.empty()


@read(router, "/nextlabel", dependencies=INDEXED)
def get_nextlabel(handle: Handle) -> Response:
    """Label that is given next, the same in all versions (DVID: ``GET D/nextlabel``)."""
    return wire.json({"nextlabel": handle.labelling.next})


@router.post("/nextlabel/{number}", dependencies=INDEXED)
def post_nextlabel(handle: Handle, number: str, user: User, app: App) -> Response:
    """Reserve labels (DVID: ``POST D/nextlabel/{count}``)."""
    first, last = handle.reserve_labels(params.parse_uint64(number, "count"), user=user, app=app)
    return wire.json({"start": first, "end": last})


@router.post("/set-nextlabel/{number}", dependencies=_ADMIN)
def post_set_nextlabel(handle: Handle, request: Request, number: str, user: User, app: App) -> Response:
    """Make the labels after this one the next ones (DVID: ``POST D/set-nextlabel/{label}``).

    ``?ceiling=`` the largest to give, 0 for no limit.
    """
    ceiling = request.query_params.get("ceiling")
    limit = None if ceiling is None else params.parse_uint64(ceiling, "ceiling")
    allocate.set_next(handle, params.parse_uint64(number, "label"), limit, Author(user, app))
    return wire.empty()
