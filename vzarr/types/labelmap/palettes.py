"""Blocks as palettes: the labels of a block, and small numbers in place of its voxels.

A block of 64^3 voxels has dozens of labels, not 262,144: mapped, searched and encoded as a palette it costs a tenth.
Palettes and encoded blocks that were asked for are kept (`vzarr.types.kept`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.reading import regions
from vzarr.overlay.reading.identity import Chunk, Name, identify, identify_all
from vzarr.overlay.reading.regions import share
from vzarr.overlay.views.base import View
from vzarr.types import kept, voxels
from vzarr.types.atonce import will_wait
from vzarr.types.labelmap.kernels import number_labels
from vzarr.types.labelmap.relabel import contains
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.runs import Mask

if TYPE_CHECKING:
    from vzarr.types.base import Instance

_BATCH = 32


@dataclass(frozen=True)
class Palette:
    """A block of labels.

    Parameters
    ----------
    labels
        uint64, shape (n,), each label of the block once, in no set order; read-only.
    index
        The smallest unsigned type that fits, zyx: every voxel's place in `labels`; read-only.
    name
        Name of the bytes it was made from; None for bytes without one.
    """

    labels: Labels
    index: NDArray[Any]
    name: Name | None = None

    @classmethod
    def of(cls, block: Labels, name: Name | None = None) -> Palette:
        """Palette of a volume, in one pass."""
        index, labels = number_labels(block)
        labels.flags.writeable = index.flags.writeable = False
        return cls(labels, index, name)

    def voxels(self, labels: Labels | None = None) -> Labels:
        """The block, or the block with other labels in place of `labels`."""
        out = np.empty(self.index.shape, np.uint64)
        # "clip" only spares numpy a buffer: every index is within the table.
        np.take(self.labels if labels is None else labels, self.index, out=out, mode="clip")
        return out

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.labels.nbytes + self.index.nbytes


def palettes(instance: Instance, coords: Iterable[Coord], scale: int = 0) -> Iterator[tuple[Coord, Palette]]:
    """Blocks that were written, of those asked for, in order; from memory where they are there.

    Raises
    ------
    WouldWaitError
        Within `atonce.at_once`, if one is not in memory.
    """
    for batch in palette_batches(instance, coords, scale):
        yield from batch


def palette_at(instance: Instance, coord: Coord, scale: int = 0) -> Palette | None:
    """As `palettes`, of one block; None if it was never written."""
    view = instance.version.view
    entry = view.array(voxels.array_path(instance.folder, scale))
    if entry is None:
        return None
    chunk = identify(view, entry, coord)
    known: Palette | None = None if chunk is None else kept.get(chunk.name)
    if known is None:
        will_wait("reading a block")
        known = next((p for _, p in _read(view, entry, [coord], {} if chunk is None else {coord: chunk})), None)
    return known


def palette_batches(
    instance: Instance, coords: Iterable[Coord], scale: int = 0
) -> Iterator[Sequence[tuple[Coord, Palette]]]:
    """As `palettes`, some blocks at a time, for who asks something else about all of these at once."""
    path = voxels.array_path(instance.folder, scale)
    todo = iter(coords)
    view = instance.version.view
    entry = view.array(path)
    while entry is not None and (some := list(islice(todo, _BATCH))):
        found: dict[Coord, Palette] = {}
        named: dict[Coord, Chunk] = {}
        for coord, chunk in zip(some, identify_all(view, entry, some), strict=True):
            known = None if chunk is None else kept.get(chunk.name)
            if known is not None:
                found[coord] = known
            elif chunk is not None:
                named[coord] = chunk
        missing = [c for c in some if c not in found]
        if missing:
            will_wait("reading blocks")
            found.update(_read(view, entry, missing, named))
        yield [(c, found[c]) for c in some if c in found]


def _kept(chunk: Chunk) -> Palette | None:
    """A block that is read now and kept; None if it is gone or being written."""
    palette = chunk.visit(lambda block: Palette.of(block, chunk.name))
    if palette is not None:
        kept.put(palette.name, palette, palette.nbytes)
    return palette


def _unnamed(_: Coord, block: Labels | None) -> Palette | None:
    return None if block is None else Palette.of(block)


def _read(
    view: View, entry: ArrayEntry, missing: Sequence[Coord], named: dict[Coord, Chunk]
) -> Iterator[tuple[Coord, Palette]]:
    def one(coord: Coord) -> Palette | None:
        chunk = named.get(coord)
        palette = None if chunk is None else _kept(chunk)
        # Not a plain chunk, or one that is being written: read as everybody does, and not kept.
        return palette or regions.visit_chunks(view, entry, [coord], _unnamed)[0]

    for coord, palette in zip(missing, share(one, missing), strict=True):
        if palette is not None:
            yield coord, palette


@dataclass(frozen=True)
class BlockView:
    """Blocks of one scale, looked at one by one without fresh memory, for passes over many of them.

    Parameters
    ----------
    view, entry
        The version, and the array of the scale; None for a scale without one.
    keeps
        Whether a block that is looked at again is kept as a palette; a pass over many would push out all others.
    """

    view: View
    entry: ArrayEntry | None
    keeps: bool = False

    @classmethod
    def of(cls, instance: Instance, scale: int = 0, *, keeps: bool = False) -> BlockView:
        """Blocks of an instance at its version."""
        view = instance.version.view
        return cls(view, view.array(voxels.array_path(instance.folder, scale)), keeps)

    def visit(self, coord: Coord, wanted: Labels, draw: Callable[[Mask], object]) -> None:
        """Call `draw` with the mask of the voxels of a block that have one of some labels, unless there are none.

        Raises
        ------
        WouldWaitError
            Within `atonce.at_once`, if the block is not in memory.
        """
        if self.entry is None:
            return
        chunk = identify(self.view, self.entry, coord)
        known: Palette | None = None if chunk is None else kept.get(chunk.name)
        if known is None:
            will_wait("reading a block")
            if self.keeps and chunk is not None and kept.asked_before(chunk.name):
                known = _kept(chunk)
        if known is not None:
            numbers = np.flatnonzero(contains(known.labels, wanted)).astype(known.index.dtype)
            if numbers.size:
                draw(contains(known.index, numbers))
            return
        # What a sealed base holds need not be looked for in the open version again.
        view = chunk.view if chunk is not None and chunk.view.sealed else self.view
        regions.visit_chunks(view, self.entry, [coord], lambda _, b: None if b is None else draw(contains(b, wanted)))


def encoded(palette: Palette, form: str, labels: Labels, encode: Callable[[Palette, Labels], bytes]) -> bytes:
    """A block in a wire form, kept as long as neither its bytes nor its labels change.

    Parameters
    ----------
    form
        Name of the form.
    labels
        What is sent in place of the palette's labels.
    encode
        Makes the bytes.
    """
    if palette.name is None:
        return encode(palette, labels)
    key = (*palette.name, form, labels.tobytes())
    found: bytes | None = kept.get(key)
    if found is None:
        will_wait("encoding a block")
        found = encode(palette, labels)
        kept.put(key, found, len(found) + labels.nbytes)
    return found
