"""Streams of blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types import blockstreams

int32 = st.integers(-(2**31), 2**31 - 1)
items = st.lists(st.tuples(st.tuples(int32, int32, int32), st.binary(max_size=40)), max_size=6)


def read(body: bytes) -> list[tuple[tuple[int, int, int], bytes]]:
    return [(coord, bytes(payload)) for coord, payload in blockstreams.unpack_stream(body)]


@given(items)
def test_round_trip(given_items: list[tuple[tuple[int, int, int], bytes]]):
    assert read(blockstreams.pack_stream(given_items)) == given_items


def test_printed_frame():
    assert blockstreams.pack_stream([((1, 0, 0), b"x" * 49)])[:16] == bytes.fromhex(
        "01000000 00000000 00000000 31000000"
    )
    assert blockstreams.pack_stream([((-1, 1, 2), b"")]) == bytes.fromhex("ffffffff 01000000 02000000 00000000")


def test_cut_streams_are_refused_where_they_are_cut():
    body = blockstreams.pack_stream([((1, 2, 3), b"abc"), ((4, 5, 6), b"defg")])
    for n in range(len(body) + 1):
        if n in {0, 19, len(body)}:
            assert len(read(body[:n])) == {0: 0, 19: 1, len(body): 2}[n]
            continue
        walk = blockstreams.unpack_stream(body[:n])
        if n > 19:
            assert next(walk)[0] == (1, 2, 3)
        with pytest.raises(InvalidInputError):
            next(walk)


def test_coordinates_beyond_32_bits_are_refused():
    with pytest.raises(InvalidInputError):
        blockstreams.pack_stream([((2**31, 0, 0), b"")])
