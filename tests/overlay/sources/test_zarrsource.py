"""Zarr volumes in place, against zarr itself: versions 2 and 3, codecs, orders, separators, shards, OME-Zarr groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from ome_zarr_models.v05 import Image
from zarr.codecs import BytesCodec, GzipCodec, TransposeCodec
from zarr.errors import ZarrUserWarning

import vzarr
from vzarr.errors import InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.sources import zarrsource
from vzarr.overlay.sources.files import LocalFiles
from vzarr.overlay.sources.formats import open_array, open_volume

SHAPE, CHUNKS = (13, 10, 9), (4, 4, 8)


def values(dtype: str) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 2 if dtype == "?" else 100, SHAPE).astype(dtype)


V2 = {
    "plain": {"compressors": None},
    "blosc": {"compressors": numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE)},
    "blosc-auto": {"compressors": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.AUTOSHUFFLE)},
    "zstd": {"compressors": numcodecs.Zstd(3)},
    "gzip": {"compressors": numcodecs.GZip(3)},
    "zlib": {"compressors": numcodecs.Zlib(3)},
    "bz2": {"compressors": numcodecs.BZ2(3)},
    "lz4": {"compressors": numcodecs.LZ4()},
    "delta": {"filters": [numcodecs.Delta("<u2")], "dtype": "<u2"},
    "f-order": {"order": "F", "dtype": "<f4"},
    "big-endian": {"dtype": ">u4", "order": "F"},
    "slashes": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "bool": {"dtype": "?", "fill_value": True},
    "nan": {"dtype": "<f8", "fill_value": float("nan")},
}
V3 = {
    "plain": {"compressors": None},
    "default": {},
    "dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "v2-keys": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "shards": {"shards": (8, 8, 8)},
    "transposed": {"filters": [TransposeCodec(order=(2, 0, 1))], "compressors": GzipCodec()},
    "big-endian": {"serializer": BytesCodec(endian="big"), "dtype": "u4"},
    "fill": {"fill_value": 7},
}


@pytest.mark.parametrize(
    ("version", "options"),
    [pytest.param(v, o, id=f"v{v}-{n}") for v, cases in ((2, V2), (3, V3)) for n, o in cases.items()],
)
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
def test_every_array_reads_as_zarr_reads_it(tmp_path: Path, version: int, options: dict[str, Any]):
    options = {"dtype": "u2", **options}
    array = zarr.create_array(tmp_path / "s", shape=SHAPE, chunks=CHUNKS, zarr_format=version, **options)
    array[:8] = values(options["dtype"])[:8]
    expected = array[...]
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.adopt("a", str(tmp_path / "s"), typename="zarr")
        version_ = repo.root
        found = version_.read("a/0", (0, 0, 0), SHAPE)
        assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")
        assert np.array_equal(version_.zarr["a/0"][...], expected, equal_nan=found.dtype.kind == "f")
        stored = array.nchunks_initialized if "shards" not in options else 1 * 2 * 2
        assert len(version_.chunk_coords("a/0")) == stored
        version_.write("a/0", (3, 3, 3), expected[:6, :6, :6])
        expected[3:9, 3:9, 3:9] = expected[:6, :6, :6].copy()
        child = version_.commit().newversion()
        assert np.array_equal(child.zarr["a/0"][...], expected, equal_nan=found.dtype.kind == "f")


def ome(folder: Path, version: str, *, shape: tuple[int, ...] = SHAPE, names: str = "zyx") -> list[np.ndarray]:
    """A pyramid of two scales whose arrays have names of their own."""
    group = zarr.create_group(folder, zarr_format=3 if version == "0.5" else 2)
    scales = []
    for n, name in enumerate(("full", "deep/half")):
        part = shape if n == 0 else (*shape[:-3], *(-(-s // 2) for s in shape[-3:]))
        chunks = (*[1] * (len(shape) - 3), *CHUNKS)
        array = group.create_array(name, shape=part, chunks=chunks, dtype="u1")
        array[...] = np.random.default_rng(n).integers(0, 255, part).astype("u1")
        scales.append(array[...])
    kinds = {"t": "time", "c": "channel"}
    axes = [{"name": a, "type": kinds.get(a, "space"), **({"unit": "nanometer"} if a in "zyx" else {})} for a in names]
    ones = [1.0] * (len(shape) - 3)
    datasets = [
        {"path": "full", "coordinateTransformations": [{"type": "scale", "scale": [*ones, 30.0, 8.0, 8.0]}]},
        {
            "path": "deep/half",
            "coordinateTransformations": [
                {"type": "scale", "scale": [*ones, 60.0, 16.0, 16.0]},
                {"type": "translation", "translation": [*[0.0] * (len(shape) - 3), 15.0, 4.0, 4.0]},
            ],
        },
    ]
    image = {"axes": axes, "datasets": datasets, "name": "em"}
    if version == "0.5":
        group.attrs.update({"ome": {"version": "0.5", "multiscales": [image], "omero": {"id": 3}}, "lab": "x"})
    else:
        group.attrs.update({"multiscales": [{**image, "version": version}], "omero": {"id": 3}, "lab": "x"})
    return scales


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_multiscale_group_is_an_instance_with_its_scales(tmp_path: Path, version: str):
    scales = ome(tmp_path / "s.zarr", version)
    with vzarr.create(str(tmp_path / "repo")) as repo:
        handle = repo.adopt("em", str(tmp_path / "s.zarr"))
        assert (handle.config["voxelsize"], handle.config["blocksize"]) == ("8.0,8.0,30.0", "8,4,4")
        for n, expected in enumerate(scales):
            assert np.array_equal(repo.root.zarr[f"em/{n}"][...], expected)
        attributes = repo.root.attributes("em")
        assert attributes["lab"] == "x"
        assert "omero" in (attributes["ome"] if version == "0.5" else attributes)
        image = Image.from_zarr(repo.root.zarr["em"])
        steps = image.ome_attributes.multiscales[0].datasets[1].coordinateTransformations
        assert image.ome_attributes.multiscales[0].datasets[1].path == "1"
        assert (list(steps[0].scale), list(steps[1].translation)) == ([60.0, 16.0, 16.0], [15.0, 4.0, 4.0])


def test_leading_axes_of_one_are_left_out(tmp_path: Path):
    scales = ome(tmp_path / "s.zarr", "0.4", shape=(1, 1, *SHAPE), names="tczyx")
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.adopt("em", str(tmp_path / "s.zarr"))
        for n, expected in enumerate(scales):
            assert np.array_equal(repo.root.zarr[f"em/{n}"][...], expected[0, 0])
        repo.root.write("em/0", (0, 0, 0), np.full((4, 4, 8), 3, "u1"))
        scales[0][0, 0, :4, :4, :8] = 3
        assert np.array_equal(repo.root.commit().zarr["em/0"][...], scales[0][0, 0])


def test_scales_without_metadata_go_by_their_names(tmp_path: Path):
    group = zarr.create_group(tmp_path / "s")
    for n in range(3):
        group.create_array(f"s{n}", shape=(8 >> n,) * 3, chunks=(2, 2, 2), dtype="u1")[...] = n + 1
    group.create_array("s4", shape=(1,), dtype="u1")
    volume = open_volume(str(tmp_path / "s"))
    assert [s.locator["path"] for s in volume.scales] == ["s0", "s1", "s2"]
    assert open_array(volume.scales[1].locator).fetch((1, 1, 1)) is not None


def test_an_array_deep_in_a_hierarchy_is_named_by_its_path(tmp_path: Path):
    array = zarr.create_group(tmp_path / "s").create_array("a/b/c", shape=(8, 8, 8), chunks=(4, 4, 4), dtype="u1")
    array[...] = 3
    with pytest.warns(ZarrUserWarning, match="Consolidated"):
        zarr.consolidate_metadata(tmp_path / "s")
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.adopt("em", str(tmp_path / "s" / "a" / "b" / "c"))
        assert (repo.root.zarr["em/0"][...] == 3).all()


@pytest.mark.parametrize("dtype", ["<U4", "M8[ns]", "S3", [("a", "<i2")]])
@pytest.mark.filterwarnings("ignore:The data type")
def test_what_is_no_number_is_refused(tmp_path: Path, dtype: Any):
    zarr.create_array(tmp_path / "s", shape=(4,), chunks=(2,), dtype=np.dtype(dtype), zarr_format=2)
    with pytest.raises(UnsupportedError, match="not adopted"):
        open_volume(str(tmp_path / "s"))


def test_damaged_metadata_name_the_source(tmp_path: Path):
    ome(tmp_path / "s", "0.5")
    group = zarr.open_group(tmp_path / "s")
    group.attrs["ome"] = {"multiscales": [{"axes": ["z"], "datasets": [{}]}]}
    with pytest.raises(InvalidInputError, match=r"/s: .*damaged"):
        open_volume(str(tmp_path / "s"))
    group.attrs["ome"] = {"multiscales": [{"axes": ["z"], "datasets": [{"path": "../other"}]}]}
    with pytest.raises(InvalidInputError, match="leads out"):
        open_volume(str(tmp_path / "s"))
    (tmp_path / "s" / "zarr.json").write_text("{}")
    with pytest.raises(StorageError, match="no Zarr metadata"):
        open_volume(str(tmp_path / "s"))


def test_attributes_may_change_and_the_shape_may_not(tmp_path: Path):
    array = zarr.create_array(tmp_path / "s", shape=(8, 8), chunks=(4, 4), dtype="u1")
    found = zarrsource.open_volume(LocalFiles(tmp_path / "s")).scales[0]
    before = found.metadata()
    array.attrs["note"] = "seen"
    assert found.metadata() == before
    array.resize((8, 9))
    assert found.metadata() != before
