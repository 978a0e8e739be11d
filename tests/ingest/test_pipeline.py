"""Ingestion as a whole: voxels, pyramids, index, metadata, memory, and nothing left behind by a failure."""

from __future__ import annotations

import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import h5py
import numpy as np
import pytest
from ome_zarr_models.v05.multiscales import Multiscale
from PIL import Image

import vzarr
from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError, SealedError
from vzarr.ingest import ingest
from vzarr.ingest.sources import ArraySource
from vzarr.types.labelmap.kernels import downsample_gray, downsample_labels
from vzarr.types.labelmap.verify import check_index, check_scales

RNG = np.random.default_rng(7)
GRAY = RNG.integers(0, 256, (75, 40, 50), dtype=np.uint8)
LABELS = RNG.integers(0, 9, (75, 40, 50)).astype(np.int32).repeat(2, 0)[:75]
BLOCKS = (16, 16, 16)


@pytest.fixture
def repo() -> Iterator[vzarr.Repo]:
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as made:
        yield made


@dataclass
class Watched:
    """A source made of nothing, which counts what is asked of it."""

    shape: tuple[int, int, int]
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.uint8))
    name: str = "watched"
    reads: list[tuple[int, int]] = field(default_factory=list)
    breaks_at: int | None = None
    closed: bool = False

    def read(self, z0: int, z1: int) -> np.ndarray:
        self.reads.append((z0, z1))
        if self.breaks_at is not None and z1 > self.breaks_at:
            raise InvalidInputError(f"watched, plane {self.breaks_at}: broken")
        return np.full((z1 - z0, *self.shape[1:]), z0 % 251, self.dtype)

    def close(self) -> None:
        self.closed = True


def array(data: np.ndarray) -> ArraySource:
    return ArraySource("array", data)


def edge_half(a: np.ndarray) -> np.ndarray:
    return downsample_gray(np.pad(a, [(0, n % 2) for n in a.shape], mode="edge"))


def zero_half(a: np.ndarray) -> np.ndarray:
    return downsample_labels(np.pad(a, [(0, n % 2) for n in a.shape]))


def test_grayscale_and_its_pyramid(repo: vzarr.Repo):
    made = ingest(repo["master"], "gray", array(GRAY), blocks=BLOCKS)
    group = repo["master"].zarr["gray"]
    expected = GRAY
    for scale in range(4):
        assert np.array_equal(group[str(scale)][...], expected), scale
        expected = edge_half(expected)
    assert sorted(group.array_keys()) == ["0", "1", "2", "3"]
    assert group["3"].shape == (10, 5, 7)
    assert np.array_equal(made.read((0, 0, 0), GRAY.shape), GRAY)
    assert made.info_json()["Extended"]["MaxPoint"] == [63, 47, 79]


def test_labels_their_pyramid_index_and_mapping(repo: vzarr.Repo):
    mapping = np.array([[1, 5], [2, 5], [3, 30], [77, 5]], np.uint64)
    made = ingest(repo["master"], "seg", array(LABELS), typename="labelmap", mapping=mapping, blocks=BLOCKS)
    group = repo["master"].zarr["seg"]
    assert group["0"].dtype == np.uint64
    expected = LABELS.astype(np.uint64)
    for scale in range(4):
        assert np.array_equal(group[str(scale)][...], expected), scale
        expected = zero_half(expected)
    bodies = LABELS.copy()
    bodies[np.isin(LABELS, [1, 2])] = 5
    bodies[LABELS == 3] = 30
    present, counts = np.unique(bodies[bodies > 0], return_counts=True)
    assert dict(made.list_bodies()) == dict(zip(present.tolist(), counts.tolist(), strict=True))
    assert np.array_equal(made.read((0, 0, 0), LABELS.shape), bodies)
    assert check_index(made) == []
    assert check_scales(made) == []
    assert made.reserve_labels(1)[0] > 77


def test_images_and_tables_from_files(repo: vzarr.Repo, tmp_path):
    for z, plane in enumerate(GRAY):
        Image.fromarray(plane).save(tmp_path / f"{z}.png")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["stack"], file["transforms"] = LABELS, [[1, 2], [2, 2]]
    ingest(repo["master"], "gray", str(tmp_path / "*.png"))
    spec = f"{tmp_path}/s.h5"
    seg = ingest(repo["master"], "seg", f"{spec}:stack", typename="labelmap", mapping=f"{spec}:transforms")
    assert np.array_equal(repo["master"].zarr["gray/0"][...], GRAY)
    assert seg.size(2) == np.isin(LABELS, [1, 2]).sum()


def test_the_group_is_ome_zarr(repo: vzarr.Repo):
    ingest(repo["master"], "gray", array(GRAY), blocks=BLOCKS, voxel_size=(40, 8, 4), unit="nm")
    group = repo["master"].zarr["gray"]
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    multiscale = Multiscale.model_validate(ome["multiscales"][0])
    assert [(a.name, a.unit) for a in multiscale.axes] == [(n, "nanometer") for n in "zyx"]
    for scale, dataset in enumerate(multiscale.datasets):
        array_ = group[dataset.path]
        assert array_.metadata.dimension_names == ("z", "y", "x")
        parts = [t.model_dump() for t in dataset.coordinateTransformations]
        assert parts[0]["scale"] == [40 * 2**scale, 8 * 2**scale, 4 * 2**scale]
        if scale:
            assert parts[1]["translation"] == [n * (2**scale - 1) / 2 for n in (40, 8, 4)]


@pytest.mark.parametrize(("shape", "scales"), [((16, 16, 16), 1), ((17, 16, 16), 2), ((1, 1, 1), 1)])
def test_scales_end_where_the_volume_fits_one_block(repo: vzarr.Repo, shape, scales: int):
    ingest(repo["master"], "gray", array(np.ones(shape, np.uint8)), blocks=BLOCKS)
    assert len(list(repo["master"].zarr["gray"].array_keys())) == scales


def test_the_smallest_labelmap_has_two_scales(repo: vzarr.Repo):
    made = ingest(repo["master"], "seg", array(np.ones((1, 1, 1), np.uint64)), typename="labelmap", blocks=BLOCKS)
    assert made.info_json()["Extended"]["MaxDownresLevel"] == 1, "neuroglancer's dvid:// wants a positive number"
    assert not check_scales(made)


def test_the_number_of_scales_can_be_chosen(repo: vzarr.Repo):
    ingest(repo["master"], "gray", array(GRAY), blocks=BLOCKS, max_scale=1)
    assert sorted(repo["master"].zarr["gray"].array_keys()) == ["0", "1"]


def test_each_plane_is_read_once_in_slabs_of_one_layer(repo: vzarr.Repo):
    source = Watched((70, 8, 8))
    told: list[tuple[str, int, int]] = []
    ingest(repo["master"], "gray", source, blocks=BLOCKS, progress=lambda *step: told.append(step))
    assert source.reads == [(0, 16), (16, 32), (32, 48), (48, 64), (64, 70)]
    assert source.closed
    assert [(done, total) for _, done, total in told] == [(16, 70), (32, 70), (48, 70), (64, 70), (70, 70)]


def test_memory_does_not_grow_with_depth(tmp_path):
    """Of 40 slabs a few are there at a time: 4 to 7, as threads wait for each other."""
    slab = 16 * 256 * 256
    with vzarr.create(str(tmp_path / "repo")) as made:
        tracemalloc.start()
        try:
            ingest(made["master"], "gray", Watched((40 * 16, 256, 256)), blocks=(16, 64, 64))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 12 * slab


def left_behind(repo: vzarr.Repo) -> tuple[list[str], list[str]]:
    return sorted(repo.state.instances), sorted(repo["master"].zarr.group_keys())


BROKEN = [
    (Watched((70, 8, 8), breaks_at=40), "uint8blk", "plane 40: broken"),
    (array(np.where(LABELS == 8, -3, LABELS)), "labelmap", "array: -3 is negative"),
    (array(LABELS), "uint8blk", "uint8blk holds uint8, this source has int32"),
    (array(GRAY.astype(float)), "labelmap", "labelmap holds integers, this source has float64"),
    (array(np.zeros((0, 4, 4), np.uint8)), "uint8blk", r"empty, its shape is \(0, 4, 4\)"),
    (array(GRAY), "keyvalue", "cannot ingest into 'keyvalue'"),
]


@pytest.mark.parametrize(("source", "typename", "message"), BROKEN, ids=[m for _, _, m in BROKEN])
def test_a_failure_leaves_nothing_and_the_name_free(repo: vzarr.Repo, source, typename: str, message: str):
    with pytest.raises(InvalidInputError, match=message):
        ingest(repo["master"], "vol", source, typename=typename, blocks=BLOCKS)
    assert left_behind(repo) == ([], [])
    made = ingest(repo["master"], "vol", array(LABELS), typename="labelmap", blocks=BLOCKS)
    assert check_index(made) == []


def test_a_failure_in_a_version_that_inherits_leaves_what_it_inherits(repo: vzarr.Repo):
    ingest(repo["master"], "gray", array(GRAY), blocks=BLOCKS)
    child = repo["master"].commit("one").newversion()
    with pytest.raises(InvalidInputError, match="plane 40"):
        ingest(child, "vol", Watched((70, 8, 8), breaks_at=40), blocks=BLOCKS)
    assert left_behind(repo) == (["gray"], ["gray"])
    assert np.array_equal(child.zarr["gray/0"][...], GRAY)
    ingest(child, "vol", array(GRAY[::-1]), blocks=BLOCKS)
    assert np.array_equal(child.zarr["vol/0"][...], GRAY[::-1])


def test_names_that_are_taken(repo: vzarr.Repo):
    ingest(repo["master"], "gray", array(GRAY), blocks=BLOCKS)
    repo["master"].zarr.create_group("mine")
    for name in ("gray", "mine"):
        with pytest.raises(AlreadyExistsError, match=name):
            ingest(repo["master"], name, array(GRAY + 1), blocks=BLOCKS)
    assert np.array_equal(repo["master"].zarr["gray/0"][...], GRAY)
    assert left_behind(repo) == (["gray"], ["gray", "mine"])


def test_sealed_versions_are_refused_before_the_source_is_opened(repo: vzarr.Repo):
    repo["master"].commit("done")
    with pytest.raises(SealedError, match="is sealed"):
        ingest(repo["master"], "gray", "there/is/no/such/file.npy")


def test_sources_and_mappings_are_opened_before_anything_is_written(repo: vzarr.Repo, tmp_path):
    before = len(repo.log())
    with pytest.raises(NotFoundError):
        ingest(repo["master"], "gray", tmp_path / "none.npy")
    with pytest.raises(InvalidInputError, match="belongs to body"):
        ingest(repo["master"], "seg", array(LABELS), typename="labelmap", mapping=[[1, 2], [1, 3]])
    with pytest.raises(InvalidInputError, match="a mapping belongs to a labelmap"):
        ingest(repo["master"], "gray", array(GRAY), mapping=[[1, 2]])
    assert len(repo.log()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voxel_size": 0}, "voxel size"),
        ({"voxel_size": (1, 2)}, "voxel size"),
        ({"voxel_size": float("nan")}, "voxel size"),
        ({"unit": "furlong"}, "unknown unit 'furlong'"),
        ({"blocks": (15, 16, 16)}, "even sides"),
        ({"max_scale": -1}, "scale"),
    ],
)
def test_settings_that_make_no_sense(repo: vzarr.Repo, options, message: str):
    with pytest.raises(InvalidInputError, match=message):
        ingest(repo["master"], "gray", array(GRAY), **options)
    assert left_behind(repo) == ([], [])
