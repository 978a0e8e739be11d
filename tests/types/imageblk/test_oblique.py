"""Slices in any direction, against volumes whose values are known between voxels too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types.imageblk import oblique
from vzarr.types.imageblk.oblique import Plane

POINT = st.tuples(*[st.floats(-40, 40)] * 3)


@given(POINT, POINT, POINT, st.floats(0.5, 20))
def test_a_linear_volume_is_interpolated_exactly(a, b, c, resolution: float):
    plane = Plane(a, b, c, resolution)
    points = plane.points((2.0, 1.0, 4.0))
    assert points.shape == (*plane.shape, 3)
    lo, hi = oblique.bounds(points)
    z, y, x = np.meshgrid(*[np.arange(s, e) for s, e in zip(lo, hi, strict=True)], indexing="ij")
    volume = 3.0 * z - 2.0 * y + 0.5 * x + 7
    expected = points @ [3.0, -2.0, 0.5] + 7
    np.testing.assert_allclose(oblique.trilinear(volume, lo, points), expected, atol=1e-9)


def test_whole_coordinates_give_the_voxels_themselves():
    volume = np.random.default_rng(0).integers(0, 256, (8, 8, 8), "u1")
    plane = Plane((16.0, 8.0, 8.0), (16.0, 8.0, 40.0), (16.0, 40.0, 8.0), 8.0)
    points = plane.points((8.0, 8.0, 8.0))
    lo, hi = oblique.bounds(points)
    box = volume[tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))]
    np.testing.assert_array_equal(oblique.trilinear(box, lo, points), volume[2, 1:6, 1:6])


@pytest.mark.parametrize("resolution", [0.0, -1.0, float("nan"), float("inf")])
def test_a_resolution_that_is_none_is_refused(resolution: float):
    with pytest.raises(InvalidInputError):
        Plane((0.0,) * 3, (1.0, 0, 0), (0, 1.0, 0), resolution)
