"""Objects come from a bucket and go there by signed URLs, past the server that gave them; otherwise by the server."""

from __future__ import annotations

import hashlib
import http.client
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import orjson
import pytest

import vzarr
from tests.s3.proxies import LossyProxy
from tests.s3.servers import Server as Store
from tests.serving import TOKEN, Server, serving
from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout, opening
from vzarr.overlay.care.rebuildkeys import rebuild
from vzarr.overlay.care.verify import verify
from vzarr.overlay.objects.drivers.s3 import S3
from vzarr.overlay.sealing import leftout
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import direct
from vzarr.overlay.transfer.http import Host
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import clone, push
from vzarr.types.registry import create

CHUNK = (4, 4, 4)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[vzarr.Repo]:
    with vzarr.create(str(tmp_path / "origin"), root="origin") as repo:
        root = repo.root
        root.create_array("a", dtype="u1", chunks=CHUNK)
        root.write("a", (0, 0, 0), np.random.default_rng(0).integers(0, 255, (12, 12, 12), "u1"))
        create(root, "notes", "keyvalue").put("a", b"1")
        create(root, "settings", "keyvalue", versioned=False).put("s", b"1")
        tip = root.commit().newversion()
        tip.write("a", (0, 0, 0), np.full(CHUNK, 9, "u1"))
        tip.commit()
        yield repo


@pytest.fixture
def served(url: str, tmp_path: Path) -> Iterator[Server]:
    """A server whose repos lie in the bucket."""
    with serving(url, "--keys", f"sqlite:///{tmp_path}/served.sqlite") as server:
        yield server


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """Requests that this process sends: method, and ``server`` or ``store``."""
    found: Counter[tuple[str, str]] = Counter()
    real = Host.ask

    def noted(self: Host, method: str, path: str, *more: object) -> object:
        where = "store" if "X-Amz-Signature" in path else path.split("?")[0].split("/")[4:5]
        found[method, where if isinstance(where, str) else "/".join(where)] += 1
        return real(self, method, path, *more)

    monkeypatch.setattr(Host, "ask", noted)
    return found


def send(origin: vzarr.Repo, server: Server, verb=clone):
    with open_place(origin.url) as mine, open_place(server.url, TOKEN) as theirs:
        return verb(mine, theirs)


def objects_of(repo: vzarr.Repo) -> int:
    return sum(1 for node in repo.state.nodes for _ in repo.objects.walk(layout.node(node)))


def test_objects_pass_the_server_by(origin: vzarr.Repo, served: Server, asked, tmp_path: Path, server: Store):
    if server.kind != "versitygw":
        pytest.skip("moto takes any bytes for any checksum")
    send(origin, served)
    count = objects_of(origin)
    assert asked["PUT", "store"] >= count
    assert asked["PUT", "objects"] == 0
    assert asked["POST", "urls"] <= 4, "many URLs at a time"
    asked.clear()
    with vzarr.clone(served.url, str(tmp_path / "back")) as back:
        assert asked["GET", "store"] >= count
        # Seals and lists of checksums say what there is to ask for.
        assert asked["GET", "objects"] <= 3 * len(origin.state.nodes)
        assert not list(verify(back.objects))
        assert dict(back.root.keys("settings").scan()) == dict(origin.root.keys("settings").scan())
        for version in origin.versions():
            box = version.bounds("a")
            np.testing.assert_array_equal(back[version.uuid].read("a", *box), version.read("a", *box))


def test_a_mirror_passes_the_server_by(origin: vzarr.Repo, served: Server, asked, tmp_path: Path, server: Store):
    """A mirror in a server whose repos lie in a bucket, and a mirror of that one; open versions too."""
    if server.kind != "versitygw":
        pytest.skip("moto takes any bytes for any checksum")
    origin["master"].newversion()["notes"].put("open", b"2")
    for n in range(2):
        with open_place(origin.url) as mine, open_place(served.url, TOKEN) as theirs:
            done = mirror(mine, theirs, opened=True)
        if not n:
            assert asked["PUT", "store"] >= objects_of(origin) - 2, "but for the open version's"
            assert done.nbytes
        asked.clear()
    last = str(tmp_path / "last")
    with open_place(f"{served.url}/origin", TOKEN) as theirs:
        mirror(theirs, open_place(last))
    assert asked["GET", "store"] >= objects_of(origin) - 2
    assert not list(verify(opening.open_objects(last)))
    with vzarr.open(last) as back:
        assert back.root["settings"].get("s") == b"1"


def test_open_versions_in_a_bucket_are_mirrored_by_their_server(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read: list[str] = []
    real = Host.ask

    def noted(self: Host, method: str, path: str, *more: object) -> object:
        read.extend([path] if method == "GET" and "/mirror/objects/nodes/" in path and "/zarr/" in path else [])
        return real(self, method, path, *more)

    monkeypatch.setattr(Host, "ask", noted)
    keys, last = f"sqlite:///{tmp_path}/served.sqlite", str(tmp_path / "last")
    with vzarr.create(f"{url}/lake", root="lake", keys=keys) as repo, serving(url, "--keys", keys) as server:
        create(repo.root, "notes", "keyvalue").put("a", b"1")
        repo.root.commit()
        tip = repo["master"].newversion()
        tip.create_array("a", dtype="u1", chunks=CHUNK)
        tip.write("a", (0, 0, 0), np.full(CHUNK, 9, "u1"))
        tip["notes"].put("b", b"2")
        for _ in range(2):
            found = len(read)
            with open_place(f"{server.url}/lake", TOKEN) as theirs:
                done = mirror(theirs, open_place(last), opened=True)
        assert (found > 0, len(read) - found, done.nbytes) == (True, 0, 0), "its ETag tells what has not changed"
        assert not list(repo.objects.walk("tmp"))
        assert not rebuild(opening.open_objects(last)).lost
        with vzarr.open(last) as back:
            np.testing.assert_array_equal(back["master"].read("a", (0, 0, 0), CHUNK), 9)
            assert dict(back["master"].keys("notes").scan()) == dict(tip.keys("notes").scan())


def test_urls_are_of_the_fourth_kind_and_end(origin: vzarr.Repo, served: Server, server: Store):
    send(origin, served)
    key = layout.seal(origin.uuid)
    (url, headers) = ask(served, "GET", [key])[key]
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert 0 < int(query["X-Amz-Expires"][0]) <= 3600
    assert headers == {}
    assert fetch(url)[1] == origin.objects.get(key)
    assert fetch(url.replace("seal.json", "tree.json"))[0] == 403


def test_a_url_takes_the_bytes_that_it_was_signed_for_and_no_others(origin, served: Server, server: Store):
    if server.kind != "versitygw":
        pytest.skip("moto takes any bytes for any checksum")
    send(origin, served)
    node, data = "1" * 32, b"right"
    digest = hashlib.sha256(data).hexdigest()
    key = f"nodes/{node}/zarr/zarr.json"
    (url, headers) = ask(served, "POST", [[key, len(data), digest]])[key]
    assert fetch(url, b"wrong", headers)[0] == 400
    assert fetch(url, data, {})[0] == 403
    assert fetch(url, data, dict.fromkeys(headers, "A" * 43 + "="))[0] == 403
    assert fetch(url, data, {name: value for name, value in headers.items() if value != "*"})[0] == 403
    assert fetch(url, data, headers)[0] == 200
    assert fetch(url, data, headers)[0] == 412, "what is there is replaced by nobody, not even for an hour"
    sealed = f"nodes/{origin.uuid}/seal.json"
    assert ask(served, "POST", [[sealed, 1, digest], ["vzarr.json", 1, digest]]) is None, "no list of objects"
    assert ask(served, "POST", [[sealed, 1, digest]]) == {}, "what the log knows stays as it is"
    assert ask(served, "POST", [[layout.arrived("0" * 64), 1, digest]]) == {}


def ask(served: Server, method: str, body: object):
    host = Host(urlsplit(served.url).netloc, secure=False)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer, content = host.ask(method, "/api/transfer/origin/urls", orjson.dumps(body), headers)
    host.close()
    return orjson.loads(content)["urls"] if answer.status == 200 else None


def fetch(url: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET" if data is None else "PUT", f"{parts.path}?{parts.query}", data, headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_who_has_no_token_gets_no_url_to_write_to(origin: vzarr.Repo, served: Server):
    send(origin, served)
    host = Host(urlsplit(served.url).netloc, secure=False)
    answer, _ = host.ask("POST", "/api/transfer/origin/urls", b"[]")
    host.close()
    assert answer.headers["Vzarr-Error"] == "ForbiddenError"


def test_where_the_store_cannot_be_reached_all_goes_by_the_server(
    origin: vzarr.Repo, served: Server, asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = direct.Ways._host

    def elsewhere(self: direct.Ways, scheme: str, _netloc: str) -> Host:
        return real(self, scheme, "127.0.0.1:1")

    monkeypatch.setattr(direct.Ways, "_host", elsewhere)
    send(origin, served)
    assert asked["PUT", "objects"] >= objects_of(origin)
    assert asked["PUT", "store"] < 40, "it is soon left alone"
    with vzarr.clone(served.url, str(tmp_path / "back")) as back:
        assert not list(verify(back.objects))


def test_a_store_that_takes_any_bytes_gives_no_urls_to_write_to(origin: vzarr.Repo, url: str, monkeypatch):
    objects = opening.open_objects(url)
    monkeypatch.setattr(S3, "refuses_others", lambda _self, _key: False)
    assert objects.signed_writes([("nodes/a/b", "0" * 64)]) is None
    assert objects.signed_reads(["nodes/a/b"]) is not None


def test_what_was_tampered_with_in_the_bucket_is_refused_by_name(origin, served: Server, url: str, tmp_path: Path):
    send(origin, served)
    bucket = opening.open_objects(f"{url}/origin")
    key = f"{layout.zarr(origin.uuid)}/a/c/0/0/1"
    bucket.put(key, b"?" + bucket.get(key)[1:])
    with pytest.raises(FormatError, match=key):
        vzarr.clone(served.url, str(tmp_path / "back"))


def test_what_was_put_past_the_server_is_looked_at_before_it_counts(origin, served: Server, url: str):
    """Somebody with the right to the bucket changes an object between its arrival and its publishing."""
    send(origin, served)
    tip = origin["master"].newversion()
    tip.write("a", (4, 4, 4), np.full(CHUNK, 5, "u1"))
    tip.commit()
    bucket = opening.open_objects(f"{url}/origin")
    key = f"{layout.zarr(tip.uuid)}/{next(n for n in bucket_names(origin, tip.uuid) if n.endswith('c/1/1/1'))}"

    class Tampering:
        def __init__(self, inner) -> None:
            self.inner = inner

        def __getattr__(self, name: str):
            return getattr(self.inner, name)

        def publish(self, *more: object):
            bucket.put(key, b"?" + bucket.get(key)[1:])
            return self.inner.publish(*more)

    with open_place(origin.url) as mine, open_place(served.url, TOKEN) as theirs:
        with pytest.raises((FormatError, StorageError), match=key):
            push(mine, Tampering(theirs))
        push(mine, theirs)


def bucket_names(origin: vzarr.Repo, node: str) -> list[str]:
    folder = layout.zarr(node)
    return [key[len(folder) + 1 :] for key, _ in origin.objects.walk(folder)]


def test_answers_that_get_lost_on_the_way_are_asked_for_by_the_server(
    origin: vzarr.Repo, served: Server, server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    send(origin, served)
    seen: Counter[bytes] = Counter()

    def loses(head: bytes) -> bool:
        seen[head.split(b" ", 1)[0]] += 1
        return seen.total() % 5 == 0

    proxy = LossyProxy(server.port, loses)
    real = direct.Ways._host
    monkeypatch.setattr(direct.Ways, "_host", lambda self, scheme, _n: real(self, scheme, f"127.0.0.1:{proxy.port}"))
    with vzarr.clone(served.url, str(tmp_path / "back")) as back:
        assert not list(verify(back.objects))
    proxy.close()
    assert proxy.lost


def test_chunks_that_were_left_out_come_past_the_server_too(origin, served: Server, asked, url: str, server: Store):
    if server.kind != "versitygw":
        pytest.skip("moto takes any bytes for any checksum")
    with open_place(origin.url) as mine, open_place(served.url, TOKEN) as theirs:
        clone(mine, theirs, limits=Limits(1))
    lacked = f"{layout.zarr('origin')}/a/c/0/0/0"
    bucket = opening.open_objects(f"{url}/origin")
    assert leftout.read(bucket, "origin") == {lacked}
    assert bucket.get(lacked) is None
    data = origin.objects.get(lacked) or b""
    right, wrong = hashlib.sha256(data).hexdigest(), hashlib.sha256(b"wrong").hexdigest()
    sealed = f"{layout.zarr('origin')}/a/c/0/0/1"
    for key, digest in ((lacked, wrong), (sealed, wrong), (layout.seal("origin"), right)):
        assert ask(served, "POST", [[key, len(data), digest]]) == {}
    side = origin.root.branch("side")
    side.write("a", (8, 8, 8), np.full(CHUNK, 7, "u1"))
    side.commit()
    assert send(origin, served, push).versions == [side.uuid]
    assert asked["PUT", "objects"] == 0
    assert leftout.read(bucket, "origin") == frozenset()
    assert bucket.get(lacked) == data
    assert not [f for f in verify(bucket) if f.damage]
