"""Every version as N5 over GET, ``/n5/{ref}/{key}``: ``INSTANCE/s0/X/Y/Z`` and ``attributes.json`` (`shown.n5`)."""

from __future__ import annotations

from importlib.metadata import version as installed

from vzarr.api.hub import Hub
from vzarr.api.objects import Made, ObjectRoutes, Served
from vzarr.overlay.export.shown.n5 import N5View
from vzarr.overlay.version import Version


def routes(hub: Hub) -> ObjectRoutes:
    """ASGI application for ``/n5/{ref}/{key}``."""
    # Another release may compress the same voxels to other bytes.
    return ObjectRoutes(hub, _find, f"n5 {installed('vzarr')} ")


def _find(version: Version, key: str) -> Served:
    return Made(key, N5View.of(version.store).get)
