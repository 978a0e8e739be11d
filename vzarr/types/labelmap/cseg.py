"""Neuroglancer's compressed_segmentation, which DVID sends as ``compression=google``.

There is no decoder here on purpose: nobody posts this format, and the package's own one trusts its input so
far that damaged bytes end the process.
"""

from __future__ import annotations

import compressed_segmentation
import numpy as np

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap.blocks import Labels

_BLOCK = (8, 8, 8)


def encode_google(a: Labels) -> bytes:
    """Encode labels as one channel with blocks of 8x8x8; the first uint32 is the channel's offset, 1.

    Parameters
    ----------
    a
        uint64 zyx array.

    Raises
    ------
    InvalidInputError
        A side is no positive multiple of 8, or there are so many different labels that their tables outgrow
        the format's 24-bit offsets.
    """
    if a.ndim != 3 or any(n % 8 or not n for n in a.shape):
        raise InvalidInputError(f"compression google needs sides that are multiples of 8, not {a.shape[::-1]} (xyz)")
    # The package reads raw memory: a C-ordered zyx array is a Fortran-ordered xyz one.
    xyz = np.ascontiguousarray(a, np.uint64).T
    try:
        return bytes(compressed_segmentation.compress(xyz, _BLOCK, order="F"))
    except OverflowError as e:
        raise InvalidInputError("too many different labels for compression google, ask for less") from e
