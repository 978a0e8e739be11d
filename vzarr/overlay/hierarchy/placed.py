"""OME-NGFF metadata for readers without vzarr: what an array's origin moves is part of its translation.

In a version an OME-Zarr group says where *global* voxel 0 of each scale lies.  A reader without vzarr takes an array's
first voxel for that; where it is another, the translation grows by ``origin * scale`` (NGFF 0.5,
``coordinateTransformations``: first the scale, then the translation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.tree import V3_DOC, ArrayEntry, Entry


def placed(path: str, name: str, data: bytes, entries: Mapping[str, Entry]) -> bytes:
    """A group's document with translations that count the origins of its arrays.

    Parameters
    ----------
    path, name, data
        Group, file name and bytes of the document.
    entries
        The version's groups and arrays by path.

    Returns
    -------
    bytes
        The same bytes where there is nothing to count.
    """
    if b'"multiscales"' not in data:
        return data
    doc = orjson.loads(data)
    attributes = doc.get("attributes", {}) if name == V3_DOC else doc
    moved = False
    for multiscale in _multiscales(attributes):
        for dataset in _datasets(multiscale):
            entry = entries.get(f"{path}/{dataset['path']}" if path else dataset["path"])
            if isinstance(entry, ArrayEntry) and any(entry.origin):
                moved |= _move(dataset, entry.origin)
    return orjson.dumps(doc, option=orjson.OPT_INDENT_2) if moved else data


def _multiscales(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Multiscales of NGFF 0.5, or of an earlier one; none where they are no such thing."""
    found = [holder.get("multiscales") for holder in (attributes.get("ome"), attributes) if isinstance(holder, dict)]
    return [m for some in found if isinstance(some, list) for m in some if isinstance(m, dict)]


def _datasets(multiscale: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = multiscale.get("datasets")
    every = found if isinstance(found, list) else []
    return [d for d in every if isinstance(d, dict) and isinstance(d.get("path"), str)]


def _move(dataset: dict[str, Any], origin: Coord) -> bool:
    """Add an origin to a dataset's translation; whether its transformations are of the kind that can be moved."""
    steps = dataset.get("coordinateTransformations")
    if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
        return False
    scale = next((s["scale"] for s in steps if isinstance(s.get("scale"), list)), None)
    if scale is None or len(scale) != len(origin):
        return False
    delta = [o * f for o, f in zip(origin, scale, strict=True)]
    for step in steps:
        if isinstance(step.get("translation"), list):
            step["translation"] = [a + b for a, b in zip(step["translation"], delta, strict=True)]
            return True
    steps.append({"type": "translation", "translation": delta})
    return True
