"""Routes of neuronjson beyond what the recordings of the reference server hold, and bad requests to them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import pytest
from starlette.testclient import TestClient

from vzarr.types import messages

BIG = (1 << 64) - 1


@pytest.fixture
def client(client: TestClient, root: str) -> TestClient:
    """Client whose paths are relative to a new instance with three records."""
    made = client.post(f"/api/repo/{root}/instance", json={"typename": "neuronjson", "dataname": "nj"})
    assert made.status_code == 200, made.text
    client.base_url = client.base_url.join(f"/api/node/{root}/nj/")
    for body, kind in ((5, "KC"), (BIG, "PN"), (30, "KCab")):
        assert client.post(f"key/{body}?u=ann", json={"bodyid": body, "type": kind}).status_code == 200
    return client


@pytest.fixture
def everything(client: TestClient) -> object:
    return client.get("all?show=all").json()


def _get(client: TestClient, path: str, body: object):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.request("GET", path, content=content)


def test_info_can_be_posted(client: TestClient):
    answer = client.post("info", content=b"{}")
    assert (answer.status_code, answer.json()) == (200, client.get("info").json())


def test_a_slash_in_a_key_is_refused(client: TestClient, everything: object):
    for answer in (client.post("key/1/2?u=u", json={"bodyid": 1}), client.delete("key/1/2")):
        assert (answer.status_code, "%2F" in answer.text) == (400, True)
    assert client.get("all?show=all").json() == everything


def test_bodies_are_sorted_as_numbers(client: TestClient):
    assert client.get("keys").json() == ["5", "30", str(BIG)]
    assert [record["bodyid"] for record in client.get("all").json()] == [5, 30, BIG]


@pytest.mark.parametrize(
    ("span", "keys"),
    [
        ("5/30", ["5", "30"]),
        ("0/z", ["5", "30", str(BIG)]),
        ("0/:", ["5", "30", str(BIG)]),
        ("%20/a", ["5", "30", str(BIG)]),
        (f"6/{BIG}", ["30", str(BIG)]),
        (f"6/{10**30}", ["30", str(BIG)]),
        ("30/5", []),
    ],
)
def test_ends_of_ranges(client: TestClient, span: str, keys: list[str]):
    assert client.get(f"keyrange/{span}").json() == keys
    assert list(client.get(f"keyrangevalues/{span}?json=true").json()) == keys


def test_all_is_compressed_for_who_accepts_it(client: TestClient):
    plain = client.get("all", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", "all", headers={"Accept-Encoding": "br, gzip;q=0.5"}) as packed:
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["content-type"] == "application/json"
        assert gzip.decompress(b"".join(packed.iter_raw())) == plain.content
    assert "content-encoding" not in client.get("all", headers={"Accept-Encoding": "gzip;q=0"}).headers


def test_records_of_which_nothing_is_left_are_left_out(client: TestClient):
    assert client.post("key/7?u=ann", json={"bodyid": 7}).status_code == 200
    assert [r["bodyid"] for r in client.get("all").json()] == [5, 30, BIG]
    assert client.get("all?fields=nosuch").json() == []
    assert client.get("all?fields=bodyid").json() == [{"bodyid": b} for b in (5, 7, 30, BIG)]


def test_batches_leave_out_bodies_without_a_record(client: TestClient):
    assert _get(client, "keyvalues?json=true", ["30", 6, 5]).json() == {
        "30": {"bodyid": 30, "type": "KCab"},
        "5": {"bodyid": 5, "type": "KC"},
    }
    tar = _get(client, "keyvalues?tar=true", [30, 6])
    with tarfile.open(fileobj=io.BytesIO(tar.content)) as archive:
        assert [(m.name, json.load(archive.extractfile(m))) for m in archive] == [
            ("30", {"bodyid": 30, "type": "KCab"})
        ]
    asked = messages.Keys(keys=["6", "5", "7", "5", "5", "9"]).SerializeToString()
    found = messages.KeyValues.FromString(_get(client, "keyvalues", asked).content).kvs
    five = ("5", b'{"bodyid":5,"type":"KC"}')
    assert [(pair.key, pair.value) for pair in found] == [("6", b""), five, ("7", b""), five, five, ("9", b"")]


def test_queries_for_ids_alone(client: TestClient):
    assert _get(client, "query?onlyid=true", {"bodyid": [30, 5]}).json() == [30, 5]
    assert _get(client, "query?onlyid=true", {"type": "re/^KC"}).json() == [5, 30]
    assert client.post("query?onlyid=true", json=[{"type": "PN"}, {"type": "KC"}]).json() == [5, BIG]
    assert client.request("HEAD", "query", content=b"{}").status_code == 200


def test_documents_by_both_names(client: TestClient):
    for name in ("schema", "schema_batch", "json_schema"):
        assert client.get(name).status_code == client.get(f"key/{name}").status_code == 404
        assert client.post(f"key/{name}", json={"type": "object"}).status_code == 200
        assert client.get(name).json() == client.get(f"key/{name}").json() == {"type": "object"}
        assert client.delete(name).status_code == client.delete(f"key/{name}").status_code == 200
        assert client.head(name).status_code == 404
    assert client.get("keys").json() == ["5", "30", str(BIG)]


def test_changes_are_logged(client: TestClient, root: str):
    client.delete("key/5?u=bob&app=a")
    found = client.get("mutations").json()
    assert [(r["Action"], r["Key"], r.get("User")) for r in found] == [
        ("postneuronjson", "5", "ann"),
        ("postneuronjson", str(BIG), "ann"),
        ("postneuronjson", "30", "ann"),
        ("delete", "5", "bob"),
    ]
    assert client.get(f"mutations-range/{root}/{root}").json() == found


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("key/5", {"bodyid": 5}, "without a valid user"),
        ("key/5?u=a", b"", "JSON object"),
        ("key/5?u=a", b'{"bodyid": 5', "JSON object"),
        ("key/5?u=a", b'{"bodyid": 5, "a": "\xff"}', "JSON object"),
        ("key/5?u=a", b'{"bodyid": 5, "a": ' + b"[" * 800 + b"]" * 800 + b"}", "should be JSON"),
        ("key/5?u=a", [5], "JSON object"),
        ("key/5?u=a", {"type": "x"}, "must have 'bodyid'"),
        ("key/5?u=a", {"bodyid": 6}, "'bodyid' is 6"),
        ("key/0?u=a", {"bodyid": 0}, "between 1 and"),
        (f"key/{1 << 64}?u=a", {"bodyid": 5}, "between 1 and"),
        ("key/-5?u=a", {"bodyid": -5}, "between 1 and"),
        ("key/5.0?u=a", {"bodyid": 5}, "should be an integer"),
        ("key/%C3%BC?u=a", {"bodyid": 5}, "should be an integer"),
        ("key/5%2F6?u=a", {"bodyid": 5}, "should be an integer"),
        ("key/5%00?u=a", {"bodyid": 5}, "should be an integer"),
        ("key/%FF?u=a", {"bodyid": 5}, "should be UTF-8"),
        ("key/?u=a", {"bodyid": 5}, ""),
        (f"key/{'9' * 10_000}?u=a", {"bodyid": 5}, ""),
        ("keyvalues?u=a", b"\xff\xff\xff", "protobuf"),
        ("keyvalues?u=a", messages.KeyValues(kvs=[{"key": "5", "value": b"{"}]).SerializeToString(), "JSON object"),
        ("keyvalues?u=a", messages.KeyValues(kvs=[{"key": "x", "value": b"{}"}]).SerializeToString(), "an integer"),
        (
            "keyvalues?u=a",
            messages.KeyValues(
                kvs=[{"key": "6", "value": b'{"bodyid":6}'}, {"key": "7", "value": b'{"bodyid":6}'}]
            ).SerializeToString(),
            "'bodyid' is 6",
        ),
        ("json_schema", b"{", "should be JSON"),
        ("json_schema", {"type": "nonsense"}, "no JSON Schema"),
        ("json_schema", [1], "JSON object"),
        ("json_schema", {"$ref": "http://127.0.0.1:9/other.json"}, "no JSON Schema"),
        ("json_schema", {"$ref": "file:///etc/hostname"}, "no JSON Schema"),
        ("schema", b"", "should be JSON"),
        ("query", {"type": "re/(" * 3}, "regular expression"),
        ("query", {"type": None}, "exists/0"),
        ("query", b"\xff", "should be JSON"),
    ],
)
def test_bad_posts_change_nothing(client: TestClient, everything: object, path: str, body: object, said: str):
    answer = client.post(path, content=body if isinstance(body, bytes) else json.dumps(body).encode())
    assert answer.status_code == 400, answer.text
    assert said in answer.text
    assert client.get("all?show=all").json() == everything
    assert client.get("json_schema").status_code == 404
    assert len(client.get("mutations").json()) == 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("key/abc", b""),
        ("key/0", b""),
        ("key/5?show=nonsense", b""),
        ("keyrange/5", b""),
        ("keyrange/5/12ab", b""),
        (f"keyrange/5/{'9' * 10_000}", b""),
        ("keyvalues", b"\xff"),
        ("keyvalues?json=true", b'{"a": 1}'),
        ("keyvalues?json=true", b"[1.5]"),
        ("keyvalues?json=true", b"[true]"),
        ("keyvalues?json=true", b'["abc"]'),
        ("keyvalues?tar=true&json=true", b"[]"),
    ],
)
def test_bad_questions(client: TestClient, path: str, body: bytes):
    answer = client.request("GET", path, content=body)
    assert answer.status_code == 400
    assert answer.text


def test_a_schema_refuses_records_and_mends_numbers_that_came_as_text(client: TestClient):
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "at": {"type": "array", "items": {"type": "integer"}},
            "name": {"type": "string", "pattern": "^(a+)+$"},
        },
        "required": ["n"],
    }
    assert client.post("json_schema", json=schema).status_code == 200
    posted = {"bodyid": 9, "n": "12", "at": [1, "-2"], "gone": None}
    assert client.post("key/9?u=a", json=posted).status_code == 200
    assert client.get("key/9").json() == {"bodyid": 9, "n": 12, "at": [1, -2]}
    for bad in ({"n": "12x"}, {}, {"n": 1.5}, {"n": 1, "name": 5}, {"n": 1, "name": "a" * 50_000 + "!"}):
        answer = client.post("key/9?u=a", json={"bodyid": 9, **bad})
        assert answer.status_code == 400, answer.text
        assert "record of body 9 does not conform to json_schema" in answer.text
        assert len(answer.text) < 1000
    assert client.get("key/9").json() == {"bodyid": 9, "n": 12, "at": [1, -2]}


def test_large_records(client: TestClient):
    record = {"bodyid": 8, "text": "x" * 3_000_000, "list": list(range(100_000))}
    assert client.post("key/8?u=a", json=record).status_code == 200
    assert client.get("key/8").json() == record
    assert _get(client, "query?onlyid=true", {"list": 77_777}).json() == [8]
    assert _get(client, "query?onlyid=true", {"text": "x" * 3_000_000}).json() == [8]
    assert _get(client, "query?onlyid=true", {"text": "re/^x+$"}).json() == [8]
