"""A server that publishes: what it says about that, a message for each request, changes as soon as they are made."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import TOKEN
from tests.kafka.collector import Collector
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings
from vzarr.errors import InvalidInputError
from vzarr.kafka import publisher, service
from vzarr.kafka.topics import Topics

ADMIN = {"admintoken": TOKEN}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Collector:
    """The one broker that clients made from now on talk to."""
    found = Collector()
    monkeypatch.setattr(service, "KafkaBroker", lambda servers: found)
    monkeypatch.setattr(publisher, "FIRST_PAUSE", 0.01)
    return found


@pytest.fixture
def settings() -> Settings:
    return Settings(
        admin_token=TOKEN, kafka_servers=("b1:9092", "b2:9092"), kafka_topic_prefix="lab-", kafka_activity_topic="asked"
    )


@pytest.fixture
def client(broker: Collector, settings: Settings, hub: Hub):
    with TestClient(create_app(settings, hub), base_url="http://localhost:8000") as client:
        yield client


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_info_names_brokers_and_topics(client: TestClient):
    said = client.get("/api/server/info").json()
    found = {key: value for key, value in said.items() if key.startswith("Kafka")}
    expected = {"Kafka Servers": "b1:9092,b2:9092", "Kafka Activity Topic": "asked", "Kafka Topic Prefix": "lab-"}
    assert found == expected


def test_a_server_without_brokers_says_nothing_of_them(hub: Hub):
    with TestClient(create_app(Settings(), hub), base_url="http://localhost:8000") as client:
        assert not [key for key in client.get("/api/server/info").json() if "Kafka" in key]
        assert client.get("/api/server/kafka").json() == {"servers": []}


def test_changes_are_published_as_soon_as_they_are_made(
    client: TestClient, broker: Collector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publisher, "POLL_SECONDS", 60.0)
    root = client.post("/api/repos", params=ADMIN, json={}).json()["root"]
    client.post(f"/api/repo/{root}/instance", json={"typename": "keyvalue", "dataname": "kv"})
    data = client.get(f"/api/node/{root}/kv/info").json()["Base"]["DataUUID"]
    for n in range(3):
        client.post(f"/api/node/{root}/kv/key/{n}?u=ann&app=tests", content=b"x")
        topic = broker.topics[Topics("lab-").of_instance(root, data)]
        until(lambda n=n, topic=topic: len(topic) == n + 1)
    assert [(m["Action"], m["Key"], m["User"], m["App"]) for m in topic] == [
        ("postkv", f"{n}", "ann", "tests") for n in range(3)
    ]
    client.post(f"/api/node/{root}/commit", json={"note": "done"})
    history = broker.topics[Topics("lab-").of_repo(root)]
    until(lambda: [m["Action"] for m in history] == ["newinstance", "commit"])


def test_each_request_is_reported(client: TestClient, broker: Collector):
    client.get("/api/server/note?u=ann&app=tests")
    client.get("/api/nothing")
    answer = client.post("/api/repos", params=ADMIN, json={"alias": "a"})
    until(lambda: len(broker.topics["asked"]) == 3)
    first, second, third = broker.topics["asked"]
    assert abs(first.pop("time") - time.time()) < 60
    assert 0 <= first.pop("duration") < 20_000
    assert first == {
        "status": 200,
        "user": "ann",
        "client": "tests",
        "method": "GET",
        "uri": "/api/server/note?u=ann&app=tests",
        "bytes_in": 0,
        "bytes_out": 0,
        "remote_addr": "testclient:50000",
    }
    assert second["status"] == 404
    expected = ("POST", 200, len(b'{"alias":"a"}'), len(answer.content))
    assert (third["method"], third["status"], third["bytes_in"], third["bytes_out"]) == expected


def test_a_request_that_is_answered_at_once_is_reported_once_and_like_all(client: TestClient, broker: Collector):
    root = client.post("/api/repos", params=ADMIN, json={}).json()["root"]
    client.post(f"/api/repo/{root}/instance", json={"typename": "labelmap", "dataname": "seg"})
    voxels = b"\1\0\0\0\0\0\0\0" * 64**3
    assert client.post(f"/api/node/{root}/seg/raw/0_1_2/64_64_64/0_0_0", content=voxels).status_code == 200
    until(lambda: len(broker.topics["asked"]) == 3)
    path, app = f"/api/node/{root}/seg/size/1", client.app
    scope = {
        "type": "http",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"u=ann&app=tests",
    }
    scope |= {"headers": [(b"host", b"localhost:8000")], "client": ("testclient", 50000)}
    for method in ("GET", "HEAD"):
        assert not app.at_once({**scope, "method": method}, b"", lambda answer: False)  # goes the usual way
        client.request(method, path, params={"u": "ann", "app": "tests"})
        assert app.at_once({**scope, "method": method}, b"", lambda answer: True)
    until(lambda: len(broker.topics["asked"]) == 7)
    found = [{k: v for k, v in m.items() if k not in ("time", "duration")} for m in broker.topics["asked"][3:]]
    assert [(m["method"], m["bytes_out"]) for m in found[::2]] == [("GET", len(b'{"voxels":262144}')), ("HEAD", 0)]
    assert found[::2] == found[1::2]
    assert all((m["user"], m["client"], m["bytes_in"]) == ("ann", "tests", 0) for m in found)


def test_the_admin_token_is_not_reported(client: TestClient, broker: Collector):
    client.post("/api/repos", params={"u": "ann", **ADMIN}, json={})
    until(lambda: broker.topics["asked"])
    assert broker.topics["asked"][0]["uri"] == "/api/repos?u=ann&admintoken=..."


def test_the_server_says_what_is_not_yet_published(client: TestClient, broker: Collector):
    broker.down = True
    root = client.post("/api/repos", params=ADMIN, json={}).json()["root"]
    client.post(f"/api/repo/{root}/instance", json={"typename": "keyvalue", "dataname": "kv"})
    client.post(f"/api/node/{root}/kv/key/a", content=b"x")
    until(lambda: client.get("/api/server/kafka").json()["error"])
    said = client.get("/api/server/kafka").json()
    assert "nobody answers" in said["error"]
    waiting = {topic: t["waiting"] for topic, t in said["repos"][root]["topics"].items()}
    assert waiting.pop(Topics("lab-").of_repo(root)) >= 1
    assert list(waiting.values()) == [1]
    until(lambda: client.get("/api/server/kafka").json()["activity"]["waiting"] >= 5)
    broker.down = False
    until(lambda: not client.get("/api/server/kafka").json()["error"])
    until(
        lambda: not any(t["waiting"] for t in client.get("/api/server/kafka").json()["repos"][root]["topics"].values())
    )


def test_a_server_that_only_reads_publishes_requests_alone(broker: Collector, hub: Hub):
    settings = Settings(readonly=True, kafka_servers=("b:1",), kafka_activity_topic="asked")
    hub.create()
    with TestClient(create_app(settings, hub), base_url="http://localhost:8000") as client:
        client.get("/api/server/note")
        until(lambda: broker.topics["asked"])
        assert client.get("/api/server/kafka").json()["repos"] == {}
    assert set(broker.topics) == {"asked"}


def test_requests_that_nobody_hears_of_are_forgotten(
    client: TestClient, broker: Collector, monkeypatch: pytest.MonkeyPatch
):
    feed = client.app.framework.state.publishing.feed
    broker.down = True
    for n in range(15_000):
        feed.add({"n": n})
    assert len(feed._waiting) <= 10_000
    broker.down = False
    until(lambda: broker.topics["asked"] and broker.topics["asked"][-1]["n"] == 14_999)
    assert feed.status()["lost"] == 15_000 - len(broker.topics["asked"])


@pytest.mark.parametrize(
    "wrong", [{"kafka_servers": ("b",)}, {"kafka_servers": ("b:x",)}, {"kafka_topic_prefix": "a b"}]
)
def test_wrong_settings_are_refused_at_once(hub: Hub, wrong: dict):
    with pytest.raises(InvalidInputError):
        create_app(Settings(**{"kafka_servers": ("b:1",), **wrong}), hub)
