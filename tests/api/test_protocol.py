"""Connections on which short requests are answered ahead of uvicorn, and all else by it, in the order of requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from vzarr.api.protocol import Answer, PromptProtocol, Send


class Echo:
    """Answers ``/at-once`` at once, and everything else with a task: method, path, query and body."""

    def __init__(self) -> None:
        self.prompt: list[str] = []
        self.slow: list[str] = []
        self.go = asyncio.Event()

    def _answer(self, scope: Any, body: bytes) -> Answer:
        text = b"%s %s %s|%s" % (scope["method"].encode(), scope["raw_path"], scope["query_string"], body)
        if scope["path"] == "/at-once/large":
            text *= 10_000
        headers = [(b"content-length", b"%d" % len(text)), (b"content-type", b"text/plain")]
        if scope["path"] == "/at-once/odd":
            headers.append((b"x-odd", b"a\x01b" if not self.slow else b"fine"))
        return 200, headers, text

    def at_once(self, scope: Any, body: bytes, send: Send) -> bool:
        assert scope["type"] == "http"
        self.prompt.append(scope["path"])
        scope["note"] = "left"
        return scope["path"].startswith("/at-once") and send(self._answer(scope, body))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.slow.append(scope["path"])
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"] == "/wait":
            await self.go.wait()
        status, headers, text = self._answer(scope, body + scope.get("note", "").encode())
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def app() -> Echo:
    return Echo()


@pytest.fixture
async def connection(app: Echo) -> AsyncIterator[Connection]:
    config = uvicorn.Config(app, http=PromptProtocol, access_log=False, log_level="warning")
    config.load()
    state = ServerState()
    state.default_headers = [(b"server", b"a test")]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PromptProtocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield reader, writer
    writer.close()
    server.close()
    await asyncio.gather(*state.tasks)


async def answer(reader: asyncio.StreamReader, head: bool = False) -> tuple[bytes, bytes]:
    """Status line and headers of the next answer, and its body."""
    headers = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = int(headers.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return headers, b"" if head else await asyncio.wait_for(reader.readexactly(length), 10)


def request(path: str, body: bytes = b"", method: str = "GET", **headers: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: here\r\n{length}{more}\r\n".encode() + body


async def test_what_is_there_is_answered_without_a_task(app: Echo, connection: Connection):
    reader, writer = connection
    for sent, body in (
        (request("/at-once/%20x?a=b"), b"GET /at-once/%20x a=b|"),
        (request("/at-once", b"some", "POST"), b"POST /at-once |some"),
    ):
        writer.write(sent)
        headers, found = await answer(reader)
        assert found == body
        assert headers.startswith(b"HTTP/1.1 200 OK\r\nserver: a test\r\ncontent-length: ")
    writer.write(request("/at-once/large", method="HEAD"))
    headers, _ = await answer(reader, head=True)
    assert b"content-length: 210000" in headers
    writer.write(request("/at-once/large"))
    assert len((await answer(reader))[1]) == 200000
    assert app.slow == []


async def test_a_request_may_come_byte_by_byte(app: Echo, connection: Connection):
    reader, writer = connection
    for path, note in (("/at-once", b""), ("/slow", b"left")):
        for byte in request(path, b"body", "POST"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await answer(reader))[1] == b"POST %s |body%s" % (path.encode(), note)
    assert (app.prompt, app.slow) == (["/at-once", "/slow"], ["/slow"])


async def test_what_is_not_there_goes_the_usual_way_with_all_of_its_body(app: Echo, connection: Connection):
    reader, writer = connection
    for body in (b"", b"small", b"x" * 65_536, b"y" * 65_537, b"z" * 300_000):
        writer.write(request("/slow?q=1", body, "POST"))
        assert (await answer(reader))[1] == b"POST /slow q=1|" + body + (b"left" if len(body) <= 65_536 else b"")
    assert app.slow == ["/slow"] * 5
    assert app.prompt == ["/slow"] * 3, "who sends much is not asked at once"


async def test_answers_come_in_the_order_of_requests(app: Echo, connection: Connection):
    reader, writer = connection
    writer.write(request("/at-once/1") + request("/wait") + request("/at-once/2") + request("/at-once/3"))
    assert (await answer(reader))[1] == b"GET /at-once/1 |"
    await asyncio.sleep(0.05)
    assert (app.prompt, app.slow) == (["/at-once/1", "/wait"], ["/wait"])
    app.go.set()
    for path in (b"/wait |left", b"/at-once/2 |", b"/at-once/3 |"):
        assert (await answer(reader))[1] == b"GET " + path
    writer.write(request("/at-once/4"))
    assert (await answer(reader))[1] == b"GET /at-once/4 |"
    assert app.prompt[-1] == "/at-once/4"


async def test_chunked_bodies_are_whole(app: Echo, connection: Connection):
    reader, writer = connection
    chunked = (
        b"POST /at-once HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    writer.write(chunked + request("/at-once"))
    assert (await answer(reader))[1] == b"POST /at-once |abcde"
    assert (await answer(reader))[1] == b"GET /at-once |"


@pytest.mark.parametrize(
    "sent",
    [
        request("/at-once", Connection="close"),
        b"GET /at-once HTTP/1.0\r\nHost: here\r\n\r\n",
    ],
    ids=["close", "HTTP/1.0"],
)
async def test_connections_that_end_are_left_to_uvicorn(app: Echo, connection: Connection, sent: bytes):
    reader, writer = connection
    writer.write(sent)
    assert (await answer(reader))[1] == b"GET /at-once |"
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert (app.prompt, app.slow) == ([], ["/at-once"])


async def test_who_expects_to_be_told_to_continue_is_told(app: Echo, connection: Connection):
    reader, writer = connection
    writer.write(request("/at-once", b"body", "POST", Expect="100-continue").removesuffix(b"body"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"body")
    assert (await answer(reader))[1] == b"POST /at-once |body"


async def test_an_answer_that_does_not_fit_http_is_left_to_uvicorn(app: Echo, connection: Connection):
    reader, writer = connection
    writer.write(request("/at-once/odd"))
    headers, body = await answer(reader)
    assert body == b"GET /at-once/odd |left"
    assert b"x-odd: fine" in headers
    assert app.prompt == app.slow == ["/at-once/odd"]


async def test_nonsense_is_refused(connection: Connection):
    reader, writer = connection
    writer.write(b"NONSENSE\r\n\r\n")
    assert (await answer(reader))[0].startswith(b"HTTP/1.1 400 ")
