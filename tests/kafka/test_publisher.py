"""The thread that publishes: beside writers, beside another server, through failures; it never loses nor reorders."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vzarr
from tests.kafka.collector import Collector
from tests.kafka.test_outbox import TOPICS, ids, logged, topic_of
from vzarr.errors import SealedError, StorageError
from vzarr.kafka import publisher
from vzarr.kafka.publisher import Publisher
from vzarr.overlay import layout
from vzarr.types import registry


@contextmanager
def running(*repos: vzarr.Repo, broker: Collector) -> Iterator[Publisher]:
    found = Publisher(lambda: repos, TOPICS, broker)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def until(true: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def settled(repo: vzarr.Repo, found: Publisher) -> bool:
    topics = found.status()["repos"][repo.uuid]["topics"]
    return not any(t["waiting"] for t in topics.values())


class Author:
    """Writes keys and makes versions until told to stop."""

    def __init__(self, url: str, number: int) -> None:
        self.repo, self.number = vzarr.open(url), number

    def work(self, enough: threading.Event) -> None:
        version = self.repo.root.branch(f"of-{self.number}")
        n = 0
        while not enough.is_set():
            n += 1
            version["kv"].put(f"{self.number}/{n}", b"")
            version["shared"].put(f"{self.number}/{n}", b"")
            self.repo["common"]["kv"].put("common", b"")
            if n % 5 == 0:
                version = version.commit().newversion()
            if n % 7 == self.number:
                self.move_common()

    def move_common(self) -> None:
        """Seal a version into which others write at this moment."""
        try:
            self.repo["common"].commit()
        except SealedError:
            return
        self.repo["common"].newversion()


def attempts(author: Author, enough: threading.Event) -> None:
    """Work on where a version was sealed in between."""
    while not enough.is_set():
        try:
            author.work(enough)
        except SealedError:
            author.number += 3


@pytest.mark.slow
def test_beside_writers_and_another_server(tmp_path: Path):
    url, broker = str(tmp_path / "repo"), Collector()
    with vzarr.create(url) as repo, vzarr.open(url) as other:
        registry.create(repo.root, "kv", "keyvalue")
        registry.create(repo.root, "shared", "keyvalue", versioned=False)
        repo.root.commit().branch("common")
        authors, enough = [Author(url, n) for n in range(3)], threading.Event()
        with running(repo, broker=broker) as one, running(other, broker=broker):
            threads = [threading.Thread(target=attempts, args=(author, enough)) for author in authors]
            for thread in threads:
                thread.start()
            time.sleep(4)
            enough.set()
            for thread in threads:
                thread.join()
            until(lambda: settled(repo, one))
        for name in ("kv", "shared"):
            published = ids(broker.topics[topic_of(repo, name)])
            assert len(published) > 50
            assert published == logged(repo, name)
        made = [m["Child"] for m in broker.topics[TOPICS.of_repo(repo.uuid)] if "Child" in m]
        assert made == [v.uuid for v in repo.versions()][1:]
        for author in authors:
            author.repo.close()


def test_a_change_is_published_at_once(repo: vzarr.Repo, broker: Collector, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publisher, "POLL_SECONDS", 60.0)
    kv = registry.create(repo.root, "kv", "keyvalue")
    with running(repo, broker=broker) as found:
        until(lambda: broker.topics[TOPICS.of_repo(repo.uuid)])
        kv.put("a", b"")
        found.wake()
        until(lambda: broker.topics[topic_of(repo, "kv")], 5)


def test_an_outage_is_waited_out(
    repo: vzarr.Repo, broker: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(publisher, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(publisher, "LONGEST_PAUSE", 0.2)
    caplog.set_level(logging.WARNING)
    kv, broker.down = registry.create(repo.root, "kv", "keyvalue"), True
    with running(repo, broker=broker) as found:
        until(lambda: broker.sends > 0)
        kv.put_many([(f"{n}", b"") for n in range(10)])
        time.sleep(1)
        assert 3 <= broker.sends <= 12, "it should wait longer each time"
        status = found.status()
        assert "nobody answers" in status["error"]
        assert status["repos"][repo.uuid]["topics"][topic_of(repo, "kv")]["waiting"] == 10
        broker.down = False
        until(lambda: settled(repo, found))
        assert found.status()["error"] == ""
    assert [m["Key"] for m in broker.topics[topic_of(repo, "kv")]] == [f"{n}" for n in range(10)]
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2, "once when it begins, once when it is over"


def test_a_topic_that_is_refused_holds_up_no_other(
    repo: vzarr.Repo, broker: Collector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publisher, "POLL_SECONDS", 0.01)
    one, two = (registry.create(repo.root, name, "keyvalue") for name in ("one", "two"))
    broker.refused = {topic_of(repo, "one")}
    with running(repo, broker=broker) as found:
        for n in range(3):
            one.put(f"{n}", b"")
            two.put(f"{n}", b"")
            until(lambda n=n: len(broker.topics[topic_of(repo, "two")]) == n + 1)
        said = found.status()["repos"][repo.uuid]["topics"]
        assert said[topic_of(repo, "one")] == {"waiting": 3, "error": said[topic_of(repo, "one")]["error"]}
        assert "not for you" in said[topic_of(repo, "one")]["error"]
        assert said[topic_of(repo, "two")] == {"waiting": 0, "error": ""}
        broker.refused = set()
        until(lambda: len(broker.topics[topic_of(repo, "one")]) == 3)


def test_a_repo_that_fails_holds_up_no_other(repo: vzarr.Repo, broker: Collector, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publisher, "POLL_SECONDS", 0.01)
    with vzarr.create("memory://sick") as sick, running(sick, repo, broker=broker) as found:

        def fails(*args: object) -> None:
            raise StorageError(5, "the disk is gone")

        with monkeypatch.context() as patch:
            patch.setattr(sick.authority.kv, "get", fails)
            registry.create(repo.root, "kv", "keyvalue").put("a", b"")
            until(lambda: broker.topics[topic_of(repo, "kv")])
            until(lambda: "the disk is gone" in found._known[sick.url].troubles[""].error)
        until(lambda: not found._known[sick.url].troubles[""].error)


def test_a_mistake_does_not_end_it(repo: vzarr.Repo, broker: Collector, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publisher, "POLL_SECONDS", 0.01)
    registry.create(repo.root, "kv", "keyvalue").put("a", b"")
    wrong = [True]

    def stumbles() -> None:
        if wrong:
            wrong.pop()
            raise RuntimeError("a mistake")

    broker.dies = stumbles
    with running(repo, broker=broker):
        until(lambda: broker.topics[topic_of(repo, "kv")])


def test_one_publishes_at_a_time(tmp_path: Path, broker: Collector):
    with vzarr.create(str(tmp_path / "repo")) as repo, vzarr.open(repo.url) as other:
        registry.create(repo.root, "kv", "keyvalue").put("a", b"")
        with other.authority.locks.alone(layout.publishing()):
            Publisher(lambda: [repo], TOPICS, broker).publish()
            assert not broker.sends
        Publisher(lambda: [repo], TOPICS, broker).publish()
        assert broker.sends == 2


def test_nothing_is_asked_twice_while_nothing_happens(tmp_path: Path, broker: Collector):
    """A poll of a repo in which nothing happens costs one key and one look for a log entry."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        for n in range(5):
            registry.create(repo.root, f"kv{n}", "keyvalue").put("a", b"")
        found, kv = Publisher(lambda: [repo], TOPICS, broker), repo.authority.kv
        found.publish()
        asked: list[str] = []
        for name in ("get", "get_many", "scan", "snapshot", "transact"):
            real = getattr(kv, name)
            setattr(kv, name, lambda *a, name=name, real=real, **k: asked.append(name) or real(*a, **k))
        found.publish()
        assert asked == ["get"]
