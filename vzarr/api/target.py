"""What a request is about: found once by the dispatcher, carried in the scope, read by everybody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Scope

    from vzarr.overlay.repo import Repo
    from vzarr.overlay.version import Version

TARGET = "vzarr.target"


@dataclass(frozen=True)
class Target:
    """A repo, a version in it, and perhaps an instance.

    Parameters
    ----------
    repo, version
        What the reference in the URL resolved to.
    handle
        Handle of the datatype (`vzarr.types`), None on routes of repos and nodes.
    segments
        Decoded segments of the path behind the instance's name, keyword first.  They are split before they
        are decoded, so that ``%2F`` in a key stays in the key.
    """

    repo: Repo
    version: Version
    handle: Any = None
    segments: tuple[str, ...] = ()


def target_of(scope: Scope) -> Target | None:
    """Target that the dispatcher left in `scope`, None outside of dispatched routes."""
    found = scope.get(TARGET)
    return found if isinstance(found, Target) else None
