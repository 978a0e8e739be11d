"""What the peers' suites expect of the pytest that runs them, and which of their cases run when."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.skips import CANNOT_APPLY, waits

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Know the marks that xarray's tests carry."""
    config.addinivalue_line("markers", "skip_if_param(reason, condition, **params): xarray's own")
    for mark in ("flaky", "network", "skip_with_dask_array"):
        config.addinivalue_line("markers", f"{mark}: xarray's own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what cannot apply, and what waits for `make test-all`."""
    for item in items:
        if item.path.is_relative_to(HERE):
            case = f"{item.path.name}::{item.nodeid.partition('::')[2]}"
            if case in CANNOT_APPLY:
                item.add_marker(pytest.mark.skip(reason=CANNOT_APPLY[case]))
            if waits(case):
                item.add_marker(pytest.mark.exhaustive)
            _skip_by_parameters(item)


def _skip_by_parameters(item: pytest.Item) -> None:
    """Do as xarray's own conftest does with ``skip_if_param``: skip the case that has all the named parameters."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    for mark in item.iter_markers("skip_if_param"):
        options = dict(mark.kwargs)
        reason, condition = options.pop("reason"), options.pop("condition", True)
        if condition and all(given.get(name) == value for name, value in options.items()):
            item.add_marker(pytest.mark.skip(reason=reason))
