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
from vzarr.overlay.reading.identity import Chunk, Name, identify
from vzarr.overlay.reading.regions import share
from vzarr.overlay.views.base import View
from vzarr.types import kept, voxels
from vzarr.types.atonce import will_wait
from vzarr.types.labelmap.kernels import number_labels
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.runs import NO_BLOCK_RUNS, BlockRuns, block_runs

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
        for coord in some:
            chunk = identify(view, entry, coord)
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


def _unnamed(_: Coord, block: Labels | None) -> Palette | None:
    return None if block is None else Palette.of(block)


def _read(
    view: View, entry: ArrayEntry, missing: Sequence[Coord], named: dict[Coord, Chunk]
) -> Iterator[tuple[Coord, Palette]]:
    def one(coord: Coord) -> Palette | None:
        chunk = named.get(coord)
        palette = None if chunk is None else chunk.visit(lambda block: Palette.of(block, chunk.name))
        if palette is None:
            # Not a plain chunk, or one that is being written: read as everybody does, and not kept.
            return regions.visit_chunks(view, entry, [coord], _unnamed)[0]
        kept.put(palette.name, palette, palette.nbytes)
        return palette

    for coord, palette in zip(missing, share(one, missing), strict=True):
        if palette is not None:
            yield coord, palette


@dataclass(frozen=True)
class BlockView:
    """Blocks of one scale, looked at one by one without adding to the cache, for passes over many of them.

    Parameters
    ----------
    view, entry
        The version, and the array of the scale; None for a scale without one.
    """

    view: View
    entry: ArrayEntry | None

    @classmethod
    def of(cls, instance: Instance, scale: int = 0) -> BlockView:
        """Blocks of an instance at its version."""
        view = instance.version.view
        return cls(view, view.array(voxels.array_path(instance.folder, scale)))

    def runs(self, coord: Coord, wanted: Labels) -> BlockRuns:
        """Runs of the voxels of a block that have one of some labels."""
        if self.entry is None:
            return NO_BLOCK_RUNS
        chunk = identify(self.view, self.entry, coord)
        known: Palette | None = None if chunk is None else kept.get(chunk.name)
        if known is not None:
            numbers = np.flatnonzero(np.isin(known.labels, wanted)).astype(known.index.dtype)
            return block_runs(known.index, numbers) if numbers.size else NO_BLOCK_RUNS
        return regions.visit_chunks(
            self.view, self.entry, [coord], lambda _, b: NO_BLOCK_RUNS if b is None else block_runs(b, wanted)
        )[0]


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
