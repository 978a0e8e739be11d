"""Routes of ROIs (``roi``): spans, masks, point queries, partitions; and ``?roi=`` of voxel datatypes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from vzarr.api import deps, params, wire
from vzarr.api.params import VoxelRequest
from vzarr.api.routing import allowed_when_sealed, read
from vzarr.errors import InvalidInputError
from vzarr.overlay.version import Version
from vzarr.types import roi
from vzarr.types.roi import Roi, Within

router = APIRouter()

Handle = Annotated[Roi, Depends(deps.instance)]
JsonBody = Annotated[Any, Depends(deps.json_body)]
_MOST_ATTENUATION = 7


def _within(
    version: Annotated[Version, Depends(deps.version)],
    roi: Annotated[str, Query(description="name of a ROI that masks the voxels")] = "",
    attenuation: Annotated[str | None, Query(description="1 to 7: shift voxels outside instead of blanking")] = None,
) -> Within | None:
    """Restriction to the ROI that ``?roi=`` names, None when it names none."""
    if not roi:
        return None
    found = deps.sibling(version, roi)
    if not isinstance(found, Roi):
        raise InvalidInputError(f'instance "{roi}" is of type {found.info.typename}, not roi')
    if attenuation is None:
        return Within(found)
    bits = params.parse_int(attenuation, "attenuation")
    if not 1 <= bits <= _MOST_ATTENUATION:
        raise InvalidInputError(f"attenuation should be from 1 to {_MOST_ATTENUATION}, not {bits}")
    return Within(found, bits)


InRoi = Annotated[Within | None, Depends(_within)]


@read(router, "/roi")
def get_roi(handle: Handle) -> Response:
    """Blocks as sorted spans ``[[z, y, x0, x1], ...]``, x1 included (DVID: ``GET D/roi``)."""
    return wire.json(handle.spans())


@router.post("/roi")
def post_roi(handle: Handle, body: JsonBody) -> Response:
    """Replace the ROI by spans ``[[z, y, x0, x1], ...]`` (DVID: ``POST D/roi``)."""
    handle.replace(roi.spans_from_json(body))
    return wire.empty()


@router.delete("/roi")
def delete_roi(handle: Handle) -> Response:
    """Empty the ROI at this version (DVID: ``DELETE D/roi``)."""
    handle.clear()
    return wire.empty()


@read(router, "/mask/{dims}/{size}/{offset}")
def get_mask(handle: Handle, asked: Annotated[VoxelRequest, Depends(deps.voxel_request)]) -> Response:
    """Octets 0 or 1 for the voxels of a box, in z, y, x order (DVID: ``GET D/mask/0_1_2/{size}/{offset}``)."""
    if not asked.is_plain:
        raise InvalidInputError("masks are volumes: mask/0_1_2/{size}/{offset}")
    wire.check_payload(asked.voxels)
    return wire.octets(handle.mask(*asked.box_zyx))


@router.post("/ptquery")
@allowed_when_sealed
def post_ptquery(handle: Handle, body: JsonBody) -> Response:
    """Whether each of some voxels belongs to the ROI (DVID: ``POST D/ptquery``); body ``[[x, y, z], ...]``."""
    return wire.json(handle.contains(params.points_zyx(body)))


@read(router, "/partition")
def get_partition(handle: Handle, batchsize: str, optimized: str | None = None) -> Response:
    """Subvolumes of ``?batchsize=`` blocks along each axis that cover the ROI (DVID: ``GET D/partition``).

    ``?optimized=true`` fits their sizes to the ROI.
    """
    size = params.parse_int(batchsize, "batchsize")
    return wire.json(handle.partition_json(size, optimized=params.parse_bool(optimized)))


@router.post("/info")
def post_info(handle: Handle) -> Response:
    """The same as ``GET D/info``: a ROI has no settings to change (DVID: ``POST D/info``)."""
    return wire.json(handle.info_json())
