"""What a running server counts: requests per second for ``/api/load``, and when users were last heard of."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

_NEVER = "0001-01-01T00:00:00Z"
_MOST_USERS = 10_000


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
        now = time.monotonic()
        with self._lock:
            self.active += 1
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
