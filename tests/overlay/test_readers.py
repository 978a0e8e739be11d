"""Every version in other programs: zarr, xarray, dask, TensorStore, by Store, mapper, HTTP, folder and references."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array
import fsspec
import numcodecs
import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from zarr.storage import FsspecStore

import vzarr
from tests.serving import serving
from vzarr.overlay import layout
from vzarr.overlay.export.references import export_references
from vzarr.overlay.export.standalone import flatten

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of its dependencies are not ours to mend
    from cloudvolume import CloudVolume

SHAPE = (20, 14)
DATA = np.random.default_rng(0).integers(1, 9999, SHAPE).astype("u2")
DOTS = {"name": "v2", "separator": "."}
FORMATS: dict[str, dict[str, Any]] = {
    "v3": {"zarr_format": 3, "dimension_names": ("y", "x")},
    "v3-sharded": {"zarr_format": 3, "dimension_names": ("y", "x"), "shards": (8, 6)},
    "v3-dots": {"zarr_format": 3, "dimension_names": ("y", "x"), "chunk_key_encoding": DOTS},
    "v2": {"zarr_format": 2},
    "v2-slashes": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v2-fortran": {"zarr_format": 2, "order": "F"},
}
NAMES = list(FORMATS)


@dataclass(frozen=True)
class Case:
    """One version as it must look: its repo, where it is served, its id, and its voxels."""

    root: Path
    server: str
    repo: str
    uuid: str
    data: np.ndarray

    def url(self, name: str) -> str:
        return f"{self.server}/zarr/{self.uuid}/{name}"


def fill(version: vzarr.Version) -> None:
    """An array of every format."""
    for name, options in FORMATS.items():
        group = zarr.create_group(version.store, path=name, zarr_format=options["zarr_format"], overwrite=True)
        given = {k: v for k, v in options.items() if k != "zarr_format"}
        array = group.create_array("a", shape=SHAPE, chunks=(4, 3), dtype="u2", fill_value=5, **given)
        array[...] = DATA
        if options["zarr_format"] == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
            zarr.consolidate_metadata(version.store, path=name, zarr_format=2)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    """A sealed root; a sealed child that changed one chunk; an open one that changed another and deleted a third."""
    root = tmp_path_factory.mktemp("readers")
    data = DATA.copy()
    with vzarr.create(str(root / "repo")) as repo:
        fill(repo.root)
        versions, looks = [repo.root.commit()], [data.copy()]
        for box in (np.s_[16:, 12:], np.s_[0:4, 0:3]):
            version = versions[-1].sealed and versions[-1].newversion()
            data[box] = 5 if box == np.s_[0:4, 0:3] else 1
            for name in NAMES:
                zarr.open_array(version.store, path=f"{name}/a", mode="r+")[box] = data[box]
            versions.append(version)
            looks.append(data.copy())
            if len(versions) < 3:
                version.commit()
        ids = [(repo.uuid, v.uuid) for v in versions]
    with serving(root) as server:
        yield {
            kind: Case(root / "repo", server.url, of, uuid, look)
            for kind, (of, uuid), look in zip(("root", "sealed", "open"), ids, looks, strict=True)
        }


@pytest.fixture(params=["root", "sealed", "open"])
def case(request: pytest.FixtureRequest, history: dict[str, Case]) -> Case:
    return history[request.param]


def by_tensorstore(name: str, kvstore: Any) -> np.ndarray:
    spec = {"driver": "zarr3" if name.startswith("v3") else "zarr", "kvstore": kvstore}
    return np.asarray(tensorstore.open(spec, read=True, open=True).result().read().result())


def by_file(folder: Path, name: str) -> np.ndarray:
    return by_tensorstore(name, {"driver": "file", "path": f"{folder}/{name}/a"})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_store_mapper_and_http_give_the_same(case: Case, name: str):
    with vzarr.open(str(case.root)) as repo:
        version = repo[case.uuid]
        shown = {
            "store": zarr.open_array(version.store, path=f"{name}/a", mode="r")[...],
            "mapper": zarr.open_array(fsspec.get_mapper(f"vzarr://{case.uuid}@/{name}/a::{repo.url}"), mode="r")[...],
            "http": zarr.open_array(f"{case.url(name)}/a", mode="r")[...],
            "tensorstore": by_tensorstore(name, f"{case.url(name)}/a/"),
            "dask": dask.array.from_zarr(zarr.open_array(version.store, path=f"{name}/a", mode="r")).compute(),
            "region": version.read(f"{name}/a", (0, 0), SHAPE),
            "xarray": xr.open_zarr(version.store, group=name, consolidated=False, mask_and_scale=False)["a"].values,
        }
        for how, found in shown.items():
            assert np.array_equal(found, case.data), how


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_on_its_own(case: Case, name: str, tmp_path: Path):
    with vzarr.open(str(case.root)) as repo:
        view = repo[case.uuid].view
        flatten(view, tmp_path / "flat")
        export_references(view, tmp_path / "refs.json")
    assert np.array_equal(by_file(tmp_path / "flat", name), case.data)
    flat = xr.open_zarr(tmp_path / "flat" / name, consolidated=False, mask_and_scale=False)
    assert np.array_equal(flat["a"], case.data)
    fs = fsspec.filesystem("reference", fo=str(tmp_path / "refs.json"), remote_protocol="file", asynchronous=True)
    found = zarr.open_array(FsspecStore(fs, read_only=True, path=f"{name}/a"), mode="r")
    assert np.array_equal(found[...], case.data)


def test_a_root_needs_nothing_of_ours(history: dict[str, Case]):
    case = history["root"]
    for name in NAMES:
        folder = case.root / layout.zarr(case.uuid)
        assert np.array_equal(by_file(folder, name), case.data)
        assert np.array_equal(zarr.open_array(folder / name / "a", mode="r")[...], case.data)


def by_cloudvolume(folder: Path) -> np.ndarray:
    scheme = "zarr3" if (folder / "zarr.json").exists() else "zarr2"
    volume = CloudVolume(f"{scheme}://file://{folder}", progress=False, fill_missing=True)
    return np.asarray(volume[:, :, :])[..., 0].T  # it shows x, y, z, channel


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "zarr": lambda folder: zarr.open_array(folder, mode="r")[...],
    "tensorstore": lambda folder: by_file(folder.parent.parent, folder.parent.name),
    "cloudvolume": by_cloudvolume,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("separator", "./")
def test_a_folder_of_zarr_2_that_inherits_is_refused(file_repo: vzarr.Repo, reader: str, separator: str):
    data = np.arange(64, dtype="u2").reshape(4, 4, 4)
    version = file_repo.root
    zarr.create_group(version.store, path="v2", zarr_format=2, overwrite=True).create_array(
        "a",
        shape=data.shape,
        chunks=(2, 2, 2),
        dtype="u2",
        compressors=numcodecs.GZip(1),
        chunk_key_encoding={"name": "v2", "separator": separator},
    )[...] = data
    read = READERS[reader]
    folder = Path(file_repo.objects.path(f"{layout.zarr(version.uuid)}/v2/a"))
    assert np.array_equal(read(folder), data)
    version = version.commit().newversion()
    zarr.open_array(version.store, path="v2/a", mode="r+")[0, 0, 0] = 9
    version.commit()
    (doc,) = Path(file_repo.objects.path(layout.zarr(version.uuid))).rglob(".zarray")
    with pytest.raises((ValueError, TypeError), match=r"vzarr|filters are not supported"):
        read(doc.parent)


@pytest.mark.parametrize(("reader", "sharded"), [("zarr", False), ("zarr", True), ("cloudvolume", False)])
def test_a_folder_of_zarr_3_that_inherits_is_refused(file_repo: vzarr.Repo, reader: str, sharded: bool):
    data = np.arange(64, dtype="u2").reshape(4, 4, 4)
    shards = {"shards": (4, 2, 2)} if sharded else {}
    version = file_repo.root
    version.zarr.create_array("a", shape=data.shape, chunks=(2, 2, 2), dtype="u2", **shards)[...] = data
    read = READERS[reader]
    folder = Path(file_repo.objects.path(f"{layout.zarr(version.uuid)}/a"))
    assert np.array_equal(read(folder), data)
    version = version.commit().newversion()
    version.zarr["a"][0, 0, 0] = 9
    version.commit()
    (doc,) = (d for d in Path(file_repo.objects.path(layout.zarr(version.uuid))).glob("*/zarr.json"))
    with pytest.raises((ValueError, TypeError, KeyError), match="vzarr"):
        read(doc.parent)
