"""How an array's documents are marked in a folder that holds only some of its chunks: no other reader opens it."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.tree import V3_DOC

ENCODING = "vzarr"
"""Name of the chunk key encoding (Zarr 3) that keeps other readers from opening an incomplete folder."""
FILTER = "vzarr-overlay"
"""Id of the filter (Zarr 2) that keeps what the mark hides."""
DTYPE = "vzarr"
"""Data type (Zarr 2) that does the same: CloudVolume looks at no filters, but nobody reads voxels of no type."""


def marked(docs: Mapping[str, bytes], origin: Coord) -> dict[str, bytes]:
    """An array's documents as they stand in a folder that holds only some of its chunks: no other reader opens it."""
    if V3_DOC in docs:
        doc = orjson.loads(docs[V3_DOC])
        plain = doc.get("chunk_key_encoding", {"name": "default"})
        doc["chunk_key_encoding"] = {
            "name": ENCODING,
            "configuration": {"chunk_key_encoding": plain, "origin": list(origin)},
        }
        return {V3_DOC: orjson.dumps(doc, option=orjson.OPT_INDENT_2)}
    doc = orjson.loads(docs[".zarray"])
    hidden = {"id": FILTER, "origin": list(origin), "dtype": doc["dtype"]}
    doc["filters"], doc["dtype"] = [hidden, *(doc.get("filters") or ())], DTYPE
    return {**docs, ".zarray": orjson.dumps(doc, option=orjson.OPT_INDENT_2)}


def may_be_marked(docs: Mapping[str, bytes]) -> bool:
    """Whether documents look like `marked` ones, whose array need not begin where they seem to say."""
    return any(f'"{ENCODING}'.encode() in data for data in docs.values())
