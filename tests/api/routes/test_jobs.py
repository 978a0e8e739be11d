"""Jobs over HTTP: pushes, pulls and repos of some versions, started, watched, refused and cancelled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import vzarr
from tests.api.conftest import TOKEN
from tests.serving import serving
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings
from vzarr.jobs import records, runner
from vzarr.overlay.care.rebuildkeys import rebuild
from vzarr.overlay.care.verify import verify
from vzarr.overlay.kv.section import Unreachable
from vzarr.overlay.opening import open_objects
from vzarr.overlay.transfer.places import StoredPlace

ADMIN = {"Authorization": f"Bearer {TOKEN}"}
CHUNK = (8, 8, 8)


@pytest.fixture
def repo(client: TestClient, root: str, hub: Hub) -> vzarr.Repo:
    """Three sealed versions, of which one is on a branch, and an open one."""
    repo = hub.repos()[0]
    first = repo.root
    first.create_instance("em", "uint8blk", config={"BlockSize": "8,8,8"}).write(
        (0, 0, 0), np.full((16, 16, 16), 1, "u1")
    )
    first.create_instance("notes", "keyvalue").put("k", b"1")
    first.create_instance("seg", "labelmap", config={"BlockSize": "16,16,16"}).write(
        (0, 0, 0), np.ones((16, 16, 16), "u8")
    )
    first.create_instance("hot", "roi", config={"BlockSize": "8,8,8"}).replace(np.array([[0, 0, 0, 0]]))
    first.commit()
    second = first.newversion()
    second["em"].write((0, 0, 0), np.full(CHUNK, 2, "u1"))
    second.commit()
    first.branch("side").commit()
    second.newversion()["notes"].put("k", b"open")
    return repo


def run(client: TestClient, where: str, body: Any, wait: float = 30) -> dict[str, Any]:
    """Start a job and see how it ends."""
    answer = client.post(where, json=body, headers=ADMIN)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/jobs/{answer.json()['id']}"
    return client.get(f"{answer.headers['location']}?wait={wait}", headers=ADMIN).json()


def failure(client: TestClient, where: str, body: Any) -> tuple[str, str]:
    job = run(client, where, body)
    assert job["state"] == "failed", job
    return job["error"]["kind"], job["error"]["message"]


def test_a_repo_is_pushed_to_a_folder_and_what_is_new_after_that(client: TestClient, repo: vzarr.Repo, tmp_path: Path):
    where, target = f"/api/repo/{repo.uuid}/push?u=ann&app=t", str(tmp_path / "other")
    sealed = [v.uuid for v in repo.versions() if v.sealed]
    job = run(client, where, {"target": target})
    assert (job["state"], job["verb"], job["user"], job["app"], job["repo"]) == ("done", "push", "ann", "t", repo.uuid)
    assert job["arguments"] == {"target": target}
    assert job["result"]["versions"] == sealed
    assert 0 < job["progress"]["done"] == job["progress"]["total"]
    assert job["created"] <= job["started"] <= job["ended"]
    with vzarr.open(target) as other:
        assert [v.uuid for v in other.versions()] == sealed
        assert list(verify(other.objects)) == []
        repo["master"].commit()
        assert run(client, where, {"target": target})["result"]["versions"] == [repo["master"].uuid]
        assert run(client, where, {"target": target})["result"]["versions"] == []
        assert other["master"]["notes"].get("k") == b"open"
        # And back: what the other has by now is pulled.
        tip = other["master"].newversion().commit()
        job = run(client, f"/api/repo/{repo.uuid}/pull", {"source": target})
        assert (job["verb"], job["result"]["versions"]) == ("pull", [tip.uuid])
        assert repo["master"].uuid == tip.uuid


def test_what_is_transmitted(client: TestClient, repo: vzarr.Repo, tmp_path: Path):
    first, second, side, _tip = repo.versions()

    def push(version: vzarr.Version, name: str, **more: Any) -> dict[str, Any]:
        return run(client, f"/api/repo/{version.uuid}/push", {"target": str(tmp_path / name), **more})

    assert push(second, "branch", transmit="branch")["result"]["versions"] == [first.uuid, second.uuid]
    job = push(second, "alone", transmit="version")
    assert (job["error"]["kind"], "lacks 1 versions" in job["error"]["message"]) == ("ConflictError", True)
    assert not (tmp_path / "alone").exists()
    assert push(first, "alone", transmit="version")["result"]["versions"] == [first.uuid]
    assert push(second, "alone", transmit="version")["result"]["versions"] == [second.uuid]
    assert push(side, "alone", transmit="all")["result"]["versions"] == [side.uuid]
    flat = push(second, "flat", transmit="flatten", data="em", filter=f"roi:hot,{first.uuid}")
    with vzarr.open(str(tmp_path / "flat")) as made:
        assert (flat["result"], [*made.state.instances]) == ({"root": made.uuid}, ["em"])
        expected = np.zeros((16, 16, 16), "u1")
        expected[:8, :8, :8] = 2
        np.testing.assert_array_equal(made.root["em"].read((0, 0, 0), (16, 16, 16)), expected)


def test_a_part_is_transmitted(client: TestClient, repo: vzarr.Repo, tmp_path: Path):
    where = f"/api/repo/{repo.versions()[-1].uuid}/push"
    with serving(tmp_path / "served") as other:
        for folder, target in (
            (tmp_path / "part", {"target": str(tmp_path / "part")}),
            (tmp_path / "served" / repo.uuid, {"target": other.url, "token": TOKEN}),
        ):
            body = {**target, "data": ["notes", "em"], "filter": "roi:hot"}
            assert run(client, where, body)["state"] == "done"
            with vzarr.open(str(folder)) as made:
                assert (made["master"]["em"].read((0, 0, 0), CHUNK) == 2).all()
                with pytest.raises(OSError, match="partial clone"):
                    made["master"]["em"].read((8, 8, 8), (16, 16, 16))
            assert run(client, where, body)["result"]["versions"] == []
            kind, says = failure(client, where, {**target, "data": "em"})
            assert kind == "InvalidInputError"
            assert "is a repo already, with the limits --instances notes,em --roi hot," in says


def test_a_repo_is_pushed_to_another_server(client: TestClient, repo: vzarr.Repo, tmp_path: Path):
    with serving(tmp_path / "served") as other:
        body = {"target": other.url, "token": TOKEN}
        job = run(client, f"/api/repo/{repo.uuid}/push", body)
        assert (job["state"], len(job["result"]["versions"])) == ("done", 3)
        assert TOKEN not in str(client.get("/api/jobs", headers=ADMIN).json())
        job = run(client, f"/api/repo/{repo.versions()[1].uuid}/push", {**body, "transmit": "flatten"})
        assert job["state"] == "done", job
        with vzarr.clone(f"{other.url}/{job['result']['root']}", str(tmp_path / "flat")) as flat:
            assert (flat.root["em"].read((0, 0, 0), CHUNK) == 2).all()
        repo["master"].commit()
        where, named = f"/api/repo/{repo.uuid}/push", f"{other.url}/{repo.uuid}"
        assert failure(client, where, {"target": named, "token": "no"})[0] == "ForbiddenError"
        assert failure(client, where, {"target": named, "token": TOKEN, "data": "em"})[0] == "InvalidInputError"
        assert run(client, where, body)["result"]["versions"] == [repo["master"].uuid]
    repo["master"].newversion().commit()
    assert failure(client, where, body)[0] == "StorageError"


def test_repos_that_cannot_come_together(client: TestClient, repo: vzarr.Repo, tmp_path: Path):
    where = f"/api/repo/{repo.uuid}"
    assert failure(client, f"{where}/pull", {"source": str(tmp_path / "nothing")})[0] == "NotFoundError"
    vzarr.create(str(tmp_path / "stranger")).close()
    assert failure(client, f"{where}/push", {"target": str(tmp_path / "stranger")})[0] == "InvalidInputError"
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "vzarr.json").write_text('{"format": 99, "root": "x"}')
    assert failure(client, f"{where}/push", {"target": str(tmp_path / "newer")}) == (
        "FormatError",
        f"file://{tmp_path}/newer has format 99; this release reads up to 1: upgrade vzarr",
    )
    with vzarr.clone(repo.url, str(tmp_path / "apart")) as apart:
        apart["master"].newversion().commit()
        repo["master"].commit()
        kind, message = failure(client, f"{where}/push", {"target": apart.url})
        assert (kind, "not fast-forward" in message) == ("ConflictError", True)
        assert failure(client, f"{where}/pull", {"source": apart.url})[0] == "ConflictError"
        job = run(client, f"{where}/pull", {"source": apart.url, "as": "lab2"})
        assert (job["state"], repo["lab2-master"].uuid) == ("done", apart["master"].uuid)


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("push", {}, "InvalidInputError"),
        ("push", {"target": 7}, "InvalidInputError"),
        ("push", {"target": "x/y"}, "InvalidInputError"),
        ("push", {"target": "s3:/bucket/x"}, "InvalidInputError"),
        ("push", {"target": "/x", "transmit": "some"}, "InvalidInputError"),
        ("push", {"target": "/x", "transmit": "branch"}, "SealedError"),
        ("push", {"target": "/x", "transmit": "flatten"}, "SealedError"),
        ("push", {"target": "/x", "data": "nothing"}, "NotFoundError"),
        ("push", {"target": "/x", "data": []}, "InvalidInputError"),
        ("push", {"target": "/x", "filter": "roi:nothing"}, "NotFoundError"),
        ("push", {"target": "/x", "filter": "roi:"}, "InvalidInputError"),
        ("push", {"target": "/x", "filter": "box:1"}, "InvalidInputError"),
        ("push", {"target": "/x", "filter": "tile:xy,xz"}, "UnsupportedError"),
        ("push", {"target": "/x", "unversioned": "yes"}, "InvalidInputError"),
        ("push", {"target": "/x", "speed": "high"}, "InvalidInputError"),
        ("push", {"target": "http://localhost:1/x?admintoken=secret"}, "InvalidInputError"),
        ("push", {"target": "http://ann:secret@localhost:1/x"}, "InvalidInputError"),
        ("push", {"target": "s3://ann:secret@bucket/x"}, "InvalidInputError"),
        ("push", {"target": "/x", "keys": "postgresql://ann:secret@host/db"}, "InvalidInputError"),
        ("pull", {}, "InvalidInputError"),
        ("pull", {"source": "http://[bad/x"}, "InvalidInputError"),
        ("pull", {"source": "/x", "branches": 7}, "InvalidInputError"),
        ("pull", {"source": "/x", "as": "a:b"}, "InvalidInputError"),
        ("copy", {"source": "em"}, "InvalidInputError"),
        ("copy", {"source": "em", "target": "commit"}, "InvalidInputError"),
        ("copy", {"source": "em", "target": "notes"}, "AlreadyExistsError"),
        ("copy", {"source": "nothing", "target": "x"}, "NotFoundError"),
        ("copy", {"source": "em", "target": "x", "transmit": "all"}, "UnsupportedError"),
        ("copy", {"source": "em", "target": "x", "into": "side"}, "InvalidInputError"),
        ("copy", {"source": "notes", "target": "x"}, "SealedError"),
        ("migrate-keys", {}, "InvalidInputError"),
        ("migrate-keys", {"keys": "embedded"}, "InvalidInputError"),
        ("migrate-keys", {"keys": "memory://x"}, "InvalidInputError"),
        ("migrate-keys", {"keys": "bogus"}, "InvalidInputError"),
        ("migrate-keys", {"keys": "mysql://host/db"}, "InvalidInputError"),
        ("migrate-keys", {"keys": "postgresql://[bad/x"}, "InvalidInputError"),
        ("copy", {"source": "seg", "target": "x", "filter": "roi:hot"}, "UnsupportedError"),
        ("migrate-keys", {"keys": "postgresql://ann:secret@host/db"}, "InvalidInputError"),
        ("migrate-keys", {"keys": "sqlite:////x", "drop": 1}, "InvalidInputError"),
        ("mirror", {}, "InvalidInputError"),
        ("mirror", {"target": "/x", "open": "yes"}, "InvalidInputError"),
        ("mirror", {"target": "/x", "keys": "embedded"}, "InvalidInputError"),
        ("limit-versions", {"target": "/x"}, "InvalidInputError"),
        ("limit-versions", {"target": "/x", "Versions": ["nowhere"]}, "NotFoundError"),
        (
            "limit-versions",
            {"target": "/x", "Versions": ["side"], "keys": "postgresql://a:secret@h/d"},
            "InvalidInputError",
        ),
        ("limit-versions", {"target": "/x", "Versions": ["master"]}, "SealedError"),
        ("limit-versions", {"target": "http://localhost:1", "Versions": ["side"]}, "InvalidInputError"),
    ],
)
def test_what_is_asked_wrongly_starts_nothing(
    client: TestClient, repo: vzarr.Repo, path: str, body: Any, kind: str, tmp_path: Path
):
    answer = client.post(f"/api/repo/{repo['master'].uuid}/{path}", json=body, headers=ADMIN)
    assert (answer.status_code, answer.headers["vzarr-error"]) == (400, kind), answer.text
    assert "secret" not in answer.text
    assert client.get("/api/jobs", headers=ADMIN).json() == {"jobs": []}
    assert not Path("/x").exists()


def test_nothing_is_pushed_where_nothing_is_sealed(client: TestClient, root: str):
    answer = client.post(f"/api/repo/{root}/push", json={"target": "/x"}, headers=ADMIN)
    assert (answer.status_code, answer.headers["vzarr-error"], "commit first" in answer.text) == (
        400,
        "SealedError",
        True,
    )


def test_only_administrators_start_and_see_jobs(client: TestClient, repo: vzarr.Repo, tmp_path: Path):
    job = run(client, f"/api/repo/{repo.uuid}/push", {"target": str(tmp_path / "other")})
    for headers in ({}, {"Authorization": "Bearer no"}):
        answers = [
            client.post(f"/api/repo/{repo.uuid}/{verb}", json={"target": "/x"}, headers=headers)
            for verb in ("push", "pull", "mirror", "copy", "limit-versions", "migrate-keys")
        ]
        answers += [client.get("/api/jobs", headers=headers), client.get(f"/api/jobs/{job['id']}", headers=headers)]
        answers.append(client.delete(f"/api/jobs/{job['id']}", headers=headers))
        assert {(a.status_code, a.headers["vzarr-error"]) for a in answers} == {(400, "ForbiddenError")}
    assert client.get("/api/jobs/nothing", headers=ADMIN).status_code == 404
    assert client.delete("/api/jobs/nothing", headers=ADMIN).status_code == 404
    assert client.delete(f"/api/jobs/{job['id']}", headers=ADMIN).json() == job
    assert client.get("/api/jobs", headers=ADMIN).json() == {"jobs": [job]}


def test_a_server_may_be_kept_to_some_places(repo: vzarr.Repo, hub: Hub, tmp_path: Path):
    allowed = (str(tmp_path / "mirrors"), "http://localhost:1/lab")
    settings = Settings(admin_token=TOKEN, remotes=allowed)
    with TestClient(create_app(settings, hub), base_url="http://localhost:8000") as client:
        where = f"/api/repo/{repo.uuid}/push"
        for target in (
            str(tmp_path / "other"),
            str(tmp_path / "mirrors" / ".." / "other"),
            str(tmp_path / "mirrors2"),
            "http://localhost:1",
            "http://localhost:1/laboratory",
            "http://localhost:1/lab/../x",
            "http://localhost:12/lab",
            "s3://bucket/x",
        ):
            answer = client.post(where, json={"target": target}, headers=ADMIN)
            assert (answer.status_code, answer.headers["vzarr-error"]) == (400, "ForbiddenError"), target
            answer = client.post(f"/api/repo/{repo.uuid}/mirror", json={"target": target}, headers=ADMIN)
            assert (answer.status_code, answer.headers["vzarr-error"]) == (400, "ForbiddenError"), target
        assert run(client, where, {"target": str(tmp_path / "mirrors" / "a")})["state"] == "done"


def test_a_repo_is_mirrored(client: TestClient, repo: vzarr.Repo, tmp_path: Path):
    where, folder = f"/api/repo/{repo.uuid}/mirror", tmp_path / "served" / repo.uuid
    with serving(tmp_path / "served") as server:
        body = {"target": server.url, "token": TOKEN, "open": True}
        done = run(client, where, body)
        assert (done["state"], len(done["result"]["versions"]), done["progress"]["unit"]) == ("done", 3, "objects")
        assert TOKEN not in str(done)
        assert failure(client, where, {"target": server.url})[0] == "ForbiddenError"
        done = run(client, where, {**body, "open": False})
        assert (done["state"], done["result"]["versions"]) == ("done", [])
    assert rebuild(open_objects(folder)).reopened == (repo["master"].uuid,)
    with vzarr.open(str(folder)) as copy:
        assert copy["master"]["notes"].get("k") == b"open"
        assert not list(verify(copy.objects))


def test_a_job_is_cancelled_and_done_again(
    client: TestClient, repo: vzarr.Repo, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put = StoredPlace.put

    def slowly(self: StoredPlace, key: str, data: bytes) -> None:
        time.sleep(0.2)
        put(self, key, data)

    monkeypatch.setattr(StoredPlace, "put", slowly)
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.0)
    where, target = f"/api/repo/{repo.uuid}/push", str(tmp_path / "other")
    job = client.post(where, json={"target": target}, headers=ADMIN).json()
    # Another server of the same folder sees it, and may stop it.
    with TestClient(create_app(Settings(admin_token=TOKEN), Hub(hub.root)), base_url="http://localhost:9") as other:
        until = time.monotonic() + 20
        while (seen := other.get(f"/api/jobs/{job['id']}", headers=ADMIN).json())["progress"]["done"] == 0:
            assert time.monotonic() < until
        assert (seen["state"], seen["id"]) == ("running", job["id"])
        assert other.delete(f"/api/jobs/{job['id']}", headers=ADMIN).json()["cancelling"]
        seen = other.get(f"/api/jobs/{job['id']}?wait=20", headers=ADMIN).json()
    assert (seen["state"], seen["error"]) == ("cancelled", None)
    assert seen == client.get(f"/api/jobs/{job['id']}", headers=ADMIN).json()
    assert vzarr_state(target) == 0
    monkeypatch.setattr(StoredPlace, "put", put)
    assert run(client, where, {"target": target})["state"] == "done"
    assert vzarr_state(target) == 3


def vzarr_state(url: str) -> int:
    return len(StoredPlace(vzarr.overlay.opening.open_objects(url)).state().nodes)


def test_some_versions_make_a_repo(client: TestClient, repo: vzarr.Repo, tmp_path: Path):
    second, target = repo.versions()[1].uuid, str(tmp_path / "published")
    job = run(client, f"/api/repo/{repo.uuid}/limit-versions", {"Versions": [second], "target": target})
    assert (job["state"], job["verb"], job["result"]) == ("done", "limit-versions", {"versions": [second]})
    with vzarr.open(target) as made:
        assert (made.uuid, len(made.versions())) == (second, 1)
        assert (made.root["em"].read((0, 0, 0), CHUNK) == 2).all()
    assert (
        failure(client, f"/api/repo/{repo.uuid}/limit-versions", {"Versions": ["side"], "target": target})[0]
        == "AlreadyExistsError"
    )


def test_an_instance_is_copied(client: TestClient, repo: vzarr.Repo):
    first, second, side, tip = repo.versions()
    job = run(client, f"/api/repo/{tip.uuid}/copy?u=ann", {"source": "em", "target": "em2"})
    made = repo.state.instances["em2"]
    expected = {"name": "em2", "data_uuid": made.data_uuid, "from": second.uuid, "into": tip.uuid}
    assert (job["state"], job["verb"], job["result"]) == ("done", "copy", expected)
    assert (tip["em2"].read((0, 0, 0), CHUNK) == 2).all()
    job = run(client, f"/api/repo/{first.uuid}/copy", {"source": "em", "target": "em3", "filter": "roi:hot"})
    assert (job["state"], job["progress"]["done"]) == ("done", 1)
    assert (tip["em3"].read((0, 0, 0), CHUNK) == 1).all()
    assert client.get(f"/api/node/{tip.uuid}/em3/info").json()["Base"]["Name"] == "em3"
    answer = client.post(f"/api/repo/{side.uuid}/copy", json={"source": "em", "target": "x"}, headers=ADMIN)
    assert (answer.status_code, "make a new version" in answer.text) == (400, True)
    job = run(client, f"/api/repo/{side.uuid}/copy", {"source": "em", "target": "em4", "into": "master"})
    assert job["result"]["into"] == tip.uuid


def test_keys_move_under_two_servers(client: TestClient, repo: vzarr.Repo, hub: Hub, tmp_path: Path):
    keys, node = f"sqlite:///{tmp_path}/keys.sqlite", f"/api/node/{repo['master'].uuid}"
    with TestClient(create_app(Settings(admin_token=TOKEN), Hub(hub.root)), base_url="http://localhost:9") as other:
        assert other.get(f"{node}/notes/key/k").content == b"open"
        job = run(client, f"/api/repo/{repo.uuid}/migrate-keys", {"keys": keys})
        print(job)
        assert (job["state"], job["verb"], job["result"]["url"], job["result"]["left"]) == (
            "done",
            "migrate-keys",
            keys,
            "embedded",
        )
        assert job["progress"]["unit"] == "batches of keys"
        for number, server in enumerate((client, other)):
            assert server.get(f"/api/jobs/{job['id']}", headers=ADMIN).json() == job
            assert server.post(f"{node}/notes/key/k{number}", content=b"v").status_code == 200
            assert server.get(f"{node}/notes/key/k0").content == b"v"
        assert other.get(f"{node}/notes/key/k1").content == client.get(f"{node}/notes/key/k1").content == b"v"
        job = run(other, f"/api/repo/{repo.uuid}/migrate-keys", {"keys": "embedded", "drop": True})
        assert job["state"] == "done"
        assert client.get(f"{node}/notes/key/k1").content == b"v"
        assert client.post(f"{node}/commit", json={"note": ""}).status_code == 200
    assert (
        failure(client, f"/api/repo/{repo.uuid}/migrate-keys", {"keys": "postgresql://nowhere.invalid/x"})[0]
        == "AuthorityUnavailableError"
    )
    assert client.get(f"/api/node/{repo.uuid}/notes/key/k").content == b"1"


def test_a_repo_whose_keys_are_out_of_reach_hides_no_jobs_of_others(
    client: TestClient, repo: vzarr.Repo, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    assert client.post("/api/repos", json={"alias": "other"}, headers=ADMIN).status_code == 200
    for broken, asked in (hub.repos(), hub.repos()[::-1]):
        number = runner.Records.of(asked).add(asked.uuid, "push", {}).id
        with monkeypatch.context() as patch:
            patch.setattr(broken.authority, "kv", Unreachable("the database is away"))
            patch.setattr(records.Records, "of", classmethod(lambda cls, r: cls(r.authority.kv, r.authority.presence)))
            assert client.get(f"/api/jobs/{number}", headers=ADMIN).json()["id"] == number
            assert client.get("/api/jobs/nothing", headers=ADMIN).status_code == 503
    assert client.get("/api/jobs/nothing", headers=ADMIN).status_code == 404
