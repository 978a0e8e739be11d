"""Publishes what the repos of a server have to say, in the background, once and in order, whatever fails meanwhile.

Of all servers of a repo one publishes at a time: it holds a lock, reads how far each topic is, sends what is missing
and moves the cursor once the broker has acknowledged it.  Whoever is killed in between leaves the cursor where it was,
and the next one sends these messages again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from vzarr.errors import VzarrError
from vzarr.kafka import cursors, outbox
from vzarr.kafka.broker import Broker, RefusedError, UnreachableError
from vzarr.kafka.outbox import Moment, Source
from vzarr.kafka.topics import Topics
from vzarr.overlay import layout
from vzarr.overlay.history.state import State
from vzarr.overlay.repo import Repo

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often to look for what other processes did."""
GAP_SECONDS = 0.05
"""Least time between two looks, however much goes on."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds to wait after a first failure, and after many in a row."""
END_SECONDS = 3.0
"""How long the end waits for messages that are on their way; what was not acknowledged is sent again."""
MOST_COUNTED = 10_000
"""Messages that `Publisher.status` counts of each topic."""


@dataclass
class Trouble:
    """Failures in a row of one thing, and when to try it again.

    Parameters
    ----------
    error
        What was said last; "" while all is well.
    pause, until
        Seconds to wait, and until when by the monotonic clock.
    """

    error: str = ""
    pause: float = 0.0
    until: float = 0.0

    def note(self, what: str, error: Exception) -> None:
        """Wait, twice as long as the last time; a new kind of trouble is logged."""
        if self.error != str(error):
            log.warning("%s: %s", what, error)
        self.error = str(error)
        self.pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self.pause))
        self.until = time.monotonic() + self.pause

    def clear(self, what: str) -> None:
        """Note that it went well."""
        if self.error:
            log.warning("%s: goes on", what)
            self.error, self.pause, self.until = "", 0.0, 0.0

    @property
    def waits(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() < self.until


@dataclass
class _Known:
    """What is remembered of a repo.

    Parameters
    ----------
    state
        The repo at the last look; None before the first.
    complete
        Of each topic the next mutation id and log entry up to which nothing is left.
    troubles
        What fails: of the whole repo under "", else by topic.
    """

    state: State | None = None
    complete: dict[str, tuple[int, int]] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=lambda: defaultdict(Trouble))


class Publisher:
    """A thread that publishes the repos of a server.

    Parameters
    ----------
    repos
        Gives the repos that there are now.
    topics
        How their topics are called.
    broker
        Where messages go; closed with the publisher.
    """

    def __init__(self, repos: Callable[[], Iterable[Repo]], topics: Topics, broker: Broker) -> None:
        self._repos, self.topics, self._broker = repos, topics, broker
        self._known: dict[str, _Known] = defaultdict(_Known)
        self._reach = Trouble()
        self._something, self._ends = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="vzarr-kafka", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there may be something new; costs next to nothing."""
        self._something.set()

    def stop(self) -> None:
        """End after the messages that are on their way, if these arrive soon."""
        self._ends.set()
        self._something.set()
        self._thread.join(END_SECONDS)
        self._broker.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.is_set():
            self._something.clear()
            try:
                self.publish()
            except Exception as error:
                log.exception("publishing failed")
                self._reach.note("publishing", error)
            self._ends.wait(GAP_SECONDS)
            self._something.wait(POLL_SECONDS)

    def publish(self) -> None:
        """Send everything that is not yet published, as far as that is possible now."""
        if self._reach.waits:
            return
        for repo in self._reachable():
            known = self._known[repo.url]
            trouble = known.troubles[""]
            if trouble.waits or self._ends.is_set():
                continue
            try:
                self._publish_repo(repo, known)
                trouble.clear(f"publishing {repo.uuid}")
            except UnreachableError as error:
                self._reach.note("publishing", error)
                return
            except VzarrError as error:
                trouble.note(f"publishing {repo.uuid}", error)

    def _reachable(self) -> list[Repo]:
        """Repos whose keys can be reached; others can only be read here."""
        return [repo for repo in self._repos() if repo.keys.reachable]

    def _publish_repo(self, repo: Repo, known: _Known) -> None:
        moment = outbox.look(repo, known.state or repo.state)
        known.state = moment.now
        news = moment.end, moment.now.next
        todo = [
            source
            for source in outbox.sources(repo, self.topics, moment)
            if known.complete.get(source.topic) != news and not known.troubles[source.topic].waits
        ]
        if not todo:
            return
        with repo.authority.locks.attempt(layout.publishing()) as mine:
            if not mine:
                return
            stored = cursors.read(repo.authority.kv, [source.topic for source in todo])
            for source, cursor in zip(todo, stored, strict=True):
                if self._publish_topic(repo, source, cursor, moment, known.troubles[source.topic]):
                    known.complete[source.topic] = news

    def _publish_topic(
        self, repo: Repo, source: Source, stored: bytes | None, moment: Moment, trouble: Trouble
    ) -> bool:
        """Send what a topic lacks; whether nothing is left."""
        try:
            for batch in source.batches(stored, moment):
                if batch.messages:
                    self._broker.send(source.topic, batch.messages)
                    self._reach.clear("publishing")
                cursors.move(repo.authority.kv, source.topic, stored, batch.cursor)
                stored = batch.cursor
                if self._ends.is_set():
                    return False
        except cursors.OvertakenError:
            return False
        except RefusedError as error:
            trouble.note(f"topic {source.topic}", error)
            return False
        trouble.clear(f"topic {source.topic}")
        return True

    def status(self) -> dict[str, Any]:
        """What is not yet published, and why."""
        repos = {}
        for repo in self._reachable():
            errors = {topic: trouble.error for topic, trouble in dict(self._known[repo.url].troubles).items()}
            waiting = outbox.waiting(repo, self.topics, MOST_COUNTED)
            topics = {topic: {"waiting": n, "error": errors.get(topic, "")} for topic, n in waiting.items()}
            repos[repo.uuid] = {"error": errors.get("", ""), "topics": topics}
        return {"error": self._reach.error, "repos": repos}
