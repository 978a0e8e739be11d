"""``xr.open_dataset(REPO, engine="vzarr")``: values, coordinates, laziness, and choosing instances."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

import vzarr
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.ingest import ingest
from vzarr.ingest.sources import ArraySource
from vzarr.xarray_backend import VzarrBackend

RNG = np.random.default_rng(5)
GRAY = RNG.integers(0, 256, (40, 33, 20), dtype=np.uint8)
LABELS = RNG.integers(0, 5, (40, 33, 20)).astype(np.uint64)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repo of two versions: the child has other voxels in a corner."""
    place = tmp_path_factory.mktemp("xarray") / "repo"
    with vzarr.create(str(place)) as repo:
        root = repo.root
        for name, data, typename in (("gray", GRAY, "uint8blk"), ("seg", LABELS, "labelmap")):
            ingest(
                root, name, ArraySource(name, data), typename=typename, voxel_size=(30, 8, 4), unit="nm",
                blocks=(16, 16, 16),
            )  # fmt: skip
        vzarr.types.registry.create(root, "notes", "keyvalue")
        child = root.commit("first").newversion()
        child.write("gray/0", (0, 0, 0), np.full((2, 2, 2), 7, np.uint8))
    return place


def opened(url: Path, **options) -> xr.Dataset:
    return xr.open_dataset(url, engine="vzarr", **options)


def test_all_instances_of_a_version(url: Path):
    with opened(url) as dataset:
        assert set(dataset.data_vars) == {"gray", "seg"}
        assert dict(dataset.sizes) == {"z": 40, "y": 33, "x": 20}
        changed = GRAY.copy()
        changed[:2, :2, :2] = 7
        assert np.array_equal(dataset["gray"].values, changed)
        assert dataset["gray"].attrs["datatype"] == "uint8blk"


def test_zero_is_a_value_and_types_stay(url: Path):
    with opened(url) as dataset:
        assert (dataset["gray"].dtype, dataset["seg"].dtype) == (np.uint8, np.uint64)
        assert np.array_equal(dataset["seg"].values, LABELS)


def test_every_version_can_be_opened(url: Path):
    with vzarr.open(str(url)) as repo:
        refs = [repo.uuid, repo.uuid[:6], "master~1"]
    for ref in refs:
        with opened(url, version=ref) as dataset:
            assert np.array_equal(dataset["gray"].values, GRAY)
            assert dataset.attrs["vzarr_version"] == refs[0]


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_coordinates_are_centres_of_voxels_in_physical_units(url: Path, scale: int):
    with opened(url, instance="gray", scale=scale) as dataset:
        for dim, edge, size in zip("zyx", (30, 8, 4), GRAY.shape, strict=True):
            fine = np.arange(size + size) * edge
            centres = [fine[i * 2**scale : (i + 1) * 2**scale].mean() for i in range(dataset.sizes[dim])]
            assert np.allclose(dataset[dim].values, centres)
            assert dataset[dim].attrs["units"] == "nanometer"


def test_selection_by_place(url: Path):
    with opened(url, version="master~1") as dataset:
        assert dataset["gray"].sel(z=90, y=16, x=8).item() == GRAY[3, 2, 2]
        assert np.array_equal(dataset["gray"].sel(z=slice(60, 120)).values, GRAY[2:5])


def test_nothing_is_read_before_it_is_asked_for(url: Path, monkeypatch: pytest.MonkeyPatch):
    boxes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    read = vzarr.Version.read
    monkeypatch.setattr(
        vzarr.Version, "read", lambda self, path, lo, hi: boxes.append((lo, hi)) or read(self, path, lo, hi)
    )
    with opened(url) as dataset:
        part = dataset["gray"][3:5, 2, ::-1]
        assert boxes == []
        assert part.shape == (2, 20)
        assert np.array_equal(part.values, GRAY[3:5, 2, ::-1])
        assert boxes == [((3, 2, 0), (5, 3, 20))]


# xarray itself stumbles over empty slices that run backwards.
indexers = st.one_of(
    st.integers(-12, 11),
    st.slices(12).filter(lambda part: len(range(*part.indices(12))) > 0),
    st.lists(st.integers(-12, 11), max_size=4).map(lambda x: np.array(x, int)),
)


@given(key=st.tuples(indexers, indexers, indexers))
def test_every_kind_of_index_gives_what_numpy_gives(url: Path, key):
    with opened(url, instance="seg") as dataset:
        part = dataset["seg"][:12, :12, :12].isel(dict(zip("zyx", key, strict=True)))
        expected = LABELS[:12, :12, :12]
        for axis in (2, 1, 0):
            expected = expected[(slice(None),) * axis + (key[axis],)]
        assert np.array_equal(part.values, expected)


def test_dask_chunks_are_those_on_disk(url: Path):
    with opened(url, instance="gray", version="master~1", chunks={}) as dataset:
        assert dataset["gray"].chunks == ((16, 16, 8), (16, 16, 1), (16, 4))
        assert dataset["gray"].astype(int).sum().compute().item() == GRAY.astype(int).sum()


def test_dask_chunks_of_a_sharded_array_are_shards(tmp_path: Path):
    with vzarr.create(str(tmp_path / "r")) as repo:
        ingest(repo.root, "gray", ArraySource("gray", GRAY), typename="uint8blk", blocks=(16, 16, 16))
        group = repo.root.zarr["gray"]
        group.create_array(
            "0", data=GRAY, chunks=(8, 8, 8), shards=(16, 16, 16), dimension_names=("z", "y", "x"), overwrite=True
        )
    with opened(tmp_path / "r", chunks={}) as dataset:
        assert dataset["gray"].chunks == ((16, 16, 8), (16, 16, 1), (16, 4))
        assert np.array_equal(dataset["gray"].values, GRAY)


@pytest.mark.slow
def test_other_processes_compute(url: Path):
    with opened(url, instance="gray", version="master~1", chunks={}) as dataset:
        total = dataset["gray"].astype(int).sum().compute(scheduler="processes", num_workers=2)
        assert total.item() == GRAY.astype(int).sum()


def test_a_url_says_it_all(url: Path):
    repo = url.as_uri()
    for text, names in ((f"vzarr://::{repo}", {"gray", "seg"}), (f"vzarr://master~1@/gray::{repo}", {"gray"})):
        with xr.open_dataset(text) as dataset:
            assert set(dataset.data_vars) == names
    with xr.open_dataset(f"vzarr://seg::{repo}", version="master~1") as dataset:
        assert np.array_equal(dataset["seg"].values, LABELS)
    with pytest.raises(InvalidInputError, match="names no repo"):
        opened("vzarr://gray")
    with pytest.raises(NotFoundError, match="nosuch"):
        xr.open_dataset(f"vzarr://nosuch::{repo}")


def test_a_tree_has_all_scales(url: Path):
    for place in (url, f"vzarr://::{url.as_uri()}"):
        with xr.open_datatree(place, engine="vzarr", version="master~1", chunks={}) as tree:
            assert [g for g in tree.groups if g.count("/") == 2] == [
                f"/{n}/{s}" for n in ("gray", "seg") for s in "012"
            ]
            assert np.array_equal(tree["gray/0/gray"].values, GRAY)
            assert tree["gray/2"].sizes["z"] == 10
            with opened(url, instance="seg", scale=2) as dataset:
                assert tree["seg/2"].to_dataset()["seg"].equals(dataset["seg"])
    with xr.open_datatree(url, engine="vzarr", instance="gray") as tree:
        assert list(tree.children) == ["gray"]


def test_voxels_are_written_back_through_the_store(tmp_path: Path):
    with vzarr.create(str(tmp_path / "r")) as repo:
        ingest(repo.root, "gray", ArraySource("gray", GRAY), typename="uint8blk", blocks=(16, 16, 16))
        child = repo.root.commit().newversion()
        with opened(tmp_path / "r", instance="gray", chunks={}) as dataset:
            part = dataset["gray"].isel(z=slice(16, 32)) // 2
            part.rename("0").drop_vars(["z", "y", "x"]).to_dataset().to_zarr(
                child.store, group="gray", region={"z": slice(16, 32)}, consolidated=False
            )
        changed = GRAY.copy()
        changed[16:32] //= 2
        assert np.array_equal(child.read("gray/0", (0, 0, 0), GRAY.shape), changed)
        assert np.array_equal(repo.root.read("gray/0", (0, 0, 0), GRAY.shape), GRAY)
        assert len([o for o in child.owners("gray/0", child.chunk_coords("gray/0").tolist()) if o == child.uuid]) == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently")
@pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.exhaustive)])
def test_datasets_of_any_kind_are_written_appended_and_changed(tmp_path: Path, scheduler: str):
    def made(first: int, count: int) -> xr.Dataset:
        values = np.arange(first * 3.0, (first + count) * 3).reshape(count, 3)
        return xr.Dataset({"t": (("time", "x"), values)}, {"time": np.arange(first, first + count)}).chunk(time=2)

    with vzarr.create(str(tmp_path / "r")) as repo, dask.config.set(scheduler=scheduler, num_workers=2):
        made(0, 4).to_zarr(repo.root.store, group="climate")
        versions, looks = [repo.root.commit()], [made(0, 4)]
        for options, written, look in (
            ({"append_dim": "time"}, made(4, 4), made(0, 8)),
            ({"region": {"time": slice(2, 4)}}, made(0, 8)[["t"]].isel(time=slice(2, 4)).drop_vars("time") * 2, None),
            ({"mode": "a"}, xr.Dataset({"u": ("x", [1, 2, 3])}), None),
        ):
            version = versions[-1].newversion()
            written.to_zarr(version.store, group="climate", **options)
            last = looks[-1].copy(deep=True) if look is None else look
            if "region" in options:
                last = last.load()
                last["t"][2:4] *= 2
            if "mode" in options:
                last = last.assign(u=("x", [1, 2, 3]))
            versions.append(version.commit())
            looks.append(last)
        for version, look in zip(versions, looks, strict=True):
            for shown in (
                xr.open_zarr(version.store, group="climate"),
                xr.open_zarr(f"vzarr://{version.uuid}@/climate::{repo.url}", consolidated=False),
            ):
                xr.testing.assert_equal(shown.compute(), look.compute())


def test_a_dataset_can_be_sent_to_another_process(url: Path):
    with opened(url, version="master~1") as dataset:
        sent = pickle.loads(pickle.dumps(dataset))
    with sent:
        assert np.array_equal(sent["gray"].values, GRAY)


def test_instances_that_disagree_must_be_chosen(tmp_path: Path):
    with vzarr.create(str(tmp_path / "r")) as repo:
        for name, edge in (("fine", 4), ("coarse", 8)):
            ingest(repo.root, name, ArraySource(name, GRAY), voxel_size=edge)
    with pytest.raises(InvalidInputError, match=r"choose instance=; there are: coarse, fine"):
        opened(tmp_path / "r")
    with opened(tmp_path / "r", instance="fine") as dataset:
        assert list(dataset.data_vars) == ["fine"]
    with opened(tmp_path / "r", drop_variables="coarse") as dataset:
        assert list(dataset.data_vars) == ["fine"]


def test_an_empty_version_is_an_empty_dataset(tmp_path: Path):
    vzarr.create(str(tmp_path / "r")).close()
    with opened(tmp_path / "r") as dataset:
        assert not dataset.data_vars


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "nonesuch"}, "nonesuch"),
        ({"instance": "notes"}, "no voxel instance 'notes' of scale 0 .* there are: gray, seg"),
        ({"instance": "gray", "scale": 9}, "no voxel instance 'gray' of scale 9 .* there is none"),
        ({"scale": 99}, "nothing has a scale 99 in 'master'; there are: gray, seg"),
        ({"scale": -1}, "nothing has a scale -1"),
    ],
)
def test_what_is_not_there_is_not_found(url: Path, options, message: str):
    with pytest.raises(NotFoundError, match=message):
        opened(url, **options)


def test_the_engine_is_guessed_for_repos_and_for_nothing_else(url: Path, tmp_path: Path):
    backend = VzarrBackend()
    assert backend.guess_can_open(url)
    assert backend.guess_can_open(str(url))
    assert backend.guess_can_open(url.as_uri())
    assert not backend.guess_can_open(tmp_path)
    assert not backend.guess_can_open("https://example.org/vzarr.json")
    assert not backend.guess_can_open(b"\x89HDF")
    with xr.open_dataset(url) as dataset:
        assert "gray" in dataset


def test_arrays_of_no_instance_are_opened_by_their_path(tmp_path: Path):
    with vzarr.create(str(tmp_path / "r")) as repo:
        group = repo.root.zarr.create_group("deep/g")
        group.create_array("0", shape=(4, 5), chunks=(2, 5), dtype="f4", dimension_names=("t", "c"))[...] = 1.5
        group.create_array("1", shape=(2, 3, 4, 5), chunks=(1, 3, 4, 5), dtype="u2")[...] = 9
        repo.adopt("u16", _plain(tmp_path / "u16"), typename="zarr")
    with opened(tmp_path / "r") as dataset:
        assert not dataset.data_vars
    with opened(tmp_path / "r", instance="deep/g/0") as dataset:
        assert (dataset["deep/g/0"].dims, dataset["deep/g/0"].dtype) == (("t", "c"), np.float32)
        assert not dataset.coords
        assert (dataset["deep/g/0"].values == 1.5).all()
    with opened(tmp_path / "r", instance="deep/g", scale=1) as dataset:
        assert dataset["deep/g"].dims == ("dim_0", "dim_1", "dim_2", "dim_3")
        assert (dataset["deep/g"][0, 1].values == 9).all()
    with opened(tmp_path / "r", instance="u16") as dataset:
        assert dataset["u16"].dims == ("z", "y", "x")
        assert np.array_equal(dataset["u16"].values, np.arange(512).reshape(8, 8, 8))
    with xr.open_dataset(f"vzarr://master@/u16::{tmp_path / 'r'}", engine="vzarr") as dataset:
        assert int(dataset["u16"][7, 7, 7]) == 511
    with xr.open_datatree(tmp_path / "r", engine="vzarr", instance="u16") as tree:
        assert "/u16/0" in tree.groups
    with pytest.raises(NotFoundError, match="nonesuch"):
        opened(tmp_path / "r", instance="nonesuch")


def _plain(place: Path) -> str:
    zarr.create_array(place, shape=(8, 8, 8), chunks=(4, 4, 4), dtype="u2")[...] = np.arange(512).reshape(8, 8, 8)
    return str(place)


def _n5(place: Path, factors: bool) -> Path:
    """A pyramid of three scales as TensorStore writes it: nothing is said of voxel sizes."""
    for n, shape in enumerate([(37, 45, 50), (19, 23, 50), (10, 12, 50)]):
        metadata = {"dataType": "uint8", "dimensions": shape[::-1], "blockSize": [25, 16, 16]}
        spec = {"driver": "n5", "kvstore": f"file://{place}/s{n}/", "metadata": metadata}
        tensorstore.open(spec, create=True).result()[...] = n + 1
        if factors:
            attributes = place / f"s{n}" / "attributes.json"
            said = json.loads(attributes.read_text())
            attributes.write_text(json.dumps({**said, "downsamplingFactors": [1, 2**n, 3**n]}))
    return place


def _ome_01(place: Path) -> Path:
    group = zarr.create_group(place, zarr_format=2)
    for n, shape in enumerate([(37, 45, 50), (19, 23, 50), (10, 12, 50)]):
        group.create_array(f"scale{n}", shape=shape, chunks=(16, 16, 25), dtype="u1")[...] = n + 1
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": f"scale{n}"} for n in range(3)]}]
    return place


@pytest.mark.parametrize(
    ("make", "factors"),
    [(lambda p: _n5(p, factors=False), (4, 4, 1)), (lambda p: _n5(p, factors=True), (9, 4, 1)), (_ome_01, (4, 4, 1))],
    ids=["n5", "n5 with factors", "ome 0.1"],
)
@pytest.mark.parametrize(("typename", "voxel", "unit"), [(None, 8.0, "nanometer"), ("zarr", 1.0, None)])
def test_adopted_pyramids_without_voxel_sizes_have_relative_ones(
    tmp_path: Path, make, factors: tuple[int, ...], typename: str | None, voxel: float, unit: str | None
):
    with vzarr.create(str(tmp_path / "r")) as repo:
        repo.adopt("em", str(make(tmp_path / "source")), typename=typename)
        listed = repo.root.attributes("em")["ome"]["multiscales"][0]["datasets"]
    assert [d["path"] for d in listed] == ["0", "1", "2"]
    with opened(tmp_path / "r", instance="em", scale=2) as dataset:
        assert (dataset["em"].values == 3).all()
        for dim, factor in zip("zyx", factors, strict=True):
            assert dataset[dim].values[:2].tolist() == [voxel * (factor - 1) / 2, voxel * (factor * 1.5 - 0.5)]
            assert dataset[dim].attrs.get("units") == unit
    with xr.open_datatree(tmp_path / "r", engine="vzarr", instance="em") as tree:
        assert {"/em/0", "/em/1", "/em/2"} <= set(tree.groups)


def test_a_scale_that_the_metadata_leave_out_has_no_coordinates(tmp_path: Path):
    """As adopted by early releases."""
    with vzarr.create(str(tmp_path / "r")) as repo:
        repo.adopt("em", str(_n5(tmp_path / "source", factors=False)))
        ome = repo.root.attributes("em")["ome"]
        del ome["multiscales"][0]["datasets"][1:]
        repo.root.zarr["em"].attrs["ome"] = ome
    with opened(tmp_path / "r", scale=1) as dataset:
        assert (dataset["em"].values == 2).all()
        assert not dataset.coords
