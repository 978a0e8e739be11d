"""Sparse volumes as bytes: printed examples, round trips, damage."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import sparsevol as s
from vzarr.types.labelmap.runs import no_runs

FIVE = np.array([[0, 0, 0, 5]], np.int32)
RLES = bytes.fromhex("00030000 00000000 01000000 00000000 00000000 00000000 05000000")
MASK = bytes.fromhex("02000000 02000000 02000000 6400000000000000") + bytes.fromhex(
    "00000000 00000000 00000000 02 02 1f" + "00" * 63 + "00" * 7
)
coord = st.integers(-(2**31), 2**31 - 1)
any_runs = st.lists(
    st.tuples(coord, coord, coord, st.integers(1, 2**31 - 1)).filter(lambda v: v[0] + v[3] <= 2**31),
    max_size=6,
).map(lambda rows: np.array(rows, np.int32).reshape(-1, 4))


def sixteen() -> np.ndarray:
    a = np.zeros((16, 16, 16), np.bool_)
    a[0, 0, 0:5] = True
    return a


def test_printed_rles():
    assert s.encode_rles(FIVE) == RLES
    assert s.encode_spans(FIVE) == RLES[12:]
    assert s.decode_rles(RLES).tolist() == FIVE.tolist()


def test_printed_coarse_volumes():
    block = np.array([[-1, 1, 2, 1]], np.int32)
    assert s.encode_rles(block) == bytes.fromhex("00030000 00000000 01000000 ffffffff 01000000 02000000 01000000")
    assert s.encode_coarse(5, np.array([[0, 0, 0, 1]], np.int32)) == bytes.fromhex(
        "0500000000000000 01000000 00000000 00000000 00000000 01000000"
    )


def test_printed_binary_blocks():
    assert s.encode_binary_blocks(100, (16, 16, 16), [((0, 0, 0), sixteen())]) == MASK
    solid = s.encode_binary_blocks(7, (16, 16, 16), [((0, 0, 1), np.ones((16, 16, 16), np.bool_))])
    assert solid == bytes.fromhex("02000000 02000000 02000000 0700000000000000 10000000 00000000 00000000 01")


@given(any_runs)
def test_rles_round_trip(runs: np.ndarray):
    decoded = s.decode_rles(s.encode_rles(runs))
    assert decoded.dtype == np.int32
    assert decoded.tolist() == runs.tolist()
    assert s.decode_spans(memoryview(s.encode_spans(runs))).tolist() == runs.tolist()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), any_runs), max_size=4))
def test_coarse_round_trip(items: list[tuple[int, np.ndarray]]):
    body = b"".join(s.encode_coarse(label, runs) for label, runs in items)
    assert [(n, v.tolist()) for n, v in s.decode_coarse(body)] == [(n, v.tolist()) for n, v in items]


def test_the_voxel_count_of_a_header_is_ignored():
    assert s.decode_rles(RLES[:4] + b"\xff" * 4 + RLES[8:]).tolist() == FIVE.tolist()


@pytest.mark.parametrize("n", range(len(RLES)))
def test_cut_rles_are_refused(n: int):
    with pytest.raises(InvalidInputError):
        s.decode_rles(RLES[:n])


@pytest.mark.parametrize(
    ("at", "format_", "value"),
    [
        (0, "<B", 1),
        (1, "<B", 2),
        (2, "<B", 1),
        (8, "<I", 0),
        (8, "<I", 2),
        (8, "<I", 2**32 - 1),
        (24, "<i", 0),
        (24, "<i", -1),
        (12, "<i", 2**31 - 5 + 1),
    ],
)
def test_inconsistent_rles_are_refused(at: int, format_: str, value: int):
    body = bytearray(RLES)
    struct.pack_into(format_, body, at, value)
    with pytest.raises(InvalidInputError):
        s.decode_rles(bytes(body))


def test_a_span_may_end_at_the_last_voxel():
    body = bytearray(RLES)
    struct.pack_into("<i", body, 12, 2**31 - 5)
    assert s.decode_rles(bytes(body))[0, 0] == 2**31 - 5


def test_cut_coarse_streams_are_refused():
    body = s.encode_coarse(5, FIVE) + s.encode_coarse(6, no_runs())
    for n in range(1, len(body)):
        if n != 28:
            with pytest.raises(InvalidInputError):
                s.decode_coarse(body[:n])
    assert [label for label, _ in s.decode_coarse(body)] == [5, 6]


masks = st.sampled_from([0.0, 0.001, 0.5, 1.0]).flatmap(
    lambda p: st.integers(0, 99).map(lambda seed: np.random.default_rng(seed).random((8, 16, 24)) < p)
)


@given(st.lists(st.tuples(st.tuples(*[st.integers(-9, 9)] * 3), masks), max_size=4), st.integers(0, 2**64 - 1))
def test_binary_blocks_round_trip(blocks, label: int):
    got = s.decode_binary_blocks(s.encode_binary_blocks(label, (8, 16, 24), blocks))
    assert (got.label, got.shape_zyx) == (label, (8, 16, 24))
    assert [at for at, _ in got.blocks] == [(z * 8, y * 16, x * 24) for (z, y, x), _ in blocks]
    for (_, decoded), (_, mask) in zip(got.blocks, blocks, strict=True):
        assert decoded.dtype == np.bool_
        assert (decoded == mask).all()


@given(hnp.arrays(np.uint8, 8, elements=st.integers(0, 2)))
def test_uniform_sub_blocks_take_one_byte(kinds: np.ndarray):
    a = np.repeat(np.repeat(np.repeat(kinds.reshape(2, 2, 2), 8, 0), 8, 1), 8, 2)
    mask = (a == 1) | ((a == 2) & (np.indices(a.shape).sum(0) % 2 == 0))
    body = s.encode_binary_blocks(1, mask.shape, [((0, 0, 0), mask)])
    uniform = (kinds == kinds[0]).all() and kinds[0] != 2
    assert len(body) == 20 + 13 + (0 if uniform else 8 + 64 * int((kinds == 2).sum()))
    assert (s.decode_binary_blocks(body).blocks[0][1] == mask).all()


def test_damaged_binary_blocks_are_refused():
    for n in set(range(len(MASK))) - {20}:
        with pytest.raises(InvalidInputError):
            s.decode_binary_blocks(MASK[:n])
    for at, value in ((0, 0), (0, 129), (32, 3), (33, 3), (98, 9)):
        body = bytearray(MASK)
        body[at] = value
        with pytest.raises(InvalidInputError):
            s.decode_binary_blocks(bytes(body))
