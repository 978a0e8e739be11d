"""Routes of instances that keep a mutation log: the changes of a version, and of a range of versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, wire
from vzarr.api.hub import Hub
from vzarr.api.routing import read
from vzarr.types import mutations
from vzarr.types.base import Instance

router = APIRouter()

Handle = Annotated[Instance, Depends(deps.instance)]


@read(router, "/mutations")
def get_mutations(handle: Handle) -> Response:
    """Changes of this version, oldest first (DVID: ``GET D/mutations``)."""
    return wire.stream(mutations.json_list(mutations.shown(mutations.read(handle))), wire.JSON)


@read(router, "/mutations-range/{first}/{last}")
def get_mutations_range(handle: Handle, hub: Annotated[Hub, Depends(deps.hub)], first: str, last: str) -> Response:
    """Changes from a version back to an ancestor (DVID: ``GET D/mutations-range/{ancestor}/{version}``)."""
    records = mutations.read_range(handle, hub.find(first)[1], hub.find(last)[1])
    return wire.stream(mutations.json_list(mutations.shown(records)), wire.JSON)
