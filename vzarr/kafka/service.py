"""All that a server publishes: the changes of its repos, and the requests that it answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vzarr.errors import InvalidInputError
from vzarr.kafka.activity import ActivityFeed
from vzarr.kafka.broker import KafkaBroker
from vzarr.kafka.publisher import Publisher
from vzarr.kafka.topics import Topics
from vzarr.overlay.repo import Repo


@dataclass(frozen=True)
class Service:
    """What runs beside a server.

    Parameters
    ----------
    servers
        ``HOST:PORT`` of brokers.
    topics
        How topics are called.
    feed
        Publishes the server's activity.
    publisher
        Publishes the repos; None where the server may not change them, and so cannot note how far it is.
    """

    servers: Sequence[str]
    topics: Topics
    feed: ActivityFeed
    publisher: Publisher | None

    @classmethod
    def of(
        cls, servers: Sequence[str], topics: Topics, repos: Callable[[], Iterable[Repo]], *, readonly: bool
    ) -> Service:
        """The service of a server, not yet begun.

        Raises
        ------
        InvalidInputError
            If a broker's address is none.
        UnsupportedError
            If aiokafka is not installed.
        """
        for server in servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal():
                raise InvalidInputError(f"a Kafka broker should be given as HOST:PORT, not {server!r}")
        # One client each, so that trouble with one topic does not interrupt the others.
        feed = ActivityFeed(topics.of_activity, KafkaBroker(servers))
        return cls(servers, topics, feed, None if readonly else Publisher(repos, topics, KafkaBroker(servers)))

    def start(self) -> None:
        """Begin to publish; brokers need not be there."""
        self.feed.start()
        if self.publisher is not None:
            self.publisher.start()

    def stop(self) -> None:
        """End; what was not published is published by whoever begins next."""
        if self.publisher is not None:
            self.publisher.stop()
        self.feed.stop()

    def changed(self) -> None:
        """Say that a repo may have changed."""
        if self.publisher is not None:
            self.publisher.wake()

    def info(self) -> dict[str, str]:
        """What ``/api/server/info`` says."""
        found = {"Kafka Servers": ",".join(self.servers), "Kafka Activity Topic": self.topics.of_activity}
        return {**found, "Kafka Topic Prefix": self.topics.prefix} if self.topics.prefix else found

    def status(self) -> dict[str, Any]:
        """What is not yet published, and why."""
        said = {"error": "", "repos": {}} if self.publisher is None else self.publisher.status()
        return {"servers": list(self.servers), **said, "activity": self.feed.status()}
