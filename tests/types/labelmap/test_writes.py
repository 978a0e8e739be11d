"""Writing blocks: what follows them, and what does not when it is not asked for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vzarr.errors import InvalidInputError, SealedError
from vzarr.types import registry, voxels
from vzarr.types.labelmap import pyramid, verify, writes
from vzarr.types.labelmap.handle import LabelMap

FULL = np.full((16, 16, 16), 40, np.uint64)


def test_an_overwrite_takes_off_what_was_there(seg: LabelMap, volume: np.ndarray):
    seg.write((-16, 0, 16), volume)
    assert not verify.check_index(seg)
    seg.write((-16, 0, 16), np.zeros_like(volume))
    assert list(seg.list_bodies()) == []
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_voxels_of_a_merged_supervoxel_join_its_body(seg: LabelMap):
    seg.merge(1, [2])
    before = seg.size(1)
    seg.write((64, 0, 0), np.full((16, 16, 16), 2, np.uint64))
    assert seg.size(1) == before + 16**3
    assert not verify.check_index(seg)


def test_an_id_that_is_no_supervoxel_any_more_is_background(seg: LabelMap):
    seg.merge(1, [2])
    made = seg.cleave(1, [2]).body
    seg.write((64, 0, 0), np.full((16, 16, 16), made, np.uint64))
    assert seg.labels_at([[64, 0, 0]]).tolist() == [0]
    assert seg.labels_at([[64, 0, 0]], supervoxels=True).tolist() == [made]
    assert not verify.check_index(seg)


def test_extents_and_largest_label_grow(seg: LabelMap):
    seg.write_blocks({(-3, 0, 5): FULL})
    assert voxels.read_extents(seg) == ((-48, 0, 16), (16, 32, 96))
    assert seg.max_label == 40


def test_without_index_the_bodies_stay_and_the_largest_label_grows(seg: LabelMap):
    before = dict(seg.list_bodies())
    seg.write_blocks({(9, 0, 0): FULL}, indexed=False, downres=False)
    assert dict(seg.list_bodies()) == before
    assert seg.max_label == 40
    assert seg.read((144, 0, 0), (160, 16, 16)).all()
    assert verify.check_scales(seg)


@pytest.mark.parametrize("settings", [{"IndexedLabels": "false"}, {}])
def test_writers_side_by_side_without_index_leave_right_coarser_scales(make, settings, monkeypatch):
    """Each makes a part of one coarser block anew, which is stored as a whole."""
    made = pyramid._made

    def slowly(*given):
        time.sleep(0.01)
        return made(*given)

    monkeypatch.setattr(pyramid, "_made", slowly)
    seg = make("plain", **settings)
    seg.write_blocks({(0, 0, 0): np.zeros_like(FULL)})
    at_once = threading.Barrier(8)

    def write(coord: tuple[int, ...]) -> None:
        at_once.wait()
        seg.write_blocks({coord: FULL}, indexed=False)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, np.ndindex(2, 2, 2)))
    assert not verify.check_scales(seg)
    assert seg.read((0, 0, 0), (16, 16, 16), scale=1).all()
    assert list(seg.list_bodies()) == []
    assert len([r for r in seg.changes() if r["Action"] == "post-voxels"]) == 9


def test_an_instance_without_index(make):
    seg = make("plain", IndexedLabels="false")
    seg.write((0, 0, 0), FULL)
    assert list(seg.list_bodies()) == []
    assert not verify.check_scales(seg)


def test_stored_blocks_change_nothing_else_but_the_log(seg: LabelMap):
    before = set(seg.keys.scan())
    seg.store_blocks({(9, 0, 0): FULL})
    seg.store_blocks({(9, 0, 0): FULL}, scale=2)
    assert {key[:1] for key, _ in set(seg.keys.scan()) - before} == {b"m"}
    with pytest.raises(InvalidInputError, match="scales 0 to 2"):
        seg.store_blocks({(9, 0, 0): FULL}, scale=3)


def test_counts_that_were_never_made_do_not_go_below_nothing(make):
    seg = make("raw")
    seg.store_blocks({(0, 0, 0): FULL})
    seg.write((0, 0, 0), np.full((16, 16, 16), 41, np.uint64))
    assert dict(seg.list_bodies()) == {41: 16**3}
    assert not verify.check_index(seg)


@pytest.mark.parametrize(
    "block", [FULL[:8], FULL.astype(np.uint32), np.zeros((32, 16, 16), np.uint64)], ids=["small", "32 bits", "large"]
)
def test_other_blocks_are_refused_before_anything_is_written(seg: LabelMap, block: np.ndarray):
    before = list(seg.keys.scan())
    with pytest.raises(InvalidInputError):
        seg.write_blocks({(9, 0, 0): FULL, (9, 0, 1): block})
    assert list(seg.keys.scan()) == before
    assert not seg.read((144, 0, 0), (160, 16, 16)).any()


def test_blocks_beyond_the_index_are_refused(seg: LabelMap):
    with pytest.raises(InvalidInputError):
        seg.write_blocks({(2**20, 0, 0): FULL})


@pytest.mark.parametrize(("lo", "shape"), [((1, 0, 0), (16, 16, 16)), ((0, 0, 0), (16, 8, 16))])
def test_a_volume_must_be_aligned(seg: LabelMap, lo, shape):
    with pytest.raises(InvalidInputError):
        seg.write(lo, np.zeros(shape, np.uint64))


def test_many_batches(seg: LabelMap, volume: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writes, "BATCH_VOXELS", 2 * 16**3)
    seg.write((-16, 0, 16), volume[::-1])
    np.testing.assert_array_equal(seg.read((-16, 0, 16), (16, 32, 64)), volume[::-1])
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_a_sealed_version_takes_no_voxels(seg: LabelMap):
    seg.version.commit()
    with pytest.raises(SealedError):
        seg.write((0, 0, 0), FULL)


def test_arrays_are_made_where_an_older_branch_lacks_them(repo):
    root = repo.root.commit()
    main, side = root.newversion(), root.branch("side")
    registry.create(main, "late", "labelmap", config={"BlockSize": "16,16,16"})
    seen = side["late"]
    assert not seen.read((0, 0, 0), (4, 4, 4)).any()
    seen.write((0, 0, 0), FULL)
    assert seen.size(40) == 16**3
    assert list(main["late"].list_bodies()) == []
