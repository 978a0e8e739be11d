"""Keys of a sealed version without any key store: sidecars laid over each other, the nearest first.

A version's keys are those of its *layers*, a list of sidecars (see `sidecar`): its own changes, and below them what
its ancestors sealed.  Four layers of about one size are folded into one, so a version has few at any depth, most
commits write nothing but their own changes, and each change is written anew about as often as the logarithm of their
number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from heapq import merge as merged
from itertools import groupby, islice, takewhile
from operator import itemgetter
from typing import NamedTuple

import orjson

from vzarr.errors import AuthorityUnavailableError, ConflictError, FormatError
from vzarr.overlay.kv.base import Item
from vzarr.overlay.kv.batches import batched
from vzarr.overlay.kv.sidecar import Change, Sidecar
from vzarr.overlay.kv.versioned import InstanceKeys

FOLD = 4
"""So many layers of about one size, or of less, are written as one."""
_UNSET = object()


class Layer(NamedTuple):
    """One sidecar among those of a version.

    Parameters
    ----------
    node
        Id of the node that holds it.
    name
        Name of its folder below the node's ``keys/``.
    size
        Number of its keys, deleted ones included.
    """

    node: str
    name: str
    size: int


class Stack(NamedTuple):
    """All that a version's folders say of one instance's keys.

    Parameters
    ----------
    layers
        The sidecars, nearest first.
    conflicts
        Keys that several sides of a merge had changed, and that nobody has written since.
    """

    layers: tuple[Layer, ...] = ()
    conflicts: tuple[bytes, ...] = ()


def to_bytes(stacks: Mapping[str, Stack]) -> bytes:
    """Stacks by data id, as deterministic JSON; keys are in hex."""
    plain = {
        name: {"layers": [list(layer) for layer in stack.layers], "conflicts": [key.hex() for key in stack.conflicts]}
        for name, stack in sorted(stacks.items())
    }
    return orjson.dumps(plain)


def from_bytes(data: bytes) -> dict[str, Stack]:
    """Inverse of `to_bytes`.

    Raises
    ------
    FormatError
        If the bytes are no such list.
    """
    try:
        plain = orjson.loads(data)
        return {
            name: Stack(tuple(Layer(*row) for row in each["layers"]), tuple(map(bytes.fromhex, each["conflicts"])))
            for name, each in plain.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        raise FormatError(f"a list of key layers is damaged: {e}") from e


def folds(counts: Sequence[int]) -> int:
    """How many of a version's layers are to be written as one.

    Parameters
    ----------
    counts
        Numbers of keys, nearest first; the first is what the version itself changed.

    Returns
    -------
    int
        1 where the version's own changes stay a layer of their own, 0 without layers.
    """
    taken = min(1, len(counts))
    while (alike := _alike(counts, taken)) >= FOLD - 1:
        taken += alike
    return taken


def _alike(counts: Sequence[int], taken: int) -> int:
    """How many layers follow on those that are taken and are no larger than all of them, by size class."""
    size = _size_class(sum(counts[:taken]))
    return sum(1 for _ in takewhile(lambda count: _size_class(count) <= size, counts[taken:]))


def _size_class(count: int) -> int:
    """Digits of a number to the base `FOLD`."""
    return -(-count.bit_length() // 2)


def folded(layers: Sequence[Iterable[Change]], *, keep_deleted: bool) -> Iterator[Change]:
    """Several layers as one: the nearest decides.

    Parameters
    ----------
    layers
        Changes in ascending order of keys, nearest layer first.
    keep_deleted
        Whether deletions hide something in layers further down.
    """
    blocks = [batched(layer) for layer in layers]
    ahead: list[list[Change]] = [[] for _ in layers]
    while True:
        ahead = [rows or next(some, []) for rows, some in zip(ahead, blocks, strict=True)]
        # Up to here no layer has more than what is ahead.
        ends = [rows[-1][0] for rows in ahead if rows]
        if not ends:
            return
        found: dict[bytes, bytes | None] = {}
        for rank in reversed(range(len(ahead))):
            count = bisect_right(ahead[rank], min(ends), key=itemgetter(0))
            found.update(ahead[rank][:count])
            ahead[rank] = ahead[rank][count:]
        for key in sorted(found):
            if keep_deleted or found[key] is not None:
                yield key, found[key]


class SealedKeys(InstanceKeys):
    """The keys of one instance at a sealed version, read from folders alone.

    Parameters
    ----------
    stack
        The version's layers of that instance.
    get
        ``get(node, name)`` gives an object below a node's ``keys/``, or None where there is none.
    """

    def __init__(self, stack: Stack, get: Callable[[str, str], bytes | None]) -> None:
        self._stack, self._get, self._lenient = stack, get, False
        self._conflicts = frozenset(stack.conflicts)

    def without_conflicts(self) -> SealedKeys:
        """The same keys, of which those that have several values are absent."""
        found = SealedKeys(self._stack, self._get)
        found._lenient = True
        return found

    @contextmanager
    def at_one_moment(self) -> Iterator[SealedKeys]:
        """The keys themselves, for they never change."""
        yield self

    @cached_property
    def sidecars(self) -> list[Sidecar]:
        """The layers, opened."""
        return [Sidecar(self._reader(layer)) for layer in self._stack.layers]

    def _reader(self, layer: Layer) -> Callable[[str], bytes | None]:
        return lambda name: self._get(layer.node, f"{layer.name}/{name}")

    def _open_conflict(self, key: bytes) -> bool:
        """Whether a key has several values, and so is absent for the lenient; all others are told so."""
        if key not in self._conflicts:
            return False
        if not self._lenient:
            raise ConflictError(f"key {key!r} was changed on several sides of a merge", [key])
        return True

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where it is absent or deleted; `ConflictError` where it has several."""
        if self._open_conflict(key):
            return None
        for sidecar in self.sidecars:
            found = sidecar.lookup(key, _UNSET)
            if found is not _UNSET:
                assert found is None or isinstance(found, bytes)
                return found
        return None

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        return [self.get(key) for key in keys]

    def get_with_version(self, key: bytes) -> tuple[int, bytes] | None:
        """Folders do not tell which version wrote a key, for layers are folded.

        Raises
        ------
        AuthorityUnavailableError
            Always.
        """
        raise AuthorityUnavailableError(f"which version wrote {key!r} is known to the repo's keys alone")

    def scan(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """Keys with ``start <= key < end`` and their values, in key order, or from the last if `reverse`.

        Raises
        ------
        ConflictError
            A key on the way has several values; earlier keys may not have been given yet.
        """
        ranges = [sidecar.within(start, end, reverse=reverse) for sidecar in self.sidecars]
        ranked = [((key, rank, value) for key, value in each) for rank, each in enumerate(ranges)]
        # From the last key the ranks come in the order of layers too, for equal keys are told apart by a stable merge.
        rows = merged(*ranked, key=lambda row: row[0], reverse=reverse)
        seen = (next(group) for _, group in groupby(rows, key=lambda row: row[0]))
        return islice(self._checked((key, value) for key, _, value in seen), limit)

    def _checked(self, rows: Iterable[Change]) -> Iterator[Item]:
        for key, value in rows:
            if not self._open_conflict(key) and value is not None:
                yield key, value

    def scan_keys(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[bytes]:
        """The keys that `scan` gives."""
        return (key for key, _ in self.scan(start, end, limit=limit, reverse=reverse))
