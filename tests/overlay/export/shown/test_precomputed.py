"""Versions as precomputed volumes: what our own reader and TensorStore make of the objects of any version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
import tensorstore

import vzarr
from tests.overlay.export.shown.test_n5 import ome
from vzarr.errors import UnsupportedError
from vzarr.overlay.export.shown.precomputed import PrecomputedView
from vzarr.overlay.sources import precomputed
from vzarr.overlay.sources.files import LocalFiles

CHUNK = (4, 5, 6)
STRAYS = [
    *("", "a", "a/s0", "a/s0/info2", "nosuch/info", "s0/0-1_0-1_0-1"),
    *("a/s1/0-6_-5-0_-4-0", "a/s0/0-6_-5-0_-4-1", "a/s0/6-0_-5-0_-4-0"),
]


def written(view: PrecomputedView, path: str, folder: Path) -> None:
    """All objects of a volume as files."""
    info = view.get(f"{path}/info")
    folder.mkdir(parents=True)
    (folder / "info").write_bytes(info)
    for scale in precomputed.open_volume(LocalFiles(folder)).scales:
        (folder / scale.folder).mkdir()
        for coord in np.ndindex(*(-(-n // c) for n, c in zip(scale.layout.shape, scale.layout.chunks, strict=True))):
            data = view.get(f"{path}/{scale.key(coord)}")
            if data is not None:
                (folder / scale.key(coord)).write_bytes(data)


def shown(folder: Path, scale: int) -> np.ndarray:
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    return tensorstore.open({**spec, "scale_index": scale}).result().read().result()[..., 0].T


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "f4", "i2"])
@pytest.mark.parametrize("shards", [None, (8, 10, 12)], ids=["chunks", "shards"])
def test_a_pyramid(file_repo: vzarr.Repo, tmp_path: Path, dtype: str, shards: tuple[int, ...] | None):
    wanted = np.random.default_rng(1).integers(0, 4, (9, 11, 13)).astype(dtype)
    wanted[:4, :5, :6] = 0
    group = file_repo.root.zarr.create_group("em", attributes=ome("em"))
    group.create_array("0", data=wanted, chunks=CHUNK, shards=shards)
    group.create_array("1", data=wanted[:, ::2, ::2], chunks=CHUNK, shards=shards)
    view = PrecomputedView.of(file_repo.root.commit().store)
    written(view, "em", tmp_path / "em")
    assert np.array_equal(shown(tmp_path / "em", 0), wanted)
    assert np.array_equal(shown(tmp_path / "em", 1), wanted[:, ::2, ::2])
    info = orjson.loads(view.get("em/info"))
    assert [s["resolution"] for s in info["scales"]] == [[2000, 2000, 4000], [4000, 4000, 4000]]
    assert info["type"] == ("segmentation" if dtype in ("u4", "u8") else "image")


def test_voxels_below_0_and_fill_values(file_repo: vzarr.Repo, tmp_path: Path):
    version = file_repo.root
    version.create_array("a", dtype="u1", chunks=CHUNK, fill_value=9)
    version.write("a", (-3, -5, 0), np.full((4, 6, 20), 3, "u1"))
    view = PrecomputedView.of(version.store)
    written(view, "a", tmp_path / "a")
    info = orjson.loads(view.get("a/info"))["scales"][0]
    assert info["voxel_offset"] == [0, -5, -4]
    assert np.array_equal(shown(tmp_path / "a", 0), version.zarr["a"][...])
    for stray in STRAYS:
        assert view.get(stray) is None, stray


def test_many_labels(file_repo: vzarr.Repo, tmp_path: Path):
    wanted = np.arange(64**3, dtype="u8").reshape(64, 64, 64) << np.uint64(20)
    file_repo.root.zarr.create_array("seg", data=wanted, chunks=(64, 64, 64))
    written(PrecomputedView.of(file_repo.root.store), "seg", tmp_path / "seg")
    assert np.array_equal(shown(tmp_path / "seg", 0), wanted)


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4), "u1"), ((4, 4, 4, 4), "u1"), ((4, 4, 4), "bool")])
def test_what_precomputed_has_not(file_repo: vzarr.Repo, shape: tuple[int, ...], dtype: str):
    file_repo.root.zarr.create_array("a", shape=shape, chunks=shape, dtype=dtype)
    with pytest.raises(UnsupportedError):
        PrecomputedView.of(file_repo.root.store).get("a/info")
