"""The coverage page says what is there: it is up to date, and it and the routes know the same endpoints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import coverage
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings

PLACE = re.compile(r"(/api/node/{uuid}/){(\w+)}(/.*)")


def pattern(path: str) -> re.Pattern[str]:
    """Matches what a route of the OpenAPI document answers; a datatype stands for its instances' names."""
    named = PLACE.sub(r"\1\2\3", path.rstrip("/"))
    return re.compile(re.sub(r"{\w+}", "[^/]+", re.sub(r"{\w+}$", ".+", named)))


def examples(endpoint: coverage.Endpoint) -> set[str]:
    """Paths that an endpoint may be asked by, at an instance of each type, or of any."""
    named = {path.replace("{instance}", name) for path in endpoint.paths for name in (*endpoint.types, "instance")}
    return {re.sub(r"{\w+}", "x", path) for path in named}


Route = tuple[str, re.Pattern[str]]


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Route]:
    app = create_app(Settings(), Hub(tmp_path_factory.mktemp("root")))
    paths = app.framework.openapi()["paths"]
    return {
        f"{method.upper()} {path}": (method.upper(), pattern(path))
        for path, methods in paths.items()
        for method in methods
    }


def answers(route: Route, endpoint: coverage.Endpoint) -> bool:
    method, path = route
    # Whatever answers GET answers HEAD; the OpenAPI document lists only those that are declared apart.
    same = method == endpoint.method or {method, endpoint.method} == {"HEAD", "GET"}
    return same and any(map(path.fullmatch, examples(endpoint)))


def test_the_page_is_up_to_date():
    assert coverage.main(["--check"]) == 0, "run `make coverage`"


def test_what_is_done_has_a_route(routed: dict[str, Route]):
    # What is mounted beside the contract (section "-") is in no OpenAPI document.
    there = [e for e in coverage.endpoints() if e.status != "not yet" and e.section != "-"]
    assert not [f"{e.group}: {e.text}" for e in there if not any(answers(r, e) for r in routed.values())]


def test_every_route_is_listed_and_shown_to_work(routed: dict[str, Route]):
    there = [e for e in coverage.endpoints() if e.status != "not yet"]
    assert not [name for name, route in routed.items() if not any(answers(route, e) for e in there)]


def test_what_is_not_there_yet_says_why():
    assert not [f"{e.group}: {e.text}" for e in coverage.endpoints() if e.status == "not yet" and not e.later]


def test_every_test_that_is_named_exists():
    root = Path(__file__).parents[2]
    for endpoint in coverage.endpoints():
        for test in endpoint.tests:
            file, _, name = test.partition("::")
            if name:
                assert f"def {name}(" in (root / file).read_text(), f"{endpoint.text} names {test}"
