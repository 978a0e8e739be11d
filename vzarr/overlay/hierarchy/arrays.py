"""Metadata documents of new groups and arrays, made by zarr itself, and how a version shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import orjson
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from vzarr.errors import InvalidInputError
from vzarr.overlay.hierarchy.tree import FARTHEST, V3_DOC, ArrayEntry, Entry, join_doc
from vzarr.overlay.history.state import NodeInfo, State

ZYX = ("z", "y", "x")
"""Names of the axes of volumes."""


def compressors(codecs: str | Sequence[Any], itemsize: int) -> Any:
    """Compressors by the name of what they are for, or as given.

    Images take blosc lz4 with bit shuffling; labels plain zstd at level 1, which shuffling would only make larger
    and slower.
    """
    if codecs == "image":
        return BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=itemsize)
    if codecs == "labels":
        return ZstdCodec(level=1)
    if isinstance(codecs, str):
        raise InvalidInputError(f"codecs are 'image', 'labels' or compressors as zarr takes them, not {codecs!r}")
    return codecs


def array_docs(
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: Any,
    codecs: str | Sequence[Any],
    fill_value: Any,
    dimension_names: Sequence[str] | None,
    attributes: Mapping[str, Any] | None,
) -> dict[str, bytes]:
    """Metadata documents of a new Zarr 3 array; `ZYX` stands for as many of these names as there are axes.

    Raises
    ------
    InvalidInputError
        If zarr cannot make such an array.
    """
    held: dict[str, Any] = {}
    if any(n > FARTHEST for n in shape):
        raise InvalidInputError(f"an array of shape {tuple(shape)} is too large: it ends farther from 0 than 10^17")
    if any(c < 1 for c in chunks):
        raise InvalidInputError(f"a chunk has at least one voxel along each axis, unlike {tuple(chunks)}")
    if dimension_names is ZYX and len(chunks) != len(ZYX):
        dimension_names = ZYX[-len(chunks) :] if 0 < len(chunks) < len(ZYX) else None
    try:
        zarr.create_array(
            MemoryStore(held),
            shape=tuple(shape),
            chunks=tuple(chunks),
            dtype=np.dtype(dtype),
            compressors=compressors(codecs, np.dtype(dtype).itemsize),
            filters=None,
            fill_value=fill_value,
            dimension_names=dimension_names,
            attributes=dict(attributes) if attributes else None,
        )
    except (ValueError, TypeError) as e:
        raise InvalidInputError(f"there can be no array of {dtype} in chunks of {tuple(chunks)}: {e}") from e
    return {V3_DOC: held[V3_DOC].to_bytes()}


def as_zarr_writes(doc: bytes, name: str = V3_DOC) -> bytes:
    """An array's document in zarr's own words: what two writers did to it can then be compared.

    Parameters
    ----------
    doc, name
        The document and its file name, ``zarr.json`` or ``.zarray``.

    Raises
    ------
    Exception
        Whatever zarr raises for what it cannot open.
    """
    held: dict[str, Any] = {name: default_buffer_prototype().buffer.from_bytes(doc)}
    zarr.open_array(MemoryStore(held), mode="r+").update_attributes({})
    written: bytes = held[name].to_bytes()
    return written


def group_doc(attributes: Mapping[str, Any] | None) -> bytes:
    """Metadata document of a Zarr 3 group."""
    doc = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}
    return orjson.dumps(doc, option=orjson.OPT_INDENT_2)


def group_row(path: str, attributes: Mapping[str, Any] | None, there: Entry | None = None) -> tuple[str, bytes]:
    """Key and bytes of the document that gives a group its attributes, in the format of the group that is there."""
    if there is None or V3_DOC in there.docs:
        return doc_key(path), group_doc(attributes)
    return f"{path}/.zattrs".lstrip("/"), orjson.dumps(dict(attributes or {}), option=orjson.OPT_INDENT_2)


def group_like(path: str, member: Entry) -> tuple[str, bytes]:
    """Key and bytes of the document that makes an empty group for what is, or will be, in it, in the same format."""
    if V3_DOC in member.docs:
        return doc_key(path), group_doc(None)
    return join_doc(path, ".zgroup"), orjson.dumps({"zarr_format": 2}, option=orjson.OPT_INDENT_2)


def doc_key(path: str) -> str:
    """Key of the Zarr 3 document of a path."""
    return f"{path}/{V3_DOC}" if path else V3_DOC


def attributes_of(entry: Entry) -> dict[str, Any]:
    """Attributes of a group or array."""
    if V3_DOC in entry.docs:
        return dict(orjson.loads(entry.docs[V3_DOC]).get("attributes") or {})
    return dict(orjson.loads(entry.docs.get(".zattrs", b"{}")))


def version_html(state: State, info: NodeInfo, entries: Mapping[str, Entry]) -> str:
    """A version as a small table: where it stands, and what it holds."""
    rows = [
        f"<tr><td>{escape(path)}</td><td>{'×'.join(map(str, e.spec.shape))}</td></tr>"
        for path, e in sorted(entries.items())
        if isinstance(e, ArrayEntry)
    ]
    names = ", ".join(f"{escape(i.name)} ({escape(i.typename)})" for i in state.instances.values()) or "none"
    return (
        f"<b>version {escape(info.id)}</b> on {escape(info.branch or 'master')}, "
        f"{'sealed' if info.sealed else 'open'}<br>{escape(info.note)}<br>instances: {names}"
        f"<table><tr><th>array</th><th>shape</th></tr>{''.join(rows)}</table>"
    )


def repo_html(state: State) -> str:
    """A repo as a small table of its versions, newest first."""
    rows = [
        f"<tr><td><code>{escape(n.id[:8])}</code></td><td>{escape(n.branch or 'master')}</td>"
        f"<td>{'sealed' if n.sealed else 'open'}</td><td>{escape(n.created[:19])}</td><td>{escape(n.note)}</td></tr>"
        for n in list(state.nodes.values())[::-1][:50]
    ]
    head = "<tr><th>version</th><th>branch</th><th>state</th><th>made</th><th>note</th></tr>"
    title = f"<b>repo {escape(state.alias or state.root)}</b><br>{escape(state.description)}"
    return f"{title}<table>{head}{''.join(rows)}</table>"
