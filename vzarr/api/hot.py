"""Answers the routes of instances without the web framework's own machinery, which costs more than a short answer.

It stands in front of the framework and answers what it can, by a plan for each route (`vzarr.api.plans`).  A route
whose parameters are beyond a plan, a path that no plan fits, and everything that is no endpoint of an instance is left
to the framework, which knows the same routes.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vzarr.api import errors, wire
from vzarr.api.dispatch import NodeDispatcher, Path
from vzarr.api.hub import Hub
from vzarr.api.lane import Lane
from vzarr.api.plans import MOUNT, Asked, Plan, plan_of
from vzarr.api.received import Body, body_of
from vzarr.api.routing import SAFE, is_brief
from vzarr.errors import InvalidInputError, VzarrError
from vzarr.overlay.history.looks import Looks, one_look
from vzarr.types.atonce import WouldWaitError, at_once

_BELOW = f"{MOUNT}/"
_CALL = "vzarr.call"
"""Where a request's call waits in its scope, if it was tried to answer it at once."""


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
        self._lane = Lane()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = scope.pop(_CALL, None) or self._call(scope)
        if call is None:
            await self.app(scope, receive, send)
            return
        try:
            answer = await self._answer(call, receive)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001
            answer = errors.unexpected_response(error, scope)
        await answer(scope, receive, send)

    def at_once(self, scope: Scope, body: bytes) -> Response | None:
        """The whole answer to a request whose body is there, if it is a short one; else its call waits in the scope."""
        call = self._call(scope)
        if call is None:
            return None
        scope[_CALL] = call
        try:
            call.try_at_once(body)
        except Exception as error:  # noqa: BLE001
            call.response = errors.unexpected_response(error, scope)
        if isinstance(call.response, wire.Stream):
            call.response = call.response.settled()
        return call.response if type(call.response) in (Response, wire.Whole) else None

    def _call(self, scope: Scope) -> _Call | None:
        """A request that may be about an instance."""
        if scope["type"] != "http" or not scope["path"].startswith(_BELOW) or scope["root_path"]:
            return None
        parts = _parts(scope)
        return _Call(self._dispatcher, scope, parts) if len(parts) > 2 and "" not in parts else None

    async def _answer(self, call: _Call, receive: Receive) -> ASGIApp:
        """What answers a request: a response, or the application behind."""
        if call.planned is None and call.prepare_at_once() is None:
            await run_in_threadpool(call.prepare)
        if not call.planned:
            return self.app
        if call.response is None:
            body = await body_of(call.scope, receive)
            found = call.answer_at_once(body)
            if found is None:
                run = self._lane.run if call.queues else run_in_threadpool
                found = await run(call.answer, body)
            call.response = found
        return call.response


def _parts(scope: Scope) -> tuple[str, ...]:
    """Segments of a request's path; none where one holds a slash or is no text, which is for the application."""
    try:
        parts = Path.of(scope, MOUNT).parts
    except InvalidInputError:
        return ()
    return () if b"%" in scope.get("raw_path", b"%") and any("/" in part for part in parts) else parts


class _Call:
    """One request on its way to an endpoint."""

    def __init__(self, dispatcher: NodeDispatcher, scope: Scope, parts: tuple[str, ...]) -> None:
        self._dispatcher, self.scope, self._parts = dispatcher, scope, parts
        self._ready: tuple[Plan, Asked] | None = None
        self.planned: bool | None = None
        self.response: Response | None = None
        self._tried = self._near = False
        self._looks: Looks = {}

    def prepare(self) -> bool:
        """Find instance and plan; False if the framework has to answer."""
        with one_look(self._looks):
            self.planned = self._prepare()
        return self.planned

    def _prepare(self) -> bool:
        ref, _, *segments = self._parts
        try:
            target = self._dispatcher.find_instance(ref, self._parts[1:], self.scope["method"])
        except WouldWaitError:
            raise
        except VzarrError:
            return False  # seldom: the framework finds out the same, and answers
        typename = target.handle.info.typename
        plan = plan_of(typename, (self.scope["method"], segments[0], len(segments)))
        if plan is None:
            return False
        found = {name: part for name, part in zip(plan.names, segments, strict=True) if name}
        self._ready = plan, Asked(self.scope, ref, target, found)
        return True

    @property
    def queues(self) -> bool:
        """Whether it is a brief change, of which one runs at a time; over a network they had better wait together."""
        return self._near and self._ready is not None and is_brief(self._ready[0].endpoint)

    def answer(self, body: Body) -> Response:
        """What the endpoint answers, or the error that it raises."""
        # A change may wait for others, and has to look again then.
        with one_look(self._looks) if self.scope["method"] in SAFE else nullcontext():
            return self._answer(body)

    def _answer(self, body: Body) -> Response:
        assert self._ready is not None
        plan, asked = self._ready
        asked.body = body
        try:
            return plan.answer(asked)
        except WouldWaitError:
            raise
        except VzarrError as error:
            return errors.error_response(error, asked.place)

    def try_at_once(self, body: bytes) -> None:
        """Do all of it that is a matter of look-ups: find instance and plan, and the answer of a short route."""
        with suppress(WouldWaitError), at_once(), one_look(self._looks):
            self.planned, self._near = self._prepare(), True
            if self._is_short and self.scope["method"] in SAFE:
                self._tried = True
                self.response = self._answer(body)
        if self.planned:
            self.answer_at_once(body)

    @property
    def _is_short(self) -> bool:
        return self._ready is not None and self._ready[0].short

    def prepare_at_once(self) -> bool | None:
        """`prepare`, if that is a matter of look-ups, as it mostly is; else None."""
        with suppress(WouldWaitError), at_once():
            planned, self._near = self.prepare(), True
            return planned
        return None

    def answer_at_once(self, body: Body) -> Response | None:
        """The answer of a short route, if it is a matter of look-ups; else None.  Tries once."""
        if self._is_short and not self._tried:
            self._tried = True
            with suppress(WouldWaitError), at_once():
                self.response = self.answer(body)
        return self.response
