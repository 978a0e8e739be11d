"""What a commit writes so that a version's keys can be read from folders alone, and the reading of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vzarr.overlay import layout
from vzarr.overlay.kv import sidecar
from vzarr.overlay.kv.sealed import Layer, SealedKeys, Stack, folded, folds, from_bytes, to_bytes
from vzarr.overlay.kv.sidecar import Change
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal

JOINED, FOLDED = "joined", "folded"
"""Endings of a layer's folder: what a merge brought together, and several layers in one."""


Joined = Callable[[list[bytes]], Iterator[Change]]
"""``joined(clashing)``: changes in order of keys; those in conflict, and written by nobody since, are noted instead."""


@dataclass(frozen=True)
class Rows:
    """Changes in order of keys, looked up anew each time: they may be larger than memory.

    Parameters
    ----------
    look_up
        Begins with the first.
    """

    look_up: Callable[[], Iterator[Change]]

    def __iter__(self) -> Iterator[Change]:
        return self.look_up()


@dataclass(frozen=True)
class KeyChanges:
    """What a version does to the keys of instances, by their data id.

    Parameters
    ----------
    own
        What was written at the version, in order; None stands for a deletion.
    below
        What its first parent's folders say.
    joined
        Of a merge: all that differs from its first parent, its own changes among it.
    mutations
        The mutation id that the repo is to give next; 0 where it gave none.
    """

    own: Mapping[str, Iterable[Change]] = field(default_factory=dict)
    below: Mapping[str, Stack] = field(default_factory=dict)
    joined: Mapping[str, Joined] = field(default_factory=dict)
    mutations: int = 0


def write(objects: Objects, node: str, changes: KeyChanges, base: seal.Part | None) -> tuple[dict[str, int], seal.Part]:
    """Write a version's key changes, and the layers that its keys consist of.

    Returns
    -------
    tuple of dict and Part
        Number of own changes by data id, and where the list of layers is.
    """
    counts = {}
    stacks = dict(changes.below)
    for instance in sorted({*changes.own, *changes.joined}):
        top, clashing = None, list[bytes]()
        if instance in changes.own:
            top = write_layer(objects, node, instance, changes.own[instance])
            counts[instance] = top.size
        if instance in changes.joined:
            top = write_layer(objects, node, f"{instance}~{JOINED}", changes.joined[instance](clashing))
        assert top is not None
        below = stacks.get(instance, Stack())
        written = changes.joined[instance]([]) if instance in changes.joined else changes.own[instance]
        conflicts = {*below.conflicts} - _settled(below.conflicts, written) | {*clashing}
        layers = _fold(objects, node, instance, (top, *below.layers))
        stacks[instance] = Stack(layers, tuple(sorted(conflicts)))
    return counts, seal.write_part(objects, node, layout.key_layers, to_bytes(stacks), base)


def _settled(conflicts: Sequence[bytes], rows: Iterable[Change]) -> set[bytes]:
    """Keys in conflict that a version wrote."""
    return set(conflicts).intersection(key for key, _value in rows) if conflicts else set()


def read(objects: seal.Gets, part: seal.Part) -> dict[str, Stack]:
    """What a version's folders say of the keys of instances, by data id.

    Raises
    ------
    StorageError, FormatError
        If it is missing or damaged.
    """
    return from_bytes(seal.load_part(objects, layout.key_layers, part))


def keys_of(objects: seal.Gets, stack: Stack) -> SealedKeys:
    """The keys of one instance, read from folders."""
    return SealedKeys(stack, _getter(objects))


def _getter(objects: seal.Gets) -> Callable[[str, str], bytes | None]:
    return lambda node, name: objects.get(layout.keys(node, name))


def write_layer(objects: Objects, node: str, name: str, rows: Iterable[Change]) -> Layer:
    """Write one sidecar of a node, in place of what lies there."""
    folder = layout.keys(node, name)
    objects.delete_tree(folder)
    with objects.new_folder(folder) as put:
        return Layer(node, name, sidecar.write(rows, put))


def _fold(objects: Objects, node: str, instance: str, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    count = folds([layer.size for layer in layers])
    if count < 2:
        return layers
    sidecars = SealedKeys(Stack(layers[:count]), _getter(objects)).sidecars
    rows = folded(sidecars, keep_deleted=count < len(layers))
    return (write_layer(objects, node, f"{instance}~{FOLDED}", rows), *layers[count:])
