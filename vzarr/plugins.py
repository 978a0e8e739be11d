"""What installed packages offer by entry points; looked for once, since all of them are opened for that."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any


@cache
def offered(group: str) -> Mapping[str, EntryPoint]:
    """Entry points of a group by name, as they were when the first group was asked for."""
    return {point.name: point for point in _installed().select(group=group)}


@cache
def _installed() -> Any:
    return entry_points()  # of a class that Python 3.12 did away with, or of the one that came for it


def forget() -> None:
    """Look again next time: something was installed, or taken away, while the process runs."""
    offered.cache_clear()
    _installed.cache_clear()
