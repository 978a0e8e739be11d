"""Parts of a value: zarr's requests as offset and length, and cutting them out of bytes at hand."""

from __future__ import annotations

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest


def offset_and_length(request: ByteRequest | None) -> tuple[int, int | None]:
    """First byte (negative: from the end) and number of bytes (None: to the end) that zarr asks for."""
    if request is None:
        return 0, None
    if isinstance(request, RangeByteRequest):
        return request.start, max(0, request.end - request.start)
    if isinstance(request, OffsetByteRequest):
        return request.offset, None
    if isinstance(request, SuffixByteRequest):
        return (-request.suffix, None) if request.suffix else (0, 0)
    raise ValueError(f"Unexpected byte_range, got {request}.")


def cut(data: bytes, offset: int, length: int | None) -> tuple[bytes, int]:
    """A part of a value, and the size of the whole."""
    size = len(data)
    start = max(0, size + offset) if offset < 0 else min(offset, size)
    return data[start : size if length is None else start + length], size
