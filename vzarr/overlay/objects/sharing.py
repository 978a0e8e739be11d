"""Work on many chunks or objects, done by the caller and helper threads that are there already."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
T = TypeVar("T")

_helper = ThreadPoolExecutor(1, thread_name_prefix="vzarr-regions")
_helpers = ThreadPoolExecutor(64, thread_name_prefix="vzarr-requests")
"""For object stores, where most of the time is waiting."""


def _after_fork() -> None:
    """Helpers stay behind in the parent."""
    global _helper, _helpers
    _helper = ThreadPoolExecutor(1, thread_name_prefix="vzarr-regions")
    _helpers = ThreadPoolExecutor(64, thread_name_prefix="vzarr-requests")


os.register_at_fork(after_in_child=_after_fork)


def share(work: Callable[[Item], T], items: Sequence[Item], threads: int = 2) -> list[T]:
    """Results of `work` for each item in order, done by the caller and helper threads."""
    if len(items) < 2 or threads < 2:
        return [work(item) for item in items]
    results: list[Any] = [None] * len(items)
    places: Iterator[int] = iter(range(len(items)))
    stop = threading.Event()

    def run() -> None:
        try:
            # next() on a range's iterator is atomic under the interpreter lock; the event ends a failed run early.
            for place in places:
                if stop.is_set():
                    return
                results[place] = work(items[place])
        except BaseException:
            stop.set()
            raise

    pool = _helper if threads == 2 else _helpers
    others: list[Future[None]] = [
        pool.submit(contextvars.copy_context().run, run) for _ in range(min(threads, len(items)) - 1)
    ]
    failed: list[BaseException] = []
    try:
        run()
    finally:
        # Nobody works on once this has ended, whoever failed.
        for other in others:
            if not other.cancel() and (error := other.exception()) is not None:
                failed.append(error)
    if failed:
        raise failed[0]
    return results
