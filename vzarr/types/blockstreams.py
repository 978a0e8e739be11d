"""DVID's streams of blocks: int32 x, y, z in block coordinates, uint32 size, then that many bytes; repeated.

There is no header, no terminator and no fixed order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from vzarr.errors import InvalidInputError

_FRAME = struct.Struct("<3iI")


def stream(items: Iterable[tuple[tuple[int, int, int], bytes]]) -> Iterator[bytes]:
    """Frame and payload of each (block coordinate xyz, payload) pair, as parts of the stream.

    Raises
    ------
    InvalidInputError
        A coordinate or the payload is beyond 32 bits.
    """
    for coord, payload in items:
        yield _frame(coord, payload)
        yield payload


def framed(coord_xyz: tuple[int, int, int], payload: bytes) -> bytes:
    """One block of a stream; raises as `stream`."""
    return _frame(coord_xyz, payload) + payload


def _frame(coord_xyz: tuple[int, int, int], payload: bytes) -> bytes:
    try:
        return _FRAME.pack(*coord_xyz, len(payload))
    except struct.error as e:
        raise InvalidInputError(f"block {coord_xyz} of {len(payload)} bytes does not fit a frame: {e}") from e


def pack_stream(items: Iterable[tuple[tuple[int, int, int], bytes]]) -> bytes:
    """Concatenate (block coordinate xyz, payload) pairs into one body."""
    return b"".join(stream(items))


def unpack_stream(body: bytes | memoryview) -> Iterator[tuple[tuple[int, int, int], memoryview]]:
    """Walk a stream without copying it.

    Yields
    ------
    (coord_xyz, payload)
        Block coordinate and a view of the body, maybe empty.

    Raises
    ------
    InvalidInputError
        When the walk meets a frame or payload that is cut short; items before it were yielded.
    """
    view = memoryview(body)
    at = 0
    while at < len(view):
        if len(view) - at < _FRAME.size:
            raise InvalidInputError(f"block stream ends inside a frame, after {at} of {len(view)} bytes")
        x, y, z, size = _FRAME.unpack_from(view, at)
        at += _FRAME.size
        if len(view) - at < size:
            raise InvalidInputError(f"block ({x}, {y}, {z}) claims {size} bytes, {len(view) - at} are left")
        yield (x, y, z), view[at : at + size]
        at += size
