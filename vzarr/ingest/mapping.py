"""Agglomeration tables: supervoxel -> body, read from HDF5, npy, npz, CSV or parquet and checked before use."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.ingest.files import HDF5_SPEC, NPY_SPEC, open_hdf5, reading, unpacked
from vzarr.types.labelmap.tables import as_array, check_edges, check_mapping

Columns = Sequence[str]

BY_NAME = (("supervoxel", "body"), ("sv", "body"))
EDGES_BY_NAME = (("supervoxel_a", "supervoxel_b"), ("a", "b"))
"""Names under which columns are found when none are given."""


def read_mapping(
    spec: str | os.PathLike[str] | ArrayLike, *, columns: Columns | None = None, edges: bool = False
) -> NDArray[np.uint64]:
    """Read and check a table of supervoxels and the bodies they belong to.

    Parameters
    ----------
    spec
        ``file.h5:dataset`` (also ``.h5.gz``), ``file.npy`` or ``file.csv`` (two columns, a header is allowed; each
        also ``.gz``), ``file.npz`` or ``file.parquet`` (columns by name), or an array of shape (n, 2).
    columns
        Names of the two columns, where columns have names.  By default ``supervoxel`` or ``sv``, and ``body``; for
        edges ``supervoxel_a`` and ``supervoxel_b``, or ``a`` and ``b``; else the only two that there are.
    edges
        Whether the columns are two supervoxels that belong together.

    Returns
    -------
    table
        Shape (n, 2), uint64: as `tables.check_mapping` or, for edges, `tables.check_edges` gives it.

    Raises
    ------
    InvalidInputError
        Not two integer columns; a negative id; a supervoxel with two bodies; 0 mapped to a body, or a
        supervoxel to 0.
    NotFoundError
        No such file.
    UnsupportedError
        A parquet file, and pyarrow is not installed.
    """
    check = check_edges if edges else check_mapping
    if isinstance(spec, str | os.PathLike):
        wanted = [columns] if columns else EDGES_BY_NAME if edges else BY_NAME
        return check(_load(os.fspath(spec), wanted), os.fspath(spec))
    return check(as_array(spec), "mapping")


def _load(spec: str, wanted: Sequence[Columns]) -> NDArray[Any]:
    """Read a raw table from a file."""
    lower = spec.lower()
    with ExitStack() as resources:
        if match := HDF5_SPEC.fullmatch(spec):
            name, dataset = open_hdf5(Path(match["file"]), match["dataset"], resources)
            with reading(name):
                return np.asarray(dataset[()])
        if NPY_SPEC.fullmatch(spec):
            with reading(spec):
                return np.asarray(np.load(unpacked(Path(spec), resources), allow_pickle=False))
        if lower.endswith(".npz"):
            with reading(spec):
                return _chosen(dict(resources.enter_context(np.load(spec, allow_pickle=False))), wanted, spec)
        if lower.endswith((".parquet", ".pq")):
            return _chosen(_load_parquet(spec), wanted, spec)
        if lower.endswith((".csv", ".csv.gz")):
            return _load_csv(spec, unpacked(Path(spec), resources), wanted)
    kinds = "FILE.h5:DATASET, FILE.npy or FILE.csv (each also .gz), FILE.npz or FILE.parquet"
    raise InvalidInputError(f"{spec}: a mapping comes from {kinds}")


def _chosen(found: Mapping[str, NDArray[Any]], wanted: Sequence[Columns], name: str) -> NDArray[Any]:
    """The two columns that count, side by side; the only array of an npz file is the whole table."""
    if len(found) == 1 and next(iter(found.values())).ndim == 2:
        return next(iter(found.values()))
    names = _pick(list(found), wanted, name)
    pair = [found[n] for n in names]
    for column, values in zip(names, pair, strict=True):
        if values.ndim != 1 or values.dtype.kind not in "iu":
            kind = values.dtype if values.ndim == 1 else f"{values.dtype} of shape {values.shape}"
            raise InvalidInputError(f"{name}: column {column!r} should hold integers, it holds {kind}")
        if values.dtype.kind == "i" and values.size and values.min() < 0:
            raise InvalidInputError(f"{name}: {values.min()} in column {column!r} is negative, so it is no label")
    if len(pair[0]) != len(pair[1]):
        raise InvalidInputError(f"{name}: the columns have {len(pair[0])} and {len(pair[1])} rows")
    return np.stack([values.astype(np.uint64) for values in pair], 1)


def _pick(there: Sequence[str], wanted: Sequence[Columns], name: str) -> Columns:
    for pair in wanted:
        if all(column in there for column in pair):
            return pair
    if len(there) == 2 and len(wanted) > 1:
        return there
    lost = " and ".join(repr(column) for column in wanted[0])
    raise InvalidInputError(f"{name}: there are no columns {lost}; it has {', '.join(map(repr, there)) or 'none'}")


def _load_parquet(spec: str) -> dict[str, NDArray[Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UnsupportedError(f'{spec}: parquet needs pyarrow: install "vzarr[parquet]"') from error
    with reading(spec):
        table = pq.ParquetFile(spec).read()
    found = {}
    for column in table.column_names:
        if table[column].null_count:
            raise InvalidInputError(f"{spec}: column {column!r} has {table[column].null_count} empty rows")
        found[column] = table[column].to_numpy()
    return found


def _load_csv(name: str, file: Path, wanted: Sequence[Columns]) -> NDArray[np.uint64]:
    """Two columns of integers without a header, or those that a header names."""
    with reading(name), file.open(newline="", encoding="utf-8") as lines:
        head = next((row for row in csv.reader(lines) if any(map(str.strip, row))), [])
    named = bool(head) and not all(cell.strip().lstrip("-").isdigit() for cell in head)
    header = [cell.strip() for cell in head] if named else ["", ""]
    places = [header.index(column) for column in _pick(header, wanted, name)] if named else [0, 1]
    # The quick way says little about a row that is wrong; the slow one then finds and shows it.
    with suppress(ValueError, OverflowError), catch_warnings(action="ignore"):
        table = np.loadtxt(file, np.uint64, delimiter=",", skiprows=int(named), ndmin=2)
        if table.shape[1] == len(header) == 2:
            return table[:, places]
    return _load_rows(name, file, (len(header), places), named)


def _load_rows(name: str, file: Path, layout: tuple[int, Sequence[int]], named: bool) -> NDArray[np.uint64]:
    width, places = layout
    with reading(name), file.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if row and any(map(str.strip, row))][int(named) :]
    table = np.zeros((len(rows), 2), np.uint64)
    for number, row in enumerate(rows):
        try:
            if len(row) != width:
                raise ValueError
            table[number] = [int(row[place]) for place in places]
        except (OverflowError, ValueError) as error:
            raise InvalidInputError(f"{name}: row {','.join(row)!r} is not SUPERVOXEL,BODY") from error
    return table
