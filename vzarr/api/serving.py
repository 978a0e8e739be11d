"""Runs an ASGI application until it is told to stop, and says when it answers."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from vzarr.api.protocol import PromptProtocol
from vzarr.errors import InvalidInputError

_GRACE = 10
"""Seconds that requests under way are given when the server stops."""


def serve(app: ASGIApp, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer HTTP until SIGINT or SIGTERM, either of which ends the process with status 0.

    Parameters
    ----------
    port
        0 picks a free one.
    ready
        Called once with the address, ``http://HOST:PORT``, as soon as requests are answered.

    Raises
    ------
    InvalidInputError
        If the address cannot be listened on.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
    with _listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            app,
            http=PromptProtocol if hasattr(app, "at_once") else "auto",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE,
            lifespan="on",
        )
        # What is imported stays: nobody has to look through it for garbage again and again while requests wait.
        gc.freeze()
        _Server(config, lambda: ready(f"http://{name}:{listener.getsockname()[1]}")).run(sockets=[listener])


def _leave(number: int, frame: Any) -> None:
    """End the process cleanly; uvicorn hands over to this handler once it has shut down."""
    sys.exit(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise InvalidInputError(f"cannot listen on {host}:{port}: {reason}") from error


class _Server(uvicorn.Server):
    """uvicorn, except that it tells when it has started."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        if self.started:
            self._announce()
