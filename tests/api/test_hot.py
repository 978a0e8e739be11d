"""What is answered ahead of the framework is what the framework answers, for requests good and bad."""

from __future__ import annotations

import gzip
import json
from urllib.parse import unquote

import numpy as np
import pytest
from starlette.testclient import TestClient

from vzarr.api.app import Server, create_app
from vzarr.api.dispatch import routes_of
from vzarr.api.hub import Hub
from vzarr.api.plans import Asked, Plan, UnplannableError, plan_of
from vzarr.api.protocol import Answer
from vzarr.api.routing import flat
from vzarr.api.security import Guard
from vzarr.api.target import Target
from vzarr.config import Settings
from vzarr.errors import InvalidInputError
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.overlay.kv.sqliteviews import View
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.reading import identity
from vzarr.types import kept
from vzarr.types.labelmap.handle import LabelMap


@pytest.fixture
def seg(client: TestClient, root: str) -> str:
    """Path of a labelmap with two bodies."""
    config = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16", "MaxDownresLevel": "1"}
    assert client.post(f"/api/repo/{root}/instance", json=config).status_code == 200
    labels = np.ones((16, 16, 32), np.uint64)
    labels[:, :, 16:] = 2
    path = f"/api/node/{root}/seg"
    assert client.post(f"{path}/raw/0_1_2/32_16_16/0_0_0", content=labels.tobytes()).status_code == 200
    return path


@pytest.fixture
def cold(settings: Settings, hub: Hub) -> TestClient:
    """A client of the same repos, served by the framework alone."""
    app = Guard(create_app(settings, hub).framework, settings)
    return TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False)


ASKED = [
    "size/1", "size/1?supervoxels=true", "size/99", "size/0", "size/-1", "size/x", "size/18446744073709551616", "size/",
    "size", "size/1/", "size/1/2", "size/%31", "size/1%2F2", "sizes", "label/0_0_0", "label/20_0_0?supervoxels=on",
    "label/0_0", "label/0_0_0?scale=9", "label/0_0_0?scale=99", "label/0_0_0?scale=&scale=1", "lastmod/2",
    "supervoxels/1", "specificblocks?blocks=0,0,0,1,0,0", "specificblocks?blocks=0,0", "specificblocks",
    "specificblocks?blocks=0,0,0&compression=lz4", "specificblocks?blocks=0,0,0&compression=zip",
    "blocks/32_16_16/0_0_0", "blocks/31_16_16/0_0_0", "blocks/32_16_16/0_0_0?compression=uncompressed&scale=1",
    "sparsevol/1", "sparsevol/1?format=blocks", "sparsevol/1?format=x", "sparsevol/9", "sparsevol/1?minx=5&maxx=4",
    "sparsevol-size/2", "sparsevol-coarse/1", "sparsevols-coarse/1/2", "raw/0_1_2/20_16_16/3_0_0",
    "raw/0_1/16_16/0_0_0/jpg:80", "raw/0_1/16_16/0_0_0/gif", "raw/0_1_2/20_16_16/3_0_0?compression=lz4",
    "raw/0_1_2/16_16_16/16_0_0?compression=googlegzip", "raw/0_1_2/16_16_16/16_0_0?compression=x",
    "isotropic/xy/8_8/0_0_0", "pseudocolor/xy/8_8/0_0_0", "listlabels?start=1&sizes=true", "mappings",
    "existing-labels",
    "mutations", "proximity/1/2", "index/1", "info", "help", "tags", "nothing", "maxlabel", "extents", "metadata?x=%FF",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_both_ways_give_the_same_answers(client: TestClient, cold: TestClient, seg: str, method: str):
    for asked in ASKED:
        for _ in range(2):  # the second time from memory
            here, there = (c.request(method, f"{seg}/{asked}") for c in (client, cold))
            assert (here.status_code, here.content) == (there.status_code, there.content), asked
            assert here.headers.get("content-type") == there.headers.get("content-type"), asked


def asked_at_once(app: Server, method: str, path: str, body: bytes = b"", **headers: str) -> Answer | None:
    path, _, query = path.partition("?")
    given = [(b"host", b"localhost:8000"), *((name.encode(), value.encode()) for name, value in headers.items())]
    scope = {"type": "http", "method": method, "root_path": "", "headers": given, "query_string": query.encode()}
    sent: list[Answer] = []
    took = app.at_once({**scope, "path": unquote(path), "raw_path": path.encode()}, body, lambda a: not sent.append(a))
    assert took == bool(sent)
    return sent[0] if sent else None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_answered_at_once_is_what_the_framework_answers(
    app: Server, cold: TestClient, seg: str, method: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(identity, "SETTLED_NS", -1)  # chunks that were written just now are kept, too
    found = set()
    for path in ASKED:
        there = cold.request(method, f"{seg}/{path}")
        if (here := asked_at_once(app, method, f"{seg}/{path}")) is not None:
            status, headers, body = here
            assert status == there.status_code, path
            if there.headers.get("content-encoding") == "gzip" and method == "GET":
                body = gzip.decompress(body)  # as the client has done
            assert method == "HEAD" or bytes(body) == there.content, path
            assert dict(headers).get(b"content-type", b"").decode() == there.headers.get("content-type", ""), path
            found.add(path.split("/")[0].split("?")[0])
    assert found == {
        "size",
        "label",
        "lastmod",
        "blocks",
        "specificblocks",
        "sparsevol",
        "sparsevol-size",
        "sparsevol-coarse",
        "raw",
    }


def test_pages_of_other_origins_are_told_and_refused_alike(app: Server, client: TestClient, seg: str):
    for origin, allowed in (("https://stranger.example", "*"), ("https://trusted.example", "https://trusted.example")):
        found = asked_at_once(app, "GET", f"{seg}/size/1", origin=origin)
        assert found is not None
        answer = client.get(f"{seg}/size/1", headers={"Origin": origin})
        assert {name.decode(): value.decode() for name, value in found[1]} == dict(answer.headers)
        assert answer.headers["access-control-allow-origin"] == allowed
    assert asked_at_once(app, "POST", f"{seg}/merge", b"[1,2]", origin="https://stranger.example") is None
    assert asked_at_once(app, "GET", f"{seg}/size/1", host="evil.example") is None
    assert asked_at_once(app, "GET", "/api/server/info") is None


def test_what_nobody_expected_has_a_number_at_once_too(
    app: Server, seg: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(LabelMap, "size", lambda *_, **__: 1 // 0)
    found = asked_at_once(app, "GET", f"{seg}/size/1")
    assert found is not None
    assert (found[0], b"Internal error on request" in found[2]) == (500, True)
    assert "ZeroDivisionError" in caplog.text


BODIES = [b"", b"[", b"[1,2]", b"[1,1.5]", b"[-1]", b'{"a":1}', b"[[0,0,0],[17,0,0]]", b"[[0,0,0,0]]", b"[0]", b"[99]"]


@pytest.mark.parametrize(
    "asked", ["sizes", "mapping", "labels", "indices", "sparsevol-size", "mapping?hash=x", "size/1"]
)
def test_both_ways_read_the_body_of_a_get(client: TestClient, cold: TestClient, seg: str, asked: str):
    for body in BODIES:
        here, there = (c.request("GET", f"{seg}/{asked}", content=body) for c in (client, cold))
        assert (here.status_code, here.content) == (there.status_code, there.content), body


@pytest.mark.parametrize(
    "asked", ["merge", "cleave/1", "renumber", "undo", "nothing", "size/1", "raw/0_1_2/1_1_1/0_0_0"]
)
def test_both_ways_refuse_the_same_changes(client: TestClient, cold: TestClient, seg: str, asked: str):
    for body in (*BODIES[:2], b"[7,8]", b"[1]", b"{}"):
        here, there = (c.post(f"{seg}/{asked}", content=body) for c in (client, cold))
        assert (here.status_code, here.content) == (there.status_code, there.content), body


def test_a_sealed_version_and_an_unknown_one_are_refused_both_ways(client: TestClient, cold: TestClient, seg: str):
    edited = client.post(f"{seg}/merge", content=b"[1,2]")
    assert edited.status_code == 200
    root = seg.split("/")[3]
    assert client.post(f"/api/node/{root}/commit", json={}).status_code == 200
    for path in (f"{seg}/merge", "/api/node/ffff/seg/merge", f"/api/node/{root}/none/merge"):
        here, there = (c.post(path, content=b"[1,2]") for c in (client, cold))
        assert here.status_code == 400
        assert (here.status_code, here.content) == (there.status_code, there.content)
    assert json.loads(client.get(f"{seg}/label/20_0_0").content) == {"Label": 1}


def test_every_route_of_a_labelmap_has_a_plan_but_those_named_here():
    routes = [(m, r.path) for r in flat(routes_of("labelmap").router.routes) for m in r.methods]
    left = {p for m, p in routes if plan_of("labelmap", (m, p.split("/")[1], p.strip("/").count("/") + 1)) is None}
    assert left == {"/index/{label}", "/indices"}, "these ask for numbers or lists in the query"


def test_a_route_that_no_plan_fits_is_left_to_the_framework():
    unplannable = [r for r in flat(routes_of("keyvalue").router.routes) if ":path" in r.path]
    assert unplannable
    for route in unplannable:
        with pytest.raises(UnplannableError):
            Plan.of(route)


def test_the_settings_bound_the_cache(hub: Hub):
    before = kept.cache.limit
    try:
        create_app(Settings(cache_mb=3), hub)
        assert kept.cache.limit == 3 << 20
    finally:
        kept.keep_at_most(before)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of log and key store: keys of log entries, statements, and ``stamp``."""
    made: list[str] = []
    fetch, query, stamp = FileObjects.fetch, View._query, SqliteKV.stamp
    monkeypatch.setattr(FileObjects, "fetch", lambda self, key, *more: made.append(key) or fetch(self, key, *more))
    monkeypatch.setattr(View, "_query", lambda self, sql, *values: made.append(sql) or query(self, sql, *values))
    monkeypatch.setattr(SqliteKV, "stamp", lambda self: made.append("stamp") or stamp(self))
    return made


@pytest.mark.parametrize(
    "path", ["size/1", "label/20_0_0", "specificblocks?blocks=0,0,0", "sparsevol-coarse/1", "sparsevol-size/1"]
)
def test_a_short_answer_that_is_known_looks_once_into_the_log_and_at_the_stamp(
    client: TestClient, hub: Hub, seg: str, asked: list[str], path: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(identity, "SETTLED_NS", -1)  # chunks that were written just now are kept, too
    root = seg.split("/")[3]
    assert client.post(f"/api/node/{root}/commit", json={}).status_code == 200
    child = seg.replace(root, client.post(f"/api/node/{root}/newversion", json={}).json()["child"])
    hub.behind.wait()
    first = client.get(f"{child}/{path}")
    assert first.status_code == 200
    del asked[:]
    assert client.get(f"{child}/{path}").content == first.content
    assert [one.partition("/")[0] for one in asked] == ["log", "stamp"]


def test_a_short_answer_after_an_edit_reads_what_may_have_changed(client: TestClient, seg: str, asked: list[str]):
    assert client.get(f"{seg}/size/1").json() == {"voxels": 16**3}
    assert client.post(f"{seg}/merge", content=b"[1,2]").status_code == 200
    del asked[:]
    assert client.get(f"{seg}/size/1").json() == {"voxels": 2 * 16**3}
    assert [one for one in asked if not one.startswith("SELECT")][1:] == ["stamp"]
    assert len([one for one in asked if one.startswith("SELECT")]) <= 4  # an intent? two last changes, a header


def test_requests_without_a_query_parse_none(seg: str):
    plan, at_a_point = (plan_of("labelmap", ("GET", keyword, 2)) for keyword in ("size", "label"))
    assert plan is not None
    assert at_a_point is not None
    scope = {"query_string": b""}
    asked = Asked(scope, "", Target(None, None), {"label": "1"})  # type: ignore[arg-type]
    assert plan.values["supervoxels"](asked) is False
    asked.scope["query_string"] = b"supervoxels=true"
    assert plan.values["supervoxels"](asked) is True
    with pytest.raises(InvalidInputError):
        at_a_point.values["scale"](Asked({"query_string": b"scale=x"}, "", asked.target, {}))
