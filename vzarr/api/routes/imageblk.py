"""Routes of images (``uint8blk`` and its family): regions and slices, blocks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from numpy.typing import NDArray

from vzarr.api import deps, params, wire
from vzarr.api.params import VoxelRequest
from vzarr.api.routes import volume
from vzarr.api.routes.roi import InRoi
from vzarr.api.routing import read, short
from vzarr.errors import InvalidInputError
from vzarr.types.atonce import will_wait
from vzarr.types.imageblk import ImageBlk
from vzarr.types.imageblk.oblique import Plane

router = APIRouter()
router.include_router(volume.router)

Handle = Annotated[ImageBlk, Depends(deps.instance)]
Asked = Annotated[VoxelRequest, Depends(deps.voxel_request)]


@read(router, "/raw/{dims}/{size}/{offset}")
@read(router, "/raw/{dims}/{size}/{offset}/{fmt}")
@short
def get_raw(handle: Handle, asked: Asked, within: InRoi) -> Response:
    """Voxels of a box (DVID: ``GET D/raw/{dims}/{size}/{offset}[/{format}]``).

    ``dims`` is xy, xz, yz (an image: png, jpg[:quality], tif or bmp) or 0_1_2 (octets in z, y, x order, or
    one jpg with the slices below each other).  Voxels of blocks that nobody wrote are 0.  So are those outside
    of the ROI that ``?roi=`` names, unless ``?attenuation=`` darkens them by 1 to 7 bits.
    """
    wire.check_payload(asked.voxels * handle.dtype.itemsize)
    if asked.image is not None or not asked.is_volume or within is not None:
        will_wait("making an image")
    return _voxels(asked, handle.read(*asked.box_zyx, unwritten=0, within=within, lent=True))


@read(router, "/isotropic/{dims}/{size}/{offset}")
@read(router, "/isotropic/{dims}/{size}/{offset}/{fmt}")
def get_isotropic(handle: Handle, asked: Asked, within: InRoi) -> Response:
    """Resample ``raw`` to cubic voxels (DVID: ``GET D/isotropic/{dims}/{size}/{offset}[/{format}]``)."""
    wire.check_payload(asked.voxels * handle.dtype.itemsize)
    return _voxels(asked, handle.read_isotropic(asked.box_zyx[0], asked.shape_zyx, within=within))


def _voxels(asked: VoxelRequest, found: NDArray[Any]) -> Response:
    pixels = asked.orient(found)
    if not asked.is_volume:
        return wire.image(pixels, asked.image)
    return wire.image(wire.stack_slices(pixels), asked.image) if asked.image else wire.octets(pixels)


@read(router, "/arb/{top_left}/{top_right}/{bottom_left}/{resolution}")
@read(router, "/arb/{top_left}/{top_right}/{bottom_left}/{resolution}/{fmt}")
def get_arb(
    handle: Handle, top_left: str, top_right: str, bottom_left: str, resolution: str, fmt: str = "png"
) -> Response:
    """Slice in any direction (DVID: ``GET D/arb/{top left}/{top right}/{bottom left}/{res}[/{format}]``).

    Corners are ``x_y_z`` in physical units, the resolution is the distance of pixels in the same units.
    """
    image = params.ImageFormat.parse(fmt)
    corners = [_position(text) for text in (top_left, top_right, bottom_left)]
    plane = Plane(corners[0], corners[1], corners[2], _number(resolution))
    wire.check_payload(handle.plane_bytes(plane))
    return wire.image(handle.read_plane(plane), image)


def _position(text: str) -> tuple[float, ...]:
    """``x_y_z`` in physical units as (z, y, x)."""
    parts = text.split("_")
    if len(parts) != 3:
        raise InvalidInputError(f'a corner should be three numbers joined by "_", not "{text}"')
    return tuple(_number(part) for part in reversed(parts))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInputError(f'expected a number, not "{text}"') from error


@router.post("/raw/{dims}/{size}/{offset}")
def post_raw(handle: Handle, asked: Asked, body: deps.Octets, within: InRoi) -> Response:
    """Write whole blocks (DVID: ``POST D/raw/0_1_2/{size}/{offset}``); octets in z, y, x order.

    ``?roi=`` names a ROI outside of which nothing changes.
    """
    if not asked.is_plain:
        raise InvalidInputError("voxels can only be posted as a volume: raw/0_1_2/{size}/{offset}")
    handle.write_bytes(asked.box_zyx, body, within=within)
    return wire.empty()


@read(router, "/blocks/{coord}/{span}")
def get_blocks(handle: Handle, coord: str, span: str) -> Response:
    """Blocks along x, background where unwritten (DVID: ``GET D/blocks/{x_y_z}/{span}``)."""
    first, count = _row(handle, coord, span)
    return wire.octets(handle.read_row(first, count))


@router.post("/blocks/{coord}/{span}")
def post_blocks(handle: Handle, coord: str, span: str, body: deps.Octets) -> Response:
    """Write blocks along x (DVID: ``POST D/blocks/{x_y_z}/{span}``); extents stay as they are."""
    handle.write_row(*_row(handle, coord, span), body)
    return wire.empty()


def _row(handle: ImageBlk, coord: str, span: str) -> tuple[tuple[int, ...], int]:
    count = params.parse_int(span, "span")
    if count <= 0:
        raise InvalidInputError(f"span should be above 0, not {span}")
    bz, by, bx = handle.block_zyx
    wire.check_payload(count * bz * by * bx * handle.dtype.itemsize)
    return params.parse_point_zyx(coord, "block coordinate"), count


@read(router, "/subvolblocks/{size}/{offset}")
def get_subvolblocks(handle: Handle, size: str, offset: str, compression: str = "") -> Response:
    """Stream of the written blocks of a box of whole blocks (DVID: ``GET D/subvolblocks/{size}/{offset}``).

    ``?compression=`` is empty for the stored form, ``uncompressed``, or ``jpeg``.
    """
    shape, lo = params.parse_size_zyx(size), params.parse_point_zyx(offset, "offset")
    box = (lo, tuple(a + n for a, n in zip(lo, shape, strict=True)))
    return wire.stream(handle.block_stream(handle.box_blocks(box), compression))


@read(router, "/specificblocks")
def get_specificblocks(
    handle: Handle, blocks: str = "", compression: str = "", prefetch: str | None = None
) -> Response:
    """Stream of the named blocks without unwritten ones (DVID: ``GET D/specificblocks?blocks=x,y,z,...``)."""
    coords = params.parse_blocks_zyx(blocks)
    parts = handle.block_stream([] if params.parse_bool(prefetch) else coords, compression)
    return wire.stream(parts)


@read(router, "/rawkey")
def get_rawkey(handle: Handle, x: int, y: int, z: int) -> Response:
    """Hexadecimal key of the chunk of a block (DVID: ``GET D/rawkey?x=&y=&z=``, block coordinates)."""
    return wire.json({"Key": handle.chunk_key((z, y, x)).encode().hex()})
