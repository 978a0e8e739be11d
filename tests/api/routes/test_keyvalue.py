"""Routes of keyvalue beyond what the recordings of the reference server hold."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient


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
