"""A broker in this process, which keeps what it is sent and fails when it is told to."""

from __future__ import annotations

import errno
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from vzarr.kafka.broker import RefusedError, UnreachableError


class Collector:
    """Keeps messages by topic.

    Attributes
    ----------
    down
        Whether nobody answers.
    refused
        Topics of which nothing is taken.
    dies
        Called before a delivery is acknowledged, once it was made.
    """

    def __init__(self) -> None:
        self.topics: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.down = False
        self.refused: set[str] = set()
        self.dies: Callable[[], object] = lambda: None
        self.sends = 0
        self.lock = threading.Lock()

    def send(self, topic: str, messages: Sequence[bytes]) -> None:
        with self.lock:
            self.sends += 1
            if self.down:
                raise UnreachableError(errno.EHOSTUNREACH, "nobody answers")
            if topic in self.refused:
                raise RefusedError(errno.EIO, f"topic {topic} is not for you")
            self.topics[topic] += map(json.loads, messages)
            self.dies()

    def close(self) -> None:
        pass
