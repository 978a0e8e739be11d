"""An index that is built at once is the one that writing block by block makes."""

from __future__ import annotations

import numpy as np
import pytest

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import bulk, rows, verify, writes
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.tally import tally


def _filled(make, volume) -> tuple[LabelMap, tuple]:
    seg = make("bulk")
    blocks = writes.blocks_of((-16, 0, 16), volume, seg.block_zyx)
    seg.store_blocks(blocks)
    counted = tally(blocks.items())
    return seg, (rows.unpack_blocks(counted.blocks), counted.labels, counted.voxels)


@pytest.mark.parametrize("at_once", [2, 20_000])
def test_the_index_of_a_volume(make, volume, monkeypatch: pytest.MonkeyPatch, at_once: int):
    monkeypatch.setattr(bulk, "_ROWS", at_once)
    seg, counts = _filled(make, volume)
    seg.build_index(*counts, mapping=np.array([[2, 1], [3, 1], [500, 40]], np.uint64))
    assert not verify.check_index(seg)
    assert seg.supervoxels_of(1) == [1, 2, 3]
    assert seg.max_label == 500
    assert seg.bodies_of([2, 500]).tolist() == [1, 40]


def test_again_from_the_start(make, volume):
    seg, counts = _filled(make, volume)
    for _ in range(2):
        seg.build_index(*counts)
    assert not verify.check_index(seg)


def test_an_empty_volume(make):
    seg = make("none")
    seg.build_index(np.empty((0, 3), np.int64), np.empty(0, np.uint64), np.empty(0, np.uint32))
    assert list(seg.list_bodies()) == []


def test_background_has_no_body(make, volume):
    seg, counts = _filled(make, volume)
    with pytest.raises(InvalidInputError):
        seg.build_index(*counts, mapping=np.array([[2, 0]], np.uint64))


def test_behind_the_last_label_there_is_none_to_give(make, volume):
    seg, counts = _filled(make, volume)
    before = seg.labelling
    with pytest.raises(InvalidInputError, match="18446744073709551615 is none"):
        seg.build_index(*counts, mapping=np.array([[2, 2**64 - 1]], np.uint64))
    assert (seg.labelling, list(seg.list_bodies())) == (before, [])
