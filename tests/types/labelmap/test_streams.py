"""Block streams and their gzip payloads."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import blocks, streams

int32 = st.integers(-(2**31), 2**31 - 1)
items = st.lists(st.tuples(st.tuples(int32, int32, int32), st.binary(max_size=40)), max_size=6)


def read(body: bytes) -> list[tuple[tuple[int, int, int], bytes]]:
    return [(coord, bytes(payload)) for coord, payload in streams.unpack_stream(body)]


@given(items)
def test_round_trip(given_items: list[tuple[tuple[int, int, int], bytes]]):
    assert read(streams.pack_stream(given_items)) == given_items


def test_printed_frame():
    assert streams.frame((1, 0, 0), b"x" * 49)[:16] == bytes.fromhex("01000000 00000000 00000000 31000000")
    assert streams.frame((-1, 1, 2), b"") == bytes.fromhex("ffffffff 01000000 02000000 00000000")


def test_cut_streams_are_refused_where_they_are_cut():
    body = streams.pack_stream([((1, 2, 3), b"abc"), ((4, 5, 6), b"defg")])
    for n in range(len(body) + 1):
        if n in {0, 19, len(body)}:
            assert len(read(body[:n])) == {0: 0, 19: 1, len(body): 2}[n]
            continue
        walk = streams.unpack_stream(body[:n])
        if n > 19:
            assert next(walk)[0] == (1, 2, 3)
        with pytest.raises(InvalidInputError):
            next(walk)


def test_coordinates_beyond_32_bits_are_refused():
    with pytest.raises(InvalidInputError):
        streams.frame((2**31, 0, 0), b"")


def test_gzip_payload_of_a_block():
    worst = np.arange(16**3, dtype=np.uint64).reshape(16, 16, 16)
    data = blocks.encode_block(worst)
    assert streams.gunzip_block(gzip.compress(data), (16, 16, 16)) == data
    with pytest.raises(InvalidInputError, match="more than"):
        streams.gunzip_block(gzip.compress(bytes(blocks.max_encoded_size((16, 16, 16)) + 1)), (16, 16, 16))
