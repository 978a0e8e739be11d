"""The nearest voxels of two bodies, against all pairs of voxels."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from tests.types.labelmap.conftest import blobs
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types import registry
from vzarr.types.labelmap import proximity, rows
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.rows import Header


def least(volume: np.ndarray, a: int, b: int) -> float:
    p, q = np.argwhere(volume == a), np.argwhere(volume == b)
    return min(float(np.sqrt(((q - point) ** 2).sum(1).min())) for point in p)


def check(seg: LabelMap, volume: np.ndarray, lo: tuple[int, int, int], a: int, b: int):
    found = proximity.nearest(seg, a, b)
    assert found.distance == pytest.approx(least(volume, a, b))
    assert found.distance == pytest.approx(np.linalg.norm(np.subtract(found.a, found.b)))
    assert volume[tuple(np.subtract(found.a, lo))] == a
    assert volume[tuple(np.subtract(found.b, lo))] == b


def test_scattered_bodies(seg: LabelMap, volume: np.ndarray):
    for b in range(2, 10):
        check(seg, volume, (-16, 0, 16), 1, b)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    few=st.integers(1, 6),
)
def test_a_few_voxels_far_apart(seed: int, shape: tuple[int, int, int], few: int):
    rng = np.random.default_rng(seed)
    volume = np.zeros([16 * n for n in shape], np.uint64)
    for label in (1, 2):
        points = rng.integers(0, volume.shape, (few, 3))
        volume[tuple(points.T)] = label
    volume[0, 0, 0], volume[-1, -1, -1] = 1, 2
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
        config = {"BlockSize": "16,16,16"}
        handle = registry.create(repo.root, "seg", "labelmap", config=config)
        assert isinstance(handle, LabelMap)
        lo = (-32, 16, -16)
        handle.write(lo, volume)
        check(handle, volume, lo, 1, 2)


def test_bodies_of_several_supervoxels_and_solid_blocks(make: Callable[..., LabelMap]):
    seg = make()
    volume = np.zeros((16, 16, 160), np.uint64)
    volume[:, :, :32], volume[3:9, 4, 100:110], volume[0, 0, 150] = 1, 2, 3
    seg.write((0, 0, 0), volume)
    assert proximity.nearest(seg, 1, 3).distance == 119
    seg.merge(3, [2])
    found = proximity.nearest(seg, 1, 3)
    assert (found.distance, found.a[2], found.b[2]) == (69, 31, 100)
    assert proximity.nearest(seg, 3, 1).distance == found.distance


def test_what_has_no_distance(seg: LabelMap):
    with pytest.raises(InvalidInputError, match="itself"):
        proximity.nearest(seg, 1, 1)
    with pytest.raises(NotFoundError, match="777"):
        proximity.nearest(seg, 1, 777)
    counts = seg.keys.get(rows.index_key(1, 1))
    seg.transact(
        lambda tx: (tx.put(rows.header_key(900), Header(1).encode()), tx.put(rows.index_key(900, 900), counts))
    )
    with pytest.raises(NotFoundError, match="no voxel that is there"):
        proximity.nearest(seg, 1, 900)


def test_it_is_quick_on_long_neighbours(make: Callable[..., LabelMap]):
    seg = make()
    volume = np.zeros((32, 32, 1600), np.uint64)
    volume[:, :14], volume[:, 20:] = 1, 2
    volume[5, 18, 1500] = 2
    seg.write((0, 0, 0), volume)
    assert proximity.nearest(seg, 1, 2) == (5.0, (5, 13, 1500), (5, 18, 1500))


def test_labels_in_every_block(make: Callable[..., LabelMap]):
    seg, volume = make(), blobs(3, (3, 3, 3), 40)
    seg.write((0, 0, 0), volume)
    for a, b in ((1, 2), (5, 30), (39, 3)):
        check(seg, volume, (0, 0, 0), a, b)
