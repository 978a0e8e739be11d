"""Acceptance: a very long history of random edits of one volume, on branches too, without one mismatch.

All that an edit touched is compared after it, everything now and then, and every sealed version again at the end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import vzarr
from tests.types.labelmap.labelmodel import Model, Packed
from tests.types.labelmap.soaking import Editor, compare_all
from vzarr.cli import main
from vzarr.types import registry
from vzarr.types.labelmap.handle import LabelMap

EDGE, BLOCK, CELL = 256, 32, 16
LO = (-EDGE // 2, -EDGE, BLOCK)
ALL_EVERY = 1000
"""Edits after which everything is compared."""
SHORT, LONG = 300, 100_000
"""Edits in every run of the tests, and where there is time."""


def tissue(edge: int) -> np.ndarray:
    """Cells of 16^3 supervoxels that lie across the borders of blocks along y and x."""
    cells = np.arange(1, (edge // CELL) ** 3 + 1, dtype=np.uint32).reshape([edge // CELL] * 3)
    volume = np.kron(cells, np.ones([CELL] * 3, np.uint32))
    return np.roll(volume, (CELL // 2, CELL // 2), (1, 2))


@dataclass
class Soak:
    """A repo that is edited in phases: along one line, then on two branches that are merged.

    Parameters
    ----------
    seg, model
        The version that is edited, and what it holds.
    phase
        Edits between two commits.
    """

    seg: LabelMap
    model: Model
    phase: int
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(2026))
    sealed: dict[str, Packed] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    @property
    def edits(self) -> int:
        return sum(self.done.values())

    @property
    def planes(self) -> int:
        return self.model.labels.shape[0] // BLOCK

    def line(self) -> None:
        """A phase of edits by one editor; the version is sealed and a child of it opened."""
        self._edit(Editor(self.seg, self.model, LO, self.rng, (0, self.planes)), self.phase)
        self._seal(self.seg, self.model)
        self.seg, self.model = self.seg.version.newversion()["seg"], self.model.child()

    def fork(self) -> None:
        """Two branches, each with bodies of its own and half of the voxels; then both are merged."""
        base, start = self.seg.version.commit(), self.model
        low = {b for b, svs in start.parts.items() if max(start.where[sv][-1] for sv in svs) < start.labels.size // 2}
        half = self.planes // 2
        sides = []
        for name, mine, planes in (
            ("low", low, (0, half)),
            ("high", set(start.parts) - low, (half, self.planes)),
        ):
            seg = base.branch(f"{name}{len(self.sealed)}")["seg"]
            editor = Editor(seg, start.child(), LO, self.rng, planes, set(mine))
            self._edit(editor, self.phase // 2)
            self._seal(seg, editor.model)
            sides.append(editor)
        self.model = joined(start, sides[0].model, sides[1].model)
        self.seg = self.seg.version.repo.merge([side.seg.version for side in sides])["seg"]
        compare_all(self.seg, self.model, LO)

    def _edit(self, editor: Editor, count: int) -> None:
        before = self.edits
        for n in range(count):
            editor.edit()
            if (before + n + 1) % ALL_EVERY == 0:
                compare_all(editor.seg, editor.model, LO)
        for kind, number in editor.done.items():
            self.done[kind] = self.done.get(kind, 0) + number

    def _seal(self, seg: LabelMap, model: Model) -> None:
        seg.version.commit()
        self.sealed[seg.version.uuid] = model.packed()


def joined(base: Model, low: Model, high: Model) -> Model:
    """What a merge of two branches must give that edited different halves and different bodies."""
    half = base.labels.shape[0] // 2
    body = dict(base.body)
    for side in (low, high):
        body.update({sv: b for sv, b in side.body.items() if base.body_of(sv) != b})
    return Model(np.concatenate([low.labels[:half], high.labels[half:]]), body)


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize(
    ("edge", "edits", "phase"),
    [(64, SHORT, 50), pytest.param(EDGE, LONG, 2500, marks=pytest.mark.exhaustive)],
    ids=["short", "long"],
)
def test_any_number_of_edits_without_one_mismatch(tmp_path: Path, edge: int, edits: int, phase: int):
    place = str(tmp_path / "repo")
    with vzarr.create(place) as repo:
        config = {"BlockSize": f"{BLOCK},{BLOCK},{BLOCK}", "MaxDownresLevel": "2"}
        seg = registry.create(repo.root, "seg", "labelmap", config=config)
        assert isinstance(seg, LabelMap)
        volume = tissue(edge)
        seg.write(LO, volume.astype(np.uint64))
        soak = Soak(seg, Model(volume), phase)
        began = time.monotonic()
        while soak.edits < edits:
            soak.fork() if len(soak.sealed) % 3 == 1 else soak.line()
            print(f"{soak.edits} edits, {soak.edits / (time.monotonic() - began):.0f}/s", soak.done)
        compare_all(soak.seg, soak.model, LO, scales=True)
        tip = soak.seg.version.uuid
    with vzarr.open(place) as repo:
        for uuid, packed in soak.sealed.items():
            compare_all(repo[uuid]["seg"], packed.model(), LO)
        compare_all(repo[tip]["seg"], soak.model, LO)
    assert main(["verify", place, "--labels"]) == 0
