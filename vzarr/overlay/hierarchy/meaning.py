"""Whether metadata documents say the same of an array's bytes, however their writers worded it.

One writes a fill value of 0 where another writes 0.0, or leaves out what is usual anyway.  An edit of attributes by
zarr words the whole document its own way, and must not make another array of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

from vzarr.overlay.hierarchy.arrays import as_zarr_writes
from vzarr.overlay.hierarchy.tree import V3_DOC, ArraySpec, parse_array, spec_of


def same_meaning(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> bool:
    """Whether the bytes that are stored under some documents mean under others what they meant.

    Parameters
    ----------
    one, other
        Documents of an array by file name.
    """
    a, b = parse_array(one), parse_array(other)
    if a.meaning == b.meaning:
        return True
    return _names(a) == _names(b) and _reworded(*_doc(one)) == _reworded(*_doc(other))


def remakes(docs: Mapping[str, bytes], name: str, data: bytes) -> bool:
    """Whether a document makes an array anew that has some documents, instead of editing it."""
    return name != ".zattrs" and (spec_of(name, data) is None or not same_meaning(docs, {name: data}))


def _names(spec: ArraySpec) -> tuple[object, ...]:
    return spec.ndim, spec.chunks, spec.prefix, spec.separator


def _doc(docs: Mapping[str, bytes]) -> tuple[str, bytes]:
    return next((name, docs[name]) for name in (V3_DOC, ".zarray") if name in docs)


@lru_cache(64)
def _reworded(name: str, doc: bytes) -> bytes:
    """What a document means as zarr would word it; as it is worded where zarr cannot read it."""
    with suppress(ValueError, TypeError, LookupError, RuntimeError, ImportError):
        doc = as_zarr_writes(doc, name)
    return parse_array({name: doc}).meaning
