"""Routes of labelmaps about voxels: regions, blocks, points, and the settings of the volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, params, wire
from vzarr.api.params import VoxelRequest
from vzarr.api.routes.labelmap_params import App, AsSupervoxels, Handle, Points, Scale, User
from vzarr.api.routes.roi import InRoi
from vzarr.api.routing import read, short
from vzarr.errors import InvalidInputError
from vzarr.geometry import Coord
from vzarr.types.atonce import will_wait
from vzarr.types.labelmap import wireforms
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.roi import Within

router = APIRouter()

Asked = Annotated[VoxelRequest, Depends(deps.voxel_request)]
_VOXEL_BYTES = 8
_MOST_WHOLE = 4
"""So few blocks are sent as a whole."""


@read(router, "/raw/{dims}/{size}/{offset}")
@read(router, "/raw/{dims}/{size}/{offset}/{fmt}")
@short
def get_raw(
    handle: Handle, asked: Asked, supervoxels: AsSupervoxels, scale: Scale, within: InRoi, compression: str = ""
) -> Response:
    """Labels of a box (DVID: ``GET D/raw/{dims}/{size}/{offset}[/{format}]``).

    A volume comes as octets in z, y, x order, ``?compression=`` lz4, gzip, google (compressed segmentation)
    or googlegzip; a slice as an image.  ``?scale=``, ``?supervoxels=true``.  Labels outside of the ROI that
    ``?roi=`` names are 0.
    """
    return _labels(handle, asked, supervoxels, scale, within, compression)


def _labels(
    handle: LabelMap, asked: VoxelRequest, supervoxels: bool, scale: int, within: Within | None, compression: str
) -> Response:
    wire.check_payload(asked.voxels * _VOXEL_BYTES)
    encode = wireforms.volume_encoder(compression)
    headers = {"Content-Encoding": "gzip"} if compression == "googlegzip" else None
    if asked.is_plain and within is None:
        lookup = None if supervoxels else handle.lookup
        block = wireforms.encoded_block(handle, asked.box_zyx, compression, lookup, scale)
        if block is not None:
            return wire.octets(block, headers=headers)
    will_wait("reading voxels")
    found = asked.orient(handle.read(*asked.box_zyx, scale=scale, supervoxels=supervoxels, within=within))
    return wire.octets(encode(found), headers=headers) if asked.is_volume else wire.image(found, asked.image)


@read(router, "/isotropic/{dims}/{size}/{offset}")
@read(router, "/isotropic/{dims}/{size}/{offset}/{fmt}")
def get_isotropic(
    handle: Handle, asked: Asked, supervoxels: AsSupervoxels, scale: Scale, within: InRoi, compression: str = ""
) -> Response:
    """Labels of a slice, resampled to square pixels (DVID: ``GET D/isotropic/...``); a volume is as in ``raw``."""
    if asked.is_volume:
        return _labels(handle, asked, supervoxels, scale, within, compression)
    wire.check_payload(asked.voxels * _VOXEL_BYTES)
    found = handle.read_isotropic(
        asked.box_zyx[0], asked.shape_zyx, scale=scale, supervoxels=supervoxels, within=within
    )
    return wire.image(asked.orient(found), asked.image)


@read(router, "/pseudocolor/{dims}/{size}/{offset}")
@read(router, "/pseudocolor/{dims}/{size}/{offset}/{fmt}")
def get_pseudocolor(handle: Handle, asked: Asked, supervoxels: AsSupervoxels, scale: Scale, within: InRoi) -> Response:
    """Slice with a colour for each label (DVID: ``GET D/pseudocolor/{dims}/{size}/{offset}[/{format}]``)."""
    if asked.is_volume:
        raise InvalidInputError("pseudocolor shows slices: dims should be xy, xz or yz")
    wire.check_payload(asked.voxels * _VOXEL_BYTES)
    found = asked.orient(handle.read(*asked.box_zyx, scale=scale, supervoxels=supervoxels, within=within))
    return wire.image(wireforms.pseudocolors(found), asked.image)


@router.post("/raw/{dims}/{size}/{offset}")
def post_raw(
    handle: Handle, asked: Asked, body: deps.Octets, within: InRoi, user: User, app: App, compression: str = ""
) -> Response:
    """Write whole blocks of supervoxels (DVID: ``POST D/raw/0_1_2/{size}/{offset}``).

    ``?compression=`` lz4 or gzip, of at most 3 GiB expanded.  ``?roi=`` names a ROI outside of which nothing changes.
    The index is exact when the answer comes, with ``?mutate=true`` or without.
    """
    if not asked.is_plain:
        raise InvalidInputError("labels can only be posted as a volume: raw/0_1_2/{size}/{offset}")
    wireforms.check_aligned(handle, asked.box_zyx)
    if compression:
        wire.check_payload(asked.voxels * _VOXEL_BYTES)
    volume = wireforms.decode_volume(body, asked.shape_zyx, compression)
    handle.write(asked.box_zyx[0], volume, within=within, user=user, app=app)
    return wire.empty()


def _blocks_of_box(handle: LabelMap, size: str, offset: str, scale: int) -> Iterator[Coord]:
    shape, lo = params.parse_size_zyx(size), params.parse_point_zyx(offset, "offset")
    box = (lo, tuple(a + n for a, n in zip(lo, shape, strict=True)))
    wireforms.check_aligned(handle, box)
    return handle.box_blocks(box, scale)


@read(router, "/blocks/{size}/{offset}")
@short
def get_blocks(
    handle: Handle,
    size: str,
    offset: str,
    supervoxels: AsSupervoxels,
    scale: Scale,
    compression: str = "",
) -> Response:
    """Stream of the written blocks of a box of whole blocks (DVID: ``GET D/blocks/{size}/{offset}``).

    ``?compression=`` lz4 (default), gzip, blocks (DVID's label blocks) or uncompressed.
    """
    coords = _blocks_of_box(handle, size, offset, scale)
    return wire.stream(handle.block_stream(coords, compression or "lz4", scale=scale, supervoxels=supervoxels))


@read(router, "/specificblocks")
@short
def get_specificblocks(
    handle: Handle,
    supervoxels: AsSupervoxels,
    scale: Scale,
    blocks: str = "",
    compression: str = "",
) -> Response:
    """Stream of the named blocks that were written (DVID: ``GET D/specificblocks?blocks=x,y,z,...``)."""
    coords = params.parse_blocks_zyx(blocks)
    parts = handle.block_stream(coords, compression or "blocks", scale=scale, supervoxels=supervoxels)
    return wire.stream(parts) if len(coords) > _MOST_WHOLE else wire.octets(b"".join(parts))


@router.post("/blocks")
def post_blocks(
    handle: Handle,
    body: deps.Octets,
    scale: Scale,
    user: User,
    app: App,
    downres: str | None = None,
    noindexing: str | None = None,
    compression: str = "",
) -> Response:
    """Write a stream of label blocks (DVID: ``POST D/blocks``).

    ``?downres=true`` makes the coarser scales; ``?noindexing=true`` leaves the index alone; ``?scale=`` above
    0 only stores.
    """
    wireforms.check_posted(compression or "blocks")
    blocks, coarser = wireforms.decode_blocks(body, handle.block_zyx), params.parse_bool(downres)
    if scale and coarser:
        raise InvalidInputError("coarser scales are made from scale 0: downres=true does not go with a scale")
    if scale:
        handle.store_blocks(blocks, scale, user=user, app=app)
    else:
        indexed = not params.parse_bool(noindexing)
        handle.write_blocks(blocks, indexed=indexed, downres=coarser, user=user, app=app)
    return wire.empty()


@router.post("/ingest-supervoxels")
def post_ingest(handle: Handle, body: deps.Octets, scale: Scale, user: User, app: App) -> Response:
    """Store a stream of label blocks and nothing else (DVID: ``POST D/ingest-supervoxels``)."""
    handle.store_blocks(wireforms.decode_blocks(body, handle.block_zyx), scale, user=user, app=app)
    return wire.empty()


@read(router, "/label/{point}")
@short
def get_label(handle: Handle, point: str, supervoxels: AsSupervoxels, scale: Scale) -> Response:
    """Label at a point (DVID: ``GET D/label/{x_y_z}``)."""
    at = params.parse_point_zyx(point)
    return wire.json({"Label": handle.label_at(at, scale=scale, supervoxels=supervoxels)})


@read(router, "/labels")
def get_labels(handle: Handle, points: Points, supervoxels: AsSupervoxels, scale: Scale) -> Response:
    """Labels at points (DVID: ``GET D/labels``); body ``[[x, y, z], ...]``."""
    return wire.json(handle.labels_at(points, scale=scale, supervoxels=supervoxels))


@router.post("/info")
def post_info(handle: Handle, body: Annotated[dict[str, Any], Depends(deps.json_object)]) -> Response:
    """Change settings in every version (DVID: ``POST D/info``); body ``{"MaxDownresLevel": "2", ...}``."""
    handle.reconfigured(body)
    said = " ".join(f"{key.lower()}:{value}" for key, value in sorted(body.items()))
    return wire.text(f"Changed '{handle.name}' based on received configuration:\n{{map[{said}]}}\n")
