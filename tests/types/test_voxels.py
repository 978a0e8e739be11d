"""What images and labels share: settings, extents and metadata."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ome_zarr_models.v05.multiscales import Multiscale

from vzarr.errors import InvalidInputError
from vzarr.types import voxels
from vzarr.types.voxels import VoxelGeometry


def _geometry(**config: str) -> VoxelGeometry:
    return VoxelGeometry.of(voxels.configure(config, block=32, scales=True))


def test_defaults_are_dvids():
    found = _geometry()
    assert found == VoxelGeometry((32,) * 3, (8.0,) * 3, ("nanometers",) * 3, 0)


def test_settings_are_xyz_and_arrays_zyx():
    found = _geometry(blocksize="32,16,8", voxelsize="4,8,40", voxelunits="microns,nm,angstroms")
    assert found.block_zyx == (8, 16, 32)
    assert found.voxel_zyx == (40.0, 8.0, 4.0)
    assert found.ome_units_zyx == ("angstrom", "nanometer", "micrometer")


def test_one_unit_counts_for_all_axes_and_unknown_ones_are_left_out_of_ome():
    assert _geometry(voxelunits="um").ome_units_zyx == ("micrometer",) * 3
    found = voxels.ome_attributes("g", _geometry(voxelunits="furlongs"))
    assert all("unit" not in axis for axis in found["ome"]["multiscales"][0]["axes"])


@pytest.mark.parametrize(
    "config",
    [
        {"blocksize": "a,b,c"},
        {"blocksize": "0,8,8"},
        {"blocksize": "2048,8,8"},
        {"blocksize": "24,16,16"},
        {"voxelsize": "x"},
        {"maxdownreslevel": "256"},
        {"maxdownreslevel": "x"},
    ],
)
def test_wrong_settings_are_refused(config: dict[str, str]):
    with pytest.raises(InvalidInputError):
        voxels.configure(config, block=64, multiple=16, scales=True)


def test_ome_metadata_are_valid_and_scales_share_their_corner():
    attributes = voxels.ome_attributes("seg", _geometry(voxelsize="4,8,40", maxdownreslevel="2"))
    scales = Multiscale.model_validate(attributes["ome"]["multiscales"][0])
    assert [d.path for d in scales.datasets] == ["0", "1", "2"]
    for level, dataset in enumerate(attributes["ome"]["multiscales"][0]["datasets"]):
        scale, *shift = dataset["coordinateTransformations"]
        assert scale["scale"] == [40 * 2**level, 8 * 2**level, 4 * 2**level]
        centre = shift[0]["translation"] if shift else [0, 0, 0]
        corners = [c - s / 2 for c, s in zip(centre, scale["scale"], strict=True)]
        assert corners == [-20, -4, -2]


@given(st.tuples(*[st.integers(-1000, 1000)] * 3), st.tuples(*[st.integers(1, 1000)] * 3))
def test_extents_go_through_json(lo: tuple[int, ...], shape: tuple[int, ...]):
    box = (lo, tuple(a + n for a, n in zip(lo, shape, strict=True)))
    assert voxels.extents_from_json(voxels.extents_json(box)) == box


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"MinPoint": [0, 0, 0]},
        {"MinPoint": [0, 0], "MaxPoint": [1, 1]},
        {"MinPoint": [0, 0, 0.5], "MaxPoint": [1, 1, 1]},
        {"MinPoint": [True, 0, 0], "MaxPoint": [1, 1, 1]},
        {"MinPoint": [5, 0, 0], "MaxPoint": [4, 1, 1]},
    ],
)
def test_other_extents_are_refused(value: object):
    with pytest.raises(InvalidInputError):
        voxels.extents_from_json(value)


def test_metadata_of_an_empty_volume():
    extended = {"MinPoint": None, "MaxPoint": None, "VoxelSize": [8], "VoxelUnits": ["nm"]}
    axes = voxels.metadata_json(extended)["Axes"]
    assert axes[2] == {"Label": "Z", "Resolution": 8, "Units": "nm", "Size": 0, "Offset": 0}
