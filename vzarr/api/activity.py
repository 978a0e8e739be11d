"""What a running server counts and reports: requests per second, when users were last heard of, each request."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vzarr.api.routing import MUTATING, SAFE
from vzarr.kafka.service import Service

_NEVER = "0001-01-01T00:00:00Z"
_MOST_USERS = 10_000
_SECRET = re.compile(rb"\b(admintoken=)[^&]*")


class Activity:
    """Counters of one server; safe for use from several threads."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.active = 0
        self._lock = threading.Lock()
        self._recent: dict[str, deque[float]] = {"GET": deque(), "PUT": deque()}
        self._pings: dict[str, str] = {}

    def begin(self, method: str) -> None:
        """Count a request; PUT stands for everything that writes."""
        with self._lock:
            self.active += 1
            self._count(method)

    def add(self, method: str) -> None:
        """Count a request that is answered already."""
        with self._lock:
            self._count(method)

    def _count(self, method: str) -> None:
        now = time.monotonic()
        recent = self._recent["GET" if method in {"GET", "HEAD"} else "PUT"]
        recent.append(now)
        while recent[0] < now - 1:
            recent.popleft()

    def end(self) -> None:
        """Count a request as answered."""
        with self._lock:
            self.active -= 1

    def requests(self, kind: str) -> int:
        """Requests within the last second; `kind` is GET or PUT."""
        since = time.monotonic() - 1
        with self._lock:
            return sum(at >= since for at in self._recent[kind])

    def ping(self, user: str) -> None:
        """Remember that `user` was heard of now; the longest silent ones are forgotten first."""
        with self._lock:
            self._pings.pop(user, None)
            self._pings[user] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            if len(self._pings) > _MOST_USERS:
                del self._pings[next(iter(self._pings))]

    def latency(self, user: str) -> dict[str, Any]:
        """DVID's record of one user; its latencies need a clock on the other side and are 0 here."""
        last = self._pings.get(user)
        zero = {"LastLatency": 0, "MinLatency": 0, "MaxLatency": 0}
        return {"User": user if last else "", "LastPing": last or _NEVER, **zero}

    def latencies(self) -> dict[str, Any]:
        """Records of all users by name."""
        with self._lock:
            users = list(self._pings)
        return {user: self.latency(user) for user in users}

    @property
    def uptime(self) -> float:
        """Seconds since the server began."""
        return time.monotonic() - self.started


class CountRequests:
    """ASGI middleware that tells an `Activity` about each request."""

    def __init__(self, app: ASGIApp, activity: Activity) -> None:
        self.app = app
        self.activity = activity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.activity.begin(scope["method"])
        try:
            await self.app(scope, receive, send)
        finally:
            self.activity.end()


class ReportRequests:
    """ASGI middleware that lets each request be published, and says when one may have changed something."""

    def __init__(self, app: ASGIApp, publishing: Service) -> None:
        self.app = app
        self.publishing = publishing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        report = self.begin(scope)

        async def look(message: Message) -> None:
            report.look_at(message)
            await send(message)

        try:
            await self.app(scope, receive, look)
        finally:
            self.end(report)

    def begin(self, scope: Scope) -> Report:
        """Begin to report a request."""
        return Report(scope)

    def end(self, report: Report) -> None:
        """Publish what is said of a request that is answered."""
        self.publishing.feed.add(report.message())
        if report.method in MUTATING:
            self.publishing.changed()


class Report:
    """What is said about one request (DVID HTTP API, section 2.10)."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.method: str = scope["method"]
        self._time, self._began = time.time(), time.monotonic()
        self._status, self._bytes = 500, 0

    def look_at(self, message: Message) -> None:
        """Note a part of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        else:
            self._bytes += len(message.get("body", b""))

    def answered(self, status: int, size: int) -> Report:
        """Note a whole answer, its body in bytes."""
        self._status, self._bytes = status, size
        return self

    def message(self) -> dict[str, Any]:
        """The message, once the request is answered; ``bytes_in`` is -1 where the client did not say."""
        scope, query = self._scope, QueryParams(self._scope["query_string"])
        sent = next((value for name, value in scope["headers"] if name == b"content-length"), None)
        client = scope.get("client")
        uri = scope.get("raw_path") or scope["path"].encode()
        if scope["query_string"]:
            uri += b"?" + _SECRET.sub(rb"\1...", scope["query_string"])
        return {
            "time": int(self._time),
            "duration": (time.monotonic() - self._began) * 1000,
            "status": self._status,
            "user": query.get("u", ""),
            "client": query.get("app", ""),
            "method": self.method,
            "uri": uri.decode("latin-1"),
            "bytes_in": int(sent) if sent and sent.isdigit() else 0 if self.method in SAFE else -1,
            "bytes_out": 0 if self.method == "HEAD" else self._bytes,
            "remote_addr": f"{client[0]}:{client[1]}" if client else "",
        }
