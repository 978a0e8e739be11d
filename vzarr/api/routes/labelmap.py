"""Routes of ``labelmap``, put together from what they are about."""

from __future__ import annotations

from fastapi import APIRouter

from vzarr.api.routes import (
    labelmap_batches,
    labelmap_bodies,
    labelmap_edits,
    labelmap_indices,
    labelmap_labels,
    labelmap_nanovdb,
    labelmap_sparsevol,
    labelmap_voxels,
    volume,
)

router = APIRouter()
for part in (
    volume,
    labelmap_voxels,
    labelmap_bodies,
    labelmap_sparsevol,
    labelmap_nanovdb,
    labelmap_indices,
    labelmap_batches,
    labelmap_edits,
    labelmap_labels,
):
    router.include_router(part.router)
