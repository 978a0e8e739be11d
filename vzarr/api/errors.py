"""One table from error classes to HTTP status, and DVID's way of putting an error into text.

DVID answers 400 to nearly everything, so its recorded answers decide each code.  A class that is not in the
table takes the code of its nearest base.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vzarr.api import wire
from vzarr.api.routing import allowed_methods
from vzarr.api.target import target_of
from vzarr.errors import (
    AuthorityUnavailableError,
    ConflictError,
    FormatError,
    NotFoundError,
    StorageError,
    UnsupportedError,
    VzarrError,
)
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.transfer.client import KIND

log = logging.getLogger(__name__)


class UnknownReferenceError(NotFoundError):
    """The URL names a version or an instance that is not there; keys and labels in one are not this."""


@contextmanager
def references() -> Iterator[None]:
    """Context in which what is not found is a version or instance that the request names.

    Raises
    ------
    UnknownReferenceError
        In place of `NotFoundError`.
    """
    try:
        yield
    except NotFoundError as error:
        raise UnknownReferenceError(str(error)) from error


class BadCallError(UnsupportedError):
    """The instance is there, but its datatype knows no such endpoint or method."""


class DependedOnError(ConflictError):
    """What is to be undone is what something later builds on; the conflicts that DVID knows are 400."""


class UndecidedError(ConflictError):
    """What versions that are to be merged disagree about, of a kind that a merge cannot leave open."""


class RangeNotSatisfiableError(VzarrError):
    """The range that was asked for lies outside of the object.

    Parameters
    ----------
    size
        Size of the object, in bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__(f"the range lies outside of the object of {size} bytes")
        self.size = size


STATUS: dict[type[Exception], int] = {
    VzarrError: 400,
    NotFoundError: 404,
    UnknownReferenceError: 400,
    DependedOnError: 409,
    UndecidedError: 409,
    RangeNotSatisfiableError: 416,
    StorageError: 500,
    FormatError: 500,
    AuthorityUnavailableError: 503,
}

NOT_FOUND = "404 page not found\n"


def status_of(error: Exception) -> int:
    """HTTP status of an error, by the nearest of its classes that is in the table; 500 if none is."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_text(message: str, path: str) -> str:
    """DVID's form of an error."""
    return f"{message} ({path}).\n"


def error_response(error: Exception, path: str) -> Response:
    """Answer to an error that was raised on purpose."""
    status = status_of(error)
    response = wire.text(error_text(str(error), path), status)
    kind = next((kind for kind in type(error).__mro__ if kind.__module__ == VzarrError.__module__), None)
    if kind is not None:
        response.headers[KIND] = kind.__name__
    if isinstance(error, RangeNotSatisfiableError):
        response.headers["Content-Range"] = f"bytes */{error.size}"
    if status >= 500:
        # What cannot be reached from here is no fault of this program.
        log.error("%s: %s", path, error, exc_info=None if status == 503 else error)
    return response


def unexpected_response(error: Exception, scope: Scope) -> Response:
    """Answer to an error that nobody expected: a number by which it is found in the server's log."""
    number = uuid.uuid4().hex[:12]
    log.error("request %s: %s %s", number, scope["method"], scope["path"], exc_info=error)
    return wire.text(f"Internal error on request {number}: {type(error).__name__}; see the server's log.\n", 500)


class AnswerErrors:
    """ASGI middleware that answers errors that nobody expected (see `unexpected_response`).

    Parameters
    ----------
    app
        What may fail.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            await unexpected_response(error, scope)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Make `app` answer every error in text."""
    app.add_middleware(AnswerErrors)
    app.add_exception_handler(VzarrError, _on_vzarr_error)
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_vzarr_error(request: Request, error: Exception) -> Response:
    return error_response(error, request.scope["path"])


async def _on_bad_request(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in found)
    return wire.text(error_text(message or "bad request", request.scope["path"]), 400)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what Starlette raises by itself: no such route, or no such method on it."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    target = target_of(request.scope)
    if status in {404, 405} and target is not None and target.handle is not None:
        return error_response(_bad_call(request, target.handle.info), request.scope["path"])
    if status == 405 and request.method == "OPTIONS":
        return options_response(allowed_methods(request.app.routes, request.scope))
    if status in {404, 405}:
        return wire.text(NOT_FOUND, 404)
    return wire.text(error_text(str(getattr(error, "detail", error)), request.scope["path"]), status)


def _bad_call(request: Request, info: InstanceInfo) -> BadCallError:
    """DVID's error for a keyword that the datatype of an instance does not have."""
    path, host = request.scope["path"], request.headers.get("host", "localhost")
    return BadCallError(
        f'Bad API call ({path}) for data "{info.name}".  See API help at http://{host}/api/help/{info.typename}'
    )


def options_response(methods: list[str]) -> Response:
    """Answer to OPTIONS: the methods of a path, 404 if there are none."""
    if not methods:
        return wire.text(NOT_FOUND, 404)
    return Response(headers={"Allow": ", ".join([*methods, "OPTIONS"])})
