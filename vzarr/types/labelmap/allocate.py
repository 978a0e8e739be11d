"""New labels: the largest ones of each version and of the whole repo, and which number is given next.

Numbers are given once per repo, whatever the version, and never one that a body or supervoxel has already.  Their
row lies outside of versions, in the same transaction as the edit that takes one: an edit that fails takes none.
Where there is no such row, as in a copy of a repo that has a key store of its own, the largest label of all versions
counts; a clone gives labels of its own stripe of 2^40, so that two clones never give one label to two bodies, and the
first repo those below the stripes.

The row ``a`` is three little-endian uint64: the largest label ever seen in any version; the last one given
since ``set-nextlabel`` was called (0 before); and the largest that may be given then (0: no limit).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vzarr.errors import ConflictError, InvalidInputError
from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv.versioned import InstanceTxn
from vzarr.overlay.layout import STRIPE_LABELS, STRIPES
from vzarr.types import mutations
from vzarr.types.labelmap import pages, rows
from vzarr.types.labelmap.edits import NOBODY, Author

if TYPE_CHECKING:
    from vzarr.overlay.kv.sidecar import Change
    from vzarr.types.base import Instance

LARGEST = (1 << 64) - 2
"""Labels stop below 2^64 - 1."""
LARGEST_POSTED = 1 << 48
"""What ``POST maxlabel`` accepts at most."""
_ROW = struct.Struct("<3Q")


@dataclass(frozen=True)
class Labelling:
    """Which labels a repo has given.

    Parameters
    ----------
    largest
        Largest label in any version.
    given
        Last label given since the next one was set by hand; 0 if it never was.
    ceiling
        Largest label to give after it was set by hand; 0 for no limit.
    """

    largest: int = 0
    given: int = 0
    ceiling: int = 0

    @property
    def next(self) -> int:
        """The label that is given next."""
        return (self.given or self.largest) + 1

    def take(self, count: int) -> Labelling:
        """The state after `count` labels were given.

        Raises
        ------
        InvalidInputError
            If there are not so many left.
        """
        last = self.next + count - 1
        if self.given and self.ceiling and last > self.ceiling:
            raise InvalidInputError(
                f"{count} labels from {self.next} would exceed configured next label ceiling {self.ceiling}"
            )
        if last > LARGEST:
            raise InvalidInputError(f"there are no {count} labels left from {self.next}")
        return replace(self, largest=max(self.largest, last), given=last if self.given else 0)


def _encode(state: Labelling) -> bytes:
    return _ROW.pack(state.largest, state.given, state.ceiling)


def _decode(value: bytes | None) -> Labelling:
    return Labelling() if value is None else Labelling(*_ROW.unpack(value))


def read(instance: Instance) -> Labelling:
    """Which labels the repo has given for this instance."""
    repo_wide = instance.version.keys(replace(instance.info, versioned=False))
    return _known(instance, repo_wide.get(rows.ALLOCATION))


def _known(instance: Instance, value: bytes | None) -> Labelling:
    """What the row says; where it was lost with its key store, or never came with a copy, what all versions say."""
    repo = instance.version.repo
    if value is not None:
        known = _decode(value)
        last = known.ceiling // STRIPE_LABELS
        if not last or (known.ceiling + 1) % STRIPE_LABELS or known.given // STRIPE_LABELS != last:
            return known
        stripe = repo.stripe
        # Another clone turned out to have the range that labels came from.
        return known if stripe in (0, last) else Labelling(known.largest, *_range(stripe))
    leaves = _leaves(instance)
    largest = max(max_label(leaf) for leaf in leaves)
    if not repo.stripe:
        if not STRIPE_LABELS <= largest < STRIPES * STRIPE_LABELS:
            return Labelling(largest)
        below = max(_largest_within(leaf, 0, STRIPE_LABELS) for leaf in leaves)
        return Labelling(largest, max(below, 1), STRIPE_LABELS - 1)  # the largest may be one that a clone gave
    low, high = _range(repo.stripe)
    return Labelling(largest, largest if low <= largest <= high else low, high)


def _range(stripe: int) -> tuple[int, int]:
    """A clone's labels lie above the first and go up to the second."""
    return stripe * STRIPE_LABELS, (stripe + 1) * STRIPE_LABELS - 1


def _leaves(instance: Instance) -> list[Instance]:
    """The instance at every version without children: what these have is all that counts."""
    repo = instance.version.repo
    return [instance.at(v) for v in repo.versions() if not repo.state.children(v.uuid)]


def _largest_within(instance: Instance, first: int, end: int) -> int:
    """Largest body or supervoxel of a version from `first` on and below `end`; 0 when it has none."""
    keys = instance.keys.without_conflicts()
    found = [0]
    for kind in (rows.HEADER, rows.MAPPING):
        span = kind + rows.number(first), kind + rows.number(end)
        found += [int.from_bytes(k[1:], "big") for k in keys.scan_keys(*span, limit=1, reverse=True)]
    for _key, value in keys.scan(rows.PAGE, pages.page_key(end), limit=1, reverse=True):
        found += [label for label in np.concatenate(pages.decode(value)).tolist() if first <= label < end]
    return max(found)


def _free(instance: Instance, state: Labelling, count: int) -> Labelling:
    """The state in which the next `count` labels are in use in no version.

    Only those that somebody chose by hand can be: without that, labels go on from the largest.  What is passed over
    doubles each time, so that a long row of used labels is left behind soon.
    """
    leaves = _leaves(instance) if state.given < state.largest else []
    first, wanted = state.next, count
    while used := max((_largest_within(leaf, first, min(first + wanted, LARGEST + 1)) for leaf in leaves), default=0):
        first, wanted = used + 1, 2 * wanted
    return replace(state, given=first - 1) if first != state.next else state


def is_own_key(key: bytes) -> bool:
    """Whether a key says which labels a repo has given: none of it goes to another repo."""
    return key == rows.ALLOCATION


def arrived(outside: InstanceTxn, changes: Sequence[Change]) -> None:
    """Count labels that came from another repo as given, where this one would come to give them.

    That is labels which somebody chose there: those that were given lie in the other's own stripe.

    Parameters
    ----------
    outside
        The instance's keys outside of versions.
    changes
        Keys that came.
    """
    value = outside.get(rows.ALLOCATION)
    if value is None:
        return  # see `_known`
    state = _decode(value)
    last = (state.next // STRIPE_LABELS + 1) * STRIPE_LABELS - 1
    last = min(last, state.ceiling) if state.given and state.ceiling else last
    largest = max((label for label in _labels(changes) if label <= last), default=0)
    if largest >= state.next:
        given = largest if state.given else 0
        outside.put(rows.ALLOCATION, _encode(replace(state, largest=max(state.largest, largest), given=given)))


def _labels(changes: Sequence[Change]) -> Iterator[int]:
    """Bodies and supervoxels that keys name."""
    for key, value in changes:
        if value is not None and key[:1] in (rows.HEADER, rows.MAPPING):
            yield int.from_bytes(key[1:], "big")
        elif value is not None and key[:1] == rows.PAGE:
            yield from np.concatenate(pages.decode(value)).tolist()


def _repo_wide(tx: InstanceTxn, instance: Instance) -> InstanceTxn:
    """The instance's keys outside of versions, within the same transaction."""
    return InstanceTxn(tx.txn, bytes.fromhex(instance.info.data_uuid), Position(0, 0), lambda a, b: a == b)


def check_label(label: int) -> None:
    """Refuse a number that no supervoxel or body can have: after 2^64 - 1 there is none to give.

    Raises
    ------
    InvalidInputError
        Saying so.
    """
    if label > LARGEST:
        raise InvalidInputError(f"labels lie between 1 and {LARGEST}; {label} is none")


def max_label(instance: Instance) -> int:
    """Largest label of the version and its ancestors; 0 when it has none."""
    try:
        value = instance.keys.get(rows.MAX_LABEL)
    except ConflictError:
        return max(max_label(replace(instance, version=parent)) for parent in instance.version.parents)
    return 0 if value is None else int.from_bytes(value, "big")


def raise_max(tx: InstanceTxn, instance: Instance, label: int) -> bool:
    """Note a label that now exists in this version; whether it is its largest."""
    try:
        value = tx.get(rows.MAX_LABEL)
        largest = 0 if value is None else int.from_bytes(value, "big")
    except ConflictError:
        largest = max_label(instance)
    is_largest = label > largest
    if is_largest:
        tx.put(rows.MAX_LABEL, rows.number(label))
    outside = _repo_wide(tx, instance)
    state = _known(instance, outside.get(rows.ALLOCATION))
    if label > state.largest:
        outside.put(rows.ALLOCATION, _encode(replace(state, largest=label)))
    return is_largest


def take(tx: InstanceTxn, instance: Instance, count: int = 1) -> int:
    """Take `count` consecutive new labels; the first of them.

    Raises
    ------
    InvalidInputError
        If there are not so many left.
    """
    outside = _repo_wide(tx, instance)
    before = _known(instance, outside.get(rows.ALLOCATION))
    if before.given:
        before = _free(instance, before, count)
    after = before.take(count)
    outside.put(rows.ALLOCATION, _encode(after))
    raise_max(tx, instance, before.next + count - 1)
    return before.next


def reserve(instance: Instance, count: int, author: Author = NOBODY) -> tuple[int, int]:
    """Take `count` labels for a client; first and last (DVID HTTP API, ``POST D/nextlabel/{count}``).

    Raises
    ------
    InvalidInputError
        If `count` is 0, or there are not so many left.
    """
    if count < 1:
        raise InvalidInputError("need to ask for at least 1 label")

    def change(tx: InstanceTxn) -> tuple[int, int]:
        first = take(tx, instance, count)
        last = first + count - 1
        _log(tx, instance, author, {"Action": "post-nextlabel", "Start Label": first, "End Label": last})
        return first, last

    return instance.transact(change)


def post_max_label(instance: Instance, label: int, author: Author = NOBODY) -> None:
    """Raise the largest label by hand (DVID HTTP API, ``POST D/maxlabel/{label}``); a lower one does nothing.

    Raises
    ------
    InvalidInputError
        If the label is not between 1 and 2^48.
    """
    if not 1 <= label <= LARGEST_POSTED:
        raise InvalidInputError(f"maxlabel must lie between 1 and {LARGEST_POSTED}, not be {label}")

    def change(tx: InstanceTxn) -> None:
        if raise_max(tx, instance, label):
            _log(tx, instance, author, {"Action": "post-maxlabel", "MaxLabel": label})

    instance.transact(change)


def set_next(instance: Instance, label: int, ceiling: int | None = None, author: Author = NOBODY) -> None:
    """Make the labels after `label` the next ones (DVID HTTP API, ``POST D/set-nextlabel/{label}``).

    Parameters
    ----------
    ceiling
        Largest label to give; 0 removes the limit, None keeps it.

    Raises
    ------
    InvalidInputError
        If `label` is 0 or above the ceiling.
    """

    def change(tx: InstanceTxn) -> None:
        outside = _repo_wide(tx, instance)
        state = _known(instance, outside.get(rows.ALLOCATION))
        limit = state.ceiling if ceiling is None else ceiling
        if label < 1 or label > LARGEST or (limit and label > limit):
            above = f" and not above the ceiling {limit}" if limit else ""
            raise InvalidInputError(f"next label must be at least 1{above}, not {label}")
        outside.put(rows.ALLOCATION, _encode(replace(state, given=label, ceiling=limit)))
        said = {} if ceiling is None else {"Ceiling": ceiling}
        _log(tx, instance, author, {"Action": "setnextlabel", "Next Label": label, **said})

    instance.transact(change)


def _log(tx: InstanceTxn, instance: Instance, author: Author, fields: Mapping[str, Any]) -> None:
    mutations.Writer(instance, author.user, author.app).record(tx, fields)
