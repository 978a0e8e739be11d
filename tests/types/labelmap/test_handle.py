"""A labelmap under random edits and versions, against dense arrays."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import vzarr
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types import registry
from vzarr.types.labelmap import verify
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.runs import runs_of_mask

BLOCK = 16
LO = (-16, 0, -16)
SHAPE = (32, 16, 32)
LABELS = st.integers(1, 6)


class Edits(RuleBasedStateMachine):
    """One labelmap of 2 x 1 x 2 blocks; its model is a dense array and a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.repo = vzarr.create(f"memory://{uuid.uuid4().hex}")
        config = {"BlockSize": "16,16,16", "MaxDownresLevel": "1"}
        made = registry.create(self.repo.root, "seg", "labelmap", config=config)
        assert isinstance(made, LabelMap)
        self.seg = made
        self.voxels = np.zeros(SHAPE, np.uint64)
        self.body: dict[int, int] = {}
        self.sealed: list[tuple[LabelMap, np.ndarray, dict[int, int]]] = []
        self.done: list[tuple[np.ndarray, dict[int, int]] | None] = []

    def teardown(self) -> None:
        self.repo.close()

    def body_of(self, supervoxel: int) -> int:
        return self.body.get(supervoxel, supervoxel)

    def bodies(self) -> dict[int, list[int]]:
        """Bodies that have voxels, and their supervoxels that have some."""
        found: dict[int, list[int]] = {}
        for sv in np.unique(self.voxels).tolist():
            if sv and self.body_of(sv):
                found.setdefault(self.body_of(sv), []).append(sv)
        return found

    def dense(self) -> np.ndarray:
        labels, where = np.unique(self.voxels, return_inverse=True)
        named = np.array([self.body_of(sv) if sv else 0 for sv in labels.tolist()], np.uint64)
        return named[where].reshape(SHAPE)

    def sizes(self) -> dict[int, int]:
        labels, counts = np.unique(self.dense(), return_counts=True)
        return {b: n for b, n in zip(labels.tolist(), counts.tolist(), strict=True) if b}

    def note(self, *, retired: tuple[int, ...] = ()) -> None:
        """Keep what an undo of the edit that comes now would bring back; new labels stay retired."""
        self.done.append((self.voxels.copy(), {**self.body, **dict.fromkeys(retired, 0)}))

    @rule(z=st.integers(0, 1), x=st.integers(0, 1), seed=st.integers(0, 99), first=LABELS, second=st.integers(0, 6))
    def write_a_block(self, z: int, x: int, seed: int, first: int, second: int) -> None:
        mixed = np.random.default_rng(seed).choice(np.array([first, second], np.uint64), (BLOCK,) * 3)
        where = (slice(z * BLOCK, (z + 1) * BLOCK), slice(None), slice(x * BLOCK, (x + 1) * BLOCK))
        self.done.append(None)
        self.voxels[where] = mixed
        self.seg.write((LO[0] + z * BLOCK, 0, LO[2] + x * BLOCK), mixed)

    @precondition(lambda self: len(self.bodies()) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        found = self.bodies()
        chosen = data.draw(st.lists(st.sampled_from(sorted(found)), min_size=2, max_size=3, unique=True))
        self.seg.merge(chosen[0], chosen[1:])
        self.note()
        for sv in (sv for body in chosen[1:] for sv in found[body]):
            self.body[sv] = chosen[0]

    @precondition(lambda self: any(len(svs) > 1 for svs in self.bodies().values()))
    @rule(data=st.data())
    def cleave(self, data: st.DataObject) -> None:
        large = {body: svs for body, svs in self.bodies().items() if len(svs) > 1}
        body = data.draw(st.sampled_from(sorted(large)))
        part = data.draw(st.sets(st.sampled_from(large[body]), min_size=1, max_size=len(large[body]) - 1))
        made = self.seg.cleave(body, sorted(part)).body
        self.note(retired=(made,))
        self.body.update(dict.fromkeys(part, made) | {made: 0})

    @precondition(lambda self: self.bodies())
    @rule(data=st.data(), new=st.integers(1000, 1010))
    def renumber(self, data: st.DataObject, new: int) -> None:
        found = self.bodies()
        if new in found:
            return
        old = data.draw(st.sampled_from(sorted(found)))
        self.seg.renumber(new, old)
        if new not in found[old]:
            self.body.setdefault(new, 0)
        self.note()
        self.body.update(dict.fromkeys(found[old], new))

    @precondition(lambda self: self.bodies())
    @rule(data=st.data())
    def split_a_supervoxel(self, data: st.DataObject) -> None:
        sv = data.draw(st.sampled_from([sv for svs in self.bodies().values() for sv in svs]))
        at = np.argwhere(self.voxels == sv)
        part = np.zeros(SHAPE, np.bool_)
        part[tuple(at[: data.draw(st.integers(1, max(1, len(at) - 1)))].T)] = True
        if len(at) == 1:
            return
        made = self.seg.split_supervoxel(sv, runs_of_mask(part, LO))
        self.note(retired=(made.split, made.remain))
        self.voxels[self.voxels == sv] = made.remain
        self.voxels[part] = made.split
        self.body.update({made.split: self.body_of(sv), made.remain: self.body_of(sv), sv: 0})

    @precondition(lambda self: self.bodies())
    @rule(data=st.data())
    def split_a_body(self, data: st.DataObject) -> None:
        body, svs = data.draw(st.sampled_from(sorted(self.bodies().items())))
        at = np.argwhere(self.dense() == body)
        part = np.zeros(SHAPE, np.bool_)
        part[tuple(at[:: data.draw(st.integers(2, 5))].T)] = True
        if part.sum() == len(at):
            return
        made = self.seg.split(body, runs_of_mask(part, LO))
        cut = [sv for sv in svs if part[self.voxels == sv].any()]
        parts = {sv: (made.body + 1 + 2 * n, made.body + 2 + 2 * n) for n, sv in enumerate(cut)}
        self.note(retired=tuple(label for pair in parts.values() for label in pair))
        old = self.voxels.copy()
        for sv, (split, remain) in parts.items():
            self.voxels[(old == sv) & part], self.voxels[(old == sv) & ~part] = split, remain
            self.body.update({sv: 0, split: made.body, remain: body})

    @rule()
    def undo(self) -> None:
        if not self.done:
            with pytest.raises(NotFoundError):
                self.seg.undo()
        elif self.done[-1] is None:
            with pytest.raises(InvalidInputError, match="posted voxels"):
                self.seg.undo()
        else:
            self.seg.undo()
            self.voxels, self.body = self.done.pop()

    @rule()
    def commit(self) -> None:
        self.done = []
        self.sealed.append((self.seg, self.dense(), self.sizes()))
        child = self.seg.version.commit().newversion()
        self.seg = child["seg"]

    @invariant()
    def all_versions_say_what_they_should(self) -> None:
        for seg, dense, sizes in [*self.sealed, (self.seg, self.dense(), self.sizes())]:
            hi = tuple(a + n for a, n in zip(LO, SHAPE, strict=True))
            np.testing.assert_array_equal(seg.read(LO, hi), dense)
            assert dict(seg.list_bodies()) == sizes
            for body in sizes:
                np.testing.assert_array_equal(seg.sparsevol(body).runs(), runs_of_mask(dense == body, LO))
            assert not verify.check_index(seg)
            assert not verify.check_scales(seg)


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=25, stateful_step_count=20)
