"""Answers at once or not at all: for callers that serve others too and must not wait, such as an event loop.

Within `at_once` whatever would read voxels, finish what others left, or otherwise take longer than a look-up raises
`WouldWaitError`, having changed nothing; the caller asks again where it may wait.
"""

from __future__ import annotations

from contextvars import ContextVar

from vzarr.errors import VzarrError

_hurried: ContextVar[bool] = ContextVar("vzarr_at_once", default=False)


class WouldWaitError(VzarrError):
    """What is asked for takes time, and the caller has none."""


class at_once:
    """Context in which nobody waits."""

    def __enter__(self) -> None:
        self._token = _hurried.set(True)

    def __exit__(self, *exc: object) -> None:
        _hurried.reset(self._token)


def is_hurried() -> bool:
    """Whether this is within `at_once`."""
    return _hurried.get()


def will_wait(what: str) -> None:
    """Say that something long begins now.

    Raises
    ------
    WouldWaitError
        Within `at_once`.
    """
    if _hurried.get():
        raise WouldWaitError(f"{what} takes time")
