"""A wrong index, a wrong scale and a write left half done are found."""

from __future__ import annotations

import numpy as np

from vzarr.types.labelmap import rows, verify
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.rows import Header


def test_a_sound_labelmap(seg: LabelMap):
    assert verify.check_index(seg) == verify.check_scales(seg) == []


def test_voxels_behind_the_back_of_the_index(seg: LabelMap):
    seg.store_blocks({(0, 0, 1): np.full((16, 16, 16), 5, np.uint64)})
    assert any("supervoxel 5 of body 5 is indexed wrongly" in line for line in verify.check_index(seg))
    assert verify.check_scales(seg) == ["block (0, 0, 0) (zyx) of scale 1 is not made from scale 0"]


def test_a_wrong_header(seg: LabelMap):
    seg.transact(lambda tx: tx.put(rows.header_key(3), Header(1).encode()))
    assert [line for line in verify.check_index(seg) if line.startswith("body 3 has")]


def test_an_index_without_header_and_one_without_voxels(seg: LabelMap):
    row = seg.keys.get(rows.index_key(3, 3))
    seg.transact(lambda tx: tx.put(rows.index_key(900, 3), row))
    seg.transact(lambda tx: tx.put(rows.header_key(901), Header(1).encode()))
    found = verify.check_index(seg)
    assert "body 900 has an index and no header" in found
    assert "body 901 has 0 voxels, its header says 1" in found


def test_a_write_left_half_done(seg: LabelMap):
    seg.transact(lambda tx: tx.put(rows.INTENT, b"x"))
    assert verify.check_index(seg) == ["a write of voxels was begun and not finished"]
