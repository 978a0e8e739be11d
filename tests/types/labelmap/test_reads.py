"""Regions, blocks and points of a labelmap, against the volume that was written."""

from __future__ import annotations

import gzip
from itertools import islice

import lz4.block
import numpy as np
import pytest

from vzarr.errors import InvalidInputError
from vzarr.types.atonce import WouldWaitError, at_once
from vzarr.types.blockstreams import unpack_stream
from vzarr.types.labelmap.blocks import decode_block
from vzarr.types.labelmap.handle import LabelMap

LO = np.array([-16, 0, 16])


def test_points_anywhere(seg: LabelMap, volume: np.ndarray):
    seg.merge(1, [2])
    rng = np.random.default_rng(0)
    inside = rng.integers(0, volume.shape, (200, 3))
    expected = volume[tuple(inside.T)]
    np.testing.assert_array_equal(seg.labels_at(inside + LO, supervoxels=True), expected)
    np.testing.assert_array_equal(seg.labels_at(inside + LO), np.where(expected == 2, 1, expected))
    assert seg.labels_at([[-17, 0, 16], [500, 0, 0]]).tolist() == [0, 0]
    assert seg.labels_at(np.empty((0, 3), np.int64)).size == 0


def test_a_region_between_blocks_is_empty(seg: LabelMap):
    seg.write((160, 0, 0), np.ones((16, 16, 16), np.uint64))
    for supervoxels in (False, True):
        assert not seg.read((64, 0, 0), (96, 16, 32), supervoxels=supervoxels).any()
        assert list(seg.block_stream([(4, 0, 0), (5, 0, 0)], "blocks", supervoxels=supervoxels)) == []
    assert seg.labels_at([[64, 0, 0], [80, 0, 0]]).tolist() == [0, 0]


def test_a_scale_that_there_is_not_is_empty(seg: LabelMap):
    assert not seg.read((0, 0, 0), (8, 8, 8), scale=7).any()
    assert seg.labels_at([[0, 0, 16]], scale=7).tolist() == [0]
    assert list(seg.block_stream([(0, 0, 1)], "lz4", scale=7)) == []


DECODERS = {
    "blocks": lambda payload: decode_block(gzip.decompress(payload)),
    "lz4": lambda payload: np.frombuffer(lz4.block.decompress(payload, 16**3 * 8), "<u8").reshape(16, 16, 16),
    "gzip": lambda payload: np.frombuffer(gzip.decompress(payload), "<u8").reshape(16, 16, 16),
    "uncompressed": lambda payload: np.frombuffer(payload, "<u8").reshape(16, 16, 16),
}


@pytest.mark.parametrize("compression", DECODERS)
@pytest.mark.parametrize("supervoxels", [True, False])
def test_streams_of_blocks(seg: LabelMap, compression: str, supervoxels: bool):
    seg.merge(1, [2, 3])
    coords = [(-1, 0, 1), (7, 7, 7), (0, 1, 3)]
    body = b"".join(seg.block_stream(coords, compression, supervoxels=supervoxels))
    found = {xyz[::-1]: DECODERS[compression](bytes(payload)) for xyz, payload in unpack_stream(body)}
    assert set(found) == {(-1, 0, 1), (0, 1, 3)}
    for coord, block in found.items():
        lo = np.array(coord) * 16
        np.testing.assert_array_equal(block, seg.read(lo, lo + 16, supervoxels=supervoxels))


def test_an_unknown_compression(seg: LabelMap):
    with pytest.raises(InvalidInputError):
        seg.block_stream([(0, 0, 1)], "zip")


def test_slices_of_square_pixels(make):
    seg = make("flat", VoxelSize="8,8,16")
    labels = np.arange(16**3, dtype=np.uint64).reshape(16, 16, 16)
    seg.write((0, 0, 0), labels)
    found = seg.read_isotropic((0, 3, 0), (32, 1, 16))
    np.testing.assert_array_equal(found[:, 0], np.repeat(labels[:, 3], 2, axis=0))


def test_of_a_box_around_blocks_that_are_far_apart_these_are_found(make):
    seg, block = make(), np.ones((16, 16, 16), np.uint64)
    far = [(-1, 0, 2), (0, 0, 0), (0, 90, 3), (1000, 1000, 1000)]
    seg.write_blocks(dict.fromkeys(far, block))
    boxes = [((-16, 0, 0), (16016, 16016, 16016)), ((0, 0, 0), (16000, 16000, 16000))]
    assert [list(islice(seg.box_blocks(box), 5)) for box in boxes] == [far, far[1:3]]
    coords = [coord for coord, _ in unpack_stream(b"".join(seg.block_stream(far[:2], "lz4")))]
    assert coords == [(2, 0, -1), (0, 0, 0)]
    with pytest.raises(WouldWaitError), at_once():
        seg.box_blocks(boxes[0])
