"""Writes of a transaction that wait until its end, or until somebody looks where they would be, and rows that it read.

So a batch is a few statements instead of one for each row, and no row is read twice: nobody else changes it meanwhile.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Generic, Protocol, TypeVar

from vzarr.overlay.kv.base import Item, Paging, PagingReader, Range

MOST_WAITING = 1 << 22
"""Bytes that are held back."""
MOST_KNOWN, _SHORT = 1 << 14, 1 << 10
"""Rows that are remembered after they were read, and bytes of the longest value of one."""
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


class Known:
    """Rows as they are stored, of those that somebody read; None for one that is not there.

    Parameters
    ----------
    stored
        Where they are.
    """

    def __init__(self, stored: PagingReader) -> None:
        self._stored = stored
        self._rows: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Value of a key."""
        if key in self._rows:
            return self._rows[key]
        value = self._stored.get(key)
        self.note([(key, value)])
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys."""
        rows = self._rows
        missing = [key for key in keys if key not in rows]
        if not missing:
            return [rows[key] for key in keys]
        found = self._stored.get_many(missing)
        if len(missing) < len(keys):
            values = iter(found)
            found = [rows[key] if key in rows else next(values) for key in keys]
        self.note(zip(keys, found, strict=True))
        return found

    def note(self, found: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Remember rows that were read."""
        self._rows.update((key, value) for key, value in found if value is None or len(value) <= _SHORT)
        if len(self._rows) > MOST_KNOWN:
            self._rows.clear()

    def forget(self) -> None:
        """Know nothing, as something is written now."""
        self._rows.clear()


class Stored(PagingReader, Protocol):
    """A view within a transaction."""

    def check(self) -> object:
        """Refuse once the transaction has ended."""


V = TypeVar("V", bound=Stored)


class Delayed(Paging, Generic[V]):
    """The verbs of a transaction whose writes wait, over a view of what is stored.

    Parameters
    ----------
    stored
        The view, within the transaction.
    """

    def __init__(self, stored: V) -> None:
        self._stored, self._waiting = stored, Waiting()
        self._known = Known(stored)

    @abstractmethod
    def send(self, put: list[Item], gone: list[bytes]) -> None:
        """Write and delete rows of the store."""

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        waiting = self._waiting.rows
        return waiting[key] if key in waiting else self._known.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        return self._waiting.get_many(keys, self._known.get_many)

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """Pairs of each of many ranges, as `Reader.scan_many` defines."""
        self._show(ranges)
        found = self._stored.scan_many(ranges, limit=limit, reverse=reverse)
        self._known.note(chain.from_iterable(found))
        return found

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
        self._known.forget()
        self.send(*self._waiting.take())

    def _write(self, key: bytes, value: bytes | None) -> None:
        self._stored.check()
        self._waiting.write(key, value)
        if self._waiting.heavy:
            self.flush()

    def _show(self, ranges: Sequence[Range]) -> None:
        if self._waiting.matters(ranges):
            self.flush()
