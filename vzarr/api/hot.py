"""Answers the routes of instances without the web framework's own machinery, which costs more than a short answer.

It stands in front of the application and answers what it can: the same endpoint functions with the same dependencies,
called by a plan that is made once per route.  A route whose parameters are beyond a plan, a path that no plan fits,
and everything that is no endpoint of an instance is left to the framework, which knows the same routes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import params as fastapi_params
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vzarr.api import errors, wire
from vzarr.api.dispatch import NodeDispatcher, Path, entered, routes_of
from vzarr.api.hub import Hub
from vzarr.api.routing import SAFE, flat, is_short
from vzarr.errors import InvalidInputError, VzarrError
from vzarr.overlay.history.log import RepoLog, one_look
from vzarr.types.atonce import WouldWaitError, at_once

_MOUNT = "/api/node"
Value = Callable[[Request], Any]
"""Gives one argument of an endpoint."""


class UnplannableError(Exception):
    """A route asks for something that only the framework can give."""


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
    """

    endpoint: Callable[..., Response]
    checks: tuple[Value, ...]
    values: Mapping[str, Value]
    names: tuple[str, ...]

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
        return cls(route.endpoint, checks, _arguments(route.endpoint, names), names)

    def answer(self, request: Request) -> Response:
        """Call the route; makes the beginning of a stream too, so that it can fail as a whole."""
        for check in self.checks:
            check(request)
        response = self.endpoint(**{name: value(request) for name, value in self.values.items()})
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
        return lambda request: request
    if name in path and kind is str:
        return lambda request: request.path_params[name]
    default = parameter.default
    if kind not in (str, str | None) or not (default is None or isinstance(default, str)):
        raise UnplannableError(name)
    return lambda request: request.query_params.get(name, default)


def _dependency(function: Callable[..., Any], path: tuple[str, ...]) -> Value:
    arguments = _arguments(function, path)
    waits = inspect.iscoroutinefunction(function)

    def call(request: Request) -> Any:
        found = function(**{name: value(request) for name, value in arguments.items()})
        return _finished(found) if waits else found

    return call


def _finished(work: Coroutine[Any, Any, Any]) -> Any:
    """Result of a coroutine that has nothing to wait for: dependencies only look into a request that is all there."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("a dependency of a hot route waited")


@cache
def plans_of(typename: str) -> dict[tuple[str, str, int], Plan]:
    """Plans of a datatype's routes, by method, keyword and number of segments; the first route of a kind counts."""
    plans: dict[tuple[str, str, int], Plan | None] = {}
    for route in flat(routes_of(typename).router.routes):
        try:
            plan = Plan.of(route)
        except UnplannableError:
            plan = None
        keyword, count = route.path.split("/")[1], route.path.strip("/").count("/") + 1
        for method in route.methods or ():
            plans.setdefault((method, keyword, count), plan)
    return {key: plan for key, plan in plans.items() if plan is not None}


class HotRoutes:
    """ASGI middleware that answers for instances, and passes on what it has no plan for.

    Parameters
    ----------
    app
        The application behind.
    hub
        Where versions are looked up.
    """

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self.app = app
        self._dispatcher = NodeDispatcher(hub)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].startswith(f"{_MOUNT}/") and not scope["root_path"]:
            ref, *rest = _parts(scope)
            if ref and len(rest) > 1 and all(rest) and not any("/" in part for part in (ref, *rest)):
                await self._answer(_Call(self._dispatcher, scope, ref, rest), scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _answer(self, call: _Call, scope: Scope, receive: Receive, send: Send) -> None:
        planned = call.prepare_at_once()
        if planned is None:
            planned = await run_in_threadpool(call.prepare)
        if not planned:
            await self.app(scope, receive, send)
            return
        body = await Request(scope, receive).body() if _has_body(scope) else b""
        response = call.answer_at_once(body)
        if response is None:
            response = await run_in_threadpool(call.answer, body)
        await response(scope, receive, send)


def _parts(scope: Scope) -> tuple[str, ...]:
    """Segments of a request's path; none of one that is no text, which the application refuses."""
    try:
        return Path.of({**scope, "root_path": _MOUNT}).parts
    except InvalidInputError:
        return ("",)


class _Call:
    """One request on its way to an endpoint."""

    def __init__(self, dispatcher: NodeDispatcher, scope: Scope, ref: str, rest: list[str]) -> None:
        self._dispatcher, self._scope, self._ref, self._rest = dispatcher, scope, ref, rest
        self._plan: Plan | None = None
        self._entered: dict[str, Any] = {}
        self._seen: set[RepoLog] = set()

    def prepare(self) -> bool:
        """Find instance and plan; False if the framework has to answer."""
        with one_look(self._seen):
            return self._prepare()

    def _prepare(self) -> bool:
        method, (_name, keyword, *_), count = self._scope["method"], self._rest, len(self._rest) - 1
        try:
            target = self._dispatcher.find_instance(self._ref, self._rest, method)
        except WouldWaitError:
            raise
        except VzarrError:
            return False  # seldom: the framework finds out the same, and answers
        self._plan = plans_of(target.handle.info.typename).get((method, keyword, count))
        if self._plan is None:
            return False
        mounted = {**self._scope, "root_path": _MOUNT}
        changes = entered(mounted, [self._ref, self._rest[0]], self._rest[1:], target)
        found = {name: part for name, part in zip(self._plan.names, self._rest[1:], strict=True) if name}
        self._entered = {**changes, "path_params": found}
        return True

    def answer(self, body: bytes) -> Response:
        """What the endpoint answers, or the error that it raises."""
        assert self._plan is not None

        async def given() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            # A change may wait for others, and has to look again then.
            with one_look(self._seen) if self._scope["method"] in SAFE else nullcontext():
                return self._plan.answer(Request(self._entered, given))
        except WouldWaitError:
            raise
        except VzarrError as error:
            return errors.error_response(error, self._entered["path"])

    def prepare_at_once(self) -> bool | None:
        """`prepare`, if that is a matter of look-ups, as it mostly is; else None."""
        with suppress(WouldWaitError), at_once():
            return self.prepare()
        return None

    def answer_at_once(self, body: bytes) -> Response | None:
        """The answer of a short route, if it is a matter of look-ups; else None."""
        if self._plan is not None and is_short(self._plan.endpoint):
            with suppress(WouldWaitError), at_once():
                return self.answer(body)
        return None


def _has_body(scope: Scope) -> bool:
    headers = scope["headers"]
    return any((n == b"content-length" and v != b"0") or n == b"transfer-encoding" for n, v in headers)
