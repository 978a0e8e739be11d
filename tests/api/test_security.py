"""Who may do what: origins, names of the server, administrators, and answers to the unexpected."""

from __future__ import annotations

import logging

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import TOKEN
from vzarr.api.app import Server, create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings

STRANGER, TRUSTED = "https://stranger.example", "https://trusted.example"


def test_every_page_may_read(client: TestClient):
    answer = client.get("/api/server/note", headers={"Origin": STRANGER})
    assert (answer.status_code, answer.text) == (200, "a note")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Content-Range" in answer.headers["access-control-expose-headers"]


def test_errors_can_be_read_by_every_page_too(client: TestClient):
    for path, status in (("/api/nosuch", 404), ("/api/repo/zzzz/info", 400)):
        answer = client.get(path, headers={"Origin": STRANGER})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", [STRANGER, "null", "http://localhost:9999"])
def test_a_strange_page_may_not_write(client: TestClient, root: str, origin: str):
    answer = client.post(f"/api/node/{root}/note", json={"note": "x"}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert client.get(f"/api/node/{root}/note").json() == {"note": ""}


@pytest.mark.parametrize("origin", [TRUSTED, "http://localhost:8000", None])
def test_listed_pages_own_pages_and_scripts_may_write(client: TestClient, root: str, origin: str | None):
    headers = {"Origin": origin} if origin else {}
    answer = client.post(f"/api/node/{root}/note", json={"note": "x"}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == (origin or "*")


def test_preflight(client: TestClient):
    def ask(origin: str, method: str):
        headers = {"Origin": origin, "Access-Control-Request-Method": method}
        return client.options("/api/server/note", headers=headers | {"Access-Control-Request-Headers": "range"})

    assert ask(STRANGER, "GET").status_code == 200
    assert ask(STRANGER, "GET").headers["access-control-allow-headers"] == "range"
    assert ask(STRANGER, "POST").status_code == 403
    assert ask(TRUSTED, "POST").status_code == 200
    assert "POST" in ask(TRUSTED, "POST").headers["access-control-allow-methods"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:8000", "vzarr.localhost:1"])
def test_a_local_server_answers_to_its_own_names(client: TestClient, host: str):
    assert client.get("/api/server/note", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""])
def test_a_local_server_refuses_other_names(client: TestClient, host: str):
    assert client.get("/api/server/note", headers={"Host": host}).status_code == 403


def test_a_public_server_answers_to_any_name(hub: Hub):
    with TestClient(create_app(Settings(host="0.0.0.0"), hub), base_url="http://data.example") as client:
        assert client.get("/api/server/note").status_code == 200


def test_a_proxys_name_can_be_allowed(hub: Hub):
    settings = Settings(allowed_hosts=("data.example",))
    with TestClient(create_app(settings, hub), base_url="http://data.example") as client:
        assert client.get("/api/server/note").status_code == 200


@pytest.mark.parametrize("query", ["", "?admintoken=", "?admintoken=wrong"])
def test_only_administrators_make_repos(client: TestClient, query: str):
    answer = client.post(f"/api/repos{query}", json={})
    assert answer.status_code == 400
    assert client.get("/api/repos/info").json() == {}


def test_without_a_token_nobody_is_an_administrator(hub: Hub):
    with TestClient(create_app(Settings(), hub), base_url="http://localhost") as client:
        assert client.post("/api/repos?admintoken=", json={}).status_code == 400


def test_a_readonly_server_takes_writes_from_administrators_only(hub: Hub):
    settings = Settings(admin_token=TOKEN, readonly=True)
    with TestClient(create_app(settings, hub), base_url="http://localhost") as client:
        made = client.post(f"/api/repos?admintoken={TOKEN}", json={})
        note = f"/api/node/{made.json()['root']}/note"
        refused = client.post(note, json={"note": "x"})
        assert (refused.status_code, "read-only" in refused.text) == (400, True)
        assert client.get(note).json() == {"note": ""}
        assert client.get("/api/server/info").json()["Mode"] == "read only"


def test_an_unexpected_error_is_logged_and_answered_with_its_number(
    app: Server, client: TestClient, caplog: pytest.LogCaptureFixture
):
    @app.framework.get("/broken")
    def broken() -> None:
        raise RuntimeError("a secret detail")

    with caplog.at_level(logging.ERROR):
        answer = client.get("/broken", headers={"Origin": STRANGER})
    assert answer.status_code == 500
    assert "a secret detail" not in answer.text
    number = caplog.records[-1].getMessage().split()[1].rstrip(":")
    assert number in answer.text
    assert "a secret detail" in caplog.text
    assert answer.headers["access-control-allow-origin"] == "*"
