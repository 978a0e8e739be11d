"""Strict readers for what DVID's URLs say in text; the only place where the wire's xyz becomes zyx.

Every function takes text and gives a value or raises `InvalidInputError` with a message that says what would
be right.  Names ending in ``_zyx`` say that the result is reversed from the order on the wire.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.geometry import Box, Coord, reverse

MAX_SCALE = 255
_INTEGER = re.compile(r"-?[0-9]{1,100}")  # Python itself refuses to read thousands of digits
_AXES = re.compile(r"[0-2](_[0-2]){1,2}")
_PLANES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2), "vol": (0, 1, 2)}
_FORMATS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "tif": "tiff", "tiff": "tiff", "bmp": "bmp"}
_JPEG_QUALITY = 80
_NO_POINTS = "the body should be a JSON list of points [x, y, z]"


def parse_int(text: str, what: str = "number") -> int:
    """One decimal integer; no sign but ``-``, no blanks, no digit separators."""
    if not _INTEGER.fullmatch(text):
        raise InvalidInputError(f'{what} should be an integer, not "{text:.100}"')
    return int(text)


def parse_uint64(text: str, what: str = "label") -> int:
    """One integer from 0 to 2^64 - 1, as labels are."""
    value = parse_int(text, what)
    if not 0 <= value < 1 << 64:
        raise InvalidInputError(f"{what} should be between 0 and 18446744073709551615, not {text}")
    return value


def parse_ints(text: str, what: str, count: int | None = None, separator: str = "_") -> tuple[int, ...]:
    """Integers joined by `separator`, of which there must be `count` if that is given; order as written."""
    parts = text.split(separator)
    if count is not None and len(parts) != count:
        raise InvalidInputError(f'{what} should be {count} integers joined by "{separator}", not "{text}"')
    values = tuple(parse_int(part, what) for part in parts)
    if min(values) < -(1 << 31) or max(values) >= 1 << 31:
        raise InvalidInputError(f'{what} "{text}" does not fit into 32 bits')
    return values


def parse_point_zyx(text: str, what: str = "point", separator: str = "_") -> Coord:
    """``x_y_z`` as (z, y, x); any sign."""
    return reverse(parse_ints(text, what, 3, separator))


def parse_size_zyx(text: str, what: str = "size", separator: str = "_") -> Coord:
    """``nx_ny_nz`` as (nz, ny, nx), each above 0."""
    return reverse(_positive(parse_ints(text, what, 3, separator), what, text))


def parse_blocks_zyx(text: str) -> list[Coord]:
    """``x,y,z,x,y,z,...`` as a list of (z, y, x) block coordinates; empty text is an empty list."""
    if not text:
        return []
    values = parse_ints(text, "block coordinates", separator=",")
    if len(values) % 3:
        raise InvalidInputError(f"block coordinates should come in threes (x,y,z), not {len(values)} numbers")
    return [reverse(values[i : i + 3]) for i in range(0, len(values), 3)]


def points_zyx(value: Any) -> NDArray[np.int64]:
    """JSON ``[[x, y, z], ...]`` as an array of (z, y, x); coordinates left out at the end are 0, as for DVID."""
    if not isinstance(value, list) or not set(map(type, value)) <= {list} or max(map(len, value), default=0) > 3:
        raise InvalidInputError(_NO_POINTS)
    numbers = [*chain.from_iterable(value)]
    if not set(map(type, numbers)) <= {int}:
        raise InvalidInputError(_NO_POINTS)
    if numbers and (min(numbers) < -(1 << 31) or max(numbers) >= 1 << 31):
        raise InvalidInputError("coordinates should fit into 32 bits")
    if len(numbers) < 3 * len(value):
        numbers = [c for p in value for c in (*p, 0, 0, 0)[:3]]
    return np.array(numbers, np.int64).reshape(-1, 3)[:, ::-1]


def parse_bool(text: str | None, default: bool = False) -> bool:
    """Whether a switch in a query string is on: ``true``, ``on`` or ``1`` in any case."""
    if text is None:
        return default
    return text.lower() in {"true", "on", "1"}


def parse_scale(text: str | None) -> int:
    """Scale of a pyramid, 0 (the default) the finest."""
    if not text:
        return 0
    value = parse_int(text, "scale")
    if not 0 <= value <= MAX_SCALE:
        raise InvalidInputError(f"scale should be between 0 and {MAX_SCALE}, not {text}")
    return value


def parse_axes(text: str) -> tuple[int, ...]:
    """Which axes a request spans, x = 0: ``xy``, ``0_1``, ``0_1_2``, ``vol``, also permuted (``2_1_0``)."""
    if text in _PLANES:
        return _PLANES[text]
    axes = tuple(map(int, text.split("_"))) if _AXES.fullmatch(text) else ()
    if len(axes) < 2 or len(set(axes)) != len(axes):
        raise InvalidInputError(f'dims should be one of xy, xz, yz, 0_1, 0_2, 1_2 or 0_1_2, not "{text}"')
    return axes


@dataclass(frozen=True)
class ImageFormat:
    """How to encode an image: `name` is png, jpeg, tiff or bmp; `quality` (1 to 100) counts for jpeg only."""

    name: str = "png"
    quality: int = _JPEG_QUALITY

    @classmethod
    def parse(cls, text: str) -> ImageFormat:
        """``png``, ``jpg``, ``jpg:QUALITY``, ``jpeg``, ``tif``, ``tiff`` or ``bmp``."""
        name, colon, quality = text.partition(":")
        if name not in _FORMATS:
            raise InvalidInputError(f'image format should be png, jpg, tif or bmp, not "{text}"')
        if not colon:
            return cls(_FORMATS[name])
        value = parse_int(quality, "image quality")
        if not 1 <= value <= 100:
            raise InvalidInputError(f"image quality should be between 1 and 100, not {quality}")
        return cls(_FORMATS[name], value)


@dataclass(frozen=True)
class VoxelRequest:
    """A box of voxels as DVID's ``{dims}/{size}/{offset}[/{fmt}]`` names it.

    Parameters
    ----------
    axes
        Axes that the answer spans, fastest first, x = 0; two for an image, three for a volume.
    size
        Extent along each of `axes`, in voxels.
    offset_xyz
        First voxel.
    image
        Wanted image format; None when the path does not name one.
    """

    axes: tuple[int, ...]
    size: tuple[int, ...]
    offset_xyz: Coord
    image: ImageFormat | None = None

    @classmethod
    def parse(cls, dims: str, size: str, offset: str, fmt: str | None = None) -> VoxelRequest:
        """Read the segments of a path."""
        axes = parse_axes(dims)
        extent = _positive(parse_ints(size, "size", len(axes)), "size", size)
        return cls(axes, extent, parse_ints(offset, "offset", 3), ImageFormat.parse(fmt) if fmt else None)

    @property
    def is_volume(self) -> bool:
        """Whether three axes are asked for, in whatever order."""
        return len(self.axes) == 3

    @property
    def is_plain(self) -> bool:
        """Whether this is ``0_1_2``, the one form in which voxels are posted."""
        return self.axes == (0, 1, 2)

    @property
    def shape_zyx(self) -> Coord:
        """Extent in each of the three axes; 1 across an image."""
        extent = dict(zip(self.axes, self.size, strict=True))
        return tuple(extent.get(axis, 1) for axis in (2, 1, 0))

    @property
    def box_zyx(self) -> Box:
        """Voxel box, upper corner exclusive."""
        lo = reverse(self.offset_xyz)
        return lo, tuple(a + n for a, n in zip(lo, self.shape_zyx, strict=True))

    @property
    def voxels(self) -> int:
        """How many voxels are asked for."""
        return math.prod(self.size)

    def orient(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """Turn the voxels of `box_zyx` into the asked order of axes.

        Parameters
        ----------
        voxels
            Shape ``shape_zyx``, perhaps with channels behind.

        Returns
        -------
        ndarray
            Axes slowest first: (z, y, x) for ``0_1_2``, (row, column) for an image; a view where possible.
        """
        behind = tuple(range(3, voxels.ndim))
        across = tuple(2 - axis for axis in range(3) if axis not in self.axes)
        order = tuple(2 - axis for axis in reversed(self.axes))
        turned = voxels.transpose(across + order + behind)
        return turned.reshape(turned.shape[len(across) :])


def _positive(values: Sequence[int], what: str, text: str) -> tuple[int, ...]:
    if any(v <= 0 for v in values):
        raise InvalidInputError(f'{what} should be above 0 along each axis, not "{text}"')
    return tuple(values)
