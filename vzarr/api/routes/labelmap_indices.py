"""Routes of labelmaps about label indices: single ones, batches, posting by hand, when they were stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from vzarr.api import params, wire
from vzarr.api.routes.labelmap_params import App, Body, Handle, Ids, Label, User
from vzarr.api.routing import read
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types.labelmap import index, proto
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.index import LabelIndex
from vzarr.types.labelmap.proto import IndexMessage
from vzarr.types.labelmap.rows import Header

router = APIRouter()

MOST_INDICES = 50_000
MetadataOnly = Annotated[str | None, Query(alias="metadata-only")]


@read(router, "/index/{label}")
def get_index(handle: Handle, label: Label, mutid: str | None = None, metadata_only: MetadataOnly = None) -> Response:
    """Index of a body as protobuf ``LabelIndex`` (DVID: ``GET D/index/{label}``).

    ``?metadata-only=true`` gives size and last change as JSON.  ``?mutid=`` asks for the index as it was after a
    mutation; like a DVID without a cache of these, vzarr keeps none.
    """
    found = handle.find(label)
    if mutid is not None:
        raise NotFoundError(f"no index of label {label} was kept for mutation {params.parse_uint64(mutid, 'mutid')}")
    if params.parse_bool(metadata_only):
        return wire.json(_metadata(found.header))
    return wire.octets(proto.encode_index(found))


def _metadata(last: Header) -> dict[str, Any]:
    return {
        "num_voxels": last.voxels,
        "last_mutid": last.mutation_id,
        "last_mod_time": last.time,
        "last_mod_user": last.user,
        "last_mod_app": last.app,
    }


@router.post("/index/{label}")
def post_index(handle: Handle, label: Label, body: Body, user: User, app: App) -> Response:
    """Replace the index of a body (DVID: ``POST D/index/{label}``); protobuf ``LabelIndex``, empty to delete it."""
    message = proto.decode_index(body)
    if message.label != label:
        raise InvalidInputError(f"the index is of label {message.label}, not of {label}")
    handle.post_indices([_index(message)], user=user, app=app)
    return wire.empty()


def _index(message: IndexMessage) -> LabelIndex:
    return LabelIndex(message.label, message.header, message.counts)


@read(router, "/indices")
def get_indices(handle: Handle, ids: Ids, metadata_only: MetadataOnly = None) -> Response:
    """Indices of bodies as protobuf ``LabelIndices`` (DVID: ``GET D/indices``); body ``[label, ...]``.

    ``?metadata-only=true`` gives a JSON list of size and last change of each, null for a body that there is not.
    """
    if params.parse_bool(metadata_only):
        found = _indices(handle, ids)
        return wire.json([_metadata(i.header) if i.counts else None for i in found])
    return wire.stream(proto.encode_indices(_indices(handle, ids)))


@read(router, "/indices-compressed")
def get_indices_compressed(handle: Handle, ids: Ids) -> Response:
    """Stream of compressed indices of bodies (DVID: ``GET D/indices-compressed``); body ``[label, ...]``."""
    found = _indices(handle, ids)
    return wire.stream(proto.encode_compressed(i.label, proto.encode_index(i) if i.counts else None) for i in found)


def _indices(handle: LabelMap, ids: list[int]) -> Iterator[LabelIndex]:
    if len(ids) > MOST_INDICES:
        raise InvalidInputError(f"at most {MOST_INDICES} indices can be asked for at once, not {len(ids)}")
    return (handle.find_or_empty(label) for label in ids)


@router.post("/indices")
def post_indices(handle: Handle, body: Body, user: User, app: App) -> Response:
    """Replace indices of bodies (DVID: ``POST D/indices``); protobuf ``LabelIndices``, empty ones delete."""
    messages: Iterable[IndexMessage] = proto.decode_indices(body)
    handle.post_indices([_index(m) for m in messages], user=user, app=app)
    return wire.empty()


@read(router, "/index-version/{label}")
def get_index_version(handle: Handle, label: Label) -> Response:
    """Version where a body's index was last stored (DVID: ``GET D/index-version/{label}``)."""
    return wire.text(index.stored_at(handle, label))
