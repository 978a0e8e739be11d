"""Consolidated metadata as they are now: a copy that is stored with a group would hide what changed after it.

zarr and xarray believe a group's consolidated metadata before they look at its arrays.  A stored copy goes stale with
every rename, growth or new array below the group, and shows chunks that are elsewhere as fill value.  So what readers
get is corrected from the version's own metadata; bytes that are right already stay as they are.  Formats: Zarr 3 in
the group's ``zarr.json`` (a convention of zarr-python), Zarr 2 in ``.zmetadata``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import orjson

from vzarr.overlay.hierarchy.tree import V2_DOCS, V3_DOC, above, below, join_doc

V2_NAME = ".zmetadata"
_KEY = "consolidated_metadata"

Docs = Mapping[str, Mapping[str, bytes]]
"""Metadata documents as readers see them, by path and name."""


def is_consolidated(name: str, data: bytes) -> bool:
    """Whether a document of that name may hold consolidated metadata."""
    return name == V2_NAME or (name == V3_DOC and b'"consolidated_metadata"' in data)


def corrected(path: str, name: str, data: bytes, docs: Docs) -> bytes:
    """A document whose consolidated metadata, if it has any, say what the version's documents say.

    Parameters
    ----------
    path, name, data
        Group, file name and bytes of the document.
    docs
        At least all documents of the group and of what lies below it.
    """
    try:
        doc = orjson.loads(data)
        held = doc["metadata"] if name == V2_NAME else doc[_KEY]["metadata"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return data  # nothing that a reader would take for consolidated metadata
    if not isinstance(held, dict):
        return data
    now = _of_v2(path, docs) if name == V2_NAME else _of_v3(path, docs)
    found = {k: held[k] if _bare(held.get(k)) == v else v for k, v in now.items()}
    if found == held:
        return data
    # zarr takes a group without the key for one whose members are not known.
    marked = {k: _with_key(v) if k.endswith("/.zgroup") or "node_type" in v else v for k, v in found.items()}
    if name == V2_NAME:
        doc["metadata"] = marked
    else:
        doc[_KEY]["metadata"] = marked
    return orjson.dumps(doc, option=orjson.OPT_INDENT_2)


def _of_v2(path: str, docs: Docs) -> dict[str, Any]:
    kinds = (".zarray", ".zgroup")
    inside = {_within(path, p): docs[p] for p in below(docs, path) if any(kind in docs[p] for kind in kinds)}
    shown, implied = _shown(inside, {p for p, named in inside.items() if ".zarray" in named})
    stored = {p: {name: orjson.loads(inside[p][name]) for name in V2_DOCS if name in inside[p]} for p in shown}
    found = {**stored, **{p: {".zgroup": {"zarr_format": 2}} for p in implied}}
    return {join_doc(p, name): doc for p, named in found.items() for name, doc in named.items()}


def _of_v3(path: str, docs: Docs) -> dict[str, Any]:
    inside = (p for p in below(docs, path) if p != path and V3_DOC in docs[p])
    found = {_within(path, p): _bare(orjson.loads(docs[p][V3_DOC])) for p in inside}
    shown, implied = _shown(found, {p for p, doc in found.items() if doc["node_type"] == "array"})
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    return {**{p: found[p] for p in shown}, **dict.fromkeys(implied, group)}


def _within(path: str, inside: str) -> str:
    return inside[len(path) + 1 :] if path else inside


def _shown(paths: Iterable[str], arrays: Set[str]) -> tuple[list[str], set[str]]:
    """Paths that consolidated metadata can name, and groups without a document that these lie in.

    A reader takes metadata for a tree: it opens none in which something has no group, and finds nothing in an array.
    """
    found = [p for p in paths if arrays.isdisjoint(above(p))]
    return found, {group for p in found for group in above(p) if group} - set(found)


def _bare(doc: Any) -> Any:
    """A document without the consolidated metadata of its own."""
    return {k: v for k, v in doc.items() if k != _KEY} if isinstance(doc, dict) else doc


def _with_key(doc: dict[str, Any]) -> dict[str, Any]:
    if doc.get("node_type", "group") != "group" or _KEY in doc:
        return doc
    return {**doc, _KEY: {"kind": "inline", "must_understand": False, "metadata": {}}}
