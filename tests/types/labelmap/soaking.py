"""Somebody who edits a labelmap at random and knows from a model what it must say after each edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.types.labelmap.labelmodel import Model, Voxels
from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import verify
from vzarr.types.labelmap.handle import LabelMap

MOST_PARTS = 10
"""Supervoxels above which a body is rather cleaved than merged."""
KINDS = {"merge": 31, "cleave": 31, "renumber": 6, "cut": 8, "split": 5, "post": 9, "undo": 10}


@dataclass
class Editor:
    """Edits a labelmap and its model alike.

    Parameters
    ----------
    seg, lo_zyx
        What is edited, and the voxel at which the model's volume begins.
    planes
        Blocks along z in which voxels are changed, from and to; all that they hold lies within.
    mine
        Bodies that may be edited; None for all.
    """

    seg: LabelMap
    model: Model
    lo_zyx: tuple[int, int, int]
    rng: np.random.Generator
    planes: tuple[int, int]
    mine: set[int] | None = None
    done: dict[str, int] = field(default_factory=dict)

    @property
    def edits(self) -> int:
        return sum(self.done.values())

    def edit(self) -> None:
        """One random edit, and a look at all that it touched."""
        kind = str(self.rng.choice(list(KINDS), p=np.array(list(KINDS.values())) / sum(KINDS.values())))
        touched = getattr(self, f"_{kind}")()
        if touched is None:
            kind, touched = "post", self._post()
        self.done[kind] = self.done.get(kind, 0) + 1
        if self.mine is not None:
            self.mine |= {b for b in touched if kind != "post"} & self.model.parts.keys()
        self.compare(sorted(touched))

    # ------------------------------------------------------------ edits

    def _choose(self, least: int = 1) -> int | None:
        """A body with so many supervoxels, if one is found soon."""
        bodies = list(self.model.parts.keys() if self.mine is None else self.mine & self.model.parts.keys())
        for _ in range(20 if bodies else 0):
            body = bodies[self.rng.integers(len(bodies))]
            if len(self.model.parts[body]) >= least:
                return body
        return None

    def _within(self, supervoxels: set[int]) -> list[int]:
        """Those of some supervoxels of more than one voxel that lie in the planes where voxels may be changed."""
        step = self.model.labels[0].size * self.seg.block_zyx[0]
        low, high = (n * step for n in self.planes)
        places = {sv: self.model.where[sv] for sv in supervoxels}
        return sorted(sv for sv, at in places.items() if at.size > 1 and low <= at[0] and at[-1] < high)

    def _merge(self) -> set[int] | None:
        chosen = dict.fromkeys(self._choose() for _ in range(self.rng.integers(2, 4)))
        target, *others = (b for b in chosen if b is not None)
        if not others or sum(len(self.model.parts[b]) for b in chosen if b is not None) > MOST_PARTS:
            return self._cleave()
        self.seg.merge(target, others)
        return self.model.move([sv for b in others for sv in self.model.parts[b]], target) | set(others)

    def _cleave(self) -> set[int] | None:
        body = self._choose(least=2)
        if body is None:
            return None
        svs = sorted(self.model.parts[body])
        some = self.rng.permutation(svs)[: self.rng.integers(1, len(svs))].tolist()
        made = self.seg.cleave(body, some).body
        return self.model.move(some, made, retired=[made])

    def _renumber(self) -> set[int] | None:
        body = self._choose()
        if body is None:
            return None
        svs = self.model.parts[body]
        new = int(self.rng.choice(sorted(svs))) if self.rng.random() < 0.3 else self.seg.labelling.next
        if new in self.model.parts:
            return None
        self.seg.renumber(new, body)
        return self.model.move(list(svs), new, retired=() if new in svs else [new])

    def _some(self, voxels: Voxels) -> Voxels:
        """Some of several places, not all: in front, every n-th, or here and there."""
        count = int(self.rng.integers(1, voxels.size))
        how = self.rng.integers(3)
        if how == 0:
            return voxels[:count]
        if how == 1:
            return voxels[1 :: self.rng.integers(2, 6)]
        return np.sort(self.rng.choice(voxels, min(count, 500), replace=False))

    def _cut(self) -> set[int] | None:
        body = self._choose()
        svs = [] if body is None else self._within(self.model.parts[body])
        if not svs:
            return None
        sv = svs[self.rng.integers(len(svs))]
        voxels = self._some(self.model.where[sv])
        made = self.seg.split_supervoxel(sv, self.model.runs(voxels, self.lo_zyx))
        return self.model.cut({sv: (made.split, made.remain)}, voxels)

    def _split(self) -> set[int] | None:
        body = self._choose()
        svs = [] if body is None else self._within(self.model.parts[body])
        if body is None or not svs:
            return None
        voxels = self._some(np.sort(np.concatenate([self.model.where[sv] for sv in svs])))
        cut = [sv for sv in svs if np.isin(self.model.where[sv], voxels, assume_unique=True).any()]
        made = self.seg.split(body, self.model.runs(voxels, self.lo_zyx)).body
        numbers = {sv: (made + 1 + 2 * n, made + 2 + 2 * n) for n, sv in enumerate(cut)}
        return self.model.cut(numbers, voxels, made)

    def _post(self) -> set[int]:
        shape = self.seg.block_zyx
        counts = [n // b for n, b in zip(self.model.labels.shape, shape, strict=True)]
        low = [self.planes[0], *self.rng.integers(0, counts[1:])]
        low[0] = int(self.rng.integers(*self.planes))
        at = tuple(slice(int(c) * b, (int(c) + 1) * b) for c, b in zip(low, shape, strict=True))
        labels = self._labels_to_post(np.unique(self.model.labels[at]))
        cells = self.rng.choice(labels, [b // 8 for b in shape])
        block = np.kron(cells, np.ones((8, 8, 8), np.int64)).astype(self.model.labels.dtype)
        keep = self.rng.random(block.shape[0]) < 0.5
        block[keep] = self.model.labels[at][keep]
        self.seg.write([s.start + o for s, o in zip(at, self.lo_zyx, strict=True)], block.astype(np.uint64))
        return self.model.post(at, block)

    def _labels_to_post(self, there: np.ndarray) -> list[int]:
        """Background, some that are there, new ones, and, where nobody else edits, some that were there once."""
        labels = [0, *self.rng.permutation(there)[:4].tolist(), self.seg.reserve_labels(1)[0]]
        if self.mine is None and self.model.body:
            known = list(self.model.body)
            half = self.planes[1] * self.model.labels[0].size * self.seg.block_zyx[0] // 2
            drawn = [known[self.rng.integers(len(known))] for _ in range(2)]
            labels += [sv for sv in drawn if sv not in self.model.where or not half]
        return labels

    def _undo(self) -> set[int] | None:
        if not self.model.done:
            return None
        if self.model.done[-1] is None:
            with pytest.raises(InvalidInputError, match="posted voxels"):
                self.seg.undo()
            return set()
        self.seg.undo()
        return self.model.undo()

    # ------------------------------------------------------------ looking

    def compare(self, bodies: Sequence[int]) -> None:
        """Some bodies: whether they are there, their sizes, supervoxels and voxels."""
        there = [body for body in bodies if body in self.model.parts]
        sizes = {body: self.model.size(body) for body in there}
        assert self.seg.sizes(bodies) == [sizes.get(body, 0) for body in bodies]
        owner = {sv: body for body in there for sv in sorted(self.model.parts[body])}
        assert self.seg.sizes(list(owner), supervoxels=True) == [self.model.where[sv].size for sv in owner]
        assert self.seg.bodies_of(list(owner)).tolist() == list(owner.values())
        for body in there:
            assert self.seg.supervoxels_of(body) == sorted(self.model.parts[body]), body
            expected = self.model.runs(self.model.voxels(body), self.lo_zyx)
            assert np.array_equal(self.seg.sparsevol(body).runs(), expected), body


def compare_all(seg: LabelMap, model: Model, lo_zyx: Sequence[int], *, scales: bool = False) -> None:
    """A version as a whole: voxels, bodies, sizes, supervoxels, and whether the index is right."""
    hi = [a + n for a, n in zip(lo_zyx, model.labels.shape, strict=True)]
    assert np.array_equal(seg.read(lo_zyx, hi, supervoxels=True), model.labels)
    assert np.array_equal(seg.read(lo_zyx, hi), model.bodies())
    assert dict(seg.list_bodies()) == model.sizes()
    assert {body: seg.supervoxels_of(body) for body in model.parts} == {b: sorted(s) for b, s in model.parts.items()}
    assert verify.check_index(seg) == []
    assert not scales or verify.check_scales(seg) == []
