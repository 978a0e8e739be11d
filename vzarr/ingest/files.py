"""Files that somebody else wrote: ``.gz`` unpacked beside, failures told apart and named."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py

from vzarr.errors import InvalidInputError, NotFoundError, StorageError, VzarrError

HDF5_SPEC = re.compile(r"(?P<file>.+\.(?:h5|hdf5|hdf)(?:\.gz)?)(?::(?P<dataset>.+))?", re.IGNORECASE)
"""``file.h5:dataset``; the file may be packed, the dataset left out."""

NPY_SPEC = re.compile(r".+\.npy(\.gz)?", re.IGNORECASE)
"""``file.npy``, packed or not."""

COPY_BYTES = 1 << 20
"""Bytes held while a compressed file is unpacked."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn every failure to read `what` into an error that names it.

    Parameters
    ----------
    what
        The file, with the part of it that matters, as a user would write it.

    Raises
    ------
    NotFoundError
        There is no such file.
    StorageError
        The operating system failed to deliver it.
    InvalidInputError
        It is there, but truncated, damaged or of another kind than its name says.
    """
    try:
        yield
    except VzarrError:
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"{what}: no such file") from error
    except OSError as error:
        # Decoders (h5py, gzip, Pillow) report damage as an OSError without a number; the system gives one.
        if error.errno is not None:
            raise StorageError(f"{what}: {error.strerror}") from error
        raise InvalidInputError(f"{what}: {error}") from error
    except (EOFError, KeyError, RuntimeError, SyntaxError, ValueError, zlib.error) as error:
        raise InvalidInputError(f"{what}: {str(error) or type(error).__name__}") from error


def unpacked(path: Path, resources: ExitStack) -> Path:
    """Give a file that can be read at random, unpacking a ``.gz`` into a temporary one.

    Parameters
    ----------
    path
        Any file; returned as it is unless its name ends in ``.gz``.
    resources
        Removes the temporary file when it is closed.

    Notes
    -----
    Formats with their directory at the end (HDF5) seek backwards, which on a gzip stream means starting again:
    a sequential copy to disk costs one pass and `COPY_BYTES` of memory.
    """
    if path.suffix.lower() != ".gz":
        return path
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="vzarr-ingest-")))
    target = folder / path.with_suffix("").name
    with reading(str(path)), gzip.open(path, "rb") as packed, target.open("wb") as plain:
        shutil.copyfileobj(packed, plain, COPY_BYTES)
    return target


def open_hdf5(path: Path, dataset: str | None, resources: ExitStack) -> tuple[str, Any]:
    """Open one dataset of an HDF5 file, packed by gzip or not.

    Parameters
    ----------
    path
        The file.
    dataset
        Path of the dataset in the file; None takes the only one there is.
    resources
        Closes the file.

    Returns
    -------
    name, dataset
        ``file:dataset`` and the open ``h5py.Dataset``.

    Raises
    ------
    InvalidInputError
        The file is truncated or no HDF5, or has no such dataset; the message lists those it has.
    """
    plain = unpacked(path, resources)
    with reading(str(path)):
        file = resources.enter_context(h5py.File(plain, "r"))
        found: list[str] = []
        file.visititems(_collect(found))
    wanted = found[0] if dataset is None and len(found) == 1 else (dataset or "").strip("/")
    if wanted not in found:
        choice = ", ".join(found) or "none"
        problem = f"no dataset {wanted!r}" if dataset else "name a dataset as FILE:DATASET"
        raise InvalidInputError(f"{path}: {problem}; it has: {choice}")
    return f"{os.fspath(path)}:{wanted}", file[wanted]


def _collect(found: list[str]) -> Callable[[str, Any], None]:
    """Visitor that notes the names of datasets."""

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(name)

    return visit
