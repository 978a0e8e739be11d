"""Zarr 2 metadata of an array as Zarr 3 metadata that describe the same stored bytes.

Sources: the Zarr version 2 specification, and the Zarr version 3 specification with the ``v2`` chunk key encoding and
the ``transpose``, ``bytes``, ``blosc``, ``gzip`` and ``zstd`` codecs; other codecs by numcodecs' names for version 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from vzarr.errors import UnsupportedError
from vzarr.overlay.hierarchy.tree import parse_array

_SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
_AUTO = -1


def converted(docs: Mapping[str, bytes], url: str) -> bytes:
    """Document ``zarr.json`` for an array of Zarr 2.

    Parameters
    ----------
    docs
        ``.zarray`` and, if there is one, ``.zattrs``.
    url
        What messages call it.

    Raises
    ------
    UnsupportedError
        If its data type has no counterpart.
    """
    doc = orjson.loads(docs[".zarray"])
    attributes = dict(orjson.loads(docs.get(".zattrs", b"{}")))
    dtype = _dtype(doc["dtype"], url)
    codecs: list[dict[str, Any]] = []
    if doc.get("order", "C") == "F" and len(doc["shape"]) > 1:
        codecs.append({"name": "transpose", "configuration": {"order": list(range(len(doc["shape"])))[::-1]}})
    codecs += [_named(f) for f in doc.get("filters") or ()]
    endian = "big" if dtype.byteorder == ">" else "little"
    codecs.append({"name": "bytes", **({"configuration": {"endian": endian}} if dtype.itemsize > 1 else {})})
    if doc.get("compressor"):
        codecs.append(_compressor(doc["compressor"], dtype))
    names = attributes.pop("_ARRAY_DIMENSIONS", None)
    found = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": doc["shape"],
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": doc["chunks"]}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": parse_array(docs).separator}},
        "fill_value": _fill(doc.get("fill_value"), dtype),
        "codecs": codecs,
        "attributes": attributes,
        **({"dimension_names": names} if names and len(names) == len(doc["shape"]) else {}),
    }
    return orjson.dumps(found, option=orjson.OPT_INDENT_2)


def _dtype(text: Any, url: str) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(text)
    except (TypeError, ValueError):
        dtype = np.dtype(object)
    if dtype.kind not in "biufc" or dtype.names:
        raise UnsupportedError(f"{url}: arrays of {text!r} are not adopted; numbers and booleans are")
    return dtype


def _fill(value: Any, dtype: np.dtype[Any]) -> Any:
    if value is not None:
        return bool(value) if dtype.kind == "b" else value
    return False if dtype.kind == "b" else [0.0, 0.0] if dtype.kind == "c" else 0


def _compressor(options: Mapping[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    name = options["id"]
    if name == "blosc":
        shuffle = options.get("shuffle", 1)
        if shuffle == _AUTO:
            shuffle = 2 if dtype.itemsize == 1 else 1
        configuration = {
            "cname": options.get("cname", "lz4"),
            "clevel": options.get("clevel", 5),
            "shuffle": _SHUFFLES[shuffle],
            "typesize": dtype.itemsize,
            "blocksize": options.get("blocksize", 0),
        }
        return {"name": "blosc", "configuration": configuration}
    if name == "gzip":
        return {"name": "gzip", "configuration": {"level": options.get("level", 1)}}
    if name == "zstd":
        level, checksum = options.get("level", 0), bool(options.get("checksum", False))
        return {"name": "zstd", "configuration": {"level": level, "checksum": checksum}}
    return _named(options)


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": f"numcodecs.{options['id']}", "configuration": {k: v for k, v in options.items() if k != "id"}}
