"""How a route is called without the web framework: a plan, made once from the signatures of its functions.

The endpoint functions and their dependencies are those that the framework knows; what a plan calls them with is what
the framework would.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from fastapi import params as fastapi_params
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope

from vzarr.api import deps, wire
from vzarr.api.dispatch import entered, routes_of
from vzarr.api.received import Body
from vzarr.api.routing import flat, is_short
from vzarr.api.target import Target

MOUNT = "/api/node"
_NO_QUERY: Mapping[str, str] = {}
_UNKNOWN = object()


class UnplannableError(Exception):
    """A route asks for something that only the framework can give."""


class Asked:
    """One request to an instance, and what was found out about it already.

    Parameters
    ----------
    scope
        Of the request, as the server gave it.
    ref
        Names the version in its path.
    target
        What that and the instance's name were found to be.
    path
        Parameters in the path by name.
    """

    __slots__ = ("_query", "body", "path", "ref", "scope", "target")

    def __init__(self, scope: Scope, ref: str, target: Target, path: Mapping[str, str]) -> None:
        self.scope, self.ref, self.target, self.path = scope, ref, target, path
        self.body: Body = b""
        """Its body; set once that is there."""
        self._query: Mapping[str, str] | None = None

    @property
    def query(self) -> Mapping[str, str]:
        """Parameters of the query by name; of several with one name the last."""
        if self._query is None:
            given = self.scope["query_string"]
            self._query = dict(parse_qsl(given.decode("latin-1"), keep_blank_values=True)) if given else _NO_QUERY
        return self._query

    @property
    def request(self) -> Request:
        """The request as the framework's functions know it."""

        async def given() -> Message:
            return {"type": "http.request", "body": bytes(self.body), "more_body": False}

        return Request({**self._entered(), "path_params": dict(self.path)}, given)

    @property
    def place(self) -> str:
        """The decoded path, for messages."""
        found: str = self._entered()["path"]
        return found

    def _entered(self) -> dict[str, Any]:
        target = self.target
        return entered({**self.scope, "root_path": MOUNT}, [self.ref, target.handle.name], target.segments, target)


Value = Callable[[Asked], Any]
"""Gives one argument of an endpoint."""


class _OfQuery:
    """A value, never changed by who gets it, that depends on the query alone: made once for requests without one."""

    def __init__(self, make: Value) -> None:
        self._make, self._without = make, _UNKNOWN

    def __call__(self, asked: Asked) -> Any:
        if asked.scope["query_string"]:
            return self._make(asked)
        if self._without is _UNKNOWN:
            self._without = self._make(asked)
        return self._without


_GIVEN: dict[Callable[..., Any], Value] = {
    deps.instance: lambda asked: asked.target.handle,
    deps.version: lambda asked: asked.target.version,
    deps.repo: lambda asked: asked.target.repo,
    deps.segments: lambda asked: asked.target.segments,
    deps.body: lambda asked: bytes(asked.body),
    deps.octets: lambda asked: asked.body,
    deps.voxel_request: lambda asked: deps.asked_voxels(asked.path),
}
"""Dependencies that hand out what is known already."""


@dataclass(frozen=True)
class Plan:
    """How a route is called.

    Parameters
    ----------
    endpoint
        Its function.
    checks
        Called first, for what they raise.
    values
        Its arguments by name.
    names
        Parameters in its path by segment, keyword first; "" for a segment that is fixed.
    short
        Whether it is tried on the event loop first.
    """

    endpoint: Callable[..., Response]
    checks: tuple[Value, ...]
    values: Mapping[str, Value]
    names: tuple[str, ...]
    short: bool

    @classmethod
    def of(cls, route: APIRoute) -> Plan:
        """Plan of a route; raises `UnplannableError`."""
        segments = route.path.strip("/").split("/")
        if any(("{" in s and not _is_parameter(s)) for s in segments) or _is_parameter(segments[0]):
            raise UnplannableError(route.path)
        names = tuple(s[1:-1] if _is_parameter(s) else "" for s in segments)
        if any(not name and n for n, name in enumerate(names)) or inspect.iscoroutinefunction(route.endpoint):
            raise UnplannableError(route.path)
        if not _answers_itself(route.endpoint):
            raise UnplannableError(route.path)
        checks = tuple(_dependency(d.dependency, names) for d in route.dependencies if d.dependency)
        return cls(route.endpoint, checks, _arguments(route.endpoint, names), names, is_short(route.endpoint))

    def answer(self, asked: Asked) -> Response:
        """Call the route; makes the beginning of a stream too, so that it can fail as a whole."""
        for check in self.checks:
            check(asked)
        response = self.endpoint(**{name: value(asked) for name, value in self.values.items()})
        if isinstance(response, wire.Stream):
            response.begin()
        return response


def _is_parameter(segment: str) -> bool:
    return segment.startswith("{") and segment.endswith("}") and ":" not in segment


def _answers_itself(endpoint: Callable[..., Any]) -> bool:
    """Whether an endpoint says that it gives whole answers; other values are for the framework to encode."""
    kind = get_type_hints(endpoint).get("return")
    return all(isinstance(k, type) and issubclass(k, Response) for k in get_args(kind) or (kind,))


def _arguments(function: Callable[..., Any], path: tuple[str, ...]) -> dict[str, Value]:
    """How each argument of a function is got."""
    hints = get_type_hints(function, include_extras=True)
    return {name: _value(name, hints.get(name), p, path) for name, p in inspect.signature(function).parameters.items()}


def _value(name: str, hint: Any, parameter: inspect.Parameter, path: tuple[str, ...]) -> Value:
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    for extra in extras:
        if isinstance(extra, fastapi_params.Depends) and extra.dependency is not None:
            return _dependency(extra.dependency, path)
        if not isinstance(extra, fastapi_params.Query) or extra.alias is not None:
            raise UnplannableError(name)
    if kind is Request:
        return lambda asked: asked.request
    if name in path and kind is str:
        return lambda asked: asked.path[name]
    default = parameter.default
    if kind not in (str, str | None) or not (default is None or isinstance(default, str)):
        raise UnplannableError(name)
    return _OfQuery(lambda asked: asked.query.get(name, default))


def _dependency(function: Callable[..., Any], path: tuple[str, ...]) -> Value:
    if function in _GIVEN:
        return _GIVEN[function]
    arguments = _arguments(function, path)
    waits = inspect.iscoroutinefunction(function)

    def call(asked: Asked) -> Any:
        found = function(**{name: value(asked) for name, value in arguments.items()})
        return _finished(found) if waits else found

    return _OfQuery(call) if all(isinstance(value, _OfQuery) for value in arguments.values()) else call


def _finished(work: Coroutine[Any, Any, Any]) -> Any:
    """Result of a coroutine that has nothing to wait for: dependencies only look into a request that is all there."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("a dependency of a hot route waited")


Kind = tuple[str, str, int]
"""A method, a keyword, and the number of segments from it on."""


def plan_of(typename: str, kind: Kind) -> Plan | None:
    """Plan of a datatype's route, made when it is first asked for; None if there is none, or no such route."""
    return _planned(typename, kind) if kind in routes_by_kind(typename) else None


@cache
def routes_by_kind(typename: str) -> Mapping[Kind, APIRoute]:
    """Routes of a datatype; the first one of a kind counts."""
    found: dict[Kind, APIRoute] = {}
    for route in flat(routes_of(typename).router.routes):
        keyword, count = route.path.split("/")[1], route.path.strip("/").count("/") + 1
        for method in route.methods or ():
            found.setdefault((method, keyword, count), route)
    return found


@cache
def _planned(typename: str, kind: Kind) -> Plan | None:
    try:
        return Plan.of(routes_by_kind(typename)[kind])
    except UnplannableError:
        return None
