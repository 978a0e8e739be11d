"""A TCP proxy before an S3 server that loses answers: the request has been done, but its client does not hear of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

Judge = Callable[[bytes], bool]
"""Whether the answer to a request with this head (request line and headers) is to be lost."""


class LossyProxy:
    """Forwards requests one by one, and closes the connection instead of passing on some of the answers.

    Parameters
    ----------
    port
        Of the server.
    loses
        Decides about each request.
    """

    def __init__(self, port: int, loses: Judge) -> None:
        self._server, self._loses = port, loses
        self.lost: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._closed = True
        for connection in [self._listener, *self._open]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._server))
        self._open |= {client, server}
        with client, server, suppress(OSError, EOFError):
            requests, answers = client.makefile("rb"), server.makefile("rb")
            while True:
                head = _head(requests)
                if b"\r\nexpect: 100-continue\r\n" in head.lower():
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    head = b"\r\n".join(x for x in head.split(b"\r\n") if not x.lower().startswith(b"expect:"))
                server.sendall(head + _body(requests, head))
                method = head.split(b" ", 1)[0]
                answered = _head(answers)
                answer = answered + (b"" if method == b"HEAD" else _body(answers, answered))
                if self._loses(head):
                    self.lost.append(head.split(b"\r\n", 1)[0].decode())
                    return
                client.sendall(answer)


def _head(stream: BinaryIO) -> bytes:
    """First line and headers of a request or an answer."""
    lines = []
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    raise EOFError


def _body(stream: BinaryIO, head: bytes) -> bytes:
    """What follows a head, chunked or of a length that it states."""
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"chunked" not in headers.get(b"transfer-encoding", b""):
        return stream.read(int(headers.get(b"content-length", 0)))
    body, count = b"", 1
    while count:
        size = stream.readline()
        count = int(size.split(b";")[0], 16)
        body += size + stream.read(count + 2)
    return body
