"""Links to the neuroglancer client that our own server offers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote


def viewer_link(server: str, version: str, *, grayscale: str = "grayscale", segmentation: str = "segmentation") -> str:
    """Link that opens a version in neuroglancer, from our own port.

    Parameters
    ----------
    server
        ``http://HOST:PORT``.
    version
        Id of the version.
    grayscale, segmentation
        Names of the instances.

    Notes
    -----
    The image comes as plain Zarr; the segmentation through DVID's API, which maps supervoxels to bodies. State
    format: neuroglancer, ``src/neuroglancer/ui/url_hash_binding``: JSON behind ``#!``.
    """
    state: dict[str, Any] = {
        "layers": [
            {
                "type": "image",
                "name": grayscale,
                "source": f"zarr3://{server}/zarr/{version}/{grayscale}/",
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
