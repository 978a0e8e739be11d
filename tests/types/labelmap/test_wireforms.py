"""Label volumes and blocks in their wire forms."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from vzarr.errors import InvalidInputError
from vzarr.types.blockstreams import pack_stream
from vzarr.types.labelmap import wireforms
from vzarr.types.labelmap.blocks import encode_block, max_encoded_size
from vzarr.types.labelmap.handle import LabelMap

SHAPE = (16, 16, 16)


def test_posted_blocks_are_inflated_as_far_as_a_block_can_need_and_no_further():
    worst = np.arange(16**3, dtype=np.uint64).reshape(SHAPE)
    body = pack_stream([((3, 2, -1), gzip.compress(encode_block(worst)))])
    (coord, voxels), *more = wireforms.decode_blocks(body, SHAPE).items()
    assert (coord, more) == ((-1, 2, 3), [])
    assert np.array_equal(voxels, worst)
    bomb = pack_stream([((0, 0, 0), gzip.compress(bytes(max_encoded_size(SHAPE) + 1)))])
    with pytest.raises(InvalidInputError, match="more than"):
        wireforms.decode_blocks(bomb, SHAPE)


@pytest.mark.parametrize("compression", ["lz4", "gzip", "google", "googlegzip"])
@pytest.mark.parametrize("supervoxels", [False, True])
def test_a_block_that_is_kept_compressed_is_the_volume(seg: LabelMap, compression: str, supervoxels: bool):
    seg.merge(1, [2])
    lookup, encode = None if supervoxels else seg.lookup, wireforms.volume_encoder(compression)
    n = seg.block_zyx[0]
    for lo, more in (((0, 0, n), 3), ((-n, n, 2 * n), 4)):
        box = (lo, tuple(a + n for a in lo))
        for _ in range(2):
            found = wireforms.encoded_block(seg, box, compression, lookup)
            assert found is not None
            assert bytes(found) == bytes(encode(seg.read(*box, supervoxels=supervoxels)))
        seg.merge(1, [more])
    off = ((1, 0, n), (1 + n, n, 2 * n))
    far = ((100 * n, 0, 0), (101 * n, n, n))
    large = ((0, 0, n), (n, n, 3 * n))
    assert [wireforms.encoded_block(seg, box, compression, lookup) for box in (off, far, large)] == [None] * 3
    assert wireforms.encoded_block(seg, ((0, 0, n), (n, n, 2 * n)), "", lookup) is None


def test_colours_of_labels_are_those_of_the_reference_server():
    labels = np.array([[0, 1, 2, 1000], [2**32, 2**63, 0, 1]], np.uint64)
    background, one = [99, 133, 42], [83, 7, 93]
    assert wireforms.pseudocolors(labels).tolist() == [
        [background, one, [198, 31, 162], [168, 135, 93]],
        [[58, 216, 86], [81, 111, 175], background, one],
    ]
