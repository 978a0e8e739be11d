"""Label volumes and blocks in their wire forms."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from vzarr.errors import InvalidInputError
from vzarr.types.blockstreams import pack_stream
from vzarr.types.labelmap import wireforms
from vzarr.types.labelmap.blocks import encode_block, max_encoded_size

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
