"""Keys of one instance at a version, read from a key store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from itertools import islice
from operator import itemgetter

from vzarr.errors import ConflictError, InvalidInputError
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv.base import Item, Reader
from vzarr.overlay.kv.heads import Clash, Folded, found_rows, lines_of, stored_heads
from vzarr.overlay.kv.instancekeys import InstanceKeys
from vzarr.overlay.kv.rows import OWN, PREFIX, VALUE, after_version, head_prefix, own_prefix
from vzarr.overlay.kv.rule import IsAncestor, Write
from vzarr.overlay.kv.seen import Seen
from vzarr.overlay.kv.spans import spans

Snapshot = Callable[[], AbstractContextManager[Reader]]

AHEAD = 4
"""Lines whose heads are read together with a version's own rows."""
TOGETHER = 64
"""Rows that are looked up by one statement where most of them need not be there."""
_PLAIN = VALUE[0]
_key = itemgetter(0)


class StoredKeys(InstanceKeys):
    """Keys in a key store.  Made by `VersionedKV.at`.

    A version's own rows decide, and heads about keys that it did not write.  Own rows stay and heads only get newer, so
    a sealed version looks the same at any moment.  Of an open one each call sees one moment, and a scan sees writes
    meanwhile as `Reader.scan` says.

    Parameters
    ----------
    view
        The store, or a moment of it.
    snapshot
        Gives moments of the store; None where `view` is one.
    instance, position, is_ancestor, folded
        As in `VersionedKV.at`.
    """

    def __init__(
        self,
        view: Reader,
        snapshot: Snapshot | None,
        instance: bytes,
        position: Position,
        is_ancestor: IsAncestor,
        *,
        folded: bool = False,
    ) -> None:
        if len(instance) != 16:
            raise InvalidInputError(f"an instance is named by 16 bytes, not {len(instance)}")
        self._view, self._instance, self._position = view, instance, position
        self._folded = Folded(instance, position, is_ancestor)
        self._own = b"" if folded else own_prefix(instance, position.version)
        # Keys outside of versions are never folded.
        self._lines = list(islice(lines_of(position), AHEAD)) if position.version else []
        self._prefixes = [self._own] * (not folded) + [head_prefix(instance, line) for line in self._lines]
        self._above = after_version(position.version)
        self._snapshot = None if folded else snapshot
        self._lenient = False

    def without_conflicts(self) -> StoredKeys:
        """The same keys, of which those that have several values are absent."""
        return self._like(_lenient=True)

    def _like(self, **changed: object) -> StoredKeys:
        found = object.__new__(StoredKeys)
        found.__dict__.update(self.__dict__, **changed)
        return found

    @contextmanager
    def at_one_moment(self) -> Iterator[StoredKeys]:
        """See `InstanceKeys.at_one_moment`."""
        if self._snapshot is None:
            yield self
            return
        with self._snapshot() as view:
            yield self._like(_view=view, _snapshot=None)

    def _seen(self) -> Seen:
        return Seen(self._instance) if self._snapshot is None else Seen(self._instance, self._again)

    def _again(self, key: bytes, _version: int) -> bytes | None:
        """Value of a key that was written while it was looked up."""
        with self.at_one_moment() as same:
            return same.get(key)

    def get(self, key: bytes) -> bytes | None:
        """Value of `key`, or None where it is absent or deleted; `ConflictError` where it has several."""
        write = self._write(key)
        if write is None:
            return None
        own = write.own
        return own[1:] if own is not None and own[:1] == VALUE else self._value(key, write)

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Values of `keys`, in their order."""
        wanted = list(keys)
        if self._snapshot is None or len(wanted) * len(self._prefixes) <= TOGETHER:
            seen = self._look_up(wanted, self._clash)
            if self._snapshot is None or len(wanted) < 2 or not seen.unread:
                values = seen.read(self._view)
                return [values.get(key) for key in wanted]
        with self.at_one_moment() as same:
            return same.get_many(wanted)

    def get_with_version(self, key: bytes) -> tuple[int, bytes] | None:
        """Number of the version that wrote the visible value, and the value; None where the key is absent."""
        write = self._write(key)
        value = None if write is None else self._value(key, write)
        return None if write is None or value is None else (write.version, value)

    def settled(self, keys: Sequence[bytes], clashing: list[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and their values, None for absent ones; those that have several are noted instead."""
        undecided: list[bytes] = []
        seen = self._look_up(keys, lambda key, _versions: undecided.append(key))
        clashing += undecided
        left_out = set(undecided)
        wanted = [key for key in keys if key not in left_out]
        absent = dict.fromkeys(key for key in wanted if key not in seen.values and key not in seen.unread)
        seen.values.update(absent)
        return seen.in_order(self._view, wanted)

    def scan(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[Item]:
        """See `InstanceKeys.scan`."""
        found = self._items(start, end, limit, reverse)
        return found if limit is None else islice(found, limit)

    def scan_many(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[list[Item]]:
        """What `scan` gives of each of many short ranges, looked up together and in memory."""
        with self.at_one_moment() as same:
            return same._scan_many(ranges)

    def _scan_many(self, ranges: Sequence[tuple[bytes, bytes]]) -> list[list[Item]]:
        prefixes = self._all_prefixes
        rows = self._view.scan_many([(p + start, p + end) for start, end in ranges for p in prefixes])
        width = len(prefixes)
        parts = [rows[n : n + width] for n in range(0, len(rows), width)]
        found = [self._plain(part, False) for part in parts]
        return [self._thought_over(part) if plain is None else plain for part, plain in zip(parts, found, strict=True)]

    def _thought_over(self, rows: Sequence[Sequence[Item]]) -> list[Item]:
        seen = self._seen()
        keys, clash = self._order(rows, False, seen)
        if clash is not None:
            raise clash
        values = seen.read(self._view)
        return [(key, value) for key in keys if (value := values[key]) is not None]

    def scan_keys(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[bytes]:
        """The keys that `scan` gives, without reading their values."""
        return islice(self._keys(start, end, limit, reverse), limit)

    @cached_property
    def _all_prefixes(self) -> list[bytes]:
        """Where own rows are, and the heads of each line."""
        if len(self._lines) < AHEAD:
            return self._prefixes
        rest = islice(lines_of(self._position), AHEAD, None)
        return [*self._prefixes, *(head_prefix(self._instance, line) for line in rest)]

    # ------------------------------------------------------------ single keys

    def _write(self, key: bytes) -> Write | None:
        """What is seen of a key."""
        prefixes = self._prefixes
        if len(prefixes) == 1:
            rows = [self._view.get(prefixes[0] + key)]
        else:
            rows = self._view.get_many([prefix + key for prefix in prefixes])
        if self._own:
            if (own := rows[0]) is not None:
                return Write(self._position.version, own)
            del rows[0]
        if not rows:
            return None
        head = rows[0]
        if head is not None and head < self._above:
            return Write(int.from_bytes(head[:4], "big"), head[OWN:])
        known: dict[int, Mapping[bytes, bytes]] = {}
        for line, row in zip(self._lines, rows, strict=True):
            known[line] = {} if row is None else {key: row}
        return self._folded_write(key, known)

    def _folded_write(self, key: bytes, known: dict[int, Mapping[bytes, bytes]]) -> Write | None:
        heads = stored_heads(self._view, self._instance, known)
        values = [write for write in self._folded.latest(self._view, key, heads) if not write.gone]
        if len(values) > 1:
            self._clash(key, sorted(write.version for write in values))
        return values[0] if len(values) == 1 else None

    def _value(self, key: bytes, write: Write) -> bytes | None:
        seen = self._seen()
        seen.note(key, write)
        return seen.read(self._view)[key]

    # ------------------------------------------------------------ many keys

    def _look_up(self, keys: Sequence[bytes], clash: Clash) -> Seen:
        """What is seen of many keys."""
        prefixes, seen = self._prefixes, self._seen()
        own, known = dict[bytes, bytes](), dict[int, Mapping[bytes, bytes]]()
        if 0 < len(keys) * len(prefixes) <= TOGETHER:
            rows = self._view.get_many([prefix + key for prefix in prefixes for key in keys])
            parts = [found_rows(keys, rows[n : n + len(keys)]) for n in range(0, len(rows), len(keys))]
            own = parts.pop(0) if self._own else {}
            known.update(zip(self._lines, parts, strict=True))
        elif self._own:
            own = found_rows(keys, self._view.get_many([self._own + key for key in keys]))
        left = self._note_own(own, keys, seen)
        if left and self._lines:
            self._folded.add(self._view, left, stored_heads(self._view, self._instance, known), clash, seen)
        return seen

    def _note_own(self, own: Mapping[bytes, bytes], keys: Sequence[bytes], seen: Seen) -> Sequence[bytes]:
        """Note what the version wrote itself; gives the keys that it did not write."""
        if not own:
            return keys
        plain = {key: row[1:] for key, row in own.items() if row[0] == _PLAIN}
        seen.values.update(plain)
        if len(plain) < len(own):
            for key, row in own.items():
                if key not in plain:
                    seen.note(key, Write(self._position.version, row))
        return [key for key in keys if key not in own]

    # ------------------------------------------------------------ ranges

    def _items(self, start: bytes, end: bytes | None, limit: int | None, reverse: bool) -> Iterator[Item]:
        for rows in spans(self._view, self._all_prefixes, start, end, limit=limit, reverse=reverse):
            plain = self._plain(rows, reverse)
            if plain is not None:
                yield from plain
                continue
            seen = self._seen()
            keys, clash = self._order(rows, reverse, seen)
            found = seen.in_order(self._view, keys)
            yield from ((key, value) for key, value in found if value is not None)
            if clash is not None:
                raise clash

    def _keys(self, start: bytes, end: bytes | None, limit: int | None, reverse: bool) -> Iterator[bytes]:
        for rows in spans(self._view, self._all_prefixes, start, end, limit=limit, reverse=reverse):
            seen = self._seen()
            keys, clash = self._order(rows, reverse, seen)
            yield from [key for key in keys if not seen.gone(key)]
            if clash is not None:
                raise clash

    def _plain(self, rows: Sequence[Sequence[Item]], reverse: bool) -> list[Item] | None:
        """Keys and values where that needs no thought: on one line, and each row has a value that is seen."""
        own, lines = (rows[0], rows[1:]) if self._own else ((), rows)
        if len(lines) > 1:
            return None
        heads, above = lines[0] if lines else (), self._above
        if own and heads:
            written = {name[PREFIX:] for name, _ in own}
            heads = [head for head in heads if head[0][PREFIX:] not in written]
        found = [(name[PREFIX:], row[1:]) for name, row in own if row[0] == _PLAIN]
        found += [(name[PREFIX:], row[OWN + 1 :]) for name, row in heads if row < above and row[OWN] == _PLAIN]
        if len(found) < len(own) + len(heads):
            return None
        return sorted(found, key=_key, reverse=reverse) if own and heads else found

    def _order(
        self, rows: Sequence[Sequence[Item]], reverse: bool, seen: Seen
    ) -> tuple[list[bytes], ConflictError | None]:
        """Note what is seen of the keys of some rows; gives those keys in order, up to one that has several values."""
        own = {key[PREFIX:]: row for key, row in rows[0]} if self._own else {}
        lines = rows[1:] if self._own else rows
        # Keys in place of names, without those about which the version itself decides.
        heads = [{key: row for name, row in part if (key := name[PREFIX:]) not in own} for part in lines]
        left = list(heads[0]) if len(heads) == 1 else sorted(set().union(*heads), reverse=reverse)
        clashes: dict[bytes, list[int]] = {}
        self._note_own(own, (), seen)
        if left:
            known = dict(zip(lines_of(self._position), heads, strict=True))
            self._folded.add(self._view, left, lambda line, _: known[line], clashes.__setitem__, seen)
        keys = sorted([*own, *left], reverse=reverse) if own and left else [*own, *left]
        clash = None
        if clashes and not self._lenient:
            first = next(n for n, key in enumerate(keys) if key in clashes)
            clash, keys = _conflict(keys[first], clashes[keys[first]]), keys[:first]
        return [key for key in keys if key in seen.values or key in seen.unread], clash

    def _clash(self, key: bytes, versions: list[int]) -> None:
        if not self._lenient:
            raise _conflict(key, versions)


def _conflict(key: bytes, versions: list[int]) -> ConflictError:
    return ConflictError(f"key {key!r} was changed on several sides of a merge, at {versions}", [key])
