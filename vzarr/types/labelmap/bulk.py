"""The index of a whole volume at once, for ingestion: sorted by body, in few transactions of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import allocate, edits, index
from vzarr.types.labelmap.edits import NOBODY, Edit
from vzarr.types.labelmap.rows import Counts, Header, Labels

if TYPE_CHECKING:
    from vzarr.types.base import Instance

_ROWS = 20_000
"""Supervoxels per transaction, and a few more where a body would be cut in two."""

Part = tuple[int, int, Counts]
"""Body, supervoxel, and where it is."""


def build_index(
    instance: Instance,
    blocks: Labels,
    labels: Labels,
    voxels: NDArray[np.integer[Any]],
    mapping: Labels | None = None,
) -> None:
    """Write index, mapping and largest label of a volume whose blocks were stored by other means.

    Bodies that have an index already are replaced.  Run again from the start after a crash.

    Parameters
    ----------
    blocks, labels, voxels
        Shape (n,): a packed block (`rows.pack_blocks`) of scale 0, a label in it other than 0, and how many
        voxels of it the block holds; each pair once, in any order.
    mapping
        Shape (m, 2): supervoxels and their bodies; supervoxels that are not named are bodies of their own.

    Raises
    ------
    InvalidInputError
        If a label is 0 or mapped to 0, or a number is none that a label can have.
    """
    pairs = np.empty((0, 2), np.uint64) if mapping is None else mapping
    if not pairs.all() or not labels.all():
        raise InvalidInputError("label 0 is background: it has no body and is none")
    largest = int(max(labels.max(initial=0), pairs.max(initial=0)))
    allocate.check_label(largest)
    if len(pairs):
        edits.run(instance, NOBODY, lambda edit: edit.map_many(*pairs.T))
    every = parts(blocks, labels, voxels, dict(pairs.tolist()))
    for batch in _whole_bodies(every):
        edits.run(instance, NOBODY, partial(_put, batch))
    instance.transact(lambda tx: allocate.raise_max(tx, instance, largest))


def parts(blocks: Labels, labels: Labels, voxels: NDArray[np.integer[Any]], bodies: Mapping[int, int]) -> list[Part]:
    """All supervoxels of a volume with their bodies, sorted by body.

    Parameters
    ----------
    blocks, labels, voxels
        As in `build_index`.
    bodies
        Supervoxel -> body, for those whose body has another number.
    """
    if not labels.size:
        return []
    order = np.lexsort((blocks, labels))
    blocks, number = blocks[order], voxels[order].astype(np.uint32)
    svs, first = np.unique(labels[order], return_index=True)
    cut = zip(np.split(blocks, first[1:]), np.split(number, first[1:]), strict=True)
    found = [(bodies.get(sv, sv), sv, Counts(*c)) for sv, c in zip(svs.tolist(), cut, strict=True)]
    return sorted(found, key=lambda part: part[:2])


def _whole_bodies(every: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """Batches that never cut a body in two, as its header needs the whole of it."""
    start = 0
    while start < len(every):
        end = min(start + _ROWS, len(every))
        while end < len(every) and every[end][0] == every[end - 1][0]:
            end += 1
        yield every[start:end]
        start = end


def _put(batch: Sequence[Part], edit: Edit) -> None:
    bodies: dict[int, dict[int, Counts]] = {}
    for body, supervoxel, counts in batch:
        bodies.setdefault(body, {})[supervoxel] = counts
        edit.touched.add(supervoxel)
    for body, counts_of in bodies.items():
        header = Header(sum(c.total for c in counts_of.values()))
        index.put_index(edit.tx, index.LabelIndex(body, header, counts_of))
