"""What a server makes of hostile or mistaken requests under /api/transfer/{ref}/mirror: refused, nothing changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from starlette.testclient import TestClient

import vzarr
from tests.api.conftest import TOKEN
from tests.api.routes.test_transfer import ADMIN
from vzarr.api.hub import Hub
from vzarr.overlay import layout, opening
from vzarr.overlay.transfer import pickup
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.places import open_place

NUMBER = "0" * 32
OUT = (
    "..%2Fvzarr.json",
    "nodes/..%2F..%2Fx",
    "nodes/%2E%2E/x",
    "keys/keys.sqlite",
    "tmp/x",
    "log",
    "nodes",
    "%2Fetc/passwd",
)


@pytest.fixture
def held(tmp_path: Path, client: TestClient, hub: Hub) -> Iterator[vzarr.Repo]:
    """A repo elsewhere, with one sealed version and an open one, whose mirror the server holds."""
    with vzarr.create(str(tmp_path / "origin"), root="origin") as repo:
        repo.root.commit()
        repo["master"].newversion()
        mirror(open_place(repo.url), open_place(str(tmp_path / "repos" / "origin")), opened=True)
        yield repo


def put(client: TestClient, ref: str, key: str, data: bytes, digest: str = "", new: str = "") -> tuple[int, str]:
    digest = digest or hashlib.sha256(data).hexdigest()
    where = f"/api/transfer/{ref}/mirror/objects/{key}?sha256={digest}{new and '&new=true'}"
    answer = client.put(where, content=data, headers=ADMIN)
    return answer.status_code, answer.text


def everything(folder: Path) -> dict[str, bytes]:
    return {str(f): f.read_bytes() for f in folder.rglob("*") if f.is_file() and "keys" not in f.parts}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer no"}])
def test_administrators_alone_see_any_of_it(client: TestClient, sealed: str, headers: dict[str, str]):
    base = f"/api/transfer/{sealed}/mirror"
    digest = "0" * 64
    answers = [
        client.get(f"{base}/objects/vzarr.json", headers=headers),
        client.head(f"{base}/objects/vzarr.json", headers=headers),
        client.get(f"{base}/objects?under=log", headers=headers),
        client.get(f"{base}/folder?under=log", headers=headers),
        client.get(f"{base}/open", headers=headers),
        client.get(f"{base}/moments/{NUMBER}/{digest}", headers=headers),
        client.put(f"{base}/objects/vzarr.json?sha256={digest}&new=true", headers=headers, content=b"x"),
        client.delete(f"{base}/objects/open/objects/{digest}", headers=headers),
        client.delete(f"{base}/moments/{NUMBER}", headers=headers),
        *(client.post(f"{base}/{verb}", headers=headers, json=[]) for verb in ("lacking", "urls", f"moments/{NUMBER}")),
    ]
    assert {(a.status_code, a.headers["vzarr-error"]) for a in answers} == {(400, "ForbiddenError")}


def test_what_a_mirror_is_made_of_is_read_and_nothing_else(client: TestClient, root: str, tmp_path: Path):
    base = f"/api/transfer/{root}/mirror"
    folder = tmp_path / "repos" / root
    for key in (layout.REPO, layout.log_entry(0), f"{layout.zarr(root)}/zarr.json"):
        answer = client.get(f"{base}/objects/{key}", headers=ADMIN)
        assert answer.content == (folder / key).read_bytes()
        assert answer.headers["vzarr-sha256"] == hashlib.sha256(answer.content).hexdigest()
        head = client.head(f"{base}/objects/{key}", headers=ADMIN)
        assert int(head.headers["content-length"]) == len(answer.content)
    assert client.get(f"{base}/objects/{layout.log_entry(9)}", headers=ADMIN).status_code == 404
    for strange in OUT:
        answer = client.get(f"{base}/objects/{strange}", headers=ADMIN)
        assert answer.status_code in (400, 404), strange
        assert "Vzarr-Sha256" not in answer.headers, strange
    found = client.get(f"{base}/objects?under=nodes/{root}", headers=ADMIN).json()["objects"]
    assert [key for key, _size, _stamp in found] == [f"{layout.zarr(root)}/zarr.json"]
    names = client.get(f"{base}/folder?under=log", headers=ADMIN).json()
    assert (names["folders"], names["objects"][0]) == ([], layout.log_entry(0).removeprefix("log/"))
    for strange in ("", "keys", "tmp", "..", "nodes/..", "log/", "/etc"):
        for verb in ("objects", "folder"):
            assert client.get(f"{base}/{verb}", params={"under": strange}, headers=ADMIN).status_code == 400, strange


def test_a_repo_that_is_no_mirror_takes_nothing(client: TestClient, sealed: str, tmp_path: Path):
    before = everything(tmp_path / "repos")
    for key in (layout.log_entry(2), layout.LATEST, layout.moment(), "stripes/7", f"nodes/{'1' * 32}/x"):
        for new in ("", "yes"):
            status, said = put(client, sealed, key, b"x", new=new)
            assert (status, "no mirror" in said) == (400, True), said
    key = layout.moment_object("0" * 64)
    assert client.delete(f"/api/transfer/{sealed}/mirror/objects/{key}", headers=ADMIN).status_code == 400
    meta = {**orjson.loads((tmp_path / "repos" / sealed / layout.REPO).read_bytes()), "mirror": True}
    meta["keys"] = {"id": "0", "url": "embedded"}
    status, said = put(client, sealed, layout.REPO, orjson.dumps(meta), new="yes")
    assert (status, "no mirror" in said) == (400, True)
    assert client.post(f"/api/transfer/{sealed}/mirror/urls", json=[], headers=ADMIN).status_code == 400
    assert everything(tmp_path / "repos") == before


def test_a_mirror_takes_what_it_is_made_of_and_nothing_else(client: TestClient, held: vzarr.Repo, tmp_path: Path):
    before = everything(tmp_path / "repos")
    sealed = f"{layout.zarr('origin')}/zarr.json"
    entry = held.objects.get(layout.log_entry(0))
    far = orjson.dumps({**orjson.loads(entry), "number": 7})
    refused = [
        *((key, b"x", "") for key in OUT),
        (layout.REPO, b"{}", ""), (layout.REPO, b"{}", "new"), (sealed, b"x", ""), (sealed, b"x", "new"),
        ("nodes/origin/journal/x", b"x", ""), ("nodes/unversioned/zarr/x", b"x", ""), ("stripes/7", b"x", ""),
        (layout.moment_object("0" * 64), b"x", ""), (layout.log_entry(2), b"{}", "new"),
        (layout.log_entry(3), entry, "new"), (layout.log_entry(7), far, "new"), ("log/x", b"x", ""),
    ]  # fmt: skip
    for key, data, new in refused:
        status, said = put(client, "origin", key, data, new=new)
        assert status in (400, 404), (key, said)
    assert put(client, "origin", layout.LATEST, b"x", "0" * 64)[0] == 400, "not as it was sent"
    assert everything(tmp_path / "repos") == before
    tip = held["master"].uuid
    for key in (f"nodes/{tip}/zarr/zarr.json", layout.moment_object(hashlib.sha256(b"x").hexdigest()), layout.LATEST):
        assert put(client, "origin", key, b"x")[0] == 200, key
        assert (tmp_path / "repos" / "origin" / key).read_bytes() == b"x"
    assert put(client, "origin", layout.log_entry(0), b"{}", new="new")[0] == 400
    assert '"new":false' in put(client, "origin", layout.log_entry(0), entry, new="new")[1]
    for key in (layout.log_entry(0), layout.LATEST, layout.REPO, sealed, layout.moment()):
        assert client.delete(f"/api/transfer/origin/mirror/objects/{key}", headers=ADMIN).status_code == 400, key


def test_an_entry_that_seals_a_version_follows_its_seal(client: TestClient, held: vzarr.Repo, tmp_path: Path):
    tip, number = held["master"], held.state.next
    tip.commit()
    key, entry = layout.log_entry(number), held.objects.get(layout.log_entry(number))
    status, said = put(client, "origin", key, entry, new="new")
    assert (status, f"{layout.seal(tip.uuid)} is missing" in said) == (400, True)
    seal = held.objects.get(layout.seal(tip.uuid))
    assert put(client, "origin", layout.seal(tip.uuid), seal)[0] == 200
    strange = entry.replace(tip.uuid.encode(), b"../../../x")
    assert put(client, "origin", key, strange, new="new")[0] == 400
    made = orjson.dumps({**orjson.loads(entry), "ops": [{"op": "node", "id": "../x", "parents": []}]})
    assert put(client, "origin", key, made, new="new")[0] == 400
    assert put(client, "origin", key, entry, new="new") == (200, '{"new":true}')
    assert put(client, "origin", layout.seal(tip.uuid), b"x")[0] == 400, "it is sealed now"


def test_a_mirror_is_begun_where_its_root_says(client: TestClient, root: str, held: vzarr.Repo, tmp_path: Path):
    meta = opening.read_meta(opening.open_objects(tmp_path / "repos" / "origin"))
    other = "1" * 32
    for wrong in (
        {**meta, "root": "2" * 32}, {**meta, "root": other, "mirror": 1}, {**meta, "root": other, "format": 99},
        {**meta, "root": other, "keys": {"id": "0", "url": "sqlite:////tmp/x"}}, [],
    ):  # fmt: skip
        assert put(client, other, layout.REPO, orjson.dumps(wrong), new="new")[0] == 400, wrong
    assert put(client, "..%2Fx", layout.REPO, orjson.dumps({**meta, "root": "../x"}), new="new")[0] in (400, 404)
    assert put(client, "unversioned", layout.REPO, orjson.dumps({**meta, "root": "unversioned"}), new="new")[0] == 400
    assert sorted(f.name for f in (tmp_path / "repos").iterdir()) == sorted([root, "origin"])
    made = orjson.dumps({**meta, "root": other})
    assert put(client, other, layout.REPO, made, "0" * 64, new="new")[0] == 400, "it did not arrive as it was sent"
    assert put(client, other, layout.REPO, made, new="new") == (200, '{"new":true}')
    assert put(client, other, layout.REPO, made, new="new") == (200, '{"new":false}')
    assert put(client, root, layout.REPO, orjson.dumps({**meta, "root": root}), new="new")[0] == 400
    assert client.get(f"/api/transfer/{other}").status_code == 404, "still on its way"


def test_who_pushes_into_a_mirror_is_refused(client: TestClient, held: vzarr.Repo, tmp_path: Path):
    before = everything(tmp_path / "repos")
    for verb in ("lacking", "urls", "publish"):
        answer = client.post(f"/api/transfer/origin/{verb}", json=[], headers=ADMIN)
        assert (answer.status_code, "is a mirror, which takes" in answer.text) == (400, True), verb
    assert client.get("/api/transfer/origin").json()["mirror"] is True
    assert everything(tmp_path / "repos") == before


def test_a_moment_waits_until_it_is_fetched_or_forgotten(
    client: TestClient, root: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    base, objects = f"/api/transfer/{root}/mirror", hub.place(root).objects
    nodes = client.get(f"{base}/open", headers=ADMIN).json()["nodes"]
    assert nodes == [root, "unversioned"]
    none = client.post(f"{base}/moments/{NUMBER}", json={"nodes": [], "held": ""}, headers=ADMIN)
    assert none.json() == {"moment": None}, "the root was not copied beforehand"
    taken = client.post(f"{base}/moments/{NUMBER}", json={"nodes": nodes, "held": ""}, headers=ADMIN).json()["moment"]
    listed = client.get(f"{base}/moments/{NUMBER}/{taken['sums']}", headers=ADMIN).content
    assert hashlib.sha256(listed).hexdigest() == taken["sums"]
    for digest in (line.split(b" ")[0].decode() for line in listed.splitlines()):
        data = client.get(f"{base}/moments/{NUMBER}/{digest}", headers=ADMIN).content
        assert hashlib.sha256(data).hexdigest() == digest
    held = {"nodes": nodes, "held": listed.decode()}
    client.post(f"{base}/moments/{'1' * 32}", json=held, headers=ADMIN)
    assert len(list(objects.walk(f"tmp/moment-{'1' * 32}"))) == 2, (
        "what is held does not wait: the list and the time do"
    )
    assert client.delete(f"{base}/moments/{'1' * 32}", headers=ADMIN).status_code == 200
    assert not list(objects.walk(f"tmp/moment-{'1' * 32}"))
    assert list(objects.walk(f"tmp/moment-{NUMBER}"))
    monkeypatch.setattr(pickup, "FORGOTTEN_SECONDS", -1)
    client.post(f"{base}/moments/{'2' * 32}", json=held, headers=ADMIN)
    assert not list(objects.walk(f"tmp/moment-{NUMBER}")), "nobody came for it"
    for wrong in ([], {}, {"nodes": nodes, "held": "x y\n"}, {"nodes": nodes, "held": f"{'0' * 64} 1 - ../x\n"}):
        assert client.post(f"{base}/moments/{NUMBER}", json=wrong, headers=ADMIN).status_code == 400
    for number in ("..", "x", "0" * 33):
        assert client.post(f"{base}/moments/{number}", json=held, headers=ADMIN).status_code in (400, 404)
    assert client.get(f"{base}/moments/{NUMBER}/{'0' * 64}", headers=ADMIN).status_code == 404
    assert TOKEN not in listed.decode()
