"""What a merge of labelmaps must be, by dense arrays of what is merged; nothing is taken from how it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from tests.types.labelmap.labelmodel import Model
from tests.types.labelmap.soaking import compare_all
from vzarr.types import voxels
from vzarr.types.labelmap import splits
from vzarr.types.labelmap.bodyconflict import BodyConflict
from vzarr.types.labelmap.handle import LabelMap

Place = Callable[[Sequence[int]], int]
"""Which of the sides that disagree is right."""
FIRST: Place = lambda places: places[0]  # noqa: E731
LAST: Place = lambda places: places[-1]  # noqa: E731


@dataclass
class MergeModel:
    """A merge that succeeded.

    Parameters
    ----------
    merged, heads, bases
        The labelmap at the new version, at those that were merged, and at their nearest common ancestors.
    sides
        Models of the heads.
    before
        Models of the bases.
    lo_zyx
        The voxel at which the models' volume begins.
    """

    merged: LabelMap
    heads: Sequence[LabelMap]
    sides: Sequence[Model]
    bases: Sequence[LabelMap]
    before: Sequence[Model]
    lo_zyx: tuple[int, int, int]

    def check(self, place: Place, conflicts: Sequence[BodyConflict]) -> Model:
        """The merge's own model, once all that must hold of it was found to hold.

        Parameters
        ----------
        place
            Who is right where sides disagree.
        conflicts
            What they disagreed about, without chunks.
        """
        model = self.check_loosely(self._voxels(place))
        group = self._groups()
        disputed = {}
        for conflict in conflicts:
            for sv in (conflict.supervoxel, *conflict.others):
                assert disputed.setdefault(group[sv], place(conflict.changed)) == place(conflict.changed)
        for sv, root in group.items():
            if root in disputed:
                self._as_on_one_side(sv, model, disputed[root])
            else:
                self._as_both_say(sv, model)
        return model

    def check_loosely(self, voxels: np.ndarray | None = None) -> Model:
        """As `check`, but whoever was right, and whatever voxels were taken."""
        if voxels is None:
            hi = [a + n for a, n in zip(self.lo_zyx, self.sides[0].labels.shape, strict=True)]
            voxels = self.merged.read(self.lo_zyx, hi, supervoxels=True)
        model = Model(voxels, dict(self.merged.mappings()))
        compare_all(self.merged, model, self.lo_zyx, scales=True)
        self._nothing_is_lost(model)
        return model

    # ------------------------------------------------------------ voxels

    def _voxels(self, place: Place) -> np.ndarray:
        """Supervoxels, each block from a side that wrote it; and of several, from who is right."""
        path, block = voxels.array_path(self.merged.folder), self.merged.block_zyx
        found = np.zeros_like(self.sides[0].labels)
        for corner in product(*(range(n // b) for n, b in zip(found.shape, block, strict=True))):
            at = tuple(slice(c * b, (c + 1) * b) for c, b in zip(corner, block, strict=True))
            coord = [c + o // b for c, o, b in zip(corner, self.lo_zyx, block, strict=True)]
            base, *owners = (seg.version.owners(path, [coord])[0] for seg in (self.bases[0], *self.heads))
            changed = [k for k, owner in enumerate(owners) if owner != base]
            if len(self.bases) == 1 and changed:
                found[at] = self.sides[place(changed)].labels[at]
            else:  # a criss-cross: one of the sides
                low = [a.start + o for a, o in zip(at, self.lo_zyx, strict=True)]
                found[at] = self.merged.read(low, [a + b for a, b in zip(low, block, strict=True)], supervoxels=True)
        return found

    def _nothing_is_lost(self, model: Model) -> None:
        """What is foreground on all sides from which the merge may have a block is foreground."""
        block, bodies, theirs = self.merged.block_zyx, model.bodies(), [side.bodies() for side in self.sides]
        for corner in product(*(range(n // b) for n, b in zip(bodies.shape, block, strict=True))):
            at = tuple(slice(c * b, (c + 1) * b) for c, b in zip(corner, block, strict=True))
            equal = [k for k, s in enumerate(self.sides) if np.array_equal(s.labels[at], model.labels[at])]
            assert equal, f"block {corner} is no side's"
            foreground = np.logical_and.reduce([theirs[k][at] > 0 for k in equal])
            lost = np.unique(model.labels[at][foreground & (bodies[at] == 0)])
            assert not lost.size, f"lost in {corner}: {lost}"

    # ------------------------------------------------------------ bodies

    def _groups(self) -> dict[int, int]:
        """Supervoxel -> what stands for all with which it hangs together."""
        old = {tuple(cut) for seg in self.bases for _, made in splits.history(seg) for cut in made}
        new = {tuple(cut) for seg in self.heads for _, made in splits.history(seg) for cut in made} - old
        parts = {n: cut[1] for cut in new for n in cut[2:]}
        known = {*parts, *parts.values()}.union(*({*m.where, *m.body} for m in (*self.sides, *self.before)))
        up: dict[tuple[str, int], tuple[str, int]] = {}

        def root(node: tuple[str, int]) -> tuple[str, int]:
            while node in up:
                node = up[node]
            return node

        def tie(one: tuple[str, int], other: tuple[str, int]) -> None:
            if root(one) != root(other):
                up[root(one)] = root(other)

        for sv in known:
            for side in self.sides:
                if side.body_of(sv):
                    tie(("sv", sv), ("body", side.body_of(sv)))
            if sv in parts:
                tie(("sv", sv), ("sv", parts[sv]))
        numbers = {node: n for n, node in enumerate({root(("sv", sv)) for sv in known})}
        return {sv: numbers[root(("sv", sv))] for sv in known}

    def _as_on_one_side(self, sv: int, model: Model, place: int) -> None:
        """What the side that was right has in a body is in that body."""
        side = self.sides[place]
        if side.body_of(sv) and (sv in side.where or sv in side.body):
            assert model.body_of(sv) == side.body_of(sv), f"supervoxel {sv}"

    def _as_both_say(self, sv: int, model: Model) -> None:
        """What all have alike, or one alone moved to a body that the others left alone, is there."""
        if len(self.before) > 1:
            return
        said = [side.body_of(sv) for side in self.sides]
        old = self.before[0].body_of(sv)
        changed = {body for body in said if body != old}
        if not changed:
            assert model.body_of(sv) == old, f"supervoxel {sv}"
        elif len(changed) == 1 and len(self.sides) == 2:
            (new,) = changed
            former = self.before[0].parts.get(new, set())
            alone = all(side.body_of(x) == new for x in former for side in self.sides)
            if all(body == new for body in said) or alone or not new:
                assert model.body_of(sv) == new, f"supervoxel {sv}"
