"""The outermost layer: which web pages may do what.

Any web page that a user visits can send requests to a server on the user's machine.  Reading is open to all
pages, as viewers need it.  A request that may change something must come from no page (scripts send no
``Origin``), from a page of this server, or from an origin that the settings list.  On a loopback address the
``Host`` header is checked too: a page could otherwise come under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vzarr.api import wire
from vzarr.api.routing import SAFE
from vzarr.config import LOOPBACK, Settings

RawHeaders = Sequence[tuple[bytes, bytes]]
_EVERYBODY: RawHeaders = ((b"access-control-allow-origin", b"*"),)
_EXPOSED = (b"access-control-expose-headers", b"Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag")
_MOST_HOSTS = 100
"""Names by which the server was called, of which it remembers whether they are its own."""
_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"


def is_admin(scope: Scope, settings: Settings) -> bool:
    """Whether ``?admintoken=`` or ``Authorization: Bearer`` is the server's token; never, when it has none."""
    return bool(settings.admin_token) and hmac.compare_digest(token_in(scope), settings.admin_token.encode())


def token_in(scope: Scope) -> bytes:
    """The admin token that a request has; empty if none."""
    given: bytes = dict(scope["headers"]).get(b"authorization", b"")
    kind, _, token = given.partition(b" ")
    if kind.lower() == b"bearer":
        return token
    return QueryParams(scope["query_string"]).get("admintoken", "").encode()


class Guard:
    """ASGI middleware: Host and Origin checks, CORS headers on every answer.

    Parameters
    ----------
    app
        What is guarded.
    settings
        Whose `cors_origins`, `allowed_hosts` and `host` decide.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._hosts = LOOPBACK | {settings.host} | set(settings.allowed_hosts)
        self._knows = lru_cache(_MOST_HOSTS)(self._is_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal, extra = self.look_at(scope)
        await (refusal or self.app)(scope, receive, _Adding(send, extra))

    def look_at(self, scope: Scope) -> tuple[Response | None, RawHeaders]:
        """Why a request is refused, or None; and what is said of origins in the answer."""
        host = origin = ""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        return self._refusal(scope, host, origin), self._cors(origin, host) if origin else _EVERYBODY

    def _refusal(self, scope: Scope, host: str, origin: str) -> Response | None:
        method = scope["method"]
        if self.settings.is_loopback and not self._knows(host):
            return wire.text(f'this server does not answer to the name "{host}"\n', 403)
        if method == "OPTIONS" and "access-control-request-method" in (headers := Headers(scope=scope)):
            allowed = headers["access-control-request-method"] in SAFE or self._trusted(origin, host)
            return self._preflight(headers) if allowed else wire.text("this origin may only read\n", 403)
        if method not in SAFE and origin and not self._trusted(origin, host):
            return wire.text(f'a page of "{origin}" may not change anything here\n', 403)
        if method not in SAFE and self.settings.readonly and not is_admin(scope, self.settings):
            message = "Server in read-only mode and will only accept GET and HEAD requests"
            return wire.text(f"{message} ({scope['path']}).\n", 400)
        return None

    def _is_ours(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        return name in self._hosts or name.endswith(".localhost")

    def _trusted(self, origin: str, host: str) -> bool:
        return origin in self.settings.cors_origins or origin in {f"http://{host}", f"https://{host}"}

    def _cors(self, origin: str, host: str) -> RawHeaders:
        trusted = self._trusted(origin, host)
        allowed = (b"access-control-allow-origin", origin.encode("latin-1") if trusted else b"*")
        return (allowed, _EXPOSED, *([(b"vary", b"Origin")] if trusted else []))

    @staticmethod
    def _preflight(headers: Headers) -> Response:
        asked = headers.get("access-control-request-headers", "")
        allow = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": "600"}
        return Response(headers=allow | ({"Access-Control-Allow-Headers": asked} if asked else {}))


class _Adding:
    """A `send` that adds headers to the answer."""

    __slots__ = ("_extra", "_send")

    def __init__(self, send: Send, extra: RawHeaders) -> None:
        self._send, self._extra = send, extra

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *self._extra]
        await self._send(message)
