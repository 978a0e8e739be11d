"""Image instances against a plain array: regions, blocks, versions, extents, resolution."""

from __future__ import annotations

import struct
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.errors import InvalidInputError, SealedError
from vzarr.types import registry, voxels
from vzarr.types.imageblk import ImageBlk

BLOCK_ZYX = (2, 4, 8)
MODEL_LO = (-8, -8, -16)
MODEL_SHAPE = (24, 24, 48)


@pytest.fixture
def repo():
    made = vzarr.create(f"memory://{uuid.uuid4().hex}")
    yield made
    made.close()


def _create(version, **config: str) -> ImageBlk:
    return registry.create(version, "gray", "uint8blk", config={"BlockSize": "8,4,2", **config})


def _open(version) -> ImageBlk:
    return registry.open_instance(version, "gray")


def _volume(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, shape, "u1")


def _in_model(lo, shape) -> tuple[slice, ...]:
    return tuple(slice(a - m, a - m + n) for a, m, n in zip(lo, MODEL_LO, shape, strict=True))


WRITES = st.lists(
    st.tuples(
        st.tuples(st.integers(-4, 3), st.integers(-2, 1), st.integers(-2, 1)),
        st.tuples(*[st.integers(1, 3)] * 3),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=25)
@given(WRITES, st.integers(0, 255))
def test_reads_agree_with_a_plain_array_in_every_version(writes, background: int):
    repo = vzarr.create(f"memory://{uuid.uuid4().hex}")
    _create(repo.root, Background=str(background))
    version, model, past = repo.root, np.full(MODEL_SHAPE, background, "u1"), []
    for n, (block, count, seal) in enumerate(writes):
        lo = tuple(b * e for b, e in zip(block, BLOCK_ZYX, strict=True))
        voxels_ = _volume([c * e for c, e in zip(count, BLOCK_ZYX, strict=True)], n)
        _open(version).write(lo, voxels_)
        model[_in_model(lo, voxels_.shape)] = voxels_
        if seal:
            version.commit()
            past.append((version, model.copy()))
            version = version.newversion()
    hi = tuple(a + n for a, n in zip(MODEL_LO, MODEL_SHAPE, strict=True))
    for at, expected in [*past, (version, model)]:
        np.testing.assert_array_equal(_open(at).read(MODEL_LO, hi), expected)
        np.testing.assert_array_equal(_open(at).read((-3, -1, -5), (5, 6, 7)), expected[5:13, 7:14, 11:23])
    repo.close()


def test_unwritten_blocks_may_be_given_another_value_than_the_background(repo):
    gray = _create(repo.root, Background="7")
    written = np.full(BLOCK_ZYX, 7, "u1")
    gray.write((0, 0, 8), written)
    np.testing.assert_array_equal(gray.read((0, 0, 0), (2, 4, 16)), np.full((2, 4, 16), 7))
    found = gray.read((0, 0, 6), (2, 4, 16), unwritten=0)
    np.testing.assert_array_equal(found[:, :, 2:], written)
    np.testing.assert_array_equal(found[:, :, :2], 0)


def test_only_whole_blocks_are_written(repo):
    gray = _create(repo.root)
    with pytest.raises(InvalidInputError, match=r"non-block aligned geometry \(1,0,0\) -> \(8,3,1\)"):
        gray.write((0, 0, 1), _volume(BLOCK_ZYX))
    with pytest.raises(InvalidInputError, match="non-block aligned"):
        gray.write((0, 0, 0), _volume((2, 4, 7)))
    box = ((0, 0, 0), BLOCK_ZYX)
    for size in (0, 63, 65):
        with pytest.raises(InvalidInputError, match=f"got {size}"):
            gray.write_bytes(box, bytes(size))
    assert gray.written_blocks() == []
    assert voxels.read_extents(gray) is None


def test_rows_of_blocks(repo):
    gray = _create(repo.root, Background="9")
    row = _volume((3, *BLOCK_ZYX))
    gray.write_row((0, 1, 2), 3, row.tobytes())
    np.testing.assert_array_equal(gray.read_row((0, 1, 2), 3), row)
    np.testing.assert_array_equal(gray.read_row((0, 1, 4), 2), [row[2], np.full(BLOCK_ZYX, 9)])
    np.testing.assert_array_equal(gray.read((0, 4, 16), (2, 8, 24)), row[0])
    assert voxels.read_extents(gray) is None
    with pytest.raises(InvalidInputError, match="ceased"):
        gray.write_row((0, 0, 0), 2, bytes(64))
    with pytest.raises(InvalidInputError, match="128 bytes, got 129"):
        gray.write_row((0, 0, 0), 2, bytes(129))


def test_streams_hold_the_written_blocks_and_no_others(repo):
    gray = _create(repo.root)
    volume = _volume((4, 4, 8))
    gray.write((-2, 0, 0), volume)
    body = b"".join(gray.block_stream([(0, 0, 0), (5, 5, 5), (-1, 0, 0)], "uncompressed"))
    found = {}
    while body:
        x, y, z, n = struct.unpack_from("<4i", body)
        found[z, y, x], body = body[16 : 16 + n], body[16 + n :]
    assert found == {(-1, 0, 0): volume[:2].tobytes(), (0, 0, 0): volume[2:].tobytes()}
    assert sorted(gray.box_blocks(((-4, 0, 0), (0, 4, 8)))) == [(-1, 0, 0)]
    with pytest.raises(InvalidInputError, match="non-block aligned"):
        gray.box_blocks(((0, 0, 0), (2, 4, 7)))
    with pytest.raises(InvalidInputError, match="compression"):
        gray.block_stream([], "gzip")


def test_extents_grow_by_versions_and_can_be_replaced(repo):
    gray = _create(repo.root)
    gray.write((0, 0, 0), _volume(BLOCK_ZYX))
    gray.write((-2, 4, 8), _volume(BLOCK_ZYX))
    extended = gray.info_json()["Extended"]
    assert (extended["MinPoint"], extended["MaxPoint"]) == ([0, 0, -2], [15, 7, 1])
    assert (extended["MinIndex"], extended["MaxIndex"]) == ([0, 0, -1], [1, 1, 0])
    repo.root.commit()
    child = repo.root.newversion()
    voxels.set_extents(_open(child), ((0, 0, 0), (1, 1, 1)))
    assert voxels.read_extents(_open(child)) == ((0, 0, 0), (1, 1, 1))
    assert voxels.read_extents(_open(repo.root)) == ((-2, 0, 0), (2, 8, 16))


def test_extents_that_grew_on_both_sides_of_a_merge_are_joined(repo):
    _create(repo.root)
    repo.root.commit()
    left, right = repo.root.newversion(), repo.root.branch("right")
    _open(left).write((0, 0, 0), _volume(BLOCK_ZYX))
    _open(right).write((4, 0, 0), _volume(BLOCK_ZYX))
    left.commit()
    right.commit()
    merged = repo.merge([left, right])
    assert voxels.read_extents(_open(merged)) == ((0, 0, 0), (6, 4, 8))
    _open(merged).write((6, 0, 0), _volume(BLOCK_ZYX))
    assert voxels.read_extents(_open(merged)) == ((0, 0, 0), (8, 4, 8))


def test_the_resolution_belongs_to_all_versions(repo):
    gray = _create(repo.root)
    repo.root.commit()
    child = repo.root.newversion()
    gray.resized([4, 4, 40.5])
    assert _open(child).info_json()["Extended"]["VoxelSize"] == [4, 4, 40.5]
    _open(child).resized([5, 6, 7])
    assert _open(repo.root).geometry.voxel_zyx == (7, 6, 5)
    scale = child.zarr["gray"].attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]
    assert scale == {"type": "scale", "scale": [7, 6, 5]}
    for bad in (None, [], ["1", "2", "3"], [1, 2, 3, 4], [0, 1, 1], [True, 1, 1]):
        with pytest.raises(InvalidInputError):
            gray.resized(bad)


def test_isotropic_reads_repeat_the_coarse_axis(repo):
    gray = _create(repo.root, VoxelSize="4,4,12")
    volume = _volume((8, 8, 16))
    gray.write((0, 0, 0), volume)
    found = gray.read_isotropic((1, 2, 3), (6, 2, 5))
    np.testing.assert_array_equal(found, volume[[1, 1, 1, 2, 2, 2]][:, 2:4, 3:8])


def test_an_instance_seen_from_beside_its_version(repo):
    repo.root.commit()
    left, right = repo.root.newversion(), repo.root.branch("right")
    _create(left, Background="3")
    other = _open(right)
    assert (other.read((0, 0, 0), (1, 1, 2)) == 3).all()
    assert list(other.block_stream([(0, 0, 0)])) == []
    other.write((0, 0, 0), _volume(BLOCK_ZYX))
    np.testing.assert_array_equal(other.read((0, 0, 0), BLOCK_ZYX), _volume(BLOCK_ZYX))


def test_a_sealed_version_takes_no_voxels(repo):
    gray = _create(repo.root)
    gray.write((0, 0, 0), _volume(BLOCK_ZYX))
    repo.root.commit()
    with pytest.raises(SealedError):
        gray.write((0, 0, 0), _volume(BLOCK_ZYX, 1))
    np.testing.assert_array_equal(gray.read((0, 0, 0), BLOCK_ZYX), _volume(BLOCK_ZYX))


def test_the_array_is_plain_zarr(repo):
    _create(repo.root, Background="5").write((0, 0, 0), _volume(BLOCK_ZYX))
    array = repo.root.zarr["gray/0"]
    assert (array.chunks, array.fill_value, array.dtype) == (BLOCK_ZYX, 5, np.dtype("u1"))
    np.testing.assert_array_equal(array[:], _volume(BLOCK_ZYX))
