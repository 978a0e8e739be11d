"""Bodies of requests: a large one comes into the one piece of memory in which it will lie.

Parts that are kept and joined in the end cost several times as much, most of it for memory that is new to the process.
"""

from __future__ import annotations

import numpy as np
from starlette.requests import Request
from starlette.types import Receive, Scope

LARGE, LARGEST = 1 << 20, 1 << 32
"""Bytes of bodies for which there is memory before they are there; more than that nobody is promised."""

Body = bytes | memoryview


async def body_of(scope: Scope, receive: Receive) -> Body:
    """The whole body of a request.

    Raises
    ------
    starlette.requests.ClientDisconnect
        If the client goes away before its end.
    """
    request, size = Request(scope, receive), _announced(scope)
    if not LARGE <= size <= LARGEST:
        return await request.body() if size else b""
    room, at = np.empty(size, np.uint8).data, 0  # of numpy's memory, as it comes in large pages
    async for part in request.stream():
        room[at : at + len(part)] = part
        at += len(part)
    return room[:at]


def _announced(scope: Scope) -> int:
    """Bytes of the body, as the client said; 1 where it did not, and 0 where there is none."""
    said = dict(scope["headers"])
    if b"transfer-encoding" in said:
        return 1
    length = said.get(b"content-length", b"0")
    return int(length) if length.isdigit() else 1
