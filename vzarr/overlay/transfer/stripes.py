"""Which clone gives labels and mutation ids of which range, as far as a repo knows: no two may share one.

A clone draws a number among those of which neither it nor its source knows a holder, and both write down who has it:
``stripes/NUMBER`` is made by an exclusive create and holds the clone's id (docs/format.md).  Where the source could not
be written, two clones may have drawn one number.  Whenever two repos exchange anything they tell each other what they
know, and one whose number another clone has draws a new one, above its own: mutation ids rise for ever.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import orjson

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout, opening
from vzarr.overlay.kv.mutationids import FIRST_MUTATION_ID, STRIPE_MUTATIONS, begin_mutation_ids
from vzarr.overlay.objects.base import Objects, ReadOnly
from vzarr.overlay.objects.sharing import share

LONGEST = 64
"""Characters that the id of a clone may have: who learns of it writes it down."""
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Stripes:
    """What a repo knows.

    Parameters
    ----------
    own
        Its own number; 0 for the first repo, which gives what lies below all numbers.
    clone
        Its id; "" for the first repo.
    known
        Ids of clones by number, its own too.
    """

    own: int = 0
    clone: str = ""
    known: Mapping[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"own": self.own, "clone": self.clone, "known": {str(n): clone for n, clone in self.known.items()}}

    @classmethod
    def from_json(cls, data: Any) -> Stripes:
        """Inverse of `to_json`.

        Raises
        ------
        FormatError
            If the data are no such thing.
        """
        try:
            known = {int(n): clone for n, clone in data["known"].items()}
            found = cls(int(data["own"]), data["clone"], known)
        except (ValueError, LookupError, TypeError, AttributeError) as e:
            raise FormatError(f"who gives which labels cannot be read: {e}") from e
        if not all(0 < n < layout.STRIPES for n in known) or not 0 <= found.own < layout.STRIPES:
            raise FormatError(f"clones have numbers from 1 to {layout.STRIPES - 1}")
        if not all(isinstance(clone, str) and len(clone) <= LONGEST for clone in (found.clone, *known.values())):
            raise FormatError(f"ids of clones are texts of at most {LONGEST} characters")
        return found


def read(objects: Objects) -> Stripes:
    """What a repo knows; nothing where there is none."""
    if objects.get(layout.REPO) is None:
        return Stripes()
    meta = opening.read_meta(objects)
    numbers = [int(name) for name in objects.list_dir(layout.STRIPE_HOLDERS)[1] if name.isdigit()]
    held = share(lambda n: objects.get(layout.stripe_holder(n)), numbers, objects.concurrency)
    known = {n: clone.decode() for n, clone in zip(numbers, held, strict=True) if clone is not None}
    own = int(meta.get("stripe", 0))
    clone = str(meta.get("clone", "")) if own else ""
    return Stripes(own, clone, {own: clone, **known} if own else known)


def draw(taken: Collection[int], above: int = 0) -> int:
    """A number that nobody is known to have.

    Raises
    ------
    StorageError
        If all of them are taken.
    """
    free = [n for n in range(above + 1, layout.STRIPES) if n not in taken]
    if not free:
        raise StorageError(f"all {layout.STRIPES - 1} ranges of labels for clones are taken")
    return secrets.choice(free)


def learn(objects: Objects, theirs: Stripes) -> Stripes:
    """Write down what another repo knows, and take another number if somebody else has this repo's.

    Where that cannot be written it is left out; the next exchange makes up for it.

    Returns
    -------
    Stripes
        What the repo knows then.
    """
    ours = read(objects)
    try:
        _record(objects, {n: clone for n, clone in theirs.known.items() if n not in ours.known})
        # What is written down of others counts as well: it may have been learned where no number could be taken.
        holder = {**ours.known, **theirs.known}.get(ours.own)
        if ours.own and holder is not None and holder != ours.clone:
            _move(objects, ours.own, {*ours.known, *theirs.known})
            _record(objects, {ours.own: holder})
    except StorageError as e:
        if e.errno not in READ_ONLY:
            raise
    return read(objects)


def _record(objects: Objects, holders: Mapping[int, str]) -> None:
    for number, clone in holders.items():
        objects.create(layout.stripe_holder(number), clone.encode())


def _move(objects: Objects, old: int, taken: Collection[int]) -> None:
    """Give labels and mutation ids of another number from now on, if this repo gives any."""
    meta = opening.read_meta(objects)
    if opening.lacks_keys(objects, meta):
        return
    authority, reached = opening.reach_authority(objects, meta)
    if isinstance(reached, ReadOnly):
        return  # whoever reaches the keys does it at the next exchange
    with closing(authority), authority.locks.alone(layout.KEYS):
        meta = opening.read_meta(objects)
        if opening.keys_named(meta)[1] != authority.number or meta["stripe"] != old:
            return  # the keys have moved meanwhile, and the next exchange does it; or somebody else has done it
        new = draw(taken, old)
        objects.create(layout.stripe_holder(new), str(meta["clone"]).encode())
        authority.kv.transact(lambda txn: begin_mutation_ids(txn, FIRST_MUTATION_ID + new * STRIPE_MUTATIONS))
        meta = {**meta, "stripe": new, "earlier": [*meta.get("earlier", []), old]}
        objects.put(layout.REPO, orjson.dumps(meta, option=orjson.OPT_INDENT_2))
