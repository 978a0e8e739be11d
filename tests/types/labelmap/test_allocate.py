"""New labels: once per repo, across versions and branches."""

from __future__ import annotations

import numpy as np
import pytest

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import allocate, pages, verify
from vzarr.types.labelmap.handle import LabelMap


def test_labels_go_on_from_the_largest_in_any_version(seg: LabelMap):
    root = seg.version.commit()
    one, two = root.newversion()["seg"], root.branch("side")["seg"]
    one.write((0, 0, 0), np.full((16, 16, 16), 50, np.uint64))
    assert (one.max_label, two.max_label, seg.max_label) == (50, 9, 9)
    assert two.labelling.next == one.labelling.next == 51
    two.merge(1, [2])
    assert two.cleave(1, [2]).body == 51
    assert one.reserve_labels(3) == (52, 54)
    assert (one.max_label, two.max_label) == (54, 51)


def test_labels_set_by_hand_go_on_from_there_up_to_their_ceiling(seg: LabelMap):
    allocate.set_next(seg, 8000, 8002)
    assert seg.labelling.next == 8001
    assert seg.reserve_labels(2) == (8001, 8002)
    with pytest.raises(InvalidInputError, match="ceiling 8002"):
        seg.reserve_labels(1)
    allocate.set_next(seg, 9000, 0)
    assert seg.reserve_labels(1) == (9001, 9001)


def test_labels_in_use_are_passed_over(seg: LabelMap):
    """In this version, as a supervoxel inside a body, or in a version beside it."""
    root = seg.version.commit()
    one, two = root.newversion()["seg"], root.branch("side")["seg"]
    one.write((0, 0, 64), np.full((16, 16, 16), 11, np.uint64))
    one.merge(1, [11])
    two.write((0, 0, 64), np.full((16, 16, 16), 13, np.uint64))
    allocate.set_next(one, 1)
    before, used = dict(one.list_bodies()), {*range(1, 10), 11, 13}
    given = {one.reserve_labels(1)[0], made := one.cleave(1, [11]).body, *two.reserve_labels(2)}
    assert len(given) == 4
    assert not given & used
    assert {b: n for b, n in one.list_bodies() if b not in (1, made)} == {b: n for b, n in before.items() if b != 1}
    assert not verify.check_index(one)
    allocate.set_next(one, 1, 9)
    with pytest.raises(InvalidInputError, match="ceiling 9"):
        one.reserve_labels(1)


def test_supervoxels_of_pages_are_passed_over(seg: LabelMap):
    many = np.arange(100, 100 + 3 * pages.PAGE, dtype=np.uint64)
    seg.transact(lambda tx: pages.put(tx, many, np.ones_like(many)))
    allocate.post_max_label(seg, int(many[-1]))
    allocate.set_next(seg, 99)
    assert seg.reserve_labels(1)[0] > many[-1]


def test_an_edit_that_fails_takes_no_label(seg: LabelMap):
    before = seg.labelling
    with pytest.raises(InvalidInputError):
        seg.cleave(1, [1])
    assert seg.labelling == before


@pytest.mark.parametrize("label", [0, allocate.LARGEST_POSTED + 1])
def test_a_largest_label_out_of_range_is_refused(seg: LabelMap, label: int):
    with pytest.raises(InvalidInputError):
        allocate.post_max_label(seg, label)


@pytest.mark.parametrize(("label", "ceiling"), [(0, None), (10, 5), (2**64 - 1, None)])
def test_a_next_label_out_of_range_is_refused(seg: LabelMap, label: int, ceiling: int | None):
    with pytest.raises(InvalidInputError):
        allocate.set_next(seg, label, ceiling)


def test_labels_end_below_the_largest_number(seg: LabelMap):
    allocate.set_next(seg, allocate.LARGEST - 1)
    assert seg.reserve_labels(1) == (allocate.LARGEST, allocate.LARGEST)
    with pytest.raises(InvalidInputError, match="no 1 labels left"):
        seg.reserve_labels(1)


def test_a_merge_of_versions_counts_on_from_both(seg: LabelMap):
    root = seg.version.commit()
    one, two = root.newversion()["seg"], root.branch("side")["seg"]
    one.write((0, 0, 0), np.full((16, 16, 16), 50, np.uint64))
    two.write((0, 0, 64), np.full((16, 16, 16), 60, np.uint64))
    joined = seg.version.repo.merge([one.version.commit(), two.version.commit()])["seg"]
    assert joined.max_label == 60
    assert joined.reserve_labels(1) == (61, 61)
    assert joined.max_label == 61


def test_without_its_row_a_repo_goes_on_from_the_largest_label_of_all_versions(seg: LabelMap):
    """As in a copy that has the folders and a key store of its own."""
    root = seg.version.commit()
    one, two = root.newversion()["seg"], root.branch("side")["seg"]
    one.write((0, 0, 0), np.full((16, 16, 16), 50, np.uint64))
    two.transact(lambda tx: allocate._repo_wide(tx, two).delete(b"a"))
    assert two.labelling.next == 51
    two.merge(1, [2])
    assert two.cleave(1, [2]).body == 51
    assert one.reserve_labels(1) == (52, 52)
