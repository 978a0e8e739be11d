"""The outermost layer: which web pages may do what, and an answer for errors that nobody expected.

Any web page that a user visits can send requests to a server on the user's machine.  Reading is open to all
pages, as viewers need it.  A request that may change something must come from no page (scripts send no
``Origin``), from a page of this server, or from an origin that the settings list.  On a loopback address the
``Host`` header is checked too: a page could otherwise come under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import hmac
import logging
import uuid
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vzarr.api import wire
from vzarr.api.routing import SAFE
from vzarr.config import LOOPBACK, Settings

log = logging.getLogger(__name__)

_EXPOSED = "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag"
_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"


def is_admin(scope: Scope, settings: Settings) -> bool:
    """Whether ``?admintoken=`` or ``Authorization: Bearer`` is the server's token; never, when it has none."""
    given = QueryParams(scope["query_string"]).get("admintoken", "").encode()
    kind, _, token = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer":
        given = token
    return bool(settings.admin_token) and hmac.compare_digest(given, settings.admin_token.encode())


class Guard:
    """ASGI middleware: Host and Origin checks, CORS headers on every answer, 500 with a request id.

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        answered = _Answer(send, self._cors(origin, headers.get("host", "")))
        refusal = self._refusal(scope, headers, origin)
        if refusal is not None:
            await refusal(scope, receive, answered)
            return
        try:
            await self.app(scope, receive, answered)
        except Exception as error:
            request_id = uuid.uuid4().hex[:12]
            log.exception("request %s: %s %s", request_id, scope["method"], scope["path"])
            if answered.started:
                raise
            message = f"Internal error on request {request_id}: {type(error).__name__}; see the server's log.\n"
            await wire.text(message, 500)(scope, receive, answered)

    def _refusal(self, scope: Scope, headers: Headers, origin: str) -> Response | None:
        method, host = scope["method"], headers.get("host", "")
        if self.settings.is_loopback and not self._knows(host):
            return wire.text(f'this server does not answer to the name "{host}"\n', 403)
        if method == "OPTIONS" and "access-control-request-method" in headers:
            allowed = headers["access-control-request-method"] in SAFE or self._trusted(origin, host)
            return self._preflight(headers) if allowed else wire.text("this origin may only read\n", 403)
        if method not in SAFE and origin and not self._trusted(origin, host):
            return wire.text(f'a page of "{origin}" may not change anything here\n', 403)
        if method not in SAFE and self.settings.readonly and not is_admin(scope, self.settings):
            message = "Server in read-only mode and will only accept GET and HEAD requests"
            return wire.text(f"{message} ({scope['path']}).\n", 400)
        return None

    def _knows(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        return name in self._hosts or name.endswith(".localhost")

    def _trusted(self, origin: str, host: str) -> bool:
        return origin in self.settings.cors_origins or origin in {f"http://{host}", f"https://{host}"}

    def _cors(self, origin: str, host: str) -> dict[str, str]:
        if not origin:
            return {"Access-Control-Allow-Origin": "*"}
        trusted = self._trusted(origin, host)
        return {
            "Access-Control-Allow-Origin": origin if trusted else "*",
            "Access-Control-Expose-Headers": _EXPOSED,
            **({"Vary": "Origin"} if trusted else {}),
        }

    @staticmethod
    def _preflight(headers: Headers) -> Response:
        asked = headers.get("access-control-request-headers", "")
        allow = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": "600"}
        return Response(headers=allow | ({"Access-Control-Allow-Headers": asked} if asked else {}))


class _Answer:
    """A `send` that adds headers and remembers whether the answer has begun."""

    def __init__(self, send: Send, extra: dict[str, str]) -> None:
        self._send = send
        self._extra = extra
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in self._extra.items():
                headers[name] = value
        await self._send(message)
