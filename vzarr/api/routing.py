"""Small helpers for declaring routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

F = TypeVar("F", bound=Callable[..., Any])

MUTATING = frozenset({"POST", "PUT", "DELETE"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_EXEMPT = "_vzarr_allowed_when_sealed"


def read(router: APIRouter, path: str, **options: Any) -> Callable[[F], F]:
    """Register a route for GET and for HEAD, which a web framework does not add by itself.

    Use as ``@read(router, "/keys")``.
    """

    def register(endpoint: F) -> F:
        router.add_api_route(path, endpoint, methods=["GET", "HEAD"], **options)
        return endpoint

    return register


def allowed_when_sealed(endpoint: F) -> F:
    """Mark a route whose POST changes no version (a query with a body): sealed versions answer it too."""
    setattr(endpoint, _EXEMPT, True)
    return endpoint


def exempt_keywords(router: APIRouter) -> frozenset[str]:
    """Keywords of the routes of `router` that are marked by `allowed_when_sealed`."""
    return frozenset(
        route.path.split("/")[1]  # type: ignore[attr-defined]
        for route in router.routes
        if getattr(getattr(route, "endpoint", None), _EXEMPT, False)
    )


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """Methods that some route answers on the path of `scope`."""
    found = list(routes)
    return [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in found)
    ]
