"""A part of a key store that belongs to one repo, so that one database serves many; and keys that cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn, TypeVar

from vzarr.errors import AuthorityUnavailableError
from vzarr.overlay.kv.base import Item, OrderedKV, Range, Reader, Transaction, prefix_end, stamp_of

T = TypeVar("T")


class _Part:
    """Read verbs on the rows below a prefix, which is not seen."""

    def __init__(self, inner: Reader, prefix: bytes) -> None:
        self._inner, self._prefix = inner, prefix

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where there is none."""
        return self._inner.get(self._prefix + key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order, all as of one moment."""
        return self._inner.get_many([self._prefix + key for key in keys])

    def scan(
        self, start: bytes, end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """Pairs of a range in key order, as `Reader.scan` defines."""
        cut = len(self._prefix)
        stop = prefix_end(self._prefix) if end is None else self._prefix + end
        for key, value in self._inner.scan(self._prefix + start, stop, limit=limit, reverse=reverse):
            yield key[cut:], value

    def scan_many(
        self, ranges: Sequence[Range], *, limit: int | None = None, reverse: bool = False
    ) -> list[list[Item]]:
        """Pairs of each of many ranges, as `Reader.scan_many` defines."""
        cut, last = len(self._prefix), prefix_end(self._prefix)
        whole = [(self._prefix + start, last if end is None else self._prefix + end) for start, end in ranges]
        found = self._inner.scan_many(whole, limit=limit, reverse=reverse)
        return [[(key[cut:], value) for key, value in rows] for rows in found]


class _PartTxn(_Part):
    def __init__(self, inner: Transaction, prefix: bytes) -> None:
        super().__init__(inner, prefix)
        self._txn = inner

    def put(self, key: bytes, value: bytes) -> None:
        self._txn.put(self._prefix + key, value)

    def delete(self, key: bytes) -> None:
        self._txn.delete(self._prefix + key)


class Section(_Part):
    """An `OrderedKV` of the rows of another whose keys begin with a prefix.

    Parameters
    ----------
    kv
        The whole store; closed with its section.
    prefix
        What the section's keys begin with.
    """

    def __init__(self, kv: OrderedKV, prefix: bytes) -> None:
        super().__init__(kv, prefix)
        self.whole = kv
        """The whole store."""

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """A view of this moment, for as long as the context lasts."""
        with self.whole.snapshot() as moment:
            yield _Part(moment, self._prefix)

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        """Run ``fn(txn)`` as one serialisable transaction, as `OrderedKV.transact` defines."""
        return self.whole.transact(lambda txn: fn(_PartTxn(txn, self._prefix)))

    def stamp(self) -> Hashable | None:
        """What stays equal until somebody commits, to this section or another (see `stamp_of`)."""
        return stamp_of(self.whole)

    def close(self) -> None:
        """Close the whole store."""
        self.whole.close()


class Unreachable:
    """An `OrderedKV` that cannot be reached from here: everything but closing raises.

    Parameters
    ----------
    reason
        Why, and what would help.
    elsewhere
        Whether arrays that belong to no version are out of reach, too: a mirror does not hold them.
    """

    def __init__(self, reason: str, *, elsewhere: bool = False) -> None:
        self.reason, self.elsewhere = reason, elsewhere

    def refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        """Say why.

        Raises
        ------
        AuthorityUnavailableError
            Always.
        """
        raise AuthorityUnavailableError(self.reason)

    get = get_many = scan = scan_many = transact = refuse

    def snapshot(self) -> AbstractContextManager[Reader]:
        """See `refuse`."""
        self.refuse()

    def close(self) -> None:
        """Nothing is open."""
