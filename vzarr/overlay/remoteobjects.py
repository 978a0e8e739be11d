"""Objects in an object store."""

from __future__ import annotations

from vzarr.errors import UnsupportedError
from vzarr.overlay.objects import Objects


class RemoteObjects(Objects):
    """Objects in an object store."""

    @classmethod
    def of(cls, url: str) -> Objects:
        """Open."""
        raise UnsupportedError(f"cannot open {url!r}: this release keeps repos in file:// and memory:// only")
