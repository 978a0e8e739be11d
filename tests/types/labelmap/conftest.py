"""Small labelmaps in memory, and what a dense array says about them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import vzarr
from vzarr.types import registry
from vzarr.types.labelmap.handle import LabelMap

BLOCK = 16


def blobs(seed: int, blocks: tuple[int, int, int], labels: int) -> np.ndarray:
    """Random labels from 0 on in cells of 4^3 voxels; shape is a number of blocks per axis (zyx)."""
    cells = [n * BLOCK // 4 for n in blocks]
    coarse = np.random.default_rng(seed).integers(0, labels, cells)
    return np.kron(coarse, np.ones((4, 4, 4), np.int64)).astype(np.uint64)


@pytest.fixture
def make(repo: vzarr.Repo) -> Callable[..., LabelMap]:
    """Make a labelmap of blocks of 16^3 and two coarser scales at the root."""

    def make(name: str = "seg", **settings: str) -> LabelMap:
        config = {"BlockSize": "16,16,16", "MaxDownresLevel": "2", **settings}
        handle = registry.create(repo.root, name, "labelmap", config=config)
        assert isinstance(handle, LabelMap)
        return handle

    return make


@pytest.fixture
def volume() -> np.ndarray:
    """Labels 0 to 9 in 2 x 2 x 3 blocks."""
    return blobs(1, (2, 2, 3), 10)


@pytest.fixture
def seg(make: Callable[..., LabelMap], volume: np.ndarray) -> LabelMap:
    """A labelmap that holds `volume` from (-16, 0, 16) on."""
    handle = make()
    handle.write((-16, 0, 16), volume)
    return handle
