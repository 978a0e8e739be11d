"""Keys and values of a labelmap: what is packed comes back, and sorts as what it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import FormatError, InvalidInputError
from vzarr.types.labelmap import rows
from vzarr.types.labelmap.rows import Counts, Header

U64 = st.integers(0, 2**64 - 1)
AXIS = st.integers(-(2**20), 2**20 - 1)


@given(st.lists(st.tuples(AXIS, AXIS, AXIS)))
def test_packed_blocks_come_back_and_sort_like_coordinates(coords):
    packed = rows.pack_blocks(np.array(coords, np.int64).reshape(-1, 3))
    assert [tuple(c) for c in rows.unpack_blocks(packed).tolist()] == coords
    assert [c for _, c in sorted(zip(packed.tolist(), coords, strict=True))] == sorted(coords)


@pytest.mark.parametrize("coord", [(2**20, 0, 0), (0, -(2**20) - 1, 0)])
def test_blocks_too_far_out_are_refused(coord):
    with pytest.raises(InvalidInputError):
        rows.pack_blocks(np.array([coord]))


@given(st.lists(st.tuples(U64, U64)))
def test_index_keys_sort_by_body_then_supervoxel(pairs):
    keys = [rows.index_key(*pair) for pair in sorted(pairs)]
    assert keys == sorted(keys)
    for body, supervoxel in pairs:
        low, high = rows.index_range(body)
        assert low <= rows.index_key(body, supervoxel) < high


@given(U64, U64, st.text(), st.text(), st.text())
def test_headers_come_back(voxels, number, time, user, app):
    header = Header(voxels, number, time, user, app)
    assert Header.decode(header.encode()) == header
    assert rows.voxels_of(header.encode()) == voxels


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 5)), max_size=30))
def test_counts_are_sums_without_what_falls_to_nothing(entries):
    blocks = np.array([b for b, _ in entries], np.uint64)
    counts = Counts.summed(blocks, np.array([n for _, n in entries], np.int64))
    sums: dict[int, int] = {}
    for block, n in entries:
        sums[block] = sums.get(block, 0) + n
    expected = {block: n for block, n in sorted(sums.items()) if n > 0}
    assert dict(zip(counts.blocks.tolist(), counts.voxels.tolist(), strict=True)) == expected
    again = Counts.decode(counts.encode())
    assert (again.blocks.tolist(), again.voxels.tolist()) == (counts.blocks.tolist(), counts.voxels.tolist())
    assert counts.total == sum(expected.values())


def test_a_cut_row_is_not_read():
    with pytest.raises(FormatError):
        Counts.decode(b"12345")
