"""Rows and wire forms of image blocks."""

from __future__ import annotations

import gzip
import io

import lz4.block
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.types.imageblk import blocks


def _block(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 8, 16), "u1")


@given(count=st.integers(1, 4), bz=st.integers(1, 3), by=st.integers(1, 3), bx=st.integers(1, 4))
def test_a_row_is_its_blocks_side_by_side(count: int, bz: int, by: int, bx: int):
    row = np.arange(bz * by * bx * count).reshape(bz, by, bx * count)
    cut = blocks.split_row(row, count)
    for n in range(count):
        np.testing.assert_array_equal(cut[n], row[:, :, n * bx : (n + 1) * bx])
    np.testing.assert_array_equal(blocks.join_row(cut), row)


def test_stored_forms_expand_to_the_voxels():
    block = _block()
    raw = block.tobytes()
    assert blocks.encode(block, "none") == raw
    assert gzip.decompress(blocks.encode(block, "gzip")) == raw
    assert gzip.decompress(blocks.encode(block, "gzip:9")) == raw
    assert lz4.block.decompress(blocks.encode(block, "lz4")) == raw


def test_jpeg_is_one_picture_with_the_slices_below_each_other():
    image = Image.open(io.BytesIO(blocks.encode(np.full((4, 8, 16), 200, "u1"), "jpeg")))
    assert (image.format, image.mode, image.size) == ("JPEG", "L", (16, 32))
    assert abs(float(np.asarray(image).mean()) - 200) < 2


def _unsnappy(data: bytes) -> bytes:
    """Literals of the snappy block format, read by its description."""
    size = shift = at = 0
    while True:
        size |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            break
    out = b""
    while at < len(data):
        assert data[at] == 61 << 2
        n = int.from_bytes(data[at + 1 : at + 3], "little") + 1
        out += data[at + 3 : at + 3 + n]
        at += 3 + n
    assert len(out) == size
    return out


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 128), (32, 32, 64), (32, 64, 65)])
def test_snappy_is_valid(shape: tuple[int, ...]):
    block = np.random.default_rng(0).integers(0, 256, shape, "u1")
    assert _unsnappy(blocks.encode(block, "snappy")) == block.tobytes()


def test_the_request_chooses_among_the_forms_that_the_instance_has():
    assert blocks.wire_form("", "lz4") == "lz4"
    assert blocks.wire_form("uncompressed", "jpeg") == "none"
    assert blocks.wire_form("jpeg", "jpeg") == "jpeg"
    with pytest.raises(UnsupportedError):
        blocks.wire_form("jpeg", "lz4")
    with pytest.raises(InvalidInputError, match="don't understand 'compression'"):
        blocks.wire_form("gzip", "lz4")
