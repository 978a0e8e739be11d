"""Finishing what others left half done: merges not yet composed, voxels written whose index did not follow."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from vzarr.errors import SealedError
from vzarr.types.labelmap import caches, compose, underway

if TYPE_CHECKING:
    from vzarr.types.base import Instance


def resume(instance: Instance) -> None:
    """Finish what can be finished without waiting, for who opens the instance at an open version.

    Looks again only when somebody has committed keys.
    """
    cache, stamp = caches.of(instance), instance.version.repo.authority.stamp()
    if stamp is not None and cache.settled == stamp:
        return
    # At a version that is being sealed it is the committer's business.
    with suppress(SealedError):
        compose.ensure(instance)
        if underway.recover(instance, wait=False):
            cache.settled = stamp


def settle(instance: Instance) -> None:
    """Finish everything, for who is about to seal the version."""
    compose.ensure(instance)
    underway.recover(instance)
