"""Small helpers for declaring routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

F = TypeVar("F", bound=Callable[..., Any])

MUTATING = frozenset({"POST", "PUT", "DELETE"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_EXEMPT = "_vzarr_allowed_when_sealed"
_SHORT = "_vzarr_short"
_BRIEF = "_vzarr_brief"


def read(router: APIRouter, path: str, **options: Any) -> Callable[[F], F]:
    """Register a route for GET and for HEAD, which a web framework does not add by itself.

    Use as ``@read(router, "/keys")``.
    """

    def register(endpoint: F) -> F:
        router.add_api_route(path, endpoint, methods=["GET"], **options)
        twin = copy(router.routes[-1])  # making it anew would cost as much again, at every start
        assert isinstance(twin, APIRoute)
        twin.methods, twin.include_in_schema = {"HEAD"}, False
        router.routes.append(twin)
        return endpoint

    return register


def flat(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """Routes of ours among `routes`, those of included routers too."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (included := getattr(route, "original_router", None)) is not None:
            yield from flat(included.routes)


def keywords(router: APIRouter) -> frozenset[str]:
    """First segments of the paths of `router`."""
    return frozenset(route.path.split("/")[1] for route in flat(router.routes))


def allowed_when_sealed(endpoint: F) -> F:
    """Mark a route whose POST changes no version (a query with a body): sealed versions answer it too."""
    setattr(endpoint, _EXEMPT, True)
    return endpoint


def short(endpoint: F) -> F:
    """Mark a route whose answer mostly is a look-up: it is tried on the event loop first (`vzarr.types.atonce`)."""
    setattr(endpoint, _SHORT, True)
    return endpoint


def is_short(endpoint: Callable[..., Any]) -> bool:
    """Whether a route is marked by `short`."""
    return getattr(endpoint, _SHORT, False)


def brief(endpoint: F) -> F:
    """Mark a route whose change mostly is brief: one at a time is made (`vzarr.api.lane`)."""
    setattr(endpoint, _BRIEF, True)
    return endpoint


def is_brief(endpoint: Callable[..., Any]) -> bool:
    """Whether a route is marked by `brief`."""
    return getattr(endpoint, _BRIEF, False)


def exempt_keywords(router: APIRouter) -> frozenset[str]:
    """Keywords of the routes of `router` that are marked by `allowed_when_sealed`."""
    marked = (route for route in flat(router.routes) if getattr(route.endpoint, _EXEMPT, False))
    return frozenset(route.path.split("/")[1] for route in marked)


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """Methods that some route answers on the path of `scope`."""
    found = list(routes)
    return [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in found)
    ]
