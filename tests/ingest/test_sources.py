"""HDF5, npy and Zarr sources, packed or not, whole or broken."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.ingest import files, open_source

VOLUME = np.random.default_rng(0).integers(0, 1000, (7, 6, 5)).astype(np.int32)


def h5(folder: Path, **datasets: np.ndarray) -> Path:
    with h5py.File(folder / "v.h5", "w") as file:
        for name, data in datasets.items():
            file.create_dataset(name.replace("__", "/"), data=data)
    return folder / "v.h5"


def pack(file: Path) -> Path:
    packed = file.with_name(file.name + ".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    return packed


def check(source) -> None:
    assert (source.shape, source.dtype) == (VOLUME.shape, VOLUME.dtype)
    assert np.array_equal(source.read(2, 5), VOLUME[2:5])
    assert np.array_equal(source.read(0, 7), VOLUME)
    source.close()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("dataset", ["stack", "a/b"])
def test_hdf5(tmp_path: Path, packed: bool, dataset: str):
    file = h5(tmp_path, stack=VOLUME, a__b=VOLUME)
    check(open_source(f"{pack(file) if packed else file}:{dataset}"))


def test_the_only_dataset_needs_no_name(tmp_path: Path):
    check(open_source(h5(tmp_path, stack=VOLUME)))


def test_a_dataset_that_is_not_there_gets_a_list(tmp_path: Path):
    file = h5(tmp_path, stack=VOLUME, transforms=np.zeros((2, 2)))
    with pytest.raises(InvalidInputError, match=r"v\.h5: no dataset 'stuck'; it has: stack, transforms"):
        open_source(f"{file}:stuck")
    with pytest.raises(InvalidInputError, match=r"name a dataset as FILE:DATASET; it has: stack, transforms"):
        open_source(str(file))


@pytest.mark.parametrize("part", [0.2, 0.9])
def test_a_truncated_hdf5_is_named(tmp_path: Path, part: float):
    file = h5(tmp_path, stack=np.random.default_rng(0).integers(0, 99, (50, 50, 50)))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(InvalidInputError, match=r"v\.h5: .*truncated"):
        open_source(f"{file}:stack")


def test_a_truncated_gz_is_named(tmp_path: Path):
    packed = pack(h5(tmp_path, stack=VOLUME))
    packed.write_bytes(packed.read_bytes()[:-500])
    with pytest.raises(InvalidInputError, match=r"v\.h5\.gz: "):
        open_source(f"{packed}:stack")


def test_a_gz_that_is_none_is_named(tmp_path: Path):
    (tmp_path / "x.npy.gz").write_bytes(b"not packed at all")
    with pytest.raises(InvalidInputError, match=r"x\.npy\.gz: "):
        open_source(tmp_path / "x.npy.gz")


def test_a_packed_file_is_unpacked_beside_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(files.tempfile, "tempdir", str(scratch))
    packed = pack(h5(tmp_path, stack=VOLUME))
    source = open_source(f"{packed}:stack")
    assert list(scratch.iterdir())
    source.close()
    assert not list(scratch.iterdir())
    with pytest.raises(InvalidInputError):
        open_source(f"{packed}:wrong")
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_npy(tmp_path: Path, packed: bool, order: str):
    np.save(tmp_path / "v.npy", np.asarray(VOLUME, order=order))
    check(open_source(pack(tmp_path / "v.npy") if packed else tmp_path / "v.npy"))


def test_a_truncated_npy_is_named(tmp_path: Path):
    np.save(tmp_path / "v.npy", VOLUME)
    (tmp_path / "v.npy").write_bytes((tmp_path / "v.npy").read_bytes()[:-9])
    with pytest.raises(InvalidInputError, match=r"v\.npy: "):
        open_source(tmp_path / "v.npy")


def test_pickled_objects_are_refused(tmp_path: Path):
    np.save(tmp_path / "v.npy", np.array([[[{}]]], object), allow_pickle=True)
    with pytest.raises(InvalidInputError, match=r"v\.npy: "):
        open_source(tmp_path / "v.npy")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr(tmp_path: Path, zarr_format: int):
    group = zarr.open_group(tmp_path / "v.zarr", mode="w", zarr_format=zarr_format)
    group.create_array("a/0", data=VOLUME, chunks=(3, 3, 3))
    check(open_source(tmp_path / "v.zarr" / "a" / "0"))
    with pytest.raises(InvalidInputError, match=r"a group; name one of its arrays: .*v\.zarr/a/0"):
        open_source(tmp_path / "v.zarr" / "a")


def test_a_volume_has_three_axes(tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"v\.h5:flat: a volume has 3 axes .* shape \(4, 4\)"):
        open_source(f"{h5(tmp_path, flat=np.zeros((4, 4)))}:flat")


@pytest.mark.parametrize("name", ["gone.h5:x", "gone.npy", "gone.h5.gz:x", "gone.npy.gz", "gone.tif"])
def test_what_is_not_there_is_not_found(tmp_path: Path, name: str):
    with pytest.raises(NotFoundError, match=r"gone\..*: no such file"):
        open_source(str(tmp_path / name))


def test_other_files_get_a_list_of_what_can_be_ingested(tmp_path: Path):
    (tmp_path / "v.mrc").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"v\.mrc: not a volume that can be ingested; one of: FILE\.h5"):
        open_source(tmp_path / "v.mrc")
    with pytest.raises(InvalidInputError, match="no source"):
        open_source([])
