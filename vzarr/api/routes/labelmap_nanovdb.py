"""The route of labelmaps that gives a body to programs that trace rays through sparse volumes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from vzarr.api import wire
from vzarr.api.routes.labelmap_params import INDEXED, AsSupervoxels, Handle, Label, Scale
from vzarr.api.routing import read
from vzarr.types.labelmap import nanovdb

router = APIRouter()


@read(router, "/fvdb/{label}", dependencies=INDEXED)
def get_fvdb(handle: Handle, label: Label, supervoxels: AsSupervoxels, scale: Scale, name: str = "") -> Response:
    """Voxels of a body or supervoxel as a NanoVDB file, an ``OnIndex`` grid (DVID: ``GET D/fvdb/{label}``).

    ``?name=`` of grid and file (instance and label by default); ``?scale=``, ``?supervoxels=true``.
    """
    volume = handle.sparsevol(label, supervoxel=supervoxels, scale=scale)
    called = nanovdb.check_name(name or nanovdb.default_name(volume))
    disposition = {"Content-Disposition": f'attachment; filename="{called}.nvdb"'}
    return wire.octets(nanovdb.encode_volume(volume, called), headers=disposition)
