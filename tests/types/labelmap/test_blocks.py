"""The compressed segmentation block: printed examples, a plain twin, and hostile bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import blocks

SOLID_7 = bytes.fromhex("020000000200000002000000 01000000 0700000000000000")
MIXED = bytes.fromhex(
    "02000000 02000000 02000000 05000000"
    "6400000000000000 0000000000000000 c800000000000000 2c01000000000000 0500000000000000"
    "0200 0100 0100 0100 0100 0100 0100 0200"
    "00000000 01000000 02000000 01000000 01000000 01000000 01000000 03000000 01000000 04000000"
    "07" + "ff" * 63 + "00" * 63 + "01"
)


def mixed() -> np.ndarray:
    """What the printed example holds."""
    a = np.zeros((16, 16, 16), np.uint64)
    a[0:8, 0:8, 8:16] = 200
    a[8:16, 8:16, 0:8] = 300
    a[0, 0, 0:5] = 100
    a[15, 15, 15] = 5
    return a


def plain_decode(data: bytes) -> np.ndarray:
    """The format once more, voxel by voxel, as its description reads."""
    gx, gy, gz, n = struct.unpack_from("<4I", data)
    table = struct.unpack_from(f"<{n}Q", data, 16)
    out = np.zeros((gz * 8, gy * 8, gx * 8), np.uint64)
    if n == 1:
        return out + np.uint64(table[0])
    at = 16 + 8 * n
    sizes = struct.unpack_from(f"<{gx * gy * gz}H", data, at)
    at += 2 * len(sizes)
    entries = list(struct.unpack_from(f"<{sum(sizes)}I", data, at))
    bits = "".join(f"{byte:08b}" for byte in data[at + 4 * len(entries) :])
    for sub, size in enumerate(sizes):
        palette, entries = entries[:size], entries[size:]
        width = (size - 1).bit_length() if size > 1 else 0
        z, y, x = sub // (gx * gy) * 8, sub // gx % gy * 8, sub % gx * 8
        for k in range(512 if palette else 0):
            value = int(bits[k * width : (k + 1) * width] or "0", 2)
            out[z + k // 64, y + k // 8 % 8, x + k % 8] = table[palette[value]]
        bits = bits[512 * width :]
    return out


@st.composite
def volumes(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(*[st.sampled_from([8, 16, 24])] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    palette = rng.integers(0, 2**64, draw(st.sampled_from([1, 2, 3, 5, 17, 200, 600])), np.uint64)
    palette[0] = draw(st.sampled_from([0, 1, 2**64 - 1]))
    coarse = rng.choice(palette, [n // draw(st.sampled_from([1, 2, 8])) for n in shape])
    return (
        coarse.repeat(shape[0] // coarse.shape[0], 0)
        .repeat(shape[1] // coarse.shape[1], 1)
        .repeat(shape[2] // coarse.shape[2], 2)
    )


def test_printed_examples_decode():
    assert (blocks.decode_block(SOLID_7) == np.full((16, 16, 16), 7, np.uint64)).all()
    assert (blocks.decode_block(MIXED) == mixed()).all()


def test_printed_examples_encode():
    assert blocks.encode_block(np.full((16, 16, 16), 7, np.uint64)) == SOLID_7
    ours = blocks.encode_block(mixed())
    assert len(ours) == len(MIXED) == 240
    assert (plain_decode(ours) == mixed()).all()


@given(volumes())
def test_round_trip(a: np.ndarray):
    data = blocks.encode_block(a)
    assert len(data) <= blocks.max_encoded_size(a.shape)
    decoded = blocks.decode_block(data, a.shape)
    assert decoded.dtype == np.uint64
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable
    assert (decoded == a).all()
    assert sorted(blocks.block_table(data)) == np.unique(a).tolist()
    assert blocks.encode_block(np.asfortranarray(a)) == data


@pytest.mark.parametrize("n", [2, 3, 4, 7, 9, 16, 31, 33, 64, 100, 128, 129, 256, 257, 511, 512])
def test_every_width_agrees_with_the_description(n: int):
    """Widths 1 to 9, full palettes and partly used ones."""
    full = (np.random.default_rng(n).permutation(512) % n).astype(np.uint64).reshape(8, 8, 8)
    a = np.concatenate([full, full % np.uint64(2), full + np.uint64(9)], axis=2)
    data = blocks.encode_block(a)
    assert (plain_decode(data) == a).all()
    assert (blocks.decode_block(data) == a).all()


def test_axes_are_not_mixed_up():
    a = np.arange(8 * 16 * 24, dtype=np.uint64).reshape(8, 16, 24) // np.uint64(3)
    data = blocks.encode_block(a)
    assert struct.unpack_from("<3I", data) == (3, 2, 1)
    assert (plain_decode(data) == a).all()
    assert blocks.read_header(data).shape_zyx == (8, 16, 24)


def test_never_written_sub_blocks_read_zero():
    data = struct.pack("<4I2Q2HI", 2, 1, 1, 2, 5, 6, 0, 1, 1)
    a = blocks.decode_block(data)
    assert (a[:, :, :8] == 0).all()
    assert (a[:, :, 8:] == 6).all()


def test_a_block_that_was_never_written_at_all():
    assert not blocks.decode_block(struct.pack("<4I2Q2H", 2, 1, 1, 2, 5, 6, 0, 0)).any()


def test_relabelling_changes_only_the_table():
    data = blocks.relabel_block(MIXED, lambda t: np.where(t == 200, np.uint64(300), t))
    a = mixed()
    a[a == 200] = 300
    assert (blocks.decode_block(data) == a).all(), "repeated labels must decode"
    assert data[56:] == MIXED[56:]
    assert blocks.block_table(data).tolist() == [100, 0, 300, 300, 5]
    assert blocks.decode_block(blocks.relabel_block(SOLID_7, lambda t: t + np.uint64(1)))[0, 0, 0] == 8
    with pytest.raises(InvalidInputError):
        blocks.relabel_block(MIXED, lambda t: t[:2])


@pytest.mark.parametrize("data", [SOLID_7, MIXED], ids=["solid", "mixed"])
def test_cut_and_padded_blocks_are_refused(data: bytes):
    for n in range(len(data)):
        with pytest.raises(InvalidInputError):
            blocks.decode_block(data[:n])
    with pytest.raises(InvalidInputError):
        blocks.decode_block(data + b"\0")


@pytest.mark.parametrize(
    ("at", "format_", "value"),
    [
        (0, "<I", 0),
        (0, "<I", 1),
        (0, "<I", 129),
        (4, "<I", 2**32 - 1),
        (12, "<I", 0),
        (12, "<I", 1),
        (12, "<I", 6),
        (12, "<I", 2**32 - 1),
        (56, "<H", 3),
        (56, "<H", 513),
        (56, "<H", 65535),
        (72, "<I", 5),
        (72, "<I", 2**32 - 1),
    ],
)
def test_inconsistent_blocks_are_refused(at: int, format_: str, value: int):
    data = bytearray(MIXED)
    struct.pack_into(format_, data, at, value)
    with pytest.raises(InvalidInputError):
        blocks.decode_block(bytes(data))


def test_a_value_beyond_its_palette_is_refused():
    good = struct.pack("<4I3QH3I", 1, 1, 1, 3, 5, 6, 7, 3, 0, 1, 2) + bytes(127)
    assert (blocks.decode_block(good + b"\x02")[7, 7, 7]) == 7
    with pytest.raises(InvalidInputError, match="beyond the palette"):
        blocks.decode_block(good + b"\x03")


@given(st.binary(max_size=300), st.integers(0, 239))
def test_noise_is_refused_or_decodes_as_described(noise: bytes, at: int):
    data = MIXED[:at] + noise + MIXED[at + len(noise) :]
    try:
        a = blocks.decode_block(data, (16, 16, 16))
    except InvalidInputError:
        return
    assert (a == plain_decode(data)).all()


def test_a_huge_claim_is_refused_before_it_is_allocated():
    bomb = struct.pack("<4IQ", 128, 128, 128, 1, 1)
    with pytest.raises(InvalidInputError, match="expected"):
        blocks.decode_block(bomb, (64, 64, 64))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 12), (0, 8, 8), (8, 8, 1032), (8, 8, 8, 8)])
def test_shapes_that_do_not_fit(shape: tuple[int, ...]):
    with pytest.raises(InvalidInputError):
        blocks.encode_block(np.zeros(shape, np.uint64))
