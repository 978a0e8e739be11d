"""Agglomeration tables: supervoxel -> body, read from HDF5, npy or CSV and checked before use."""

from __future__ import annotations

import csv
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vzarr.errors import InvalidInputError
from vzarr.ingest.files import HDF5_SPEC, NPY_SPEC, open_hdf5, reading, unpacked


def read_mapping(spec: str | os.PathLike[str] | ArrayLike) -> NDArray[np.uint64]:
    """Read and check a table of supervoxels and the bodies they belong to.

    Parameters
    ----------
    spec
        ``file.h5:dataset`` (also ``.h5.gz``), ``file.npy`` (also ``.npy.gz``), ``file.csv`` (two columns, a
        header is allowed), or an array of shape (n, 2).

    Returns
    -------
    table
        Shape (n, 2), uint64, sorted by supervoxel, one row per supervoxel; background (0, 0) is left out.

    Raises
    ------
    InvalidInputError
        Not two integer columns; a negative id; a supervoxel with two bodies; 0 mapped to a body, or a
        supervoxel to 0.
    NotFoundError
        No such file.
    """
    if isinstance(spec, str | os.PathLike):
        return check_mapping(_load(os.fspath(spec)), os.fspath(spec))
    return check_mapping(np.asarray(spec), "mapping")


def check_mapping(table: NDArray[Any], name: str) -> NDArray[np.uint64]:
    """Sort a raw table, drop repeated rows and refuse what cannot hold.

    Parameters
    ----------
    table
        Shape (n, 2), integers.
    name
        What messages call it.
    """
    if table.ndim != 2 or table.shape[1] != 2:
        raise InvalidInputError(f"{name}: a mapping has 2 columns (supervoxel, body), this has shape {table.shape}")
    if table.dtype.kind not in "iu":
        raise InvalidInputError(f"{name}: a mapping holds integers, this holds {table.dtype}")
    if table.dtype.kind == "i" and table.size and table.min() < 0:
        raise InvalidInputError(f"{name}: {table.min()} is negative, so it is no label")
    rows = np.unique(table.astype(np.uint64), axis=0)
    again = np.flatnonzero(rows[1:, 0] == rows[:-1, 0])
    if again.size:
        (supervoxel, one), (_, other) = rows[again[0]], rows[again[0] + 1]
        raise InvalidInputError(f"{name}: supervoxel {supervoxel} belongs to body {one} and to body {other}")
    if len(rows) and rows[0, 0] == 0 and rows[0, 1] != 0:
        raise InvalidInputError(f"{name}: supervoxel 0 is background and cannot belong to body {rows[0, 1]}")
    bodies: NDArray[np.uint64] = rows[rows[:, 0] != 0]
    if len(bodies) and not bodies[:, 1].all():
        lost = bodies[bodies[:, 1] == 0][0, 0]
        raise InvalidInputError(f"{name}: supervoxel {lost} cannot belong to body 0, which is background")
    return bodies


def _load(spec: str) -> NDArray[Any]:
    """Read a raw table from a file."""
    with ExitStack() as resources:
        if match := HDF5_SPEC.fullmatch(spec):
            name, dataset = open_hdf5(Path(match["file"]), match["dataset"], resources)
            with reading(name):
                return np.asarray(dataset[()])
        if NPY_SPEC.fullmatch(spec):
            with reading(spec):
                return np.asarray(np.load(unpacked(Path(spec), resources), allow_pickle=False))
        if spec.lower().endswith((".csv", ".csv.gz")):
            return _load_csv(spec, unpacked(Path(spec), resources))
    raise InvalidInputError(f"{spec}: a mapping comes from FILE.h5:DATASET, FILE.npy or FILE.csv (each also .gz)")


def _load_csv(name: str, file: Path) -> NDArray[np.uint64]:
    """Two columns of integers, below a header or not."""
    with reading(name), file.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if row and any(map(str.strip, row))]
    if rows and not all(cell.strip().lstrip("-").isdigit() for cell in rows[0]):
        rows = rows[1:]
    table = np.zeros((len(rows), 2), np.uint64)
    for number, row in enumerate(rows):
        try:
            supervoxel, body = map(int, row)
            table[number] = supervoxel, body
        except (OverflowError, ValueError) as error:
            raise InvalidInputError(f"{name}: row {','.join(row)!r} is not SUPERVOXEL,BODY") from error
    return table
