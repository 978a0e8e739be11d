"""A version as references (kerchunk): a list of the objects in place, by which fsspec alone reads it.

Two forms: one JSON document for every hierarchy, and a folder of parquet files, which are read bit by bit and suit
arrays of millions of chunks.  The latter is a format of Zarr 2 by its definition, so arrays are described in those
words; see https://fsspec.github.io/kerchunk/spec.html and fsspec's ``LazyReferenceMapper``.
"""

from __future__ import annotations

import base64
import errno
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from vzarr.errors import AlreadyExistsError, InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.export.standalone import chunk_places, documents, place_bytes, place_url, places
from vzarr.overlay.hierarchy.naming import PLAIN, Naming
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.hierarchy.zarr2 import as_v2
from vzarr.overlay.objects.localpaths import local_target
from vzarr.overlay.views.base import View

RECORD_SIZE = 10_000
"""References in one parquet file."""


def references(view: View, naming: Naming = PLAIN) -> Mapping[str, Any]:
    """A version as references in kerchunk's format, version 1: metadata inline, every chunk a URL.

    Parameters
    ----------
    view, naming
        The version, and how it is shown.

    Raises
    ------
    UnsupportedError
        If the repo lies where other programs cannot read.
    ConflictError
        If the version has chunks in conflict.
    """
    _check_reachable(view)
    refs: dict[str, Any] = {key: _inline(data) for key, data in documents(view, naming)}
    for key, place in places(view, naming):
        url = place_url(view, place)
        # Chunks that are decoded on the way are nowhere as the metadata describe them: they go into the document.
        refs[key] = [url] if url is not None else _base64(place_bytes(view, place))
    return {"version": 1, "refs": refs}


def export_references(view: View, target: str | os.PathLike[str], *, naming: Naming = PLAIN) -> int:
    """Write a version's references and give their number.

    Parameters
    ----------
    view, naming
        The version, and how it is shown.
    target
        ``FILE.json``, or ``FOLDER.parq`` or ``FOLDER.parquet`` (extra ``parquet``), which must be free.

    Raises
    ------
    InvalidInputError
        If the name ends otherwise, or is that of no local file.
    UnsupportedError
        If the repo lies where other programs cannot read, or an array is to go to parquet that Zarr 2 cannot describe.
    ConflictError
        If the version has chunks in conflict.
    """
    path = local_target(target)
    if path.suffix == ".json":
        found = references(view, naming)
        return _publish(path, lambda draft: _write_json(found, draft))
    if path.suffix in (".parq", ".parquet"):
        if path.exists():
            raise AlreadyExistsError(f"{path} exists")
        return _publish(path, lambda draft: _write_parquet(view, draft, naming))
    raise InvalidInputError(f"references are written as FILE.json or FOLDER.parq, not {path.name!r}")


def _check_reachable(view: View) -> None:
    if view.storage.objects.url.startswith("memory:"):
        raise UnsupportedError("a repo in memory cannot be referred to from outside")


def _publish(path: Path, write: Callable[[Path], int]) -> int:
    draft = path.with_name(f"{path.name}.unfinished")
    try:
        if draft.is_dir():
            shutil.rmtree(draft)
        count = write(draft)
        draft.replace(path)
    except StorageError:
        raise
    except OSError as e:
        raise StorageError(e.errno or errno.EIO, f"could not write {path}: {e.strerror or e}") from e
    return count


def _write_json(found: Mapping[str, Any], draft: Path) -> int:
    draft.write_bytes(orjson.dumps(found))
    return len(found["refs"])


def _inline(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _base64(data)


def _base64(data: bytes) -> str:
    return "base64:" + base64.b64encode(data).decode()


def _write_parquet(view: View, draft: Path, naming: Naming) -> int:
    _check_reachable(view)
    metadata = {}
    draft.mkdir(parents=True)
    count = 0
    for path, entry in sorted(naming.entries(view.entries).items()):
        try:
            docs = as_v2(entry.shown_docs())
        except UnsupportedError as e:
            raise UnsupportedError(f"array {path!r} has no references in parquet, only in JSON: {e}") from e
        metadata.update({f"{path}/{name}" if path else name: doc for name, doc in docs.items()})
        if isinstance(entry, ArrayEntry):
            if not path:
                raise UnsupportedError("references in parquet have no place for an array without a path")
            count += _write_chunks(view, entry, docs[".zarray"], draft / path)
    meta = {"metadata": metadata, "record_size": RECORD_SIZE}
    (draft / ".zmetadata").write_bytes(orjson.dumps(meta))
    return count + len(metadata)


def _write_chunks(view: View, entry: ArrayEntry, doc: Mapping[str, Any], folder: Path) -> int:
    grid = tuple(-(-n // c) for n, c in zip(doc["shape"], doc["chunks"], strict=True))
    records: dict[int, dict[int, str]] = defaultdict(dict)
    for coord, place in chunk_places(view, entry):
        if all(c < n for c, n in zip(coord, grid, strict=True)):
            number = int(np.ravel_multi_index(coord, grid)) if grid else 0
            url = place_url(view, place)
            if url is None:
                raise UnsupportedError("chunks of an adopted array that are decoded on the way go into JSON only")
            records[number // RECORD_SIZE][number % RECORD_SIZE] = url
    folder.mkdir(parents=True, exist_ok=True)
    rows = min(RECORD_SIZE, prod(grid))
    for record, urls in records.items():
        _write_record(folder / f"refs.{record}.parq", urls, rows)
    return sum(map(len, records.values()))


def _write_record(file: Path, urls: Mapping[int, str], rows: int) -> None:
    """One file of references; what is absent is null, and a length of 0 stands for the whole object."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise UnsupportedError("references in parquet need pyarrow: pip install 'vzarr[parquet]'") from e
    zeros = pa.array(np.zeros(rows, np.int64))
    table = pa.table(
        {
            "path": pa.array([urls.get(i) for i in range(rows)], pa.string()),
            "offset": zeros,
            "size": zeros,
            "raw": pa.nulls(rows, pa.binary()),
        }
    )
    pq.write_table(table, file, compression="zstd")
