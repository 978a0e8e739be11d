"""Instances over volumes that stay where they are: which datatype, which settings, and exact indices of bodies."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore
import zarr

import vzarr
from vzarr.errors import AlreadyExistsError, InvalidInputError, UnsupportedError
from vzarr.types import registry
from vzarr.types.labelmap import counting
from vzarr.types.labelmap.edits import NOBODY

SHAPE, CHUNKS = (40, 48, 70), (16, 32, 32)


def labels() -> np.ndarray:
    found = np.kron(np.random.default_rng(2).integers(0, 6, (4, 4, 7)), np.ones((10, 12, 10), int)).astype("u8")
    return found * np.uint64(2**40 + 1)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    with vzarr.create(str(tmp_path / "repo")) as repo:
        yield repo


def segmentation(folder: Path, scales: int = 1) -> np.ndarray:
    voxels = labels()
    group = zarr.create_group(folder)
    for n in range(scales):
        step = 1 << n
        part = voxels[::step, ::step, ::step]
        group.create_array(f"s{n}", shape=part.shape, chunks=CHUNKS, dtype="u8")[...] = part
    return voxels


def test_an_adopted_labelmap_has_exact_indices(repo: vzarr.Repo, tmp_path: Path):
    voxels = segmentation(tmp_path / "seg", 2)
    seg = repo.adopt("seg", str(tmp_path / "seg"))
    assert (seg.info.typename, seg.config["maxdownreslevel"], seg.config["blocksize"]) == ("labelmap", "1", "32,32,16")
    for label, count in zip(*np.unique(voxels[voxels > 0], return_counts=True), strict=True):
        assert seg.size(int(label)) == count
    assert seg.max_label == voxels.max()
    assert list(registry.verify(repo.root)) == []
    assert seg.info_json()["Extended"]["MaxPoint"][::-1] == [47, 63, 95]


def test_bodies_are_edited_over_adopted_voxels(repo: vzarr.Repo, tmp_path: Path):
    voxels = segmentation(tmp_path / "seg", 2)
    repo.adopt("seg", str(tmp_path / "seg"), typename="labelmap")
    child = repo.root.commit().newversion()
    seg = child["seg"]
    one, two, three = (int(v) for v in np.unique(voxels)[1:4])
    seg.merge(one, [two])
    assert seg.size(one) == np.isin(voxels, (one, two)).sum()
    block = np.full(CHUNKS, three, "u8")
    seg.write((16, 0, 0), block)
    voxels[16:32, :32, :32] = three
    assert seg.size(three) == (voxels == three).sum()
    assert list(registry.verify(child)) == []
    child.commit()
    assert np.array_equal(child.read("seg/0", (0, 0, 0), SHAPE), voxels)
    assert repo.root["seg"].size(three) == (labels() == three).sum()


def test_a_labelmap_takes_the_scales_that_halve(repo: vzarr.Repo, tmp_path: Path):
    segmentation(tmp_path / "seg", 2)
    group = zarr.open_group(tmp_path / "seg")
    group.create_array("s2", shape=(20, 24, 18), chunks=CHUNKS, dtype="u8")
    repo.adopt("seg", str(tmp_path / "seg"))
    assert not repo.root.has_array("seg/2")
    repo.adopt("all", str(tmp_path / "seg"), typename="zarr")
    assert repo.root.has_array("all/2")


def test_blocks_that_dvid_cannot_have_are_refused(repo: vzarr.Repo, tmp_path: Path):
    zarr.create_array(tmp_path / "a", shape=SHAPE, chunks=(10, 10, 10), dtype="u8")
    with pytest.raises(InvalidInputError, match=r"multiples of 16.*chunks are \(10, 10, 10\).*--type zarr"):
        repo.adopt("seg", str(tmp_path / "a"))
    zarr.create_array(tmp_path / "b", shape=(4, 4), chunks=(2, 2), dtype="u1")
    with pytest.raises(UnsupportedError, match=r"2-dimensional.*--type zarr"):
        repo.adopt("flat", str(tmp_path / "b"))
    with pytest.raises(InvalidInputError, match=r"three-dimensional.*--type zarr"):
        repo.adopt("flat", str(tmp_path / "b"), typename="uint8blk")
    with pytest.raises(InvalidInputError, match="dataname"):
        repo.adopt("", str(tmp_path / "b"))
    assert repo.state.instances == {}
    assert list(repo.root.zarr) == []


def test_an_image_is_an_image(repo: vzarr.Repo, tmp_path: Path):
    voxels = np.random.default_rng(0).integers(0, 255, SHAPE).astype("u1")
    zarr.create_array(tmp_path / "a", shape=SHAPE, chunks=(10, 20, 30), dtype="u1")[...] = voxels
    image = repo.adopt("em", str(tmp_path / "a"))
    assert image.info.typename == "uint8blk"
    assert np.array_equal(image.read((3, 4, 5), (30, 20, 61)), voxels[3:30, 4:20, 5:61])
    assert len(image.written_blocks((0, 0, 0), (1, 1, 1))) == 1
    assert image.info_json()["Extended"]["MaxPoint"] == [89, 59, 39]
    with pytest.raises(AlreadyExistsError):
        repo.adopt("em", str(tmp_path / "a"))


def test_offsets_keep_voxel_coordinates(repo: vzarr.Repo, tmp_path: Path):
    """A precomputed layer whose first voxel is on no chunk's border."""
    voxels, offset = labels(), (5, -3, 70)
    store = tensorstore.open(
        {
            "driver": "neuroglancer_precomputed",
            "kvstore": f"file://{tmp_path}/layer/",
            "multiscale_metadata": {"type": "segmentation", "data_type": "uint64", "num_channels": 1},
            "scale_metadata": {
                "size": SHAPE[::-1], "voxel_offset": offset[::-1], "chunk_size": [32, 32, 32],
                "encoding": "raw", "resolution": [8, 8, 30],
            },
        },
        create=True,
    ).result()  # fmt: skip
    store[...] = voxels.transpose(2, 1, 0)[..., None]
    seg = repo.adopt("seg", str(tmp_path / "layer"))
    lo, hi = offset, tuple(o + n for o, n in zip(offset, SHAPE, strict=True))
    assert np.array_equal(repo.root.read("seg/0", lo, hi), voxels)
    for label, count in zip(*np.unique(voxels[voxels > 0], return_counts=True), strict=True):
        assert seg.size(int(label)) == count
    child = repo.root.commit().newversion()
    child["seg"].write((0, 0, 64), np.full((32, 32, 32), 7, "u8"))
    assert child["seg"].size(7) == 32**3
    assert list(registry.verify(child)) == []
    attributes = repo.root.attributes("seg")["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert attributes[0]["scale"] == [30.0, 8.0, 8.0]


def test_fib25(fib25: Path, repo: vzarr.Repo, tmp_path: Path):
    """Real labels and gray values, adopted: bodies are what numpy counts, an edit costs what it changes."""
    with gzip.open(fib25 / "oversegmented_stack_labels.h5.gz") as packed, h5py.File(packed, "r") as file:
        voxels = file["stack"][...].astype("u8")
    shards = {"shards": (128, 128, 128), "chunks": (64, 64, 64)}
    zarr.create_array(tmp_path / "seg", shape=voxels.shape, dtype="u8", **shards)[...] = voxels
    seg = repo.adopt("seg", str(tmp_path / "seg"), pin=True)
    found, counts = np.unique(voxels[voxels > 0], return_counts=True)
    assert seg.sizes(found.tolist()) == counts.tolist()
    child = repo.root.commit().newversion()
    child["seg"].merge(int(found[0]), [int(found[1])])
    child["seg"].write((0, 0, 0), np.zeros((128, 128, 128), "u8"))
    voxels[:128, :128, :128] = 0
    child.commit()
    assert np.array_equal(child.read("seg/0", (0, 0, 0), voxels.shape), voxels)
    assert child["seg"].size(int(found[0])) == np.isin(voxels, found[:2]).sum()
    assert list(registry.verify(child)) == []


def test_an_adoption_cut_off_while_it_counts_goes_on_where_it_was(
    repo: vzarr.Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Labels are counted in batches that are kept, and held in memory a part at a time."""
    voxels = segmentation(tmp_path / "seg")
    monkeypatch.setattr(counting.index_voxels, "__kwdefaults__", {"batch": 4, "author": NOBODY})
    monkeypatch.setattr(counting, "PART_ENTRIES", 10)
    asked: list[int] = []
    original = counting.counted

    def counted(version: vzarr.Version, path: str, coords: np.ndarray) -> bytes:
        if len(asked) == 3:
            asked.append(0)
            raise KeyboardInterrupt
        asked.append(len(coords))
        return original(version, path, coords)

    monkeypatch.setattr(counting, "counted", counted)
    with pytest.raises(KeyboardInterrupt):
        repo.adopt("seg", str(tmp_path / "seg"))
    seg = repo.adopt("seg", str(tmp_path / "seg"))
    assert asked == [4, 4, 4, 0, 4, 2]
    for label, count in zip(*np.unique(voxels[voxels > 0], return_counts=True), strict=True):
        assert seg.size(int(label)) == count
    assert list(registry.verify(repo.root)) == []
