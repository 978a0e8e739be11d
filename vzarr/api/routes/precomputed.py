"""Every version as precomputed volumes over GET, ``/precomputed/{ref}/{key}``: ``INSTANCE/info`` and chunks.

See `vzarr.overlay.export.shown.precomputed`.
"""

from __future__ import annotations

from importlib.metadata import version as installed

from vzarr.api.hub import Hub
from vzarr.api.objects import Made, ObjectRoutes, Served
from vzarr.overlay.export.shown.precomputed import PrecomputedView
from vzarr.overlay.version import Version


def routes(hub: Hub) -> ObjectRoutes:
    """ASGI application for ``/precomputed/{ref}/{key}``."""
    # Another release may compress the same voxels to other bytes.
    return ObjectRoutes(hub, _find, f"precomputed {installed('vzarr')} ")


def _find(version: Version, key: str) -> Served:
    return Made(key, PrecomputedView.of(version.store).get)
