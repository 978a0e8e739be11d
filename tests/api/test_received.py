"""Bodies of requests as they come in."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from vzarr.api import received
from vzarr.api.received import Body, body_of


def get(parts: list[bytes], headers: dict[bytes, bytes], *, ends: bool = True) -> Body:
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b""} if ends else {"type": "http.disconnect"})
    left = iter(messages)

    async def receive():
        return next(left)

    return asyncio.run(body_of({"type": "http", "headers": list(headers.items())}, receive))


@pytest.mark.parametrize("size", [0, 7, received.LARGE - 1, received.LARGE, received.LARGE + 3])
@pytest.mark.parametrize("part", [1 << 10, 1 << 18])
def test_a_body_is_whole(size: int, part: int):
    whole = bytes(range(256)) * (size // 256 + 1)
    whole = whole[:size]
    found = get([whole[n : n + part] for n in range(0, size, part)], {b"content-length": b"%d" % size})
    assert bytes(found) == whole
    assert isinstance(found, memoryview) == (size >= received.LARGE)


@pytest.mark.parametrize("headers", [{b"transfer-encoding": b"chunked"}, {b"content-length": b"%d" % (1 << 50)}])
def test_no_memory_is_promised_to_who_does_not_say_how_much_or_says_too_much(headers: dict[bytes, bytes]):
    assert get([b"12", b"3"], headers) == b"123"


def test_there_is_no_body_without_a_length():
    assert get([], {}) == b""


@pytest.mark.parametrize("size", [5, received.LARGE])
def test_a_client_that_goes_away_is_no_short_body(size: int):
    with pytest.raises(ClientDisconnect):
        get([b"1"], {b"content-length": b"%d" % size}, ends=False)


def test_large_bodies_reach_the_routes(client: TestClient, root: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(received, "LARGE", 8)
    for typename, name, size in (("uint8blk", "gray", 1), ("labelmap", "seg", 8), ("keyvalue", "kv", 0)):
        config = {"typename": typename, "dataname": name, "BlockSize": "16,16,16", "MaxDownresLevel": "0"}
        assert client.post(f"/api/repo/{root}/instance", json=config).status_code == 200
        path = f"/api/node/{root}/{name}"
        if size:
            voxels = bytes([1, *bytes(size - 1)]) * 4096
            assert client.post(f"{path}/raw/0_1_2/16_16_16/0_0_0", content=voxels).status_code == 200
            assert client.get(f"{path}/raw/0_1_2/16_16_16/0_0_0").content == voxels
        else:
            assert client.post(f"{path}/key/a", content=b"a long value").status_code == 200
            assert client.get(f"{path}/key/a").content == b"a long value"
