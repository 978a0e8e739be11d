"""A segmentation as plain numpy and dictionaries: what a labelmap must say after any edits, found without one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numcodecs import Zstd

from vzarr.types.labelmap.runs import Runs

Voxels = np.ndarray
"""Flat places in the volume, sorted."""


@dataclass(frozen=True)
class Moved:
    """Supervoxels that an edit took from bodies: supervoxel -> the body it was in."""

    before: Mapping[int, int]


@dataclass(frozen=True)
class Recut:
    """Supervoxels that an edit cut: supervoxel -> the part and the rest."""

    cuts: Mapping[int, tuple[int, int]]


@dataclass
class Model:
    """Supervoxels by voxel, and the bodies they are in; a label that is no supervoxel has body 0.

    Parameters
    ----------
    labels
        Supervoxels, zyx.
    body
        Supervoxel -> body, where it is another number.
    """

    labels: np.ndarray
    body: dict[int, int] = field(default_factory=dict)
    done: list[Moved | Recut | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.where: dict[int, Voxels] = places(self.labels)
        self.parts: dict[int, set[int]] = {}
        for supervoxel in self.where:
            self.parts.setdefault(self.body_of(supervoxel), set()).add(supervoxel)
        self.parts.pop(0, None)

    # ------------------------------------------------------------ looking

    def body_of(self, supervoxel: int) -> int:
        return self.body.get(supervoxel, supervoxel)

    def size(self, body: int) -> int:
        return sum(self.where[sv].size for sv in self.parts[body])

    def sizes(self) -> dict[int, int]:
        return {body: self.size(body) for body in self.parts}

    def voxels(self, body: int) -> Voxels:
        return np.sort(np.concatenate([self.where[sv] for sv in self.parts[body]]))

    def runs(self, voxels: Voxels, lo_zyx: Sequence[int]) -> Runs:
        """DVID's runs (x, y, z, length) of places, in a volume that begins at `lo_zyx`."""
        nz, ny, nx = self.labels.shape
        begins = np.flatnonzero((np.diff(voxels, prepend=-2) != 1) | (voxels % nx == 0))
        z, y, x = np.unravel_index(voxels[begins], (nz, ny, nx))
        lengths = np.diff(begins, append=voxels.size)
        return np.stack([x + lo_zyx[2], y + lo_zyx[1], z + lo_zyx[0], lengths], 1).astype(np.int32)

    def bodies(self) -> np.ndarray:
        """Bodies by voxel, zyx, uint64."""
        table = np.arange(int(self.labels.max()) + 1, dtype=np.uint64)
        for supervoxel in self.where:
            table[supervoxel] = self.body_of(supervoxel)
        return table[self.labels]

    # ------------------------------------------------------------ editing

    def post(self, at: tuple[slice, ...], block: np.ndarray) -> set[int]:
        """Overwrite a box; the bodies that lost or got something."""
        z, y, x = np.ogrid[at]
        flat = ((z * self.labels.shape[1] + y) * self.labels.shape[2] + x).reshape(-1)
        old = set(np.unique(self.labels[at]).tolist()) - {0}
        new = places(block)
        for sv in old | new.keys():
            kept = np.setdiff1d(self.where.get(sv, flat[:0]), flat, assume_unique=True)
            self._put(sv, np.sort(np.concatenate([kept, flat[new[sv]]])) if sv in new else kept)
        self.labels[at] = block
        self.done.append(None)
        return {self.body_of(sv) for sv in old | new.keys()} - {0}

    def move(self, supervoxels: Iterable[int], body: int, retired: Iterable[int] = ()) -> set[int]:
        """Give supervoxels to a body; the bodies that lost or got something."""
        before = {sv: self.body_of(sv) for sv in supervoxels}
        self._move(dict.fromkeys(before, body))
        self.body.update(dict.fromkeys(set(retired) - before.keys(), 0))
        self.done.append(Moved(before))
        return {*before.values(), body}

    def cut(self, cuts: Mapping[int, tuple[int, int]], voxels: Voxels, new_body: int = 0) -> set[int]:
        """Cut supervoxels (each -> part, rest) along some places; the parts go to `new_body` if that is not 0."""
        old = {self.body_of(sv) for sv in cuts}
        for sv, (part, rest) in cuts.items():
            body, at = self.body_of(sv), self.where[sv]
            self._put(sv, at[:0])
            self.body.update({sv: 0, part: new_body or body, rest: body})
            chosen = np.isin(at, voxels, assume_unique=True)
            self._put(part, at[chosen])
            self._put(rest, at[~chosen])
        self.done.append(Recut(dict(cuts)))
        return {*old, new_body} - {0}

    def undo(self) -> set[int]:
        """Take the last edit back; the bodies that lost or got something."""
        last = self.done.pop()
        assert last is not None
        if isinstance(last, Moved):
            now = {self.body_of(sv) for sv in last.before}
            self._move(last.before)
            return {*last.before.values(), *now}
        touched = set()
        for sv, (part, rest) in last.cuts.items():
            body = self.body_of(rest)
            touched |= {body, self.body_of(part)}
            none = np.empty(0, np.int64)
            joined = np.sort(np.concatenate([self.where.get(part, none), self.where.get(rest, none)]))
            self._put(part, joined[:0])
            self._put(rest, joined[:0])
            self.body.update({part: 0, rest: 0, sv: body})
            self._put(sv, joined)
        return touched

    def _move(self, bodies: Mapping[int, int]) -> None:
        for sv, body in bodies.items():
            self._take(sv)
            self.body[sv] = body
            self._give(sv)

    def _take(self, supervoxel: int) -> None:
        there = self.parts.get(self.body_of(supervoxel), set())
        there.discard(supervoxel)
        if not there:
            self.parts.pop(self.body_of(supervoxel), None)

    def _give(self, supervoxel: int) -> None:
        if self.body_of(supervoxel) and supervoxel in self.where:
            self.parts.setdefault(self.body_of(supervoxel), set()).add(supervoxel)

    def _put(self, supervoxel: int, voxels: Voxels) -> None:
        """Let a supervoxel have these places and no others."""
        self._take(supervoxel)
        self.where.pop(supervoxel, None)
        if voxels.size:
            self.where[supervoxel] = voxels
            self.labels.reshape(-1)[voxels] = supervoxel
            self._give(supervoxel)

    # ------------------------------------------------------------ versions

    def child(self) -> Model:
        """The same state with nothing to undo."""
        return Model(self.labels.copy(), dict(self.body))

    def copy(self) -> Model:
        return Model(self.labels.copy(), dict(self.body), list(self.done))

    def packed(self) -> Packed:
        return Packed(Zstd(1).encode(self.labels), self.labels.shape, self.labels.dtype, dict(self.body))


@dataclass(frozen=True)
class Packed:
    """A model that waits in little memory."""

    labels: bytes
    shape: tuple[int, ...]
    dtype: np.dtype
    body: dict[int, int]

    def model(self) -> Model:
        flat = np.frombuffer(Zstd().decode(self.labels), self.dtype)
        return Model(flat.reshape(self.shape).copy(), dict(self.body))


def places(labels: np.ndarray) -> dict[int, Voxels]:
    """Flat places of each label but 0, sorted."""
    flat = labels.reshape(-1)
    order = np.argsort(flat, kind="stable")
    found, first = np.unique(flat[order], return_index=True)
    return {sv: part for sv, part in zip(found.tolist(), np.split(order, first[1:]), strict=True) if sv}
