"""zarr's own hypothesis machines, with commits, branches and reopenings between their steps."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest
import zarr
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule, run_state_machine_as_test
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine

import vzarr
from vzarr import VersionStore

MANY = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SETTINGS = settings(
    max_examples=200 if MANY else 12,
    stateful_step_count=40 if MANY else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _child(store: VersionStore) -> VersionStore:
    """Store of an open child of the version, which is sealed for that."""
    return store.version.commit().newversion().store


def _branch(store: VersionStore) -> VersionStore:
    """Store of the first version of a new branch."""
    return store.version.commit().branch(uuid.uuid4().hex).store


def _reopened(store: VersionStore) -> VersionStore:
    """The same version through a repo that is opened anew."""
    store.version.repo.close()
    return vzarr.open(store.version.url)[store.version.uuid].store


def _at_depth(url: str, depth: int) -> VersionStore:
    store = vzarr.create(url).root.store
    for _ in range(depth):
        store = _child(store)
    return store


class Hierarchy(ZarrHierarchyStateMachine):
    """Groups and arrays; history goes on between the steps, and nothing may change by that."""

    @rule()
    def commit(self) -> None:
        self.store = _child(self.store)

    @rule()
    def branch(self) -> None:
        self.store = _branch(self.store)

    @rule()
    def reopen(self) -> None:
        self.store = _reopened(self.store)


class Keys(ZarrStoreStateMachine):
    """Any keys with any bytes."""

    @rule()
    def commit(self) -> None:
        self.store.store = _child(self.store.store)

    @rule()
    def branch(self) -> None:
        self.store.store = _branch(self.store.store)

    @rule()
    def reopen(self) -> None:
        self.store.store = _reopened(self.store.store)


def _run(machine: type[Any], url: str, depth: int) -> None:
    class Fresh(machine):  # type: ignore[misc]
        """Each example has a repo of its own."""

        def __init__(self) -> None:
            super().__init__(_at_depth(f"{url}/{uuid.uuid4().hex}", depth))

        def teardown(self) -> None:
            store = self.store if isinstance(self.store, VersionStore) else self.store.store
            store.version.repo.close()

    run_state_machine_as_test(Fresh, settings=SETTINGS)


@pytest.fixture(params=["memory", "files"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where repos can be made."""
    return "memory://machines" if request.param == "memory" else f"file://{tmp_path}"


@pytest.mark.slow
@pytest.mark.timeout(7200 if MANY else 300)
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning", "ignore::RuntimeWarning")
def test_hierarchies(url: str, depth: int):
    options = {"array.rectilinear_chunks": True} if "rectilinear_chunks" in zarr.config.get("array") else {}
    with zarr.config.set(options):
        _run(Hierarchy, url, depth)


@pytest.mark.slow
@pytest.mark.timeout(7200 if MANY else 300)
@pytest.mark.parametrize("depth", [0, 2])
def test_any_keys(url: str, depth: int):
    _run(Keys, url, depth)
