"""compressed_segmentation against a decoder written from the format's description."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap.cseg import encode_google


def plain_decode(body: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Block by block: two words each, a table of labels, and values packed least significant bit first."""
    words = struct.unpack(f"<{len(body) // 4}I", body)
    assert words[0] == 1
    words = words[1:]
    out = np.zeros(shape, np.uint64)
    grid = [n // 8 for n in shape]
    for n, (z, y, x) in enumerate(np.ndindex(*grid)):
        table, values = words[2 * n], words[2 * n + 1]
        bits, table = table >> 24, table & 0xFFFFFF
        for k in range(512):
            at = k * bits
            value = words[values + at // 32] >> at % 32 & (1 << bits) - 1 if bits else 0
            low, high = words[table + 2 * value], words[table + 2 * value + 1]
            out[z * 8 + k // 64, y * 8 + k // 8 % 8, x * 8 + k % 8] = low | high << 32
    return out


@given(st.tuples(*[st.sampled_from([8, 16])] * 3), st.sampled_from([1, 2, 3, 5, 17, 300]), st.integers(0, 2**32))
def test_any_volume_reads_back(shape: tuple[int, int, int], n: int, seed: int):
    rng = np.random.default_rng(seed)
    a = rng.choice(rng.integers(0, 2**64, n, np.uint64), shape)
    body = encode_google(a)
    assert (plain_decode(body, shape) == a).all()
    assert encode_google(np.asfortranarray(a)) == body


def test_printed_start():
    a = np.zeros((16, 16, 16), np.uint64)
    a[0:8, 0:8, 8:16], a[8:16, 8:16, 0:8], a[0, 0, 0:5], a[15, 15, 15] = 200, 300, 100, 5
    start = bytes.fromhex("01000000 20000001 10000000 24000000 24000000 26000000 26000000")
    assert encode_google(a).startswith(start)


@pytest.mark.parametrize("shape", [(8, 8, 12), (0, 8, 8), (8, 8), (8, 4, 8)])
def test_other_sizes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(InvalidInputError, match="multiples of 8"):
        encode_google(np.zeros(shape, np.uint64))


@pytest.mark.slow
def test_labels_that_outgrow_the_format_are_refused():
    with pytest.raises(InvalidInputError, match="too many"):
        encode_google(np.arange(1 << 24, dtype=np.uint64).reshape(256, 256, 256))
