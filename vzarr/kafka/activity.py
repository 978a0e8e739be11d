"""Messages about the requests that a server answered; they are no part of any history.

What the broker cannot take for long is lost: no request waits, and memory is bounded.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import orjson

from vzarr.errors import StorageError
from vzarr.kafka.broker import Broker
from vzarr.kafka.publisher import END_SECONDS, Trouble

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Messages that are kept while the broker is away; the oldest ones go first."""
BATCH = 1000
PAUSE_SECONDS = 0.2


class ActivityFeed:
    """A thread that publishes what a server does.

    Parameters
    ----------
    topic
        Where.
    broker
        Where messages go; closed with the feed.
    """

    def __init__(self, topic: str, broker: Broker) -> None:
        self.topic, self._broker = topic, broker
        self._waiting: deque[Mapping[str, Any]] = deque(maxlen=MOST_WAITING)
        self._sending: list[bytes] = []
        self._added = self._sent = 0
        self._trouble = Trouble()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vzarr-kafka-activity", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, message: Mapping[str, Any]) -> None:
        """Let a message be published; called by one thread only."""
        self._added += 1
        self._waiting.append(message)

    def stop(self) -> None:
        """Send what is waiting, if that is possible at once, and end."""
        self._ends.set()
        self._thread.join(END_SECONDS)
        self._broker.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(PAUSE_SECONDS):
            self._send()
        self._send()

    def _send(self) -> None:
        """Send what is waiting; what could not be sent stays."""
        while not self._trouble.waits:
            try:
                while self._waiting and len(self._sending) < BATCH:
                    self._sending.append(orjson.dumps(self._waiting.popleft()))
                if not self._sending:
                    return
                self._broker.send(self.topic, self._sending)
            except Exception as error:  # whatever it is, the thread must live to send the next messages
                if not isinstance(error, StorageError):
                    log.exception("publishing activity failed")
                self._trouble.note(f"topic {self.topic}", error)
                return
            self._trouble.clear(f"topic {self.topic}")
            self._sent += len(self._sending)
            self._sending = []

    def status(self) -> dict[str, Any]:
        """How many messages wait and how many were lost, about, and why."""
        waiting = len(self._waiting) + len(self._sending)
        lost = max(0, self._added - self._sent - waiting)
        return {"topic": self.topic, "waiting": waiting, "lost": lost, "error": self._trouble.error}
