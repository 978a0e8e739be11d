"""Looking once: for an answer as of one moment, whatever tells that something is new is asked at most once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
Looks = dict[Hashable, Any]
"""What was asked, and what it said."""

_looks: ContextVar[Looks | None] = ContextVar("vzarr_looks", default=None)


class one_look:
    """Context in which `once` asks at most once: each log for new entries, each key store whether anybody committed.

    Whoever publishes still asks.  Not for what waits for others and then looks again.

    Parameters
    ----------
    looks
        What was asked already, to which the rest is added: contexts that share it are one.
    """

    def __init__(self, looks: Looks) -> None:
        self._looks = looks

    def __enter__(self) -> None:
        self._token = _looks.set(self._looks)

    def __exit__(self, *exc: object) -> None:
        _looks.reset(self._token)


def once(asked: Hashable, ask: Callable[[], T]) -> T:
    """What `ask` gives; within `one_look` what it gave the first time that `asked` was asked."""
    looks = _looks.get()
    if looks is None:
        return ask()
    if asked not in looks:
        looks[asked] = ask()
    said: T = looks[asked]
    return said


def within_one_look() -> bool:
    """Whether what is asked now has to be as of one moment with what is asked later."""
    return _looks.get() is not None
