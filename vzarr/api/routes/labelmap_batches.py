"""Routes of labelmaps that ask the same of many bodies at once.

All have one form: the path of the question about one body without its label, with the labels as a JSON list in the
body; the answer is a JSON list of what the question about each one answers, in their order, with null for a body that
there is not.  A client whose HTTP library sends no body with GET may POST, to sealed versions too.  (``mapping``,
``sizes``, ``indices`` and ``labels`` are DVID's own, each in its own form.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response

from vzarr.api import wire
from vzarr.api.routes.labelmap_bodies import lastmod_json, supervoxel_sizes_json
from vzarr.api.routes.labelmap_params import INDEXED, AsSupervoxels, Handle, Ids
from vzarr.api.routes.labelmap_sparsevol import extent_json
from vzarr.api.routing import allowed_when_sealed, read
from vzarr.errors import NotFoundError
from vzarr.types.labelmap import volumes
from vzarr.types.labelmap.arguments import check_label

router = APIRouter()


def _each(ids: list[int], answer: Callable[[int], Any]) -> Response:
    for label in ids:
        check_label(label)
    return wire.json([_or_none(label, answer) for label in ids])


def _or_none(label: int, answer: Callable[[int], Any]) -> Any:
    try:
        return answer(label)
    except NotFoundError:
        return None


@read(router, "/supervoxels")
@router.post("/supervoxels")
@allowed_when_sealed
def many_supervoxels(handle: Handle, ids: Ids) -> Response:
    """Supervoxels of each of several bodies; body ``[label, ...]``, answer ``[[supervoxel, ...] or null, ...]``."""
    return _each(ids, handle.supervoxels_of)


@read(router, "/supervoxel-sizes")
@router.post("/supervoxel-sizes")
@allowed_when_sealed
def many_supervoxel_sizes(handle: Handle, ids: Ids) -> Response:
    """Supervoxels of each of several bodies and their voxels; body ``[label, ...]``."""
    return _each(ids, lambda label: supervoxel_sizes_json(handle.find(label)))


@read(router, "/lastmod")
@router.post("/lastmod")
@allowed_when_sealed
def many_lastmods(handle: Handle, ids: Ids) -> Response:
    """Last edit of each of several bodies; body ``[label, ...]``."""
    return _each(ids, lambda label: lastmod_json(handle.header(label)))


@read(router, "/sparsevol-size", dependencies=INDEXED)
@router.post("/sparsevol-size", dependencies=INDEXED)
@allowed_when_sealed
def many_sparsevol_sizes(handle: Handle, ids: Ids, supervoxels: AsSupervoxels) -> Response:
    """Voxels, blocks and bounding box of each of several bodies or supervoxels; body ``[label, ...]``."""
    return _each(ids, lambda label: extent_json(volumes.extent_of(handle, handle.find(label, supervoxel=supervoxels))))
