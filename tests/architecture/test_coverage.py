"""The coverage page says what is there: it is up to date, and it and the routes know the same endpoints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import coverage
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings

SHARED = "instance"  # how the OpenAPI document names the place of an instance of any type


def plain(method: str, path: str) -> str:
    """Endpoint with its parameters nameless, but for the place of the instance, which tells the datatype."""
    head, place, rest = re.fullmatch(r"(/api/node/{uuid}/)?({\w+}(?=/|$))?(.*)", path).groups()
    return f"{method} {head or ''}{place or ''}" + re.sub(r"{\w+(:\w+)?}", "{}", rest)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    app = create_app(Settings(), Hub(tmp_path_factory.mktemp("root")))
    paths = app.openapi()["paths"]
    return {plain(method.upper(), path) for path, methods in paths.items() for method in methods}


def listed(endpoint: coverage.Endpoint) -> set[str]:
    """What the OpenAPI document calls an endpoint, for each datatype that may hold its route."""
    names = (*endpoint.types, SHARED)
    return {
        plain(endpoint.method, path.replace("{instance}", f"{{{name}}}")) for path in endpoint.paths for name in names
    }


def test_the_page_is_up_to_date():
    assert coverage.main(["--check"]) == 0, "run `make coverage`"


def test_what_is_done_has_a_route(routed: set[str]):
    missing = [
        f"{endpoint.group}: {endpoint.text}"
        for endpoint in coverage.endpoints()
        if endpoint.status != "not yet" and not listed(endpoint) & routed
    ]
    assert not missing


def test_every_route_is_listed_and_shown_to_work(routed: set[str]):
    shown = set().union(*(listed(e) for e in coverage.endpoints() if e.status != "not yet"))
    heads = {name.replace("GET ", "HEAD ", 1) for name in shown if name.startswith("GET ")}
    assert not sorted(routed - shown - heads)


def test_what_is_not_there_yet_says_why():
    assert not [f"{e.group}: {e.text}" for e in coverage.endpoints() if e.status == "not yet" and not e.later]


def test_every_test_that_is_named_exists():
    root = Path(__file__).parents[2]
    for endpoint in coverage.endpoints():
        for test in endpoint.tests:
            file, _, name = test.partition("::")
            if name:
                assert f"def {name}(" in (root / file).read_text(), f"{endpoint.text} names {test}"
