"""xarray's own tests of its Zarr backend, on stores of versions: an open root, and the tip of a history."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import xarray as xr
from xarray.tests import conftest as theirs
from xarray.tests import test_backends

import vzarr
from vzarr import VersionStore

pytestmark = pytest.mark.filterwarnings("ignore")  # xarray's tests warn where xarray's own settings let them

time_unit, use_dask = theirs.time_unit, theirs.use_dask
default_zarr_format = test_backends.default_zarr_format


class TestRoot(test_backends.ZarrBase):
    """An open root, edited in place."""

    @contextmanager
    def create_zarr_target(self) -> Iterator[VersionStore]:
        with vzarr.create(f"memory://{uuid.uuid4().hex}") as repo:
            repo.root.store.delete_sync("zarr.json")  # the tests make the root group themselves
            yield repo.root.store


class TestInherited(TestRoot):
    """Between writing and reading, and between two writes, the store's version is committed twice."""

    def save(self, dataset: xr.Dataset, store_target: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        _move_on(store_target)
        return super().save(dataset, store_target, **kwargs)

    @contextmanager
    def open(self, path: Any, **kwargs: Any) -> Iterator[xr.Dataset]:
        _move_on(path)
        with super().open(path, **kwargs) as dataset:
            yield dataset


def _move_on(store: Any) -> None:
    """Make a store that of the open tip two commits later."""
    if isinstance(store, VersionStore):
        for _ in range(2):
            store.version = store.version.commit().newversion()
