"""A labelmap without a server: bodies as an array, one body, tables of bodies and edits."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import vzarr
from vzarr.errors import InvalidInputError, NotFoundError, UnsupportedError
from vzarr.types import registry
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.runs import runs_of_mask

LO = (-16, 0, 16)


@pytest.fixture
def dense(seg: LabelMap, volume: np.ndarray) -> np.ndarray:
    """What `seg` shows after 2 and 3 were merged into 1."""
    seg.merge(1, [2, 3], user="ann")
    return np.where(np.isin(volume, (2, 3)), 1, volume).astype(np.uint64)


def test_bodies_are_an_array(seg: LabelMap, volume: np.ndarray, dense: np.ndarray):
    bodies = seg.bodies
    inner = tuple(slice(a - o, a - o + n) for a, o, n in zip(LO, bodies.origin, dense.shape, strict=True))
    assert (bodies.shape, bodies.chunks) == (seg.supervoxels.shape, (16, 16, 16))
    assert (bodies.dtype, bodies.ndim, bodies.size) == (np.uint64, 3, seg.supervoxels.size)
    np.testing.assert_array_equal(bodies[inner], dense)
    np.testing.assert_array_equal(np.asarray(bodies)[inner], dense)
    np.testing.assert_array_equal(seg.supervoxels[inner], volume)
    point = tuple(s.start for s in inner)
    assert bodies[point] == dense[0, 0, 0]
    np.testing.assert_array_equal(bodies[point[0], ::2, -5:], np.asarray(bodies)[point[0], ::2, -5:])


@pytest.mark.parametrize("sealed", [False, True])
def test_dask_takes_them_in_pieces(seg: LabelMap, dense: np.ndarray, sealed: bool):
    if sealed:
        seg.version.commit()
    lazy = da.from_array(seg.bodies, chunks=seg.bodies.chunks)
    assert lazy.chunksize == (16, 16, 16)
    assert int((lazy == 1).sum().compute(scheduler="threads")) == (dense == 1).sum() == seg.body(1).size
    if not sealed:
        seg.merge(4, [5])
        assert da.from_array(seg.bodies, chunks=seg.bodies.chunks).name != lazy.name
    else:
        assert da.from_array(seg.bodies, chunks=seg.bodies.chunks).name == lazy.name
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(seg.bodies))[...], seg.bodies[...])


def test_xarray_opens_them_as_a_variable(tmp_path: Path, volume: np.ndarray):
    with vzarr.create(str(tmp_path / "repo")) as repo:
        seg = registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
        assert isinstance(seg, LabelMap)
        seg.write((0, 0, 0), volume)
        seg.merge(1, [2])
    shown = np.where(volume == 2, 1, volume)
    for bodies, expected in ((False, volume), (True, shown)):
        with xr.open_dataset(tmp_path / "repo", engine="vzarr", bodies=bodies) as found:
            assert found["seg"].dims == ("z", "y", "x")
            np.testing.assert_array_equal(found["seg"].values, expected)
            np.testing.assert_array_equal(found["seg"][1, ::-1, ::3].values, expected[1, ::-1, ::3])


def test_one_body(seg: LabelMap, dense: np.ndarray):
    for label in (1, 4):
        body, points = seg.body(label), np.argwhere(dense == label) + LO
        assert (body.id, body.size) == (label, len(points))
        assert body.supervoxels.tolist() == ([1, 2, 3] if label == 1 else [4])
        assert body.box == (tuple(points.min(0).tolist()), tuple((points.max(0) + 1).tolist()))
        np.testing.assert_array_equal(body.points(), points)
        np.testing.assert_array_equal(body.runs(), runs_of_mask(dense == label, LO))
        lo, mask = body.mask()
        assert (lo, mask.shape) == (body.box[0], tuple(np.subtract(*body.box[::-1]).tolist()))
        np.testing.assert_array_equal(np.argwhere(mask) + lo, points)
    assert seg.body(1).last_change.user == "ann"
    assert len(seg.body(1).points(scale=1)) == (seg.read(*_half(dense), scale=1) == 1).sum()
    with pytest.raises(NotFoundError):
        seg.body(2)
    with pytest.raises(InvalidInputError):
        seg.body(0)


def _half(dense: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(a // 2 for a in LO), tuple((a + n) // 2 for a, n in zip(LO, dense.shape, strict=True))


def test_a_small_body_far_off(make: Callable[..., LabelMap]):
    seg = make()
    block = np.zeros((16, 16, 16), np.uint64)
    block[3, 4, 5:9] = 7
    seg.write((-160, 320, 64), block)
    body = seg.body(7)
    assert body.box == ((-157, 324, 69), (-156, 325, 73))
    assert body.runs().tolist() == [[69, 324, -157, 4]]
    lo, mask = body.mask(scale=2)
    assert (lo, mask.shape) == ((-40, 81, 17), (1, 1, 2))
    seg.store_blocks({(-5, 10, 2): np.zeros((16, 16, 16), np.uint64)}, scale=1)
    assert body.mask(scale=1).voxels.size == 0


def test_a_mesh_surrounds_the_body(make: Callable[..., LabelMap]):
    pytest.importorskip("zmesh")
    seg = make(VoxelSize="4,8,40")
    volume = np.zeros((16, 16, 16), np.uint64)
    volume[2:6, 3:9, 4:16] = 7
    seg.write((-16, 0, 16), volume)
    mesh = seg.body(7).mesh()
    np.testing.assert_allclose(mesh.vertices.min(0), [-14 * 40, 3 * 8, 20 * 4])
    np.testing.assert_allclose(mesh.vertices.max(0), [-10 * 40, 9 * 8, 32 * 4])
    assert mesh.faces.shape[1] == 3
    assert len(seg.body(7).mesh(reduction=10).faces) < len(mesh.faces)


def test_a_mesh_without_zmesh(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "zmesh", None)
    with pytest.raises(UnsupportedError, match=r"vzarr\[mesh\]"):
        seg.body(1).mesh()


def test_tables(seg: LabelMap, dense: np.ndarray):
    base = seg.version.commit()
    child = base.newversion()["seg"]
    child.cleave(1, [3], user="bob", app="lab")
    bodies = child.to_frame()
    assert bodies.index.name == "body"
    assert bodies["voxels"].to_dict() == dict(child.list_bodies())
    assert bodies.loc[1, ["user", "app"]].tolist() == ["bob", "lab"]
    assert bodies["time"].isna().sum() == len(bodies) - 2
    edits = child.to_frame("mutations")
    assert edits["action"].tolist() == ["post-voxels", "merge", "cleave"]
    assert edits["details"].iloc[1] == {"Target": 1, "Labels": [2, 3]}
    assert edits["version"].tolist() == [base.uuid, base.uuid, child.version.uuid]
    assert edits["time"].is_monotonic_increasing
    assert child.to_frame("mutations", since=base.uuid)["user"].tolist() == ["bob"]
    assert [r["Action"] for r in child.changes()] == ["post-voxels", "merge-complete", "cleave-complete"]
    assert [r["Action"] for r in child.changes(since="master~1")] == ["cleave-complete"]
    assert child.changes(since="master") == []
    assert len(child.to_frame("mutations", since="master")) == 0
    with pytest.raises(InvalidInputError, match="not of"):
        child.to_frame("labels")


def test_a_table_of_nothing(make: Callable[..., LabelMap]):
    assert len(make().to_frame()) == len(make("other").to_frame("mutations")) == 0
