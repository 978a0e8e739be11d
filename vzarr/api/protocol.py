"""HTTP/1.1 as uvicorn speaks it, except that short requests are answered as soon as they are there.

Between a request and the application uvicorn puts a task, two events and some checks, which cost more than a look-up.
Here an application that has a method ``at_once`` is asked first, with no task in between; whatever it does not answer,
and whatever is unusual about a connection, goes uvicorn's own way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast
from urllib.parse import unquote

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

_LONGEST_BODY = 1 << 16
_COPIED = 1 << 14
"""A body of so many bytes is sent in one piece with its head."""
_UNFIT = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BODILESS = frozenset((204, 304))


Answer = tuple[int, Sequence[tuple[bytes, bytes]], bytes | memoryview]
"""Status, headers and body of a whole answer."""
Send = Callable[[Answer], bool]
"""Sends an answer; False, and nothing was sent, for one that uvicorn may understand better."""


class Prompt(Protocol):
    """An ASGI application that may answer at once."""

    def at_once(self, scope: Scope, body: bytes, send: Send) -> bool:
        """Answer a request; False, and nothing was sent, if it is to be called, with what it left in the scope."""


class PromptProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        app: Prompt = self.config.app  # type: ignore[assignment]
        self._ask = app.at_once
        self._held: bytearray | None = None
        self._defaults: tuple[list[tuple[bytes, bytes]], bytes] = [], b""

    def on_headers_complete(self) -> None:
        """Wait for the body, if the request may be one that is answered at once."""
        if self._is_plain():
            self._held = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._held is None:
            super().on_body(body)
            return
        self._held += body
        if len(self._held) > _LONGEST_BODY:
            self._go_on()

    def on_message_complete(self) -> None:
        """Answer, or let uvicorn do it."""
        if self._held is None:
            super().on_message_complete()
            return
        self._describe()
        if self._ask(cast("Scope", self.scope), bytes(self._held), self._send):
            self._held = None
            self.on_response_complete()
        else:
            self._go_on()
            super().on_message_complete()

    def _is_plain(self) -> bool:
        """Whether nothing about request and connection is out of the ordinary."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            (cycle is None or cycle.response_complete)
            and not self.pipeline
            and not self.flow.write_paused
            and not self.expect_100_continue
            and not self.root_path
            and not self.parser.should_upgrade()
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
        )

    def _go_on(self) -> None:
        """Do what uvicorn would have done by now."""
        held, self._held = self._held, None
        super().on_headers_complete()
        if held:
            super().on_body(bytes(held))

    def _describe(self) -> None:
        """Complete the scope, as uvicorn does when it starts a task."""
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = url.path
        self.scope["query_string"] = url.query or b""

    def _send(self, answer: Answer) -> bool:
        """See `Send`."""
        status, headers, body = answer
        names, values = zip(*headers, strict=True) if headers else ((), ())
        if b"connection" in names or (b"content-length" not in names and status not in _BODILESS):
            return False
        if _UNFIT.search(b"".join(values)):
            return False
        head = [STATUS_LINE[status], self._default_headers()]
        for name, value in headers:
            head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n")
        if self.scope["method"] == "HEAD":
            body = b""
        if len(body) <= _COPIED:
            self.transport.write(b"".join((*head, body)))
        else:
            self.transport.writelines((b"".join(head), body))
        return True

    def _default_headers(self) -> bytes:
        """Headers of every answer, which uvicorn makes anew every second."""
        given = self.server_state.default_headers
        if self._defaults[0] is not given:
            self._defaults = given, b"".join(name + b": " + value + b"\r\n" for name, value in given)
        return self._defaults[1]
