"""Partial clones: all of history, metadata and keys, but of the chunks of arrays only what some versions need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vzarr.errors import NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import is_doc
from vzarr.overlay.history.state import State
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import leftout, seal
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import region
from vzarr.overlay.transfer.copying import Progress, Reading, Row, Writing, copy_rows, list_nodes
from vzarr.overlay.transfer.region import Region
from vzarr.overlay.views.base import SealedView, Storage, loose_place


def settled(state: State, tips: Sequence[str], limits: Limits) -> Limits:
    """Limits as a clone of some versions keeps them: a region is meant at one version, whatever comes later.

    Instances go by the groups of their arrays, which stay when one gets another name.

    Raises
    ------
    NotFoundError
        If they name instances or a version that are not there, or are not cloned.
    InvalidInputError, SealedError
        If no region can be read there.
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
    return replace(limits, roi=(name, node))


def copy_partly(
    source: Reading, target: Writing, objects: Objects, state: State, nodes: Sequence[str], tips: Sequence[str],
    limits: Limits, progress: Progress | None,
) -> int:  # fmt: skip
    """Copy what versions stored except for chunks that nothing within the limits needs, and note what was left out.

    Parameters
    ----------
    source, target, objects
        From where to where; the objects are the target's.
    state
        What the source's log says.
    nodes
        Versions that the target does not have.
    tips
        Versions from which the depth counts.
    limits
        What the target shall have.
    progress
        Told of each object.

    Returns
    -------
    int
        Number of bytes that were copied.
    """
    rows = list_nodes(source, state, nodes)
    moved = copy_rows(source, target, [row for row in rows if not _is_content(row.key)], progress)
    within = None if limits.roi is None else region.load(objects, state, *limits.roi)
    wanted = _needed(objects, state, _newest(state, tips, limits.depth), limits, within)
    held = {row.key: row for row in rows if _is_content(row.key)}
    out: dict[str, set[str]] = {node: set() for node in nodes}
    for key in held:
        out[key.split("/")[1]].add(key)
    # What is new may need chunks of older versions that were not wanted when those came.
    for node in {key.split("/")[1] for key in wanted} - out.keys():
        out[node] = set(leftout.read(objects, node))
        sums = objects.get(layout.sums(node)) or b""
        stored = ((f"{layout.node(node)}/{key}", size, digest) for key, size, digest in seal.read_sums(sums))
        held |= {key: Row(key, size, digest) for key, size, digest in stored if key in out[node]}
    moved += copy_rows(source, target, [row for key, row in held.items() if key in wanted], progress)
    for node, keys in out.items():
        leftout.write(objects, node, keys - wanted)
    return moved


def _is_content(key: str) -> bool:
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
