"""Writes of a transaction that wait until its end, or until somebody looks where they would be.

So a batch is a few statements instead of one for each row.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from vzarr.overlay.kv.base import Item, Paging, PagingReader, Range

MOST_WAITING = 1 << 22
"""Bytes that are held back."""
_FEW = 32
"""So many keys that wait are compared with what is looked at; more are sent."""


class Waiting:
    """Writes in no order, the last one of each key; None stands for a deletion."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self._weight = 0

    @property
    def heavy(self) -> bool:
        """Whether it is time to send them."""
        return self._weight > MOST_WAITING

    def write(self, key: bytes, value: bytes | None) -> None:
        """Add one."""
        self.rows[key] = value
        self._weight += len(key) + (len(value) if value else 0)

    def get_many(
        self, keys: Sequence[bytes], look: Callable[[Sequence[bytes]], list[bytes | None]]
    ) -> list[bytes | None]:
        """Values of keys; those that don't wait here are looked up."""
        rows = self.rows
        if not rows:
            return look(keys)
        stored = iter(look([key for key in keys if key not in rows]))
        return [rows[key] if key in rows else next(stored) for key in keys]

    def matters(self, ranges: Sequence[Range]) -> bool:
        """Whether who looks at these ranges may miss something."""
        return len(self.rows) > _FEW or any(
            start <= key and (end is None or key < end) for start, end in ranges for key in self.rows
        )

    def take(self) -> tuple[list[Item], list[bytes]]:
        """What to put and what to delete, in order; nothing waits any more."""
        put = sorted((key, value) for key, value in self.rows.items() if value is not None)
        gone = sorted(key for key, value in self.rows.items() if value is None)
        self.rows, self._weight = {}, 0
        return put, gone


class Delayed(Paging):
    """The verbs of a transaction whose writes wait, over a view of what is stored.

    Parameters
    ----------
    stored
        The view, within the transaction.
    """

    def __init__(self, stored: PagingReader) -> None:
        self._stored, self._waiting = stored, Waiting()

    @abstractmethod
    def send(self, put: list[Item], gone: list[bytes]) -> None:
        """Write and delete rows of the store."""

    @abstractmethod
    def check_key(self, key: bytes) -> None:
        """Refuse a key that the store cannot take, and all of them once the transaction has ended."""

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        waiting = self._waiting.rows
        return waiting[key] if key in waiting else self._stored.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        return self._waiting.get_many(keys, self._stored.get_many)

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """Pairs of each of many ranges, as `Reader.scan_many` defines."""
        self._show(ranges)
        return self._stored.scan_many(ranges, limit=limit, reverse=reverse)

    def fetch(self, start: bytes, end: bytes | None, count: int | None, reverse: bool) -> list[Item]:
        """See `Paging.fetch`."""
        self._show([(start, end)])
        return self._stored.fetch(start, end, count, reverse)

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""
        self._write(key, bytes(value))

    def delete(self, key: bytes) -> None:
        """Remove `key`; nothing happens where it is absent."""
        self._write(key, None)

    def flush(self) -> None:
        """Send what waits."""
        self.send(*self._waiting.take())

    def _write(self, key: bytes, value: bytes | None) -> None:
        self.check_key(key)
        self._waiting.write(key, value)
        if self._waiting.heavy:
            self.flush()

    def _show(self, ranges: Sequence[Range]) -> None:
        if self._waiting.matters(ranges):
            self.flush()
