"""What was made of chunks and may be asked for again: one cache of a process, bounded in bytes.

Keys begin with names that no other bytes will ever have (`vzarr.overlay.reading.identity`), so nothing is ever stale.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

LIMIT = 256 << 20
"""Bytes that a process keeps unless `keep_at_most` says otherwise."""
_OVERHEAD = 400
"""Bytes that an entry costs beside its arrays, about."""


class Cache:
    """Values by key, least recently used first out; safe for use from several threads.

    Parameters
    ----------
    limit
        Bytes to keep at most.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.nbytes = 0
        self._kept: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any | None:
        """What is kept under a key, None for nothing."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Any, value: Any, nbytes: int) -> None:
        """Keep something of so many bytes."""
        cost = nbytes + _OVERHEAD
        with self._lock:
            self.nbytes += cost - self._kept.pop(key, (None, 0))[1]
            self._kept[key] = (value, cost)
            while self.nbytes > self.limit:
                self.nbytes -= self._kept.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self.nbytes = 0


cache = Cache()
get, put = cache.get, cache.put


def asked_before(name: tuple[Any, ...]) -> bool:
    """Whether something was asked for already, as far as is known; from now on it was."""
    key = (*name, "asked")
    known = get(key) is not None
    put(key, True, 0)
    return known


def keep_at_most(nbytes: int) -> None:
    """Bound what this process keeps; what is too much goes at the next addition."""
    cache.limit = nbytes
