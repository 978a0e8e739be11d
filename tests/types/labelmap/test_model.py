"""A labelmap under anything that can be done to it, on branches and through crashes, against dense arrays.

Every edit may die before any of its writes; what is there afterwards is all of it or nothing.  Every version, sealed
or open, is compared as a whole after each step.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import vzarr
from tests.types.labelmap.labelmodel import Model
from tests.types.labelmap.mergemodel import FIRST, LAST, MergeModel
from tests.types.labelmap.soaking import compare_all
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.overlay.kv.memory import MemoryKV
from vzarr.overlay.objects.memory import MemoryObjects
from vzarr.types import registry
from vzarr.types.labelmap.bodyconflict import BodyConflict
from vzarr.types.labelmap.handle import LabelMap

MANY = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
BLOCK = 16
LO = (-16, 0, -16)
SHAPE = (32, 16, 32)
CORNERS = [(z, x) for z in (0, 1) for x in (0, 1)]
LABELS = st.integers(1, 6)
MOMENT = st.sampled_from([0, 0, 0, *range(1, 12)])
"""Before which of its writes an operation dies; 0 lets it live."""


class Died(BaseException):
    """The process is gone."""


@contextmanager
def dying(moment: int) -> Iterator[None]:
    """Let this process die before a write of an object, or before or after a transaction, counted from 1."""
    count, lock = 0, Lock()

    def tick() -> None:
        nonlocal count
        with lock:
            count += 1
            if count == moment:
                raise Died

    def before(write: Callable[..., Any]) -> Callable[..., Any]:
        def writing(*args: Any, **options: Any) -> Any:
            tick()
            return write(*args, **options)

        return writing

    def around(transact: Callable[..., Any]) -> Callable[..., Any]:
        def transacting(*args: Any, **options: Any) -> Any:
            tick()
            result = transact(*args, **options)
            tick()
            return result

        return transacting

    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "create", "delete", "move", "rename_tree"):
            patch.setattr(MemoryObjects, name, before(getattr(MemoryObjects, name)))
        patch.setattr(MemoryKV, "transact", around(MemoryKV.transact))
        yield


@dataclass(frozen=True)
class Act:
    """An edit, and what is there after it."""

    do: Callable[[LabelMap], object]
    after: Model


def merge(seg: LabelMap, model: Model, data: st.DataObject) -> Act | None:
    if len(model.parts) < 2:
        return None
    target, *others = data.draw(st.lists(st.sampled_from(sorted(model.parts)), min_size=2, max_size=3, unique=True))
    after = model.copy()
    after.move([sv for b in others for sv in model.parts[b]], target)
    return Act(lambda seg: seg.merge(target, others), after)


def cleave(seg: LabelMap, model: Model, data: st.DataObject) -> Act | None:
    large = sorted(b for b, svs in model.parts.items() if len(svs) > 1)
    if not large:
        return None
    body = data.draw(st.sampled_from(large))
    svs = sorted(model.parts[body])
    some = sorted(data.draw(st.sets(st.sampled_from(svs), min_size=1, max_size=len(svs) - 1)))
    after, new = model.copy(), seg.labelling.next
    after.move(some, new, retired=[new])
    return Act(lambda seg: seg.cleave(body, some), after)


def renumber(seg: LabelMap, model: Model, data: st.DataObject) -> Act | None:
    if not model.parts:
        return None
    old = data.draw(st.sampled_from(sorted(model.parts)))
    svs = model.parts[old]
    new = data.draw(st.sampled_from([seg.labelling.next, *sorted(svs)]))
    if new in model.parts:
        return None
    after = model.copy()
    after.move(svs, new, retired=() if new in svs else [new])
    return Act(lambda seg: seg.renumber(new, old), after)


def cut(seg: LabelMap, model: Model, data: st.DataObject) -> Act | None:
    large = sorted(sv for svs in model.parts.values() for sv in svs if model.where[sv].size > 1)
    if not large:
        return None
    sv = data.draw(st.sampled_from(large))
    voxels = model.where[sv][:: data.draw(st.integers(2, 5))]
    after, new = model.copy(), seg.labelling.next
    after.cut({sv: (new, new + 1)}, voxels)
    return Act(lambda seg: seg.split_supervoxel(sv, model.runs(voxels, LO)), after)


def split(seg: LabelMap, model: Model, data: st.DataObject) -> Act | None:
    large = sorted(b for b in model.parts if model.size(b) > 1)
    if not large:
        return None
    body = data.draw(st.sampled_from(large))
    whole = data.draw(st.sets(st.sampled_from(sorted(model.parts[body]))))
    voxels = model.voxels(body)
    step = data.draw(st.integers(2, 5))
    voxels = np.unique(np.concatenate([voxels[::step], *(model.where[sv] for sv in whole)]))
    if voxels.size == model.size(body):
        return None
    after, new = model.copy(), seg.labelling.next
    touched = [sv for sv in sorted(model.parts[body]) if np.isin(model.where[sv], voxels).any()]
    after.cut({sv: (new + 1 + 2 * n, new + 2 + 2 * n) for n, sv in enumerate(touched)}, voxels, new)
    return Act(lambda seg: seg.split(body, model.runs(voxels, LO)), after)


def post(seg: LabelMap, model: Model, data: st.DataObject) -> Act:
    known = sorted({0, 1, 2, 3, 4, 5, 6, *model.body})
    labels = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    z, x = data.draw(st.sampled_from(CORNERS))
    blocks = data.draw(st.integers(1, 2 if x == 0 else 1))
    shape = (BLOCK, BLOCK, BLOCK * blocks)
    mixed = np.random.default_rng(data.draw(st.integers(0, 99))).choice(np.array(labels, np.uint64), shape)
    low = (z * BLOCK, 0, x * BLOCK)
    after = model.copy()
    after.post(tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True)), mixed)
    return Act(lambda seg: seg.write([a + o for a, o in zip(low, LO, strict=True)], mixed), after)


def undo(seg: LabelMap, model: Model, data: st.DataObject) -> Act | None:
    if not model.done or model.done[-1] is None:
        with pytest.raises((NotFoundError, InvalidInputError)):
            seg.undo()
        return None
    after = model.copy()
    after.undo()
    return Act(lambda seg: seg.undo(), after)


EDITS = [merge, cleave, renumber, cut, split, post, undo]


def is_as(seg: LabelMap, model: Model) -> bool:
    """Whether voxels and mapping are those of a model, also of what has no voxel."""
    try:
        compare_all(seg, model, LO)
    except AssertionError:
        return False
    known = sorted(model.body)
    return seg.bodies_of(known, check=False).tolist() == [model.body[sv] for sv in known]


class Histories(RuleBasedStateMachine):
    """Open versions and sealed ones, each with its model; lines that were forked and may be merged."""

    def __init__(self) -> None:
        super().__init__()
        self.url = f"memory://{uuid.uuid4().hex}"
        self.repo = vzarr.create(self.url)
        config = {"BlockSize": "16,16,16", "MaxDownresLevel": "1"}
        seg = registry.create(self.repo.root, "seg", "labelmap", config=config)
        assert isinstance(seg, LabelMap)
        first = np.kron(np.arange(8, dtype=np.uint64).reshape(2, 2, 2), np.ones([n // 2 for n in SHAPE], np.uint64))
        seg.write(LO, first.astype(np.uint64))
        self.open = {self.repo.root.uuid: Model(first.astype(np.uint64))}
        self.sealed: dict[str, Model] = {}
        self.forks: list[tuple[str, str, str]] = []

    def teardown(self) -> None:
        self.repo.close()

    def seg(self, node: str) -> LabelMap:
        found = self.repo[node]["seg"]
        assert isinstance(found, LabelMap)
        return found

    def survive(self, do: Callable[[], object], moment: int) -> bool:
        """Do something that may die; whether it lived.  Who comes next is another process."""
        try:
            with dying(moment):
                do()
        except Died:
            self.repo.close()
            self.repo = vzarr.open(self.url)
            return False
        return True

    # ------------------------------------------------------------ rules

    @rule(data=st.data(), make=st.sampled_from([*EDITS, post, merge]), moment=MOMENT)
    def edit(self, data: st.DataObject, make: Callable[..., Act | None], moment: int) -> None:
        node = data.draw(st.sampled_from(list(self.open)))
        seg, model = self.seg(node), self.open[node]
        act = make(seg, model, data)
        if act is None:
            return
        done = self.survive(lambda: act.do(seg), moment)
        if not done:
            again = self.seg(node)
            assert again.recover()
            done = is_as(again, act.after)
            assert done or is_as(again, model)
        if done:
            self.open[node] = act.after

    def _seal(self, node: str, moment: int) -> None:
        if node in self.sealed:
            return
        if not self.survive(self.repo[node].commit, moment) and not self.repo[node].sealed:
            self.repo[node].commit()
        self.sealed[node] = self.open.pop(node)

    @precondition(lambda self: len(self.sealed) < 6)
    @rule(data=st.data(), moment=MOMENT)
    def go_on(self, data: st.DataObject, moment: int) -> None:
        node = data.draw(st.sampled_from(list(self.open)))
        self._seal(node, moment)
        child = self.repo[node].newversion().uuid
        self.open[child] = self.sealed[node].child()
        self.forks = [tuple(child if n == node and at else n for at, n in enumerate(f)) for f in self.forks]

    @precondition(lambda self: len(self.open) == 1 and len(self.sealed) < 6)
    @rule(moment=MOMENT)
    def fork(self, moment: int) -> None:
        (node,) = self.open
        self._seal(node, moment)
        sides = [self.repo[node].branch(f"{name}{len(self.sealed)}").uuid for name in ("left", "right")]
        self.open.update({side: self.sealed[node].child() for side in sides})
        self.forks.append((node, *sides))

    @precondition(lambda self: self.forks)
    @rule(moment=MOMENT, strategy=st.sampled_from(["ours", "theirs"]))
    def join(self, moment: int, strategy: str) -> None:
        base, *heads = self.forks.pop()
        for head in heads:
            self._seal(head, 0)
        before = {v.uuid for v in self.repo.versions()}
        conflicts = self.repo.merge_conflicts(heads)

        def attempt() -> None:
            self.repo.merge([self.repo[h] for h in heads], strategy if conflicts else "fail")

        if not self.survive(attempt, moment) and {v.uuid for v in self.repo.versions()} == before:
            attempt()
        (made,) = {v.uuid for v in self.repo.versions()} - before
        segs, models = [self.seg(h) for h in heads], [self.sealed[h] for h in heads]
        merge = MergeModel(self.seg(made), segs, models, [self.seg(base)], [self.sealed[base]], LO)
        bodies = [c for c in conflicts if isinstance(c, BodyConflict)]
        self.open[made] = merge.check(LAST if strategy == "theirs" else FIRST, bodies)

    @invariant()
    def every_version_is_as_its_model(self) -> None:
        for node, model in (self.open | self.sealed).items():
            compare_all(self.seg(node), model, LO, scales=node in self.open)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=200 if MANY else 8,
    stateful_step_count=40 if MANY else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
