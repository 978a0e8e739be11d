"""Messages about requests: sent in order, kept while nobody takes them, counted when they are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.kafka.collector import Collector
from vzarr.kafka import activity, publisher
from vzarr.kafka.activity import ActivityFeed


@pytest.fixture
def feed(broker: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[ActivityFeed]:
    monkeypatch.setattr(activity, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "FIRST_PAUSE", 0.01)
    feed = ActivityFeed("asked", broker)
    feed.start()
    yield feed
    feed.stop()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def numbers(broker: Collector) -> list[int]:
    return [message["n"] for message in broker.topics["asked"]]


def test_what_waits_is_sent_in_order_once_somebody_takes_it(broker: Collector, feed: ActivityFeed):
    broker.down = True
    for n in range(5):
        feed.add({"n": n})
    until(lambda: "nobody answers" in feed.status()["error"])
    assert (numbers(broker), feed.status()["waiting"]) == ([], 5)
    broker.down = False
    until(lambda: len(numbers(broker)) == 5)
    until(lambda: feed.status() == {"topic": "asked", "waiting": 0, "lost": 0, "error": ""})
    assert numbers(broker) == [0, 1, 2, 3, 4]


def test_an_error_that_nobody_expected_does_not_end_it(
    broker: Collector, feed: ActivityFeed, caplog: pytest.LogCaptureFixture
):
    def break_once() -> None:
        broker.dies = lambda: None
        raise RuntimeError("a fault of the client")

    broker.dies = break_once
    feed.add({"n": 1})
    until(lambda: numbers(broker) == [1, 1])  # it was not acknowledged the first time
    feed.add({"n": 2})
    until(lambda: numbers(broker) == [1, 1, 2])
    assert "a fault of the client" in caplog.text


def test_the_oldest_are_lost_and_counted(broker: Collector, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(activity, "MOST_WAITING", 3)
    feed = ActivityFeed("asked", broker)
    for n in range(8):
        feed.add({"n": n})
    assert feed.status() == {"topic": "asked", "waiting": 3, "lost": 5, "error": ""}
    feed.start()
    feed.stop()
    assert numbers(broker) == [5, 6, 7]


def test_a_message_that_is_no_json_is_left_out_and_said(
    broker: Collector, feed: ActivityFeed, caplog: pytest.LogCaptureFixture
):
    feed.add({"n": 1 << 70})
    feed.add({"n": 2})
    until(lambda: "asked" in broker.topics and numbers(broker) == [2])
    assert feed.status()["lost"] == 1
    assert "publishing activity failed" in caplog.text
