"""Requests to one HTTP server: each thread has a connection of its own, kept alive."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from http.client import error as BadAnswer

SECONDS = 300.0
GONE = (OSError, BadAnswer)
"""How a request ends that had no answer."""


class Host:
    """A server.

    Parameters
    ----------
    netloc
        ``HOST`` or ``HOST:PORT``.
    secure
        Whether it speaks HTTPS.
    seconds
        How long it may take to connect, and to send the next bytes of an answer.
    """

    def __init__(self, netloc: str, *, secure: bool, seconds: float = SECONDS) -> None:
        self._netloc, self._secure, self._seconds = netloc, secure, seconds
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[HTTPConnection] = []

    @property
    def address(self) -> str:
        """Beginning of its URLs."""
        return f"{'https' if self._secure else 'http'}://{self._netloc}"

    @property
    def is_secure(self) -> bool:
        """Whether it speaks HTTPS."""
        return self._secure

    def patient(self, seconds: float) -> Host:
        """The same server, with connections of its own, given longer to answer."""
        return Host(self._netloc, secure=self._secure, seconds=seconds)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str | bytes] = {}
    ) -> tuple[HTTPResponse, bytes]:
        """Answer and its content; a request is sent again where a kept connection has been closed meanwhile.

        Raises
        ------
        OSError, or an error of `http.client`
            If there is no answer.
        """
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            try:
                return self._send(kept, method, path, body, headers)
            except GONE:
                pass  # the server may have closed what was kept: a new connection tells whether it is there
        return self._send(self._connect(), method, path, body, headers)

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _connect(self) -> HTTPConnection:
        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = self._local.connection = kind(self._netloc, timeout=self._seconds)
        with self._lock:
            self._open.append(connection)
        return connection

    def _send(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str | bytes]
    ) -> tuple[HTTPResponse, bytes]:
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read()
        except BaseException:
            connection.close()
            self._local.connection = None
            raise
