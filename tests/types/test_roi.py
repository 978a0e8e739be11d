"""ROIs against a dense mask in every version and branch, as masks of other data, and at merges."""

from __future__ import annotations

import tracemalloc
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.errors import ConflictError, InvalidInputError, SealedError, UnsupportedError
from vzarr.types import registry, roi
from vzarr.types.roi import Roi, Within

LO, SIDE = -4, 8
BLOCK_ZYX = (2, 3, 5)
EVERYWHERE = ((LO,) * 3, (LO + SIDE,) * 3)
COORDINATE = st.integers(LO, LO + SIDE - 1)
SPANS = st.lists(
    st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE).map(lambda s: [*s[:2], *sorted(s[2:])]), max_size=8
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("post"), SPANS),
        st.tuples(st.sampled_from(["clear", "next", "branch"]), st.just([])),
    ),
    max_size=12,
)


def _make(version, **config: str) -> Roi:
    return registry.create(version, "r", "roi", config={"BlockSize": "5,3,2", **config})


def _open(version) -> Roi:
    return registry.open_instance(version, "r")


def _dense(spans) -> np.ndarray:
    found = np.zeros((SIDE,) * 3, bool)
    for z, y, x0, x1 in spans:
        found[z - LO, y - LO, x0 - LO : x1 - LO + 1] = True
    return found


def _voxels(dense: np.ndarray) -> np.ndarray:
    for axis, edge in enumerate(BLOCK_ZYX):
        dense = dense.repeat(edge, axis)
    return dense


def _array(spans) -> np.ndarray:
    return np.array(spans, np.int64).reshape(-1, 4)


def _check(region: Roi, dense: np.ndarray) -> None:
    spans = region.spans()
    np.testing.assert_array_equal(_dense(spans), dense)
    assert spans.tolist() == sorted(spans.tolist())
    assert (spans[:, 3] - spans[:, 2] + 1).sum() == dense.sum()
    np.testing.assert_array_equal(region.block_mask(*EVERYWHERE), dense)
    present = np.flatnonzero(dense.any((1, 2))) + LO
    assert region.z_range() == ((present[0], present[-1]) if present.size else None)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_every_version_keeps_its_own_mask(steps):
    repo = vzarr.create(f"memory://{uuid.uuid4().hex}")
    _make(repo.root)
    version, model, past = repo.root, np.zeros((SIDE,) * 3, bool), []
    for n, (what, spans) in enumerate(steps):
        if what == "post":
            _open(version).replace(_array(spans))
            model = _dense(spans)
        elif what == "clear":
            _open(version).clear()
            model = np.zeros((SIDE,) * 3, bool)
        else:
            version.commit()
            past.append((version, model))
            if what == "next":
                version = version.newversion()
            else:
                before, model = past[len(past) // 2]
                version = before.branch(f"b{n}")
    for at, expected in [*past, (version, model)]:
        _check(_open(at), expected)
    repo.close()


@settings(max_examples=40, deadline=None)
@given(
    SPANS,
    st.tuples(*[st.integers(-25, 25)] * 3),
    st.tuples(*[st.integers(0, 20)] * 3),
    st.lists(st.tuples(*[st.integers(-45, 45)] * 3), max_size=12),
)
def test_voxels_agree_with_the_dense_mask(spans, lo, shape, points):
    repo = vzarr.create(f"memory://{uuid.uuid4().hex}")
    region = _make(repo.root)
    region.replace(_array(spans))
    pad = 50
    whole = np.pad(_voxels(_dense(spans)), pad)
    origin = [LO * edge - pad for edge in BLOCK_ZYX]
    place = tuple(slice(a - o, a - o + n) for a, o, n in zip(lo, origin, shape, strict=True))
    np.testing.assert_array_equal(region.mask(lo, [a + n for a, n in zip(lo, shape, strict=True)]), whole[place])
    asked = np.array(points, np.int64).reshape(-1, 3)
    np.testing.assert_array_equal(region.contains(asked), whole[tuple((asked - origin).T)])
    repo.close()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_long_mask_takes_the_memory_of_its_voxels(repo, axis: int):
    region = _make(repo.root, BlockSize="64,64,64")
    region.replace(_array([[0, 0, 0, 0]]))
    end = [1, 1, 1]
    end[axis] = 1 << 20
    tracemalloc.start()
    try:
        assert region.mask((0, 0, 0), end).sum() == 64
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


@given(SPANS)
def test_spans_are_joined_where_they_meet(spans):
    found = roi.normalised(_array(spans))
    np.testing.assert_array_equal(_dense(found), _dense(spans))
    same_line = (found[1:, :2] == found[:-1, :2]).all(1)
    assert (found[1:, 2][same_line] > found[:-1, 3][same_line] + 1).all()


def test_coordinates_reach_the_ends_of_32_bits(repo):
    low, high = -(1 << 31), (1 << 31) - 1
    region = _make(repo.root, BlockSize="1,1,1")
    spans = [[low, low, low, low + 1], [0, 0, low, high], [high, high, high, high]]
    region.replace(_array(spans))
    assert region.spans().tolist() == spans
    assert region.z_range() == (low, high)
    asked = np.array([[low] * 3, [low, low, low + 2], [0, 0, high], [0, 1, 0], [high] * 3, [high, high, 0]])
    assert region.contains(asked).tolist() == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [1],
        [[1, 2, 3]],
        [[0, 0, 0, 0, 0]],
        [[0, 0, 1, 0]],
        [[0, 0, 0, 1 << 31]],
        [[0, 0, 0, 1.5]],
        [[0, 0, 0, True]],
    ],
)
def test_what_is_no_list_of_spans_is_refused(value):
    with pytest.raises(InvalidInputError, match="span"):
        roi.spans_from_json(value)


def test_a_refused_roi_changes_nothing(repo):
    region = _make(repo.root)
    region.replace(_array([[0, 0, 0, 3]]))
    for bad in ([[0, 0, 2, 1]], [[0, 0, 0, 1 << 31]]):
        with pytest.raises(InvalidInputError):
            region.replace(_array(bad))
    assert region.spans().tolist() == [[0, 0, 0, 3]]
    repo.root.commit()
    with pytest.raises(SealedError):
        region.clear()
    assert region.spans().tolist() == [[0, 0, 0, 3]]


def test_a_version_writes_only_the_rows_that_differ(repo):
    region = _make(repo.root)
    region.replace(_array([[z, 0, 0, 3] for z in range(5)]))
    repo.root.commit()
    child = _open(repo.root.newversion())
    child.replace(_array([[z, 0, 0, 3 + (z == 2)] for z in range(4)]))
    here = child.version.info.version_id
    owners = [child.keys.get_with_version(key)[0] for key in child.keys.scan_keys(b"z")]
    assert [o == here for o in owners] == [False, False, True, False]


def test_sides_of_a_merge_are_joined_by_z_and_a_collision_waits_for_a_new_roi(repo):
    region = _make(repo.root)
    region.replace(_array([[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]]))
    repo.root.commit()
    left, right = repo.root.newversion(), repo.root.branch("right")
    _open(left).replace(_array([[0, 5, 0, 9], [1, 0, 0, 0], [2, 0, 0, 0]]))
    _open(right).replace(_array([[0, 0, 0, 0], [1, 0, 0, 0], [2, 7, 0, 0], [9, 0, 0, 0]]))
    left.commit()
    right.commit()
    joined = _open(repo.merge([left, right]))
    assert joined.spans().tolist() == [[0, 5, 0, 9], [1, 0, 0, 0], [2, 7, 0, 0], [9, 0, 0, 0]]


def test_a_collision_raises_until_the_roi_is_replaced(repo):
    _make(repo.root)
    repo.root.commit()
    left, right = repo.root.newversion(), repo.root.branch("right")
    _open(left).replace(_array([[-3, 0, 0, 0], [0, 0, 0, 0]]))
    _open(right).replace(_array([[-3, 1, 1, 1], [0, 1, 1, 1], [4, 0, 0, 0]]))
    left.commit()
    right.commit()
    joined = _open(repo.merge([left, right], keep_conflicts=True))
    with pytest.raises(ConflictError):
        joined.spans()
    assert joined.spans(1, 9).tolist() == [[4, 0, 0, 0]]
    assert joined.info_json()["Extended"] == {"BlockSize": [5, 3, 2], "MinZ": -3, "MaxZ": 4}
    joined.replace(_array([[0, 2, 2, 2]]))
    assert joined.spans().tolist() == [[0, 2, 2, 2]]
    joined.version.commit()
    assert _open(joined.version.newversion()).spans().tolist() == [[0, 2, 2, 2]]


# ---------------------------------------------------------------- masks of other data


@pytest.fixture
def gray(repo):
    made = registry.create(repo.root, "g", "uint8blk", config={"BlockSize": "5,3,2", "Background": "9"})
    _make(repo.root).replace(_array([[-1, 0, 0, 0], [0, 1, -1, 0]]))
    return made


def _inside() -> np.ndarray:
    """Voxels of the box (-2, 0, -5) to (2, 6, 5) that belong to the ROI of `gray`."""
    found = np.zeros((4, 6, 10), bool)
    found[:2, :3, 5:] = True
    found[2:, 3:, :] = True
    return found


BOX = ((-2, 0, -5), (2, 6, 5))


def test_images_are_blanked_or_darkened_outside(gray):
    volume = np.random.default_rng(2).integers(1, 256, (4, 6, 10), "u1")
    gray.write(BOX[0], volume)
    region = _open(gray.version)
    found = gray.read(*BOX, within=Within(region))
    np.testing.assert_array_equal(found, np.where(_inside(), volume, 0))
    found = gray.read((-1, 2, -3), (1, 5, 4), within=Within(region, 3))
    expected = np.where(_inside(), volume, volume >> 3)
    np.testing.assert_array_equal(found, expected[1:3, 2:5, 2:9])


def test_a_write_within_a_roi_leaves_the_other_blocks_unwritten(gray):
    volume = np.random.default_rng(3).integers(1, 256, (4, 6, 10), "u1")
    gray.write(BOX[0], volume, within=Within(_open(gray.version)))
    np.testing.assert_array_equal(gray.read(*BOX), np.where(_inside(), volume, 9))
    assert gray.written_blocks() == [(-1, 0, 0), (0, 1, -1), (0, 1, 0)]
    extents = gray.info_json()["Extents"]
    assert extents == {"MinPoint": [-5, 0, -2], "MaxPoint": [4, 5, 1]}
    gray.write((2, 0, 0), volume[:2, :3, :5], within=Within(_open(gray.version)))
    assert len(gray.written_blocks()) == 3
    assert gray.info_json()["Extents"] == extents


def test_resampling_masks_the_voxels_it_takes(repo):
    gray = registry.create(repo.root, "g", "uint8blk", config={"BlockSize": "5,3,2", "VoxelSize": "4,4,8"})
    _make(repo.root).replace(_array([[1, 0, 0, 0]]))
    gray.write((0, 0, 0), np.full((4, 3, 5), 7, "u1"))
    found = gray.read_isotropic((0, 0, 0), (8, 3, 5), within=Within(_open(repo.root)))
    assert found.max((1, 2)).tolist() == [0, 0, 0, 0, 7, 7, 7, 7]


def test_labels_are_masked_by_blocks_of_the_labels(repo):
    seg = registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
    _make(repo.root).replace(_array([[0, 0, -1, -1]]))
    volume = np.full((16, 16, 32), 5, np.uint64)
    seg.write((0, 0, -16), volume, within=Within(_open(repo.root)))
    assert seg.read((0, 0, -17), (1, 1, 1))[0, 0].tolist() == [0, *[5] * 16, 0]
    assert seg.size(5) == 16**3
    seg.write((0, 0, -16), volume)
    found = seg.read((0, 0, -17), (1, 1, 1), within=Within(_open(repo.root)))
    assert found[0, 0].tolist() == [0, *[5] * 16, 0]
    for refused in ({"scale": 1, "within": Within(_open(repo.root))}, {"within": Within(_open(repo.root), 2)}):
        with pytest.raises(UnsupportedError):
            seg.read((0, 0, 0), (1, 1, 1), **refused)
