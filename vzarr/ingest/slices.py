"""A stack of images, one file per z plane, as a volume; every header is checked before a pixel is read."""

from __future__ import annotations

import glob
import itertools
import re
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.ingest.files import reading

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".pgm")
"""Image files that are taken from a folder."""

MODES = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "int32", "F": "float32"}
"""Pillow's name of a single-channel pixel -> dtype."""

_THREADS = 2
_pixel_limit = threading.Lock()


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``z9.png`` comes before ``z10.png``."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts)


def expand(patterns: Iterable[str]) -> list[Path]:
    """Image files that patterns, folders and names stand for, in natural order of their paths.

    Parameters
    ----------
    patterns
        Glob patterns, folders (every image in it) or file names.

    Raises
    ------
    NotFoundError
        A pattern or folder holds no image.
    InvalidInputError
        A file is named twice.
    """
    files = [file for pattern in patterns for file in _found(pattern)]
    ordered = sorted(files, key=natural_key)
    for file, following in itertools.pairwise(ordered):
        if file == following:
            raise InvalidInputError(f"{file}: named twice in the stack")
    return [Path(file) for file in ordered]


def _found(pattern: str) -> list[str]:
    """Files that one pattern, folder or name stands for."""
    if Path(pattern).is_dir():
        found = [str(file) for file in Path(pattern).iterdir() if file.suffix.lower() in SUFFIXES]
    elif glob.has_magic(pattern) and not Path(pattern).exists():
        found = glob.glob(pattern)  # noqa: PTH207  Path.glob takes no absolute pattern
    else:
        found = [pattern]
    if not found:
        raise NotFoundError(f"{pattern}: no image there")
    return found


@dataclass(frozen=True)
class ImageStack:
    """Slices of one volume, z ascending in natural order of the file names.

    Parameters
    ----------
    files
        One image per plane.
    shape
        Voxels (z, y, x).
    dtype
        Of every slice.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]

    @property
    def name(self) -> str:
        """First file and how many there are."""
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.files[0]}{more}"

    @classmethod
    def open(cls, files: Sequence[Path]) -> ImageStack:
        """Check the header of every slice.

        Parameters
        ----------
        files
            One image per plane, in order.

        Raises
        ------
        InvalidInputError
            A slice has another size or kind of pixel than the first, several pages, or is no gray image.
        """
        if not files:
            raise InvalidInputError("an image stack needs at least one slice")
        with ThreadPoolExecutor(_THREADS) as pool:
            headers = list(pool.map(_header, files))
        size, mode = headers[0]
        for file, header in zip(files, headers, strict=True):
            if header != (size, mode):
                raise InvalidInputError(f"{file}: {_words(*header)}, but {files[0]} is {_words(size, mode)}")
        return cls(tuple(files), (len(files), size[1], size[0]), np.dtype(MODES[mode]))

    def read(self, z0: int, z1: int) -> NDArray[np.generic]:
        """Planes `z0` to `z1` (exclusive) as an array (z, y, x)."""
        out = np.empty((z1 - z0, *self.shape[1:]), self.dtype)
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self._read_plane, self.files[z0:z1], out))
        return out

    def close(self) -> None:
        """Nothing stays open between reads."""

    def _read_plane(self, file: Path, out: NDArray[np.generic]) -> None:
        """Decode one slice into `out` (y, x)."""
        with reading(str(file)), _open(file) as image:
            pixels = np.asarray(image)
        if pixels.shape != out.shape or pixels.dtype.newbyteorder("=") != out.dtype:
            raise InvalidInputError(f"{file}: changed while it was read")
        out[...] = pixels


def _open(file: Path) -> Image.Image:
    """Open an image of any size: a slice of a large volume is no decompression bomb."""
    with _pixel_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _header(file: Path) -> tuple[tuple[int, int], str]:
    """Size (x, y) and mode of an image that may be a slice."""
    with reading(str(file)), _open(file) as image:
        size, mode, pages = image.size, image.mode, getattr(image, "n_frames", 1)
    if pages > 1:
        raise InvalidInputError(f"{file}: {pages} pages, but a slice is one image per file")
    if mode not in MODES:
        raise InvalidInputError(f"{file}: pixels of kind {mode}, but a slice is gray ({', '.join(MODES)})")
    return size, mode


def _words(size: tuple[int, int], mode: str) -> str:
    """A header as a person reads it."""
    return f"{size[0]} x {size[1]} pixels of {MODES[mode]}"
