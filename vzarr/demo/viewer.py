"""Links to the neuroglancer client that our own server offers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote


def viewer_link(
    server: str, version: str, *, voxel_nm: float, grayscale: str = "grayscale", segmentation: str = "segmentation"
) -> str:
    """Link that opens a version in neuroglancer, from our own port.

    Parameters
    ----------
    server
        ``http://HOST:PORT``.
    version
        Id of the version.
    voxel_nm
        Edge of a voxel.
    grayscale, segmentation
        Names of the instances.

    Notes
    -----
    The image comes as plain Zarr; the segmentation through DVID's API, which maps supervoxels to bodies. State
    format: neuroglancer, ``src/ui/url_hash_binding.ts``: JSON behind ``#!``.
    """
    state: dict[str, Any] = {
        # Otherwise the axes come in the order of whichever layer answers first.
        "dimensions": _dimensions("xyz", voxel_nm),
        "layers": [
            {
                "type": "image",
                "name": grayscale,
                "source": {
                    "url": f"zarr3://{server}/zarr/{version}/{grayscale}/",
                    "transform": _from_centre_to_corner(voxel_nm),
                },
            },
            {
                "type": "segmentation",
                "name": segmentation,
                "source": f"dvid://{server}/{version}/{segmentation}",
                "selectedAlpha": 0.3,
                "notSelectedAlpha": 0.15,
            },
        ],
        "layout": "4panel",
        "showDefaultAnnotations": False,
    }
    return f"{server}/neuroglancer/#!{quote(json.dumps(state, separators=(',', ':')), safe=':,/')}"


def _dimensions(axes: str, voxel_nm: float) -> dict[str, list[float | str]]:
    return {axis: [voxel_nm * 1e-9, "m"] for axis in axes}


def _from_centre_to_corner(voxel_nm: float) -> dict[str, Any]:
    """Move by half a voxel: OME-Zarr counts from a voxel's centre, DVID and neuroglancer from its corner."""
    return {
        "matrix": [[1, 0, 0, 0.5], [0, 1, 0, 0.5], [0, 0, 1, 0.5]],
        "outputDimensions": _dimensions("zyx", voxel_nm),
    }
