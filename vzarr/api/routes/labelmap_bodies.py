"""Routes of labelmaps about bodies: mappings, supervoxels, sizes, lists, last changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from vzarr.api import params, wire
from vzarr.api.routes.labelmap_params import App, AsSupervoxels, Body, Handle, Ids, Label, User
from vzarr.api.routing import read, short
from vzarr.types.labelmap import proto, statistics
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.rows import Header

router = APIRouter()

_MOST_LISTED = 10_000_000
_PER_PIECE = 8192


@read(router, "/mapping")
def get_mapping(handle: Handle, ids: Ids, nolookup: str | None = None) -> Response:
    """Bodies of supervoxels (DVID: ``GET D/mapping``); body ``[id, ...]``.

    An id that is unmapped and no supervoxel gives 0, or itself with ``?nolookup=true``.
    """
    return wire.json(handle.bodies_of(np.array(ids, np.uint64), check=not params.parse_bool(nolookup)))


@read(router, "/mappings")
def get_mappings(handle: Handle, format: str = "") -> Response:
    """All supervoxels whose body has another number (DVID: ``GET D/mappings``); text, or ``?format=binary``."""
    if format == "binary":
        return wire.stream(_numbers(handle.mappings()))
    return wire.stream((f"{sv} {body}\n".encode() for sv, body in handle.mappings()), wire.TEXT)


@router.post("/mappings")
def post_mappings(handle: Handle, body: Body, user: User, app: App) -> Response:
    """Map supervoxels to bodies by hand (DVID: ``POST D/mappings``); protobuf ``MappingOps``."""
    ops = proto.decode_mappings(body)
    pairs = [(sv, op.mapped) for op in ops for sv in op.originals.tolist()]
    handle.post_mappings(pairs, user=user, app=app)
    return wire.empty()


@read(router, "/map-stats")
def get_map_stats(handle: Handle) -> Response:
    """How many mappings there are, and of how many versions (DVID: ``GET D/map-stats``)."""
    return wire.json({handle.name: statistics.map_stats(handle)})


@read(router, "/supervoxels/{label}")
def get_supervoxels(handle: Handle, label: Label) -> Response:
    """Supervoxels of a body (DVID: ``GET D/supervoxels/{label}``)."""
    return wire.json(handle.supervoxels_of(label))


@read(router, "/supervoxel-sizes/{label}")
def get_supervoxel_sizes(handle: Handle, label: Label) -> Response:
    """Supervoxels of a body and their voxels (DVID: ``GET D/supervoxel-sizes/{label}``)."""
    return wire.json(supervoxel_sizes_json(handle.find(label)))


def supervoxel_sizes_json(found: LabelIndex) -> dict[str, Any]:
    """Supervoxels of a body and their voxels, as DVID's JSON has them."""
    return {"supervoxels": list(found.counts), "sizes": [c.total for c in found.counts.values()]}


@read(router, "/size/{label}")
@short
def get_size(handle: Handle, label: Label, supervoxels: AsSupervoxels) -> Response:
    """Voxels of a body or supervoxel (DVID: ``GET D/size/{label}``)."""
    return wire.json({"voxels": handle.size(label, supervoxel=supervoxels)})


@read(router, "/sizes")
def get_sizes(handle: Handle, ids: Ids, supervoxels: AsSupervoxels) -> Response:
    """Voxels of bodies or supervoxels, 0 for unknown ones (DVID: ``GET D/sizes``); body ``[id, ...]``."""
    return wire.json(handle.sizes(ids, supervoxels=supervoxels))


@read(router, "/lastmod/{label}")
@short
def get_lastmod(handle: Handle, label: Label) -> Response:
    """Last edit of a body (DVID: ``GET D/lastmod/{label}``)."""
    return wire.json(lastmod_json(handle.header(label)))


def lastmod_json(last: Header) -> dict[str, Any]:
    """Last edit of a body, as DVID's JSON has it."""
    return {
        "mutation id": last.mutation_id,
        "last mod user": last.user,
        "last mod app": last.app,
        "last mod time": last.time,
    }


@read(router, "/existing-labels")
def get_existing_labels(handle: Handle) -> Response:
    """All bodies, ascending (DVID: ``GET D/existing-labels``)."""
    return wire.json([body for body, _ in handle.list_bodies()])


@read(router, "/listlabels")
def get_listlabels(handle: Handle, start: str = "", number: str = "", sizes: str | None = None) -> Response:
    """Bodies as 64-bit numbers, ascending (DVID: ``GET D/listlabels``).

    ``?start=`` the first, ``?number=`` how many, ``?sizes=true`` each followed by its voxels.
    """
    first = params.parse_uint64(start or "0", "start")
    limit = min(params.parse_uint64(number, "number"), _MOST_LISTED) if number else _MOST_LISTED
    found = handle.list_bodies(first, limit=limit)
    with_sizes = params.parse_bool(sizes)
    return wire.stream(_numbers(pair if with_sizes else pair[:1] for pair in found))


def _numbers(rows: Iterable[tuple[int, ...]]) -> Iterator[bytes]:
    todo = iter(rows)
    while some := list(islice(todo, _PER_PIECE)):
        yield np.array(some, "<u8").tobytes()
