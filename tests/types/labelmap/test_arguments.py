"""What Python callers hand in: integers of numpy are labels like any others; what is no label is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import verify
from vzarr.types.labelmap.handle import LabelMap

Ask = Callable[[LabelMap, Any], object]
ASKS: dict[str, Ask] = {
    "body": lambda seg, label: seg.body(label).size,
    "find": lambda seg, label: seg.find(label).blocks[0].tolist(),
    "size": lambda seg, label: seg.size(label),
    "size of a supervoxel": lambda seg, label: seg.size(label, supervoxel=True),
    "sizes": lambda seg, label: seg.sizes([label]),
    "header": lambda seg, label: seg.header(label),
    "supervoxels": lambda seg, label: seg.supervoxels_of(label),
    "sparsevol": lambda seg, label: seg.sparsevol(label).runs().tolist(),
    "history": lambda seg, label: seg.history(label),
    "proximity": lambda seg, label: seg.proximity(label, 3),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("kind", [np.uint64, np.int64, np.uint8, np.array])
def test_integers_of_numpy_are_labels(seg: LabelMap, ask: Ask, kind: Callable[[int], Any]):
    assert ask(seg, kind(2)) == ask(seg, 2)


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("label", [-1, 1 << 64, "2", 2.0, None, np.float64(2)])
def test_what_is_no_label_is_refused(seg: LabelMap, ask: Ask, label: Any):
    with pytest.raises(InvalidInputError, match="label"):
        ask(seg, label)


def test_edits_take_what_arrays_give(seg: LabelMap):
    seg.merge(np.uint64(1), np.array([2, 3], np.uint64))
    made = seg.cleave(np.int64(1), seg.body(1).supervoxels[1:])
    assert seg.supervoxels_of(made.body) == [2, 3]
    seg.renumber(np.uint64(50), np.uint64(4))
    seg.renumber_all(np.array([[60, 50]], np.uint64))
    part = seg.sparsevol(60).runs()[:2]
    seg.split(np.uint64(60), part.tolist())
    seg.split_supervoxel(np.uint64(5), seg.sparsevol(5).runs()[:2].astype(np.int64))
    assert not verify.check_index(seg)
    assert all(isinstance(record["MutationID"], int) for record in seg.changes())


@pytest.mark.parametrize(
    "array",
    [
        np.full((16, 16, 16), -2),
        np.full((16, 16, 16), 1.5),
        np.ones((16, 16)),
        np.ones((16, 16), np.uint64),
        np.full((16, 16, 16), "a"),
    ],
    ids=["negative", "fractions", "flat floats", "flat", "text"],
)
def test_volumes_that_hold_no_labels_are_refused(seg: LabelMap, array: np.ndarray):
    before = list(seg.keys.scan())
    with pytest.raises(InvalidInputError):
        seg.write((0, 0, 0), array)
    assert list(seg.keys.scan()) == before


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64])
def test_volumes_of_any_integers_are_labels(seg: LabelMap, dtype: type):
    seg.write((64, 0, 0), np.ones((16, 16, 16), dtype))
    assert seg.label_at((64, 0, 0)) == 1


@pytest.mark.parametrize(
    "runs", [[[0, 0, 0]], [0, 0, 0, 1], [[0.5, 0, 0, 1]], [[1 << 31, 0, 0, 1]], [[0, 0, -(1 << 31) - 1, 1]]]
)
def test_runs_that_are_none_are_refused(seg: LabelMap, runs: list[Any]):
    with pytest.raises(InvalidInputError):
        seg.split(1, runs)


@pytest.mark.parametrize(
    "ask",
    [
        lambda seg: seg.bodies_of(np.array([1, -1])),
        lambda seg: seg.bodies_of([1.5]),
        lambda seg: seg.bodies_of([1, 2**64]),
        lambda seg: seg.labels_at([[-0.5, 0, 16]]),
        lambda seg: seg.labels_at([[0, 0, 16, 0, 0, 17]]),
        lambda seg: seg.labels_at(np.array([[2**63, 0, 0]], np.uint64)),
        lambda seg: list(seg.list_bodies(-1)),
        lambda seg: list(seg.list_bodies(0, -1)),
        lambda seg: list(seg.list_bodies(1 << 64)),
    ],
)
def test_arrays_and_ranges_that_cannot_be_are_refused(seg: LabelMap, ask: Callable[[LabelMap], object]):
    with pytest.raises(InvalidInputError):
        ask(seg)


def test_arrays_of_any_shape_and_integers_of_any_kind(seg: LabelMap, volume: np.ndarray):
    seg.merge(1, [2])
    wanted = np.array([[0, 1, 1], [3, 4, 5]], np.uint64)
    for kind in (np.uint64, np.int64, np.uint8):
        found = seg.bodies_of(np.arange(6, dtype=kind).reshape(2, 3), check=False)
        assert (found == wanted).all()
        assert found.dtype == np.uint64
    assert seg.bodies_of([1, 2, 2**63 + 5, 2**64 - 1], check=False).tolist() == [1, 1, 2**63 + 5, 2**64 - 1]
    assert seg.bodies_of([]).shape == (0,)
    assert seg.bodies_of(2) == 1
    assert seg.labels_at([]).shape == (0,)
    assert seg.labels_at(np.array([[-16, 0, 16], [0, 0, 0]], np.int8), supervoxels=True).tolist() == [
        volume[0, 0, 0],
        0,
    ]
    assert seg.labels_at((-16, 0, 16), supervoxels=True).tolist() == [volume[0, 0, 0]]
    assert list(seg.list_bodies(4, 1 << 64)) == list(seg.list_bodies(np.uint64(4)))
