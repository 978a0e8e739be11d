"""The face of an instance's keys at a version, whether they come from a key store or from sealed folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from vzarr.overlay.kv.base import Item


class InstanceKeys(Protocol):
    """The keys of one instance as one version sees them."""

    def without_conflicts(self) -> InstanceKeys:
        """The same keys, of which those that have several values are absent."""

    def at_one_moment(self) -> AbstractContextManager[InstanceKeys]:
        """The same keys as they are now, for as long as the context lasts; writers go on meanwhile."""

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where it is absent or deleted; `ConflictError` where it has several."""

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""

    def get_with_version(self, key: bytes) -> tuple[int, bytes] | None:
        """Number of the version that wrote the visible value, and the value; None where the key is absent."""

    def scan(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """Keys with ``start <= key < end`` and their values, in key order, or from the last if `reverse`.

        Raises
        ------
        ConflictError
            A key on the way has several values; earlier keys may not have been given yet.
        """

    def scan_keys(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[bytes]:
        """The keys that `scan` gives, without reading their values."""
