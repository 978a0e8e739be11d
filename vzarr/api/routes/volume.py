"""Routes that every voxel instance has, image or labels: metadata, extents and resolution."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, wire
from vzarr.api.routing import read
from vzarr.types import voxels
from vzarr.types.base import Instance

router = APIRouter()

JsonBody = Annotated[Any, Depends(deps.json_body)]


class Volume(Protocol):
    """A voxel instance, as far as its metadata go."""

    def metadata_json(self) -> dict[str, Any]:
        """DVID's n-dimensional metadata."""

    def resized(self, resolution: Any) -> Any:
        """Set the size of a voxel in every version."""


@read(router, "/metadata")
def get_metadata(handle: Annotated[Volume, Depends(deps.instance)]) -> Response:
    """Axes and properties of the volume (DVID: ``GET D/metadata``)."""
    return wire.json(handle.metadata_json(), wire.ND_DATA)


@router.post("/extents")
def post_extents(handle: Annotated[Instance, Depends(deps.instance)], body: JsonBody) -> Response:
    """Replace the extents (DVID: ``POST D/extents``); ``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}``."""
    voxels.set_extents(handle, voxels.extents_from_json(body))
    return wire.empty()


@router.post("/resolution")
def post_resolution(handle: Annotated[Volume, Depends(deps.instance)], body: JsonBody) -> Response:
    """Set the size of a voxel in every version (DVID: ``POST D/resolution``); ``[x, y, z]``."""
    handle.resized(body)
    return wire.empty()
