"""Arrays that are made smaller, or moved, on any side: per version, and older ones stay as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.errors import InvalidInputError, NotFoundError, SealedError

ALL = np.arange(1, 145, dtype="u2").reshape(12, 12)


@pytest.fixture
def version(version: vzarr.Version) -> vzarr.Version:
    """An open version with a full array of three by three chunks from voxel -4 on."""
    version.create_array("a", dtype="u2", chunks=(4, 4), dimension_names=None)
    version.write("a", (-4, -4), ALL)
    return version


@pytest.mark.parametrize("inherited", [False, True])
@pytest.mark.parametrize(
    ("lo", "hi"),
    [
        ((0, -4), (8, 8)),
        ((-4, 0), (8, 4)),
        ((0, 0), (4, 4)),
        ((-8, -4), (0, 12)),
        ((4, 4), (4, 4)),
        ((20, 20), (24, 24)),
    ],
)
def test_an_array_is_cut_on_any_side(version: vzarr.Version, lo: tuple, hi: tuple, inherited: bool):
    if inherited:
        version = version.commit().newversion()
    held = {tuple(c) for c in version.chunk_coords("a").tolist()}
    version.resize("a", lo, hi)
    whole = np.zeros((40, 40), "u2")
    whole[6:18, 6:18] = ALL
    for found in (version, version.commit(), version.newversion()):
        assert found.zarr["a"].shape == tuple(b - a for a, b in zip(lo, hi, strict=True))
        assert np.array_equal(found.zarr["a"][...], whole[lo[0] + 10 : hi[0] + 10, lo[1] + 10 : hi[1] + 10])
        left = {tuple(c) for c in found.chunk_coords("a").tolist()}
        assert left == {c for c in held if all(a // 4 <= n < b // 4 for n, a, b in zip(c, lo, hi, strict=True))}
    found.grow("a", (40, 40), (40, 40))
    assert found.zarr["a"][...].sum() == whole[lo[0] + 10 : hi[0] + 10, lo[1] + 10 : hi[1] + 10].sum()
    if inherited:
        before = version.parents[0]
        assert before.bounds("a") == ((-4, -4), (8, 8))
        assert np.array_equal(before.zarr["a"][...], ALL)


def test_a_part_of_a_chunk_stays_as_zarr_leaves_it(version: vzarr.Version):
    version.resize("a", (-4, -4), (3, 5))
    assert np.array_equal(version.zarr["a"][...], ALL[:7, :9])
    assert len(version.chunk_coords("a")) == 6


def test_boxes_that_cannot_be(version: vzarr.Version):
    before = version.bounds("a"), version.chunk_coords("a").tolist()
    for lo, hi in [((1, 0), (8, 8)), ((0, 0), (-4, 4)), ((0,), (4,)), ((0, 0, 0), (4, 4, 4))]:
        with pytest.raises(InvalidInputError):
            version.resize("a", lo, hi)
    for more in [((-1, 0), (0, 0)), ((0, 0), (0, -4)), ((0,), (0,))]:
        with pytest.raises(InvalidInputError):
            version.grow("a", *more)
    with pytest.raises(NotFoundError):
        version.resize("b", (0, 0), (4, 4))
    assert (version.bounds("a"), version.chunk_coords("a").tolist()) == before
    with pytest.raises(SealedError):
        version.commit().resize("a", (0, 0), (4, 4))


def test_handles_of_another_size_see_what_is_left(version: vzarr.Version):
    before = version.zarr["a"]
    version.resize("a", (0, 0), (8, 8))
    assert before[...].sum() == ALL[4:, 4:].sum()
    before.attrs["said"] = 1
    assert version.bounds("a") == ((0, 0), (8, 8))


def test_an_adopted_array_is_cut(tmp_path: Path, file_repo: vzarr.Repo):
    zarr.create_array(tmp_path / "source", shape=(8,), chunks=(2,), dtype="u1", compressors=None)[:] = 5
    file_repo.adopt("em", str(tmp_path / "source"), typename="zarr")
    version = file_repo.root
    for _ in range(2):
        version.resize("em/0", (2,), (6,))
        version.grow("em/0", (2,), (2,))
        assert version.zarr["em/0"][:].tolist() == [0, 0, 5, 5, 5, 5, 0, 0]
        version = version.commit().newversion()


def test_metadata_of_another_kind_make_an_array_anew(version: vzarr.Version):
    version.create_array("b", dtype="u1", chunks=(3, 3), shape=(6, 6), fill_value=2, dimension_names=None)
    version.store.write("a/zarr.json", version.store.read("b/zarr.json")[0])
    assert version.bounds("a") == ((0, 0), (6, 6))
    assert (version.zarr["a"][...] == 2).all()
    assert (version.commit().zarr["a"][...] == 2).all()
