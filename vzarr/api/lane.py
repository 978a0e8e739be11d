"""Brief changes one after the other: threads that do them side by side take the interpreter from each other.

Each of a few edits that were begun together takes twice as long, and they queue for the key store anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

A = TypeVar("A")
T = TypeVar("T")

_PATIENCE = 0.05
"""Seconds after which the next one no longer waits for one that is not brief, or that waits for something itself."""


class Lane:
    """Where calls wait for their turn, first come first served."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[A], T], given: A) -> T:
        """Call `work` in a thread, once those before it are done or have had their time."""
        async with self._turn:
            running = asyncio.ensure_future(run_in_threadpool(work, given))
            await asyncio.wait([running], timeout=_PATIENCE)
        return await running
