"""Partial clones: all of history, metadata and keys, but of the chunks of arrays only what some versions need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from vzarr.errors import NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import is_doc
from vzarr.overlay.history.state import State
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.sealing import leftout, seal
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import region
from vzarr.overlay.transfer.copying import WORKERS, Progress, Reading, copy_rows, list_nodes
from vzarr.overlay.transfer.place import Place
from vzarr.overlay.transfer.plans import Arrival
from vzarr.overlay.transfer.region import Region
from vzarr.overlay.views.base import SealedView, Storage, loose_place


def settled(objects: seal.Gets, state: State, tips: Sequence[str], limits: Limits) -> Limits:
    """Limits as a clone of some versions keeps them: a region is meant at one version, whatever comes later.

    Instances go by the groups of their arrays, which stay when one gets another name.

    Parameters
    ----------
    objects, state
        The source's, and what its log says.
    tips
        Newest versions that are to be cloned.
    limits
        As they were asked for.

    Raises
    ------
    NotFoundError
        If they name instances or a version that are not there, or are not cloned.
    InvalidInputError, SealedError, UnsupportedError
        If no region can be read there, or it has no blocks.
    """
    for name in limits.instances or ():
        if name not in state.instances:
            raise NotFoundError(f"no instance {name!r} in this repo; there are: {', '.join(state.instances) or 'none'}")
    if limits.instances is not None:
        limits = replace(limits, instances=tuple(state.instances[name].path for name in limits.instances))
    if limits.roi is None:
        return limits
    name, node = region.resolve(state, tips, limits.roi)
    if not any(state.is_ancestor(state.nodes[node].version_id, state.nodes[tip].version_id) for tip in tips):
        raise NotFoundError(f"version {node}, at which {name!r} is meant, is not among those that are cloned")
    region.load(objects, state, name, node)
    return replace(limits, roi=(name, node))


def copy_partly(source: Reading, target: Place, arrival: Arrival, progress: Progress | None) -> int:
    """Copy what versions stored except for chunks that nothing within the target's limits needs.

    Older versions may get chunks, too: what is new may need some that were not wanted when those came.

    Parameters
    ----------
    source, target
        From where to where; the target is a partial clone.
    arrival
        Versions that the target does not have.
    progress
        Told of each object.

    Returns
    -------
    int
        Number of bytes that were copied.
    """
    state = arrival.source
    rows = list_nodes(source, state, arrival.nodes)
    moved = copy_rows(source, target, [row for row in rows if not is_content(row.key)], progress)
    wanted = target.wanted(arrival)
    older = {_node_of(key) for key in wanted} - {*arrival.nodes}
    rows += list_nodes(source, state, sorted(older & state.nodes.keys()))
    moved += copy_rows(source, target, [row for row in rows if is_content(row.key) and row.key in wanted], progress)
    target.leave_out(arrival, wanted)
    return moved


def wanted(objects: Objects, there: State, arrival: Arrival, limits: Limits) -> frozenset[str]:
    """Keys of the chunks and loose objects that a partial clone wants, and does not have.

    Parameters
    ----------
    objects
        The clone's, which has all metadata of the versions that arrive.
    there
        What its log says.
    arrival
        The versions, and those from which the depth counts.
    limits
        What the clone has.

    Raises
    ------
    StorageError, FormatError
        If metadata are missing or damaged.
    NotFoundError, UnsupportedError, InvalidInputError
        See `region.load`.
    """
    state = arrival.source
    within = None if limits.roi is None else region.load(objects, there if there.nodes else state, *limits.roi)
    needed: dict[str, set[str]] = {}
    for key in _needed(objects, state, _newest(state, arrival.newest, limits.depth), limits, within):
        needed.setdefault(_node_of(key), set()).add(key)
    new = needed.keys() & {*arrival.nodes} - there.nodes.keys()
    left = {node: leftout.read(objects, node) & needed[node] for node in needed.keys() & there.nodes.keys()}
    return frozenset().union(*(needed[node] for node in new), *left.values())


def leave_out(objects: Objects, there: State, arrival: Arrival, there_now: Collection[str]) -> None:
    """Write down which chunks a partial clone does not have.

    Parameters
    ----------
    objects, there, arrival
        As for `wanted`.
    there_now
        Keys of those that are in place: of new versions all, of older ones those that have just come.
    """
    come = frozenset(there_now)
    new = {*arrival.nodes} - there.nodes.keys()

    def write(node: str) -> None:
        if node in new:
            leftout.write(objects, node, {key for key in leftout.listed(objects, node) if is_content(key)} - come)
        else:
            leftout.write(objects, node, leftout.read(objects, node) - come)

    share(write, sorted(new | {_node_of(key) for key in come} & there.nodes.keys()), WORKERS)


def _node_of(key: str) -> str:
    return key.split("/")[1]


def is_content(key: str) -> bool:
    """Whether an object is a chunk, or another that is neither metadata nor a list of the version's own."""
    return key.split("/")[2] in {"zarr", "loose"} and not is_doc(key)


def _newest(state: State, tips: Iterable[str], depth: int | None) -> set[str]:
    """Versions from which no tip is `depth` or more steps away."""
    found, layer = set[str](), set(tips)
    while layer and depth != 0:
        found |= layer
        layer = {parent for node in layer for parent in state.parents(node)} - found
        depth = None if depth is None else depth - 1
    return found


def _needed(objects: Objects, state: State, nodes: Iterable[str], limits: Limits, within: Region | None) -> set[str]:
    """Keys of all chunks and loose objects that versions show within the limits."""
    storage = Storage.of(objects, state.root)
    touched = region.Touched(within)
    found: set[str] = set()
    for node in nodes:
        record = seal.load_record(objects, layout.seal(node), state.nodes[node].seal)
        view = SealedView.load(storage, node, record)
        sizes = {} if within is None else region.factors(view.tree.entries)
        for path, entry in view.tree.arrays().items():
            if limits.has(path):
                wanted = touched.chunks(entry, sizes.get(path))
                for coords, page, local in view.owners.chunks(entry.id, entry.spec.ndim):
                    for coord, place in zip(map(tuple, coords.tolist()), local.tolist(), strict=True):
                        if wanted is None or coord in wanted:
                            found.add(storage.chunk_key(str(page.owner(place)), entry, coord))
        if limits.instances is None:
            found |= {loose_place(storage, owner, key) for key, owner in view.tree.loose.items()}
    return found
