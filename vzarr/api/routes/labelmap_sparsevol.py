"""Routes of labelmaps about where bodies are: sparse volumes, coarse ones, bounding boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from vzarr.api import params, wire
from vzarr.api.routes.labelmap_params import (
    INDEXED,
    AsSupervoxels,
    Handle,
    InBounds,
    Label,
    Scale,
)
from vzarr.api.routing import read, short
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.geometry import reverse
from vzarr.types.atonce import will_wait
from vzarr.types.bytecodecs import gzip_raw, lz4_raw
from vzarr.types.labelmap import sparsevol, volumes
from vzarr.types.labelmap.arguments import check_label
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.volumes import Extent, SparseVolume

router = APIRouter()

_PACKERS: dict[str, Callable[[memoryview], bytes | memoryview]] = {
    "": lambda runs: runs,
    "lz4": lz4_raw,
    "gzip": gzip_raw,
}
Exact = Annotated[str | None, Query(description="false gives all of the blocks that touch the bounds")]


@read(router, "/sparsevol-size/{label}", dependencies=INDEXED)
@short
def get_sparsevol_size(handle: Handle, label: Label, supervoxels: AsSupervoxels) -> Response:
    """Voxels, blocks and bounding box of a body or supervoxel (DVID: ``GET D/sparsevol-size/{label}``)."""
    return wire.json(extent_json(volumes.extent_of(handle, handle.find(label, supervoxel=supervoxels))))


def extent_json(extent: Extent) -> dict[str, Any]:
    """Size and bounding box of a body, as DVID's JSON has them."""
    return {
        "voxels": extent.voxels,
        "numblocks": extent.blocks,
        "minvoxel": reverse(extent.min_zyx),
        "maxvoxel": reverse(extent.max_zyx),
    }


@router.head("/sparsevol/{label}", dependencies=INDEXED)
@short
def head_sparsevol(handle: Handle, label: Label, supervoxels: AsSupervoxels, bounds: InBounds) -> Response:
    """Whether a body has a block within bounds (DVID: ``HEAD D/sparsevol/{label}``): 200, or 204 if not."""
    try:
        found = handle.sparsevol(label, supervoxel=supervoxels, bounds=bounds).any_block()
    except NotFoundError:
        found = False
    return Response(status_code=200 if found else 204)


@router.get("/sparsevol/{label}", dependencies=INDEXED)
@short
def get_sparsevol(
    handle: Handle,
    label: Label,
    supervoxels: AsSupervoxels,
    scale: Scale,
    bounds: InBounds,
    exact: Exact = None,
    format: str = "",
    compression: str = "",
) -> Response:
    """Voxels of a body or supervoxel (DVID: ``GET D/sparsevol/{label}``).

    ``?format=`` rles (default), srles or blocks; ``?minx=`` to ``?maxz=`` bounds, corners included;
    ``?exact=false`` whole blocks; ``?compression=`` lz4 or gzip, of rles; ``?scale=``, ``?supervoxels=true``.
    """
    volume = handle.sparsevol(label, supervoxel=supervoxels, scale=scale, bounds=bounds)
    return _answer(volume, format or "rles", compression, params.parse_bool(exact, True))


@read(router, "/sparsevol-by-point/{point}", dependencies=INDEXED)
def get_sparsevol_by_point(
    handle: Handle,
    point: str,
    supervoxels: AsSupervoxels,
    scale: Scale,
    bounds: InBounds,
    exact: Exact = None,
    format: str = "",
    compression: str = "",
) -> Response:
    """Voxels of the body at a point (DVID: ``GET D/sparsevol-by-point/{x_y_z}``); queries as ``sparsevol``.

    The point counts in voxels of ``?scale=``.
    """
    label = handle.label_at(params.parse_point_zyx(point), scale=scale, supervoxels=supervoxels)
    check_label(label)
    volume = handle.sparsevol(label, supervoxel=supervoxels, scale=scale, bounds=bounds)
    return _answer(volume, format or "rles", compression, params.parse_bool(exact, True))


def _answer(volume: SparseVolume, form: str, compression: str, exact: bool) -> Response:
    if form not in ("rles", "srles", "blocks"):
        raise InvalidInputError(f'format should be rles, srles or blocks, not "{form}"')
    if compression not in _PACKERS:
        raise InvalidInputError(f'unknown compression type "{compression}"')
    if not volume.any_block():
        raise NotFoundError(f"label {volume.index.label} has no block within the bounds")
    if form == "blocks":
        will_wait("a stream of masks")
        return wire.stream(_mask_stream(volume, exact))
    parts = [*volume.parts(exact=exact)]
    if not any(map(len, parts)):
        return wire.octets(b"")
    return wire.octets(
        sparsevol.encode_spans(*parts) if form == "srles" else _PACKERS[compression](sparsevol.encode_rles(*parts))
    )


def _mask_stream(volume: SparseVolume, exact: bool) -> Iterator[bytes]:
    z, y, x = volume.block_zyx
    yield sparsevol.binary_header(volume.index.label, (z, y, x))
    for coord, mask in volume.clipped_masks(exact=exact):
        if mask.any():
            yield sparsevol.binary_block(coord, mask)


@read(router, "/sparsevol-coarse/{label}", dependencies=INDEXED)
@short
def get_sparsevol_coarse(handle: Handle, label: Label, supervoxels: AsSupervoxels, bounds: InBounds) -> Response:
    """Blocks of a body or supervoxel as rles (DVID: ``GET D/sparsevol-coarse/{label}``)."""
    found = handle.find(label, supervoxel=supervoxels)
    return wire.octets(sparsevol.encode_rles(volumes.coarse_runs(handle, found, bounds)))


@read(router, "/sparsevols-coarse/{first}/{last}", dependencies=INDEXED)
def get_sparsevols_coarse(handle: Handle, request: Request, bounds: InBounds) -> Response:
    """Blocks of all bodies of a range (DVID: ``GET D/sparsevols-coarse/{first}/{last}``)."""
    ends = [params.parse_uint64(request.path_params[name]) for name in ("first", "last")]
    for label in ends:
        check_label(label)
    return wire.stream(_coarse_stream(handle, ends[0], ends[1], bounds))


def _coarse_stream(handle: LabelMap, first: int, last: int, bounds: InBounds) -> Iterator[bytes]:
    for body, _ in handle.list_bodies(first, last + 1):
        found = handle.find_or_empty(body)  # others may have merged it since it was listed
        if found.counts:
            yield sparsevol.encode_coarse(body, volumes.coarse_runs(handle, found, bounds))


@read(router, "/proximity/{a}/{b}", dependencies=INDEXED)
def get_proximity(handle: Handle, a: str, b: str) -> Response:
    """How near two bodies come to each other (DVID: ``GET D/proximity/{a}/{b}``, which it leaves empty).

    Answers ``{"distance", "a": [x, y, z], "b": [x, y, z]}``: the Euclidean distance of the two nearest voxels, in
    voxels of scale 0, and these voxels.
    """
    found = handle.proximity(params.parse_uint64(a, "label"), params.parse_uint64(b, "label"))
    return wire.json({"distance": found.distance, "a": reverse(found.a), "b": reverse(found.b)})
