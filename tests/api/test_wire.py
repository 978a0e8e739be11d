"""Bodies: JSON with 64-bit integers, arrays as bytes, images that read back."""

from __future__ import annotations

import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from vzarr.api import wire
from vzarr.api.params import ImageFormat
from vzarr.errors import InvalidInputError


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_json_keeps_64_bits_and_numpy_values():
    body = wire.json({"label": 2**64 - 1, "sizes": np.array([1, 2], "u8"), 7: np.uint64(3)}).body
    assert json.loads(body) == {"label": 2**64 - 1, "sizes": [1, 2], "7": 3}


def test_success_without_words_has_no_content_type():
    response = wire.empty()
    assert (response.status_code, response.body) == (200, b"")
    assert "content-type" not in response.headers


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4"])
def test_arrays_go_out_little_endian_and_in_c_order(dtype):
    array = np.asfortranarray(np.arange(6, dtype=dtype).reshape(2, 3))
    response = wire.octets(array)
    assert bytes(response.body) == array.astype(array.dtype.newbyteorder("<")).tobytes("C")
    assert response.headers["content-length"] == str(array.nbytes)


def test_an_empty_array_is_an_empty_body():
    assert bytes(wire.octets(np.zeros((0, 3), "u1")).body) == b""


def test_gray_reads_back():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5), "u1")
    assert np.array_equal(decoded(wire.encode_image(pixels, ImageFormat("png"))), pixels)
    assert np.array_equal(decoded(wire.encode_image(pixels, ImageFormat("bmp"))), pixels)
    assert np.array_equal(decoded(wire.encode_image(pixels, ImageFormat("tiff"))), pixels)


def test_16_bit_gray_reads_back():
    pixels = np.arange(35, dtype="u2").reshape(7, 5) * 1000
    assert np.array_equal(decoded(wire.encode_image(pixels, ImageFormat("png"))), pixels)
    assert np.array_equal(decoded(wire.encode_image(pixels, ImageFormat("bmp"))), pixels >> 8)


def test_32_bits_are_four_channels():
    pixels = np.arange(35, dtype="u4").reshape(7, 5) * 0x01020304
    shown = decoded(wire.encode_image(pixels, ImageFormat("png")))
    assert np.array_equal(shown.copy().view("<u4")[..., 0], pixels)


def test_64_bits_are_four_channels_of_16():
    labels = np.arange(35, dtype="u8").reshape(7, 5) * 0x0102030405060708
    data = wire.encode_image(labels, ImageFormat("png"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (5, 7)
        image.load()  # checks the framing and the check sums
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    lines = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), "u1").reshape(7, 41)
    assert np.array_equal(lines[:, 1:].copy().view("<u8"), labels)
    assert data[24:26] == bytes([16, 6])


def test_64_bits_are_four_channels_of_16_in_tiff_too():
    labels = np.arange(35, dtype="u8").reshape(7, 5) * 0x0102030405060708
    data = wire.encode_image(labels, ImageFormat("tiff"))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.size, image.mode) == ((5, 7), "RGBA")
        high = labels.view("u1").reshape(7, 5, 8)[..., ::2]
        assert np.array_equal(np.asarray(image), high), "Pillow gives the high byte of each channel"
        (offset,), (length,) = image.tag_v2[273], image.tag_v2[279]
    assert np.array_equal(np.frombuffer(zlib.decompress(data[offset : offset + length]), "<u8").reshape(7, 5), labels)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4", "u8"])
@pytest.mark.parametrize("name", ["png", "jpeg", "tiff", "bmp"])
def test_every_type_has_a_picture_in_every_format(dtype, name):
    data = wire.encode_image(np.zeros((6, 4), dtype), ImageFormat(name))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (4, 6)


def test_a_volume_is_one_tall_image():
    volume = np.arange(64**3, dtype="u1").reshape(64, 64, 64)
    with Image.open(io.BytesIO(wire.encode_image(wire.stack_slices(volume), ImageFormat("jpeg")))) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (64, 4096), "L")


def test_too_much_is_refused_before_it_is_read():
    wire.check_payload(wire.MAX_PAYLOAD)
    with pytest.raises(InvalidInputError, match="exceeds"):
        wire.check_payload(wire.MAX_PAYLOAD + 1)
