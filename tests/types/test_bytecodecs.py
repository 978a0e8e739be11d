"""LZ4 and gzip with bounds."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types.bytecodecs import gunzip, gzip_raw, lz4_raw, ungzip_raw, unlz4_raw

PAIRS = [(lz4_raw, unlz4_raw), (gzip_raw, ungzip_raw)]
pairs = pytest.mark.parametrize(("pack", "unpack"), PAIRS, ids=["lz4", "gzip"])


@pairs
@given(data=st.binary(max_size=200))
def test_round_trip(pack, unpack, data: bytes):
    packed = pack(data)
    assert unpack(packed, len(data)) == data
    assert unpack(memoryview(packed), len(data)) == data
    assert pack(bytearray(data)) == packed


@pairs
def test_arrays_go_in_as_they_lie_in_memory(pack, unpack):
    a = np.arange(24, dtype=np.uint64).reshape(2, 3, 4)
    assert unpack(pack(a), 192) == a.tobytes()
    assert unpack(pack(a[:0]), 0) == b""


@pairs
def test_the_size_must_be_right(pack, unpack):
    data = bytes(range(200)) * 20
    packed = pack(data)
    for wrong in (0, len(data) - 1, len(data) + 1, 10**9, 2**40):
        with pytest.raises(InvalidInputError):
            unpack(packed, wrong)


@pairs
def test_cut_data_are_refused(pack, unpack):
    data = np.random.default_rng(1).integers(0, 256, 60, np.uint8).tobytes() + bytes(60)
    packed = pack(data)
    for n in range(len(packed)):
        with pytest.raises(InvalidInputError):
            unpack(packed[:n], len(data))


@given(st.binary(max_size=60))
def test_noise_is_refused(noise: bytes):
    with pytest.raises(InvalidInputError):
        gunzip(noise, 1000)


def test_gzip_followed_by_something_is_refused():
    with pytest.raises(InvalidInputError, match="follow"):
        gunzip(gzip.compress(b"abc") + b"d", 100)


def test_gzip_with_a_broken_checksum_is_refused():
    data = bytearray(gzip.compress(b"abc"))
    data[-8] ^= 1
    with pytest.raises(InvalidInputError):
        gunzip(data, 100)


def test_a_bomb_is_never_inflated():
    bomb = gzip.compress(bytes(1 << 26))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError, match="more than"):
            gunzip(bomb, 1 << 16)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_gzip_is_reproducible():
    assert gzip_raw(b"abc") == gzip_raw(b"abc")
    assert gzip_raw(b"abc")[4:8] == bytes(4)
