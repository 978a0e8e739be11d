"""Routes that every instance has, tried after those of its datatype: info, help, tags, syncs and blobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from vzarr.api import deps, wire
from vzarr.api.errors import references
from vzarr.api.help import type_help
from vzarr.api.params import parse_bool
from vzarr.api.routing import read
from vzarr.errors import InvalidInputError
from vzarr.types import blobs, mutations
from vzarr.types.base import Instance

router = APIRouter()

Handle = Annotated[Instance, Depends(deps.instance)]
Body = Annotated[dict[str, Any], Depends(deps.json_object)]
Replace = Annotated[str | None, Query()]


@read(router, "/info")
def get_info(handle: Handle) -> Response:
    """Datatype, settings and properties of the instance (DVID: ``GET D/info``)."""
    return wire.json(handle.info_json())


@read(router, "/help")
def get_help(handle: Handle) -> Response:
    """Endpoints of the instance's datatype (DVID: ``GET D/help``)."""
    return wire.text(type_help(handle.info.typename))


@read(router, "/tags")
def get_tags(handle: Handle) -> Response:
    """Tags of the instance, the same in every version (DVID: ``GET D/tags``)."""
    handle.check_tags()
    return wire.json({"Tags": handle.info.tags})


@router.post("/tags")
def post_tags(handle: Handle, body: Body, replace: Replace = None) -> Response:
    """Add tags (DVID: ``POST D/tags``); body ``{"key": "value"}``; ``?replace=true`` drops the others."""
    handle.tagged(body, replace_all=parse_bool(replace))
    return wire.empty()


@router.post("/sync")
def post_sync(handle: Handle, body: Body, replace: Replace = None) -> Response:
    """Follow other instances (DVID: ``POST D/sync``); body ``{"sync": "name,name"}``.

    ``?replace=true`` drops those that were followed before.
    """
    names = body.get("sync")
    if not isinstance(names, str):
        raise InvalidInputError('the body should name instances: {"sync": "name1,name2"}')
    with references():
        handle.synced([name for name in names.split(",") if name], replace_all=parse_bool(replace))
    return wire.empty()


@read(router, "/blobstore/{reference}")
def get_blob(handle: Handle, reference: str) -> Response:
    """Blob by its reference: of this repo, or what a mutation of the instance refers to.

    DVID: ``GET D/blobstore/{reference}``.
    """
    own = mutations.attached(handle, reference)
    return wire.octets(blobs.get(handle.version, reference) if own is None else own)


@router.post("/blobstore")
def post_blob(handle: Handle, body: Annotated[bytes, Depends(deps.body)]) -> Response:
    """Keep a blob (DVID: ``POST D/blobstore``); the answer ``{"reference": "..."}`` names its content."""
    return wire.json({"reference": blobs.put(handle.version, body)})
