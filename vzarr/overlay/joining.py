"""A merge from its parents to a version: everything is compared and decided before anything is written."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vzarr.errors import InvalidInputError
from vzarr.overlay import datatypes, layout, merge
from vzarr.overlay.datatypes import DataConflict
from vzarr.overlay.history import plans
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.keys.mergekeys import Decided, KeyMerge
from vzarr.overlay.keys.repokeys import RepoKeys
from vzarr.overlay.merge import Kind
from vzarr.overlay.threeway.disputes import Dispute, Held, Judge, only_side
from vzarr.overlay.threeway.rule import History, Tips
from vzarr.overlay.views.shelf import Shelf

if TYPE_CHECKING:
    from vzarr.overlay.version import Version


@dataclass(frozen=True)
class Merge:
    """A merge that is ready to be written.

    Parameters
    ----------
    child
        Id of the version that it makes.
    parents
        Versions that it joins.
    joined
        Tree, owners, pages and chunks.
    decided
        What was decided about keys, and for datatypes.
    """

    child: str
    parents: tuple[str, ...]
    joined: merge.Joined
    decided: Decided


@dataclass(frozen=True)
class Merges:
    """The merges of one repo.

    Parameters
    ----------
    keys, authority, shelf
        The repo's.
    state
        Gives what the log says now.
    """

    keys: RepoKeys
    authority: Authority
    shelf: Shelf
    state: Callable[[], State]

    def prepare(self, parents: Sequence[str], judge: Judge, at: Callable[[str], Version], child: str = "") -> Merge:
        """Join sealed versions; nothing is written, and what nobody could decide stays with the judge.

        Parameters
        ----------
        parents
            Ids of the versions, the first of which comes first in every choice.
        at
            Gives a version's handle.
        child
            Id of the new version; a random one by default.

        Raises
        ------
        InvalidInputError
            If there is nothing to join.
        SealedError
            If a version is open.
        """
        state = self.state()
        judge.moot = _of_deleted(state)
        plans.check_parents(state, parents)
        if len(set(parents)) < 2:
            raise InvalidInputError("a merge needs at least two different versions")
        child, history = child or uuids.uuid4().hex, History(state.parents)
        tips = history.tips(parents)
        joined = merge.Merger(child, tips, history, self.shelf.sealed_view, judge, kinds(state)).join()
        decided = Decided()
        if len(tips) > 1:
            with self.authority.kv.snapshot() as moment:
                decided.keys = KeyMerge(self.keys.versioned, moment, state, history, tips).decide(
                    judge, datatypes.known().key_name
                )
            for conflict in datatypes.known().merge_conflicts([at(p) for p in parents]):
                _decide_data(conflict, tips, judge, decided)
        return Merge(child, tuple(parents), joined, decided)

    def write(self, prepared: Merge, judge: Judge) -> None:
        """Write all that must be there before the log names the version, unless a conflict stands against it.

        Raises
        ------
        ConflictError
            With what the judge left open.
        """
        judge.refuse()
        objects = self.authority.objects
        if prepared.decided:
            objects.put(layout.decided(prepared.child), prepared.decided.to_bytes())
        record = merge.write_base(objects, prepared.child, prepared.parents, prepared.joined)
        objects.put(layout.base(prepared.child), record.to_bytes())


def kinds(state: State) -> Callable[[str], Kind]:
    """What datatypes make of arrays, by path."""
    known = datatypes.known()

    def kind(path: str) -> Kind:
        if known.is_derived(state, path):
            return Kind.DERIVED
        return Kind.INDEXED if known.is_indexed(state, path) else Kind.PLAIN

    return kind


def _of_deleted(state: State) -> Callable[[Dispute], bool]:
    """Whether a conflict is about a deleted instance."""
    hidden = {name for info in state.deleted.values() for name in (info.data_uuid, info.path)}
    hidden -= {info.path for info in state.instances.values()}
    return lambda dispute: dispute.path.partition("/")[0] in hidden


def _decide_data(conflict: DataConflict, tips: Tips, judge: Judge, decided: Decided) -> None:
    sides = tuple(Held(tip, partial(conflict.held.__getitem__, i)) for i, tip in enumerate(tips))
    dispute = Dispute(conflict, sides, (), conflict.changed)
    place = only_side(dispute, judge.decide(dispute))
    if place is not None:
        decided.places.setdefault(conflict.instance, {})[conflict.name] = place
