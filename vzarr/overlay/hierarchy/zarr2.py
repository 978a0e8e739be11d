"""A Zarr 3 array as Zarr 2 would describe it, where the stored bytes mean the same to both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import zarr.dtype

from vzarr.errors import UnsupportedError
from vzarr.overlay.hierarchy.tree import V3_DOC

DIMENSIONS = "_ARRAY_DIMENSIONS"
"""Attribute under which xarray keeps an array's axes in Zarr 2, which has no place for them."""
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_ENDIANS = {"little": "<", "big": ">"}


def as_v2(docs: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """The documents of one array or group by their Zarr 2 names, parsed; chunks are to be named ``1.2.3``.

    Raises
    ------
    UnsupportedError
        If Zarr 2 cannot say it: shards, irregular grids, checksums, chains of several compressors.
    """
    if V3_DOC not in docs:
        return {name: orjson.loads(data) for name, data in docs.items()}
    doc = orjson.loads(docs[V3_DOC])
    attributes = doc.get("attributes") or {}
    if doc["node_type"] == "group":
        return {".zgroup": {"zarr_format": 2}, ".zattrs": attributes}
    names = doc.get("dimension_names")
    if names and all(names):
        attributes = {**attributes, DIMENSIONS: names}
    return {".zarray": _array(doc), ".zattrs": attributes}


def _array(doc: Mapping[str, Any]) -> dict[str, Any]:
    if doc["chunk_grid"]["name"] != "regular":
        raise UnsupportedError("Zarr 2 knows no irregular chunk grid")
    ndim = len(doc["shape"])
    order, endian, compressor = _codecs(doc["codecs"], ndim)
    kind = zarr.dtype.parse_dtype(doc["data_type"], zarr_format=3)
    name = kind.to_json(zarr_format=2)["name"]
    if isinstance(name, str) and name[0] in "<>":
        name = endian + name[1:]
    fill = kind.from_json_scalar(doc["fill_value"], zarr_format=3)
    return {
        "zarr_format": 2,
        "shape": doc["shape"],
        "chunks": doc["chunk_grid"]["configuration"]["chunk_shape"],
        "dtype": name,
        "fill_value": kind.to_json_scalar(fill, zarr_format=2),
        "order": order,
        "filters": None,
        "compressor": compressor,
        "dimension_separator": ".",
    }


def _codecs(chain: Sequence[Mapping[str, Any]], ndim: int) -> tuple[str, str, dict[str, Any] | None]:
    """Memory order, byte order and compressor that a chain of codecs comes to."""
    order, endian, compressors = "C", "<", []
    for codec in chain:
        name, options = codec["name"], codec.get("configuration") or {}
        if name == "transpose" and list(options["order"]) == list(range(ndim))[::-1]:
            order = "F"
        elif name == "bytes":
            endian = _ENDIANS[options.get("endian", "little")]
        elif name in _COMPRESSORS:
            compressors.append(_COMPRESSORS[name](options))
        else:
            raise UnsupportedError(f"Zarr 2 has no codec {name!r}")
    if len(compressors) > 1:
        raise UnsupportedError("Zarr 2 compresses once")
    return order, endian, compressors[0] if compressors else None


def _blosc(options: Mapping[str, Any]) -> dict[str, Any]:
    shuffle = _SHUFFLES[options["shuffle"]]
    return {"id": "blosc", **{k: options[k] for k in ("cname", "clevel", "blocksize")}, "shuffle": shuffle}


def _gzip(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "gzip", "level": options["level"]}


def _zstd(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "zstd", "level": options["level"]}


_COMPRESSORS = {"blosc": _blosc, "gzip": _gzip, "zstd": _zstd}
