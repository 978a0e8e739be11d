"""A server's application over an empty folder, and clients that talk to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from vzarr.api.app import Server, create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings

# Loaded here first: with httpx, not its successor, beneath it the module warns once, and warnings are errors.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Using `httpx` with")
    from starlette.testclient import TestClient

TOKEN = "a-token-for-tests"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(tmp_path / "repos")
    yield hub
    hub.close()


@pytest.fixture
def settings() -> Settings:
    return Settings(admin_token=TOKEN, note="a note", cors_origins=("https://trusted.example",))


@pytest.fixture
def app(settings: Settings, hub: Hub) -> Server:
    return create_app(settings, hub)


@pytest.fixture
def client(app: Server) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost:8000") as client:
        yield client


@pytest.fixture
def root(client: TestClient) -> str:
    """Id of the open root of a new repo."""
    answer = client.post("/api/repos", params={"admintoken": TOKEN}, json={"alias": "test", "description": "a repo"})
    assert answer.status_code == 200, answer.text
    return answer.json()["root"]


@pytest.fixture
def sealed(client: TestClient, root: str) -> str:
    """Id of the same root, sealed."""
    assert client.post(f"/api/node/{root}/commit", json={"note": "sealed"}).status_code == 200
    return root
