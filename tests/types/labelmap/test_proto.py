"""Label indices and mappings as bytes, against what a reference server sent."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.types import messages
from vzarr.types.labelmap import proto
from vzarr.types.labelmap.rows import Counts, Header, pack_blocks

AXIS = st.integers(-(2**20) + 1, 2**20 - 1)
BODY_100 = bytes.fromhex("0a0a 0800 1206 0a04 0864 1005 1064")
BODY_6 = bytes.fromhex("0a11 088180c081808002 1207 0a05 0806 108020 1006")
COMPRESSED = bytes.fromhex(
    "1400000000000000 6400000000000000 80 0e000000 e0 0a0a080012060a040864100510640000000000000000 0f27000000000000"
)


def index(label: int, where: dict[int, dict[tuple[int, int, int], int]], **header) -> proto.IndexMessage:
    """An index from supervoxel -> block zyx -> voxels."""
    counts = {}
    for supervoxel, blocks in where.items():
        packed = pack_blocks(np.array(list(blocks), np.int64))
        order = np.argsort(packed)
        counts[supervoxel] = Counts(packed[order], np.array(list(blocks.values()), np.uint32)[order])
    voxels = sum(sum(blocks.values()) for blocks in where.values())
    return proto.IndexMessage(label, Header(voxels, **header), counts)


def plain(message: proto.IndexMessage) -> tuple:
    """Something that compares."""
    counts = {sv: (c.blocks.tolist(), c.voxels.tolist()) for sv, c in message.counts.items()}
    return message.label, message.header, counts


blocks_of_a_supervoxel = st.dictionaries(st.tuples(AXIS, AXIS, AXIS), st.integers(1, 2**32 - 1), min_size=1, max_size=4)
indices = st.builds(
    index,
    st.integers(0, 2**64 - 1),
    st.dictionaries(st.integers(1, 2**64 - 1), blocks_of_a_supervoxel, max_size=4),
    mutation_id=st.integers(0, 2**64 - 1),
    time=st.text(max_size=8),
    user=st.text(max_size=8),
    app=st.text(max_size=8),
)


@pytest.mark.parametrize(
    ("zyx", "key"),
    [
        ((0, 0, 1), 1),
        ((0, 0, -1), 0x100001),
        ((0, 1, 0), 0x200000),
        ((2, 1, -1), 2 << 42 | 1 << 21 | 0x100001),
    ],
)
def test_printed_keys(zyx: tuple[int, int, int], key: int):
    assert proto.keys_of_coords(np.array([zyx])).tolist() == [key]
    assert proto.coords_of_keys(np.array([key], np.uint64)).tolist() == [list(zyx)]


@given(st.lists(st.tuples(AXIS, AXIS, AXIS), max_size=9))
def test_keys_round_trip(coords: list[tuple[int, int, int]]):
    keys = proto.keys_of_coords(np.array(coords, np.int64).reshape(-1, 3))
    assert keys.dtype == np.uint64
    back = proto.coords_of_keys(keys)
    assert back.dtype == np.int64
    assert back.tolist() == [list(c) for c in coords]


def test_keys_that_are_no_coordinates():
    for key in (2**63, 1 << 20, 1 << 41, 1 << 62):
        with pytest.raises(InvalidInputError):
            proto.coords_of_keys(np.array([key], np.uint64))
    for far in (2**20, -(2**20)):
        with pytest.raises(InvalidInputError):
            proto.keys_of_coords(np.array([[0, far, 0]]))


def test_printed_indices():
    five = index(100, {100: {(0, 0, 0): 5}})
    solid = index(6, {6: {(2, 1, -1): 4096}})
    for message, body in ((five, BODY_100), (solid, BODY_6)):
        assert proto.encode_index(message) == body
        assert plain(proto.decode_index(body)) == plain(message)
    absent = proto.IndexMessage(9999, Header(0), {})
    pieces = proto.encode_indices([five, absent])
    assert b"".join(pieces) == bytes.fromhex("0a0e") + BODY_100 + bytes.fromhex("0a03 108f4e")


def test_printed_index_after_a_merge():
    body = bytes.fromhex(
        "0a20 0800 121c 0a06 08c801 108004 0a06 08ac02 108004 0a04 0864 1005 108194ebdc03"
        "1064 188194ebdc03 2214" + b"2026-11-22T16:11:14Z".hex() + "2a05" + b"alice".hex() + "3205" + b"probe".hex()
    )
    label, header, counts = proto.decode_index(body)
    assert label == 100
    assert header == Header(1029, 1000000001, "2026-11-22T16:11:14Z", "alice", "probe")
    assert {sv: c.voxels.tolist() for sv, c in counts.items()} == {100: [5], 200: [512], 300: [512]}


@given(indices)
def test_index_round_trip(message: proto.IndexMessage):
    body = proto.encode_index(message)
    assert plain(proto.decode_index(body)) == plain(message)
    shuffled = proto.IndexMessage(message.label, message.header, dict(reversed(message.counts.items())))
    assert proto.encode_index(shuffled) == body


@given(st.lists(indices, max_size=3))
def test_indices_round_trip(several: list[proto.IndexMessage]):
    body = b"".join(proto.encode_indices(several))
    assert [plain(m) for m in proto.decode_indices(body)] == [plain(m) for m in several]


def test_counts_of_zero_are_left_out():
    message = messages.LabelIndex(label=7)
    message.blocks[1].counts[7] = 0
    message.blocks[2].counts[7] = 3
    message.blocks[3].SetInParent()
    decoded = proto.decode_index(message.SerializeToString())
    assert plain(decoded) == plain(index(7, {7: {(0, 0, 2): 3}}))


def test_an_index_of_the_background_is_refused():
    message = messages.LabelIndex(label=7)
    message.blocks[1].counts[0] = 3
    with pytest.raises(InvalidInputError, match="supervoxel 0"):
        proto.decode_index(message.SerializeToString())


def test_an_index_with_an_impossible_block_is_refused():
    message = messages.LabelIndex(label=7)
    message.blocks[1 << 20].counts[7] = 3
    with pytest.raises(InvalidInputError, match="no block coordinate"):
        proto.decode_index(message.SerializeToString())


@pytest.mark.parametrize(
    ("decode", "body", "whole"),
    [
        # Protobuf cannot see a cut between two fields: 12 bytes are an index without its label.
        (proto.decode_index, BODY_100, {0, 12}),
        (proto.decode_indices, b"\x0a\x0e" + BODY_100, {0}),
        (proto.decode_mappings, bytes.fromhex("0a0b 0801 10a01f 1a04 e807e907"), {0}),
    ],
)
def test_cut_messages_are_refused(decode, body: bytes, whole: set[int]):
    for n in set(range(len(body))) - whole:
        with pytest.raises(InvalidInputError):
            decode(body[:n])


@given(st.binary(max_size=80), st.integers(0, len(BODY_6)))
def test_noise_is_refused_or_read(noise: bytes, at: int):
    for decode in (proto.decode_index, proto.decode_indices, proto.decode_mappings, proto.decode_compressed):
        try:
            decode(BODY_6[:at] + noise)
        except InvalidInputError:
            continue


def test_printed_mappings():
    body = bytes.fromhex("0a0b 0801 10a01f 1a04 e807e907")
    (op,) = proto.decode_mappings(body)
    assert (op.mutation_id, op.mapped, op.originals.tolist()) == (1, 4000, [1000, 1001])
    assert op.originals.dtype == np.uint64
    assert proto.encode_mappings([op]) == body


def test_printed_compressed_indices():
    items = [(100, BODY_100), (9999, None)]
    assert b"".join(proto.encode_compressed(label, body) for label, body in items) == COMPRESSED
    assert proto.decode_compressed(COMPRESSED) == items


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), indices.map(proto.encode_index)), max_size=4))
def test_compressed_indices_round_trip(items: list[tuple[int, bytes]]):
    body = b"".join(proto.encode_compressed(label, index) for label, index in items)
    assert proto.decode_compressed(body) == [(label, index or None) for label, index in items]


def test_cut_compressed_indices_are_refused():
    for n in set(range(1, len(COMPRESSED))) - {36}:
        with pytest.raises(InvalidInputError):
            proto.decode_compressed(COMPRESSED[:n])


def test_other_stored_forms_are_refused():
    with pytest.raises(UnsupportedError):
        proto.decode_compressed(struct.pack("<2Q", 3, 1) + b"\x20ab")
    with pytest.raises(InvalidInputError):
        proto.decode_compressed(struct.pack("<2Q", 3, 1) + b"\x80ab")
    with pytest.raises(InvalidInputError):
        proto.decode_compressed(struct.pack("<2QBI", 6, 1, 0x80, 2**31) + b"\x00")
