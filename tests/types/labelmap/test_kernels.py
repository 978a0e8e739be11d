"""Down-sampling and counting against plain twins."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap.kernels import count_labels, downsample_gray, downsample_labels, number_labels

even = st.tuples(*[st.sampled_from([2, 4, 6])] * 3)
labels = st.sampled_from([0, 0, 1, 2, 3, 2**63, 2**64 - 1])


def octets(a: np.ndarray):
    """Every output position with its eight voxels."""
    for at in product(*(range(n // 2) for n in a.shape[:3])):
        yield at, a[tuple(slice(2 * i, 2 * i + 2) for i in at)]


def plain_vote(a: np.ndarray) -> np.ndarray:
    out = np.zeros([n // 2 for n in a.shape], a.dtype)
    for at, voxels in octets(a):
        votes = Counter(int(v) for v in voxels.ravel() if v)
        out[at] = min(votes, key=lambda label: (-votes[label], label)) if votes else 0
    return out


def plain_mean(a: np.ndarray) -> np.ndarray:
    out = np.zeros([n // 2 for n in a.shape], a.dtype)
    for at, voxels in octets(a):
        out[at] = (sum(map(int, voxels.ravel())) + 4) // 8
    return out


@given(hnp.arrays(np.uint64, even, elements=labels))
def test_vote_agrees_with_its_definition(a: np.ndarray):
    out = downsample_labels(a)
    assert out.dtype == a.dtype
    assert (out == plain_vote(a)).all()
    assert (downsample_labels(np.asfortranarray(a)) == out).all()


@given(st.lists(st.sampled_from([0, 3, 5, 7, 9]), min_size=8, max_size=8))
def test_vote_does_not_depend_on_where_a_voxel_is(voxels: list[int]):
    a = np.array(voxels, np.uint64).reshape(2, 2, 2)
    assert downsample_labels(a) == downsample_labels(a[::-1, ::-1, ::-1]) == plain_vote(a)


@pytest.mark.parametrize(
    ("voxels", "winner"),
    [
        ([50, 40, 0, 0, 0, 0, 0, 0], 40),
        ([0, 0, 0, 3, 0, 0, 0, 0], 3),
        ([8, 9] * 4, 8),
        ([9, 9, 9, 9, 9, 8, 8, 8], 9),
        ([0] * 8, 0),
        ([1, 2, 3, 4, 5, 6, 7, 2**64 - 1], 1),
        ([0, 0, 0, 0, 0, 6, 5, 6], 6),
    ],
)
def test_votes_seen_on_the_reference_server(voxels: list[int], winner: int):
    assert downsample_labels(np.array(voxels, np.uint64).reshape(2, 2, 2)).item() == winner


def test_vote_leaves_its_input_alone():
    a = np.random.default_rng(0).integers(0, 3, (8, 8, 8), np.uint64)
    before = a.copy()
    out = downsample_labels(a)
    out[:] = 99
    assert (a == before).all()


@given(
    st.sampled_from([np.uint8, np.int8, np.uint16, np.uint32, np.int32, np.uint64, np.int64]).flatmap(
        lambda dtype: hnp.arrays(dtype, even)
    )
)
def test_mean_is_exact_and_rounds_halves_up(a: np.ndarray):
    out = downsample_gray(a)
    assert out.dtype == a.dtype
    assert (out == plain_mean(a)).all()


@given(hnp.arrays(np.float32, even, elements=st.floats(-1e6, 1e6, width=32)))
def test_mean_of_floats(a: np.ndarray):
    out = downsample_gray(a)
    assert out.dtype == np.float32
    for at, voxels in octets(a):
        exact = sum(Fraction(float(v)) for v in voxels.ravel()) / 8
        assert abs(Fraction(float(out[at])) - exact) <= abs(exact) / 2**23 + Fraction(1, 2**120)


def test_mean_keeps_channels_apart():
    a = np.zeros((2, 2, 2, 4), np.uint8)
    a[...] = [0, 10, 20, 255]
    a[0, 0, 0, 0] = 255
    assert downsample_gray(a).tolist() == [[[[32, 10, 20, 255]]]]


@pytest.mark.parametrize("halve", [downsample_labels, downsample_gray])
@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 2, 2), (2, 2)])
def test_odd_sides_are_refused(halve, shape: tuple[int, ...]):
    with pytest.raises(InvalidInputError):
        halve(np.zeros(shape, np.uint64))


def test_mean_of_what_has_no_mean():
    with pytest.raises(InvalidInputError):
        downsample_gray(np.zeros((2, 2, 2), np.bool_))


@given(hnp.arrays(np.uint64, st.tuples(*[st.integers(0, 5)] * 3), elements=labels))
def test_counts(a: np.ndarray):
    found, counts = count_labels(a)
    expected = Counter(int(v) for v in a.ravel() if v)
    assert found.dtype == np.uint64
    assert counts.dtype == np.uint32
    assert found.tolist() == sorted(expected)
    assert counts.tolist() == [expected[v] for v in sorted(expected)]


def test_counts_of_a_part_of_a_volume():
    a = np.random.default_rng(0).integers(0, 5, (16, 16, 16), np.uint64)
    a.setflags(write=False)
    part = a[2:9, 3:15:2, 1:8]
    found, counts = count_labels(part)
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == {
        label: int((part == label).sum()) for label in range(1, 5)
    }


@pytest.mark.parametrize("odd", [None, 0, 100, 511])
def test_a_volume_of_one_label_is_numbered_like_any_other(odd: int | None):
    volume = np.full((8, 8, 8), 2**63 + 5, np.uint64)
    if odd is not None:
        volume.reshape(-1)[odd] = 0
    index, labels = number_labels(volume)
    assert index.dtype == np.uint8
    assert sorted(labels.tolist()) == np.unique(volume).tolist()
    np.testing.assert_array_equal(labels[index], volume)
