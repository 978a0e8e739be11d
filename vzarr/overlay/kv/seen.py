"""What is seen of some keys: values that came with the rows that were read, and writes whose values have to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from vzarr.errors import FormatError
from vzarr.overlay.kv.base import Reader
from vzarr.overlay.kv.rows import APART, TOMBSTONE, apart_prefix, own_prefix, weight
from vzarr.overlay.kv.rule import Write

HEAVY = 4 << 20
"""Bytes of large values that are in memory at once."""


def damaged(key: bytes, version: int) -> bytes | None:
    """Say that a store does not hold what its rows speak of."""
    raise FormatError(f"key {key!r} was written at version {version}, which holds no value of it")


class Seen:
    """Values by key, None for deleted ones; in no order.

    Parameters
    ----------
    instance
        Whose keys.
    missing
        ``missing(key, version)``: a value of which a row spoke and that is not there; who sees rows of several moments
        looks again, because the key may have been written meanwhile.
    """

    def __init__(self, instance: bytes, missing: Callable[[bytes, int], bytes | None] = damaged) -> None:
        self._instance, self._missing = instance, missing
        self.values: dict[bytes, bytes | None] = {}
        """Those that are known."""
        self.unread: dict[bytes, Write] = {}
        """Writes that made the others."""

    def note(self, key: bytes, write: Write) -> None:
        """Add a key."""
        if write.own is None or write.own[:1] == APART:
            self.unread[key] = write
        else:
            self.values[key] = None if write.own == TOMBSTONE else write.own[1:]

    def gone(self, key: bytes) -> bool:
        """Whether a key that was seen was deleted."""
        return key not in self.unread and self.values[key] is None

    def read(self, view: Reader) -> dict[bytes, bytes | None]:
        """All values."""
        self._find_sizes(view)
        self._read(view, self.unread)
        return self.values

    def in_order(self, view: Reader, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and their values, of which few large ones are in memory at once."""
        self._find_sizes(view)
        some, heavy, size = list[bytes](), list[bytes](), 0
        for key in keys:
            some.append(key)
            if key in self.unread:
                heavy.append(key)
                size += weight(self.unread[key].own or b"")
            if size > HEAVY:
                yield from self._take(view, some, heavy)
                some, heavy, size = [], [], 0
        yield from self._take(view, some, heavy)

    def _take(self, view: Reader, keys: list[bytes], heavy: list[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        self._read(view, heavy)
        for key in keys:
            yield key, self.values.pop(key)

    def _find_sizes(self, view: Reader) -> None:
        """Read the own rows of writes of which only past rows were read."""
        asked = [(key, write.version) for key, write in self.unread.items() if write.own is None]
        rows = view.get_many([own_prefix(self._instance, v) + key for key, v in asked]) if asked else []
        for (key, version), row in zip(asked, rows, strict=True):
            del self.unread[key]
            if row is None:
                damaged(key, version)
            self.note(key, Write(version, row))

    def _read(self, view: Reader, keys: Iterable[bytes]) -> None:
        """Read large values."""
        asked = [(key, self.unread.pop(key).version) for key in list(keys)]
        rows = view.get_many([apart_prefix(self._instance, v) + key for key, v in asked]) if asked else []
        for (key, version), row in zip(asked, rows, strict=True):
            self.values[key] = self._missing(key, version) if row is None else row
