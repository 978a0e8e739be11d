"""A lost metadata tree, put together from what else says it: the folder's documents, and trees of related versions.

Nobody knows beforehand which of them is right where they differ, but the seal's checksum tells when all of it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

import orjson

from vzarr.overlay import layout
from vzarr.overlay.hierarchy.marks import ENCODING
from vzarr.overlay.hierarchy.tree import (
    DOC_NAMES,
    RESERVED,
    V3_DOC,
    ArrayEntry,
    ArrayId,
    Entry,
    Tree,
    array_of,
    read_doc,
    split_doc,
)
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal

TRIES = 1 << 12
"""Most trees that are tried."""
Options = Mapping[str, Sequence[Any]]
"""Path or key -> what may be there, the likeliest first; None for nothing."""


def find_tree(objects: Objects, root: str, node: str, digest: str, above: Tree, below: Sequence[Tree]) -> bytes | None:
    """The bytes of a version's tree, or None where nothing tells them.

    Parameters
    ----------
    root, node
        Ids of the repo's root and of the version.
    digest
        Their SHA-256.
    above
        Tree that the version builds on; an empty one for a root.
    below
        Trees of versions that come from it.
    """
    found = dict(_folder_entries(objects, root, node, above))
    loose = _root_loose(objects, node, found) if node == root else {}
    entries = _options(found, above.entries, [t.entries for t in below])
    others = _options(loose, above.loose, [t.loose for t in below])
    for entry_row, loose_row in islice(product(_choices(entries), list(_choices(others))), TRIES):
        data = Tree(entry_row, loose_row).to_bytes()
        if seal.sha256(data) == digest:
            return data
    return None


def _options(found: Mapping[str, Any], above: Mapping[str, Any], below: Sequence[Mapping[str, Any]]) -> Options:
    options: dict[str, list[Any]] = {}
    for path in sorted({*found, *above, *(p for tree in below for p in tree)}):
        said = [tree.get(path) for tree in (found, *below, above) if path in tree]
        if path not in above or any(path not in tree for tree in below):
            said.append(None)
        options[path] = [value for i, value in enumerate(said) if value not in said[:i]]
    return options


def _choices(options: Options) -> Iterator[dict[str, Any]]:
    for row in product(*options.values()):
        yield {path: value for path, value in zip(options, row, strict=True) if value is not None}


def _folder_entries(objects: Objects, root: str, node: str, above: Tree) -> Iterator[tuple[str, Entry]]:
    """What the documents in a version's folder say of groups and arrays."""
    documents: dict[str, dict[str, bytes]] = {}
    cut = len(layout.zarr(node)) + 1
    for key, _size in objects.walk(layout.zarr(node)):
        path, name = split_doc(key[cut:])
        if name in DOC_NAMES and (data := objects.get(key)) is not None and read_doc(name, data)[0]:
            documents.setdefault(path, {})[name] = data
    folders = {e.id.folder(of_root=node == root, root=root): (p, e) for p, e in above.arrays().items()}
    for folder, docs in sorted(documents.items()):
        plain, origin = _unmarked({V3_DOC: docs[V3_DOC]} if V3_DOC in docs else docs)
        path, known = folders.get(folder, (folder, None))
        if known is not None:
            yield path, ArrayEntry(plain, known.id, origin, known.source)
        elif not any(read_doc(name, data)[1] for name, data in plain.items()):
            yield path, Entry(plain)
        elif node == root:
            yield path, ArrayEntry(plain, ArrayId(root, path), origin)
        elif RESERVED.search(folder):
            made_at, creator, counter = folder.rsplit("~", 2)
            yield made_at, ArrayEntry(plain, ArrayId(creator, made_at, int(counter)), origin)


def _unmarked(docs: Mapping[str, bytes]) -> tuple[dict[str, bytes], tuple[int, ...]]:
    """Documents without the mark of an incomplete folder (Zarr 3), and the first voxel that it keeps."""
    doc = orjson.loads(docs.get(V3_DOC, b"{}"))
    encoding = doc.get("chunk_key_encoding", {})
    if encoding.get("name") != ENCODING:
        return dict(docs), ()
    doc["chunk_key_encoding"] = encoding["configuration"]["chunk_key_encoding"]
    origin = tuple(encoding["configuration"]["origin"])
    return {V3_DOC: orjson.dumps(doc, option=orjson.OPT_INDENT_2)}, origin if any(origin) else ()


def _root_loose(objects: Objects, node: str, entries: Mapping[str, Entry]) -> dict[str, str]:
    """Keys of a root's folder that are neither documents nor chunks, as its commit tells them."""
    found = {}
    cut = len(layout.zarr(node)) + 1
    for key, _size in objects.walk(layout.zarr(node)):
        path, name = split_doc(key[cut:])
        inside = array_of(entries, key[cut:])
        chunk = inside is not None and inside[1].spec.coord(key[cut + len(inside[0]) :].lstrip("/")) is not None
        if not chunk and not (name in DOC_NAMES and path in entries and name in entries[path].docs):
            found[key[cut:]] = node
    return found
