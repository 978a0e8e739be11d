"""Writes of a transaction that wait until its end, or until somebody looks where they would be.

So a batch is a few statements instead of one for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vzarr.overlay.kv.base import Item, Range

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
