"""The history of one body: the edits that concerned its supervoxels, wherever these were at the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import orjson

from vzarr.errors import InvalidInputError
from vzarr.overlay.history import dag
from vzarr.types import mutations
from vzarr.types.labelmap import deeds
from vzarr.types.labelmap.deeds import Deed

if TYPE_CHECKING:
    from vzarr.overlay.version import Version
    from vzarr.types.labelmap.view import LabelView


def of_body(handle: LabelView, body: int, first: Version, last: Version) -> list[bytes]:
    """Records of the edits that concern supervoxels of a body, oldest first, as JSON.

    Parameters
    ----------
    body
        A body of version `last`.
    first, last
        Versions between which to look, both included.

    Raises
    ------
    NotFoundError
        If `last` has no such body.
    InvalidInputError
        If `first` is neither `last` nor an ancestor of it, or `last` is of another repo.
    """
    mutations.check_repo(handle, last)
    seen_from = handle.at(last)
    where = dict.fromkeys(seen_from.supervoxels_of(body), body)
    found = []
    for uuid, record in reversed(_records(seen_from, first)):
        number = record["MutationID"]
        deed = deeds.read(seen_from.keys, uuid, number)
        if deed is None:
            continue
        if deed.action == "undo":
            undone = deeds.read(seen_from.keys, uuid, deed.undoes)
            assert undone is not None  # an undo and what it undoes are of one version
            concerned = _concerns(undone, where)
            _redo(undone, where)
        else:
            concerned = _concerns(deed, where)
            _take_back(deed, where)
        if concerned:
            found.append(orjson.dumps(record))
    return found[::-1]


def _records(seen_from: LabelView, first: Version) -> list[tuple[str, dict[str, int]]]:
    """Records of the versions from `first` on that `seen_from` descends from, oldest first."""
    state, last = seen_from.version.repo.state, seen_from.version.uuid
    line = dag.ancestry(last, state.parents)
    if first.uuid not in line:
        raise InvalidInputError(f"version {first.uuid} is no ancestor of version {last}")
    # Where branches were joined, those that never passed through `first` are not between the two versions.
    between = [uuid for uuid in line if dag.is_ancestor(first.uuid, uuid, state.parents)]
    found = [(uuid, orjson.loads(r)) for uuid in between for r in mutations.read(seen_from, uuid)]
    return sorted(found, key=lambda pair: pair[1]["MutationID"])


def _concerns(deed: Deed, where: Mapping[int, int]) -> bool:
    return not deed.bodies.isdisjoint(where.values())


def _take_back(deed: Deed, where: dict[int, int]) -> None:
    """Make `where` say where the supervoxels were before an edit."""
    for source, _, moved in deed.moves:
        where.update((sv, source) for sv in moved if sv in where)
    for supervoxel, *parts in deed.cuts:
        if not where.keys().isdisjoint(parts):
            where[supervoxel] = deed.body
        for part in parts:
            where.pop(part, None)


def _redo(deed: Deed, where: dict[int, int]) -> None:
    """Make `where` say where the supervoxels were before an edit was undone."""
    for supervoxel, *parts in deed.cuts:
        body = where.pop(supervoxel, None)
        if body is not None:
            where.update(dict.fromkeys(parts, body))
    for _, target, moved in deed.moves:
        where.update((sv, target) for sv in moved if sv in where)
