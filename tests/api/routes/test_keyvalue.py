"""Routes of keyvalue beyond what the recordings of the reference server hold."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from starlette.testclient import TestClient

import vzarr
from tests.serving import serving
from vzarr.api.hub import Hub
from vzarr.types import largevalues, registry


@pytest.fixture
def client(client: TestClient, root: str) -> TestClient:
    """Client whose paths are relative to a new instance."""
    config = {"typename": "keyvalue", "dataname": "kv"}
    made = client.post(f"/api/repo/{root}/instance", json=config)
    assert made.status_code == 200, made.text
    client.base_url = client.base_url.join(f"/api/node/{root}/kv/")
    return client


def _batch(client: TestClient, query: str, body: list[object]):
    return client.request("GET", f"keyvalues?{query}", json=body)


def test_an_empty_value_is_found_again(client: TestClient):
    assert client.post("key/empty", content=b"").status_code == 200
    found = client.get("key/empty")
    assert (found.status_code, found.content, found.headers["content-length"]) == (200, b"", "0")
    assert client.head("key/empty").status_code == 200
    assert _batch(client, "json=true", ["empty"]).json() == {"empty": {}}


def test_a_key_may_hold_a_slash_and_other_characters(client: TestClient):
    for key in ("a%2Fb", "%C3%A9", "a%20b", "50%25", "a%3Fb"):
        assert client.post(f"key/{key}", content=key.encode()).status_code == 200
        assert client.get(f"key/{key}").content == key.encode()
    assert client.get("keys").json() == ["50%", "a b", "a/b", "a?b", "é"]
    assert client.get("keyrange/a%2F/a%3F").json() == ["a/b"]
    assert client.delete("key/a%2Fb").status_code == 200
    assert "a/b" not in client.get("keys").json()


def test_head_says_how_long_a_value_is_and_sends_nothing(client: TestClient):
    client.post("key/a", content=b"0123456789")
    found = client.head("key/a")
    assert (found.status_code, found.headers["content-length"], found.content) == (200, "10", b"")
    assert client.head("key/none").status_code == 404


def test_a_range_of_an_empty_value_cannot_be_satisfied(client: TestClient):
    client.post("key/empty", content=b"")
    found = client.get("key/empty", headers={"Range": "bytes=0-"})
    assert (found.status_code, found.headers["content-range"]) == (416, "bytes */0")


def test_a_value_that_is_no_json_is_named_when_asked_to_check(client: TestClient):
    client.post("key/bad", content=b"not json")
    for path in ("keyrangevalues/a/z?json=true&check=true", "keyvalues?json=true&check=true"):
        found = client.request("GET", path, json=["bad"])
        assert found.status_code == 400
        assert '"bad"' in found.text


def test_a_value_that_is_replaced_before_it_is_sent_is_read_again(
    client: TestClient, hub: Hub, root: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(largevalues, "PART", 10)
    client.post("key/a", content=b"x" * 35)
    read, times = largevalues.Stored.read, iter(range(2))

    def late(found: largevalues.Stored, first: int, end: int):
        if next(times, None) is not None:
            hub.find(root)[1]["kv"].put("a", b"y" * 25)
        return read(found, first, end)

    monkeypatch.setattr(largevalues.Stored, "read", late)
    answer = client.get("key/a", headers={"Range": "bytes=1-"})
    assert (answer.status_code, answer.content) == (206, b"y" * 24)
    assert answer.headers["content-range"] == "bytes 1-24/25"


def test_a_large_value_travels_whole(client: TestClient):
    value = bytes(range(256)) * (1 << 13)
    client.post("key/large", content=value)
    assert client.get("key/large").content == value
    part = client.get("key/large", headers={"Range": f"bytes={len(value) - 3}-"})
    assert (part.status_code, part.content) == (206, b"\xfd\xfe\xff")


def test_the_mutation_log_names_who_did_what(client: TestClient):
    client.post("key/a?u=me&app=tests", content=b"123")
    client.delete("key/a?u=you")
    records = client.get("mutations").json()
    assert [(r["Action"], r["Key"], r.get("Bytes"), r["User"]) for r in records] == [
        ("postkv", "a", 3, "me"),
        ("delete", "a", None, "you"),
    ]
    assert [r["MutationID"] for r in records] == [1_000_000_000, 1_000_000_001]


def test_help_cites_the_endpoints(client: TestClient):
    assert "GET D/keyrangevalues/{first}/{last}" in client.get("help").text


LARGE = bytes(range(256)) * 40_000  # of three parts


def _pieces(content: bytes, size: int = 100_000):
    return (content[start : start + size] for start in range(0, len(content), size))


def test_a_large_value_is_stored_as_it_arrives_and_sent_in_parts(client: TestClient):
    assert client.post("key/large", content=_pieces(LARGE)).status_code == 200
    with client.stream("GET", "key/large") as answer:
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(LARGE)))
        assert b"".join(answer.iter_raw()) == LARGE
    head = client.head("key/large")
    assert (head.status_code, head.headers["content-length"], head.headers["accept-ranges"]) == (
        200,
        str(len(LARGE)),
        "bytes",
    )
    for header, first, end in (
        ("bytes=4194303-4194304", 4194303, 4194305),
        ("bytes=-5", len(LARGE) - 5, len(LARGE)),
        ("bytes=5000000-", 5_000_000, len(LARGE)),
    ):
        part = client.get("key/large", headers={"Range": header})
        assert (part.status_code, part.content) == (206, LARGE[first:end])
        assert part.headers["content-range"] == f"bytes {first}-{end - 1}/{len(LARGE)}"
    assert client.get("key/large?byte_start=4194300&byte_end=8388700").content == LARGE[4194300:8388701]
    assert client.get(f"key/large?byte_start=0&byte_end={len(LARGE)}").status_code == 400
    assert client.get("key/large", headers={"Range": f"bytes={len(LARGE)}-"}).status_code == 416
    assert _batch(client, "tar=true", [{"key": "large", "byte_start": 4194303, "byte_end": 4194304}]).status_code == 200
    assert [(r["Action"], r["Bytes"]) for r in client.get("mutations").json()] == [("postkv", len(LARGE))]


def test_a_value_whose_sender_gives_up_is_never_seen(tmp_path: Path):
    with vzarr.create(str(tmp_path / "kv")) as repo:
        made = registry.create(repo.root, "kv", "keyvalue")
        made.put("a", b"old")
    with serving(tmp_path) as server:
        host, port = urlsplit(server.url).netloc.split(":")
        url = f"/api/node/{repo.root.uuid}/kv/key/a"
        with socket.create_connection((host, int(port))) as sender:
            head = f"POST {url} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(LARGE)}\r\n\r\n"
            sender.sendall(head.encode() + LARGE[: len(LARGE) // 2])
            wait_until(lambda: _parts_of(tmp_path / "kv") > 0)
        wait_until(lambda: _parts_of(tmp_path / "kv") == 0)
        assert urlopen(server.url + url).read() == b"old"


@pytest.mark.exhaustive
def test_a_value_of_a_gigabyte_is_never_in_memory(tmp_path: Path):
    """Written and read in pieces; the server's memory grows by some parts of a value at most."""
    piece, count = random.Random(1).randbytes(1 << 20), 1 << 10
    with vzarr.create(str(tmp_path / "kv"), root="first") as repo:
        registry.create(repo.root, "kv", "keyvalue")
    with serving(tmp_path / "kv") as server:
        url, host = "/api/node/first/kv/key/big", urlsplit(server.url).netloc
        assert urlopen(f"{server.url}/api/node/first/kv/keys").read() == b"[]"
        before, peak = _resident(server.process.pid), []

        def pieces() -> Iterator[bytes]:
            for n in range(count):
                if n % 32 == 0:
                    peak.append(_resident(server.process.pid))
                yield n.to_bytes(4, "big") + piece[4:]

        with closing(HTTPConnection(host)) as connection:
            connection.request("POST", url, pieces(), {"Content-Length": str(count << 20)})
            assert connection.getresponse().status == 200
        with urlopen(server.url + url) as found:
            for n, expected in enumerate(pieces()):
                assert found.read(len(piece)) == expected, n
            assert found.read() == b""
        assert max(peak) - before < 128 << 20


def _resident(process: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _parts_of(place: Path) -> int:
    """How many rows there are of parts that are written at a repo's root."""
    with vzarr.open(str(place)) as repo:
        return sum(1 for row in repo.root.keys("kv").scan_keys(b"p", b"v"))


def wait_until(so: Callable[[], bool], patience: float = 30) -> None:
    """Look again and again until something is so."""
    late = time.monotonic() + patience
    while not so():
        assert time.monotonic() < late
        time.sleep(0.02)


@pytest.mark.parametrize("key", ["%00", "a%00b", "%2F", "..%2F..%2Fx", "k" * 10_000, "%F0%9F%A6%8B", "%01%7F"])
def test_keys_of_any_text(client: TestClient, key: str):
    assert client.post(f"key/{key}", content=b"1").status_code == 200
    assert client.get(f"key/{key}").content == b"1"
    assert client.post(f"key/{key}x", content=b"2").status_code == 200
    assert len(client.get("keys").json()) == 2
    assert client.delete(f"key/{key}").status_code == 200
    assert (client.get(f"key/{key}").status_code, client.get(f"key/{key}x").content) == (404, b"2")


@pytest.mark.parametrize("key", ["%FF", "a%C3", "%ED%A0%80"])
def test_keys_that_are_no_text_are_refused(client: TestClient, key: str):
    answer = client.post(f"key/{key}", content=b"1")
    assert (answer.status_code, "UTF-8" in answer.text) == (400, True)
    assert client.get(f"key/{key}").status_code == 400
    assert client.get("keys").json() == []


def test_a_key_may_hold_line_breaks(client: TestClient):
    keys = ["a%0Ab", "b%0A", "%0A", "%0D%0A", "c%0A%2Fd", "e%250A"]
    for key in keys:
        assert client.post(f"key/{key}", content=key.encode()).status_code == 200, key
    for key in keys:
        assert client.get(f"key/{key}").content == key.encode()
        assert client.head(f"key/{key}").status_code == 200
    assert client.get("keyrange/a%0A/c").json() == ["a\nb", "b\n"]
    assert client.get("keyrange/%0A/%0A").json() == ["\n"]
    for key in keys:
        assert client.delete(f"key/{key}").status_code == 200
    assert client.get("keys").json() == []


def test_a_slash_that_is_not_encoded_means_no_other_key(client: TestClient):
    client.post("key/x", content=b"x")
    for answer in (client.post("key/x/y", content=b"y"), client.delete("key/x/y"), client.get("key/x/y")):
        assert (answer.status_code, "x%2Fy" in answer.text) == (400, True)
    assert (client.get("key/x").content, client.get("keys").json()) == (b"x", ["x"])
    assert client.get("key/x/").content == b"x"
    assert client.get("keyrange/a/b/c").status_code == 400
    client.post("key/x%2Fy", content=b"y")
    assert client.get("key/x%2Fy").content == b"y"


@pytest.mark.parametrize("key", ["%zz", "%", "a%2", "%%30", "%G0x"])
def test_a_percent_sign_that_encodes_nothing_is_refused(client: TestClient, key: str):
    where = str(client.base_url.join(f"key/{key}"))
    request = client.build_request("POST", "key/z", content=b"1")
    request.url = request.url.copy_with(raw_path=f"{client.base_url.path}key/{key}".encode())
    answer = client.send(request)
    assert (answer.status_code, "%25" in answer.text) == (400, True), where
    assert client.get("keys").json() == []


def test_info_can_be_posted(client: TestClient):
    answer = client.post("info", content=b"{}")
    assert (answer.status_code, answer.json()) == (200, client.get("info").json())


def test_a_missing_key_is_no_error_of_the_path(client: TestClient):
    assert client.post("key/", content=b"1").status_code == 400
    assert client.get("keys").json() == []
