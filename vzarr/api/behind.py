"""Work that no answer waits for: what a commit leaves to do, done by one thread of the server in the order it came.

Nothing is lost where it is cut off: whoever looks at what it is about finishes it first, and waits for who is at it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.05
"""Before it begins, unless more waits: who commits mostly makes the next version at once, and would share the
interpreter with it."""


class Behind:
    """What is done behind answers."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vzarr-behind")
        self._left: set[Future[None]] = set()
        self._is_awaited = threading.Event()

    def __call__(self, work: Callable[[], object]) -> None:
        """Do some work soon."""
        future = self._pool.submit(self._do, work)
        self._left.add(future)
        future.add_done_callback(self._left.discard)

    @property
    def is_busy(self) -> bool:
        """Whether something is under way, for which others may have to wait."""
        return bool(self._left)

    def wait(self) -> None:
        """Wait until nothing is left to do of what came until now."""
        self._is_awaited.set()
        try:
            wait(self._left.copy())
        finally:
            self._is_awaited.clear()

    def _do(self, work: Callable[[], object]) -> None:
        if len(self._left) < 2:
            self._is_awaited.wait(PAUSE_SECONDS)
        try:
            work()
        except Exception:
            # Nobody asks for a result.
            log.exception("what a commit left to do waits for who looks next")
