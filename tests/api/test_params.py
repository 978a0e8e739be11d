"""Text on the wire, read strictly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.api import params
from vzarr.api.params import ImageFormat, VoxelRequest
from vzarr.errors import InvalidInputError

INT32 = st.integers(-(2**31), 2**31 - 1)


@given(st.tuples(INT32, INT32, INT32))
def test_a_point_reads_back_reversed(xyz):
    assert params.parse_point_zyx("_".join(map(str, xyz))) == xyz[::-1]


@given(st.lists(st.tuples(INT32, INT32, INT32), max_size=5))
def test_block_coordinates_read_back_reversed(blocks):
    text = ",".join(str(c) for block in blocks for c in block)
    assert params.parse_blocks_zyx(text) == [block[::-1] for block in blocks]


@pytest.mark.parametrize(
    "text", ["", "1_2", "1_2_3_4", "a_b_c", "1__2", " 1_2_3", "+1_2_3", "1_2_3\n", "1_2_٣", "1_2_2147483648"]
)
def test_a_bad_point_is_refused(text):
    with pytest.raises(InvalidInputError, match="point"):
        params.parse_point_zyx(text)


@pytest.mark.parametrize("text", ["0_1_1", "-1_1_1", "1_1"])
def test_a_size_is_above_zero(text):
    with pytest.raises(InvalidInputError, match="size"):
        params.parse_size_zyx(text)


def test_block_coordinates_come_in_threes():
    with pytest.raises(InvalidInputError, match="threes"):
        params.parse_blocks_zyx("1,2,3,4")


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("true", True),
        ("True", True),
        ("on", True),
        ("1", True),
        ("false", False),
        ("False", False),
        ("0", False),
        ("", False),
        ("yes", False),
    ],
)
def test_switches(text, on):
    assert params.parse_bool(text) is on


def test_an_absent_switch_has_its_default():
    assert params.parse_bool(None, True) is True
    assert params.parse_bool(None) is False


def test_scales():
    assert params.parse_scale(None) == params.parse_scale("") == 0
    assert params.parse_scale("3") == 3
    for text in ("-1", "256", "one", "1.0"):
        with pytest.raises(InvalidInputError, match="scale"):
            params.parse_scale(text)


def test_labels_use_all_64_bits():
    assert params.parse_uint64(str(2**64 - 1)) == 2**64 - 1
    for text in ("-1", str(2**64), "7.5", "0x10"):
        with pytest.raises(InvalidInputError):
            params.parse_uint64(text)


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("xy", (0, 1)),
        ("0_1", (0, 1)),
        ("xz", (0, 2)),
        ("0_2", (0, 2)),
        ("yz", (1, 2)),
        ("1_2", (1, 2)),
        ("0_1_2", (0, 1, 2)),
        ("2_1_0", (2, 1, 0)),
    ],
)
def test_axes(text, axes):
    assert params.parse_axes(text) == axes


@pytest.mark.parametrize("text", ["", "xyz", "ab", "xq", "7_8_9", "0", "0_0", "0_1_1", "0_1_2_0", "01"])
def test_unknown_axes_are_refused(text):
    with pytest.raises(InvalidInputError, match="0_1_2"):
        params.parse_axes(text)


def test_image_formats():
    assert ImageFormat.parse("png") == ImageFormat("png")
    assert ImageFormat.parse("jpg") == ImageFormat("jpeg", 80)
    assert ImageFormat.parse("jpg:50") == ImageFormat("jpeg", 50)
    assert ImageFormat.parse("tif").name == "tiff"
    for text in ("gif", "jpg:abc", "jpg:0", "jpg:101", ""):
        with pytest.raises(InvalidInputError):
            ImageFormat.parse(text)


def test_a_box_in_zyx():
    request = VoxelRequest.parse("0_1_2", "4_5_6", "-10_20_30")
    assert request.box_zyx == ((30, 20, -10), (36, 25, -6))
    assert request.shape_zyx == (6, 5, 4)
    assert request.voxels == 120
    assert request.is_volume
    assert request.is_plain
    assert request.image is None


def test_an_image_is_one_voxel_thick():
    request = VoxelRequest.parse("xz", "4_6", "1_2_3", "jpg:70")
    assert request.shape_zyx == (6, 1, 4)
    assert not request.is_volume
    assert request.image == ImageFormat("jpeg", 70)


@pytest.mark.parametrize(
    ("size", "offset"),
    [("4_5_6", "0_0_0"), ("4", "0_0_0"), ("4_5", "0_0"), ("4,5", "0_0_0"), ("0_5", "0_0_0")],
)
def test_a_plane_needs_two_extents_and_three_offsets(size, offset):
    with pytest.raises(InvalidInputError):
        VoxelRequest.parse("xy", size, offset)


@pytest.mark.parametrize("dims", ["0_1_2", "2_1_0", "1_0_2", "xy", "xz", "yz", "1_0"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_orient_puts_the_asked_axes_in_order(dims, channels):
    axes = params.parse_axes(dims)
    request = VoxelRequest(axes, tuple((4, 5, 6)[a] for a in axes), (0, 0, 0))
    volume = np.arange(np.prod(request.shape_zyx + channels)).reshape(request.shape_zyx + channels)
    turned = request.orient(volume)
    assert turned.shape == tuple(reversed(request.size)) + channels
    point = {axis: extent - 1 for axis, extent in zip(request.axes, request.size, strict=True)}
    there = tuple(point[axis] for axis in reversed(axes))
    assert np.array_equal(turned[there], volume[tuple(point.get(axis, 0) for axis in (2, 1, 0))])


def test_points_of_json():
    assert params.points_zyx([]).shape == (0, 3)
    assert params.points_zyx([[1, 2, 3], [-4, 5, 6]]).tolist() == [[3, 2, 1], [6, 5, -4]]
    assert params.points_zyx([[1, 2, 3], [4], [], [5, 6]]).tolist() == [[3, 2, 1], [0, 0, 4], [0, 0, 0], [0, 6, 5]]
    for wrong in (None, {}, "abc", [1, 2, 3], ["abc"], [[1, 2, 3, 4]], [[1, 2, 3.0]], [[1, True, 3]], [[1, None, 3]]):
        with pytest.raises(InvalidInputError, match="JSON list of points"):
            params.points_zyx(wrong)
    for far in (2**31, -(2**31) - 1, 10**30):
        with pytest.raises(InvalidInputError, match="32 bits"):
            params.points_zyx([[0, 0, 0], [1, far]])
