"""Versions as N5: what TensorStore, z5py and our own reader see of any version, over `get` and written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import z5py
import zarr
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

import vzarr
from vzarr.cli import main
from vzarr.errors import AlreadyExistsError, InvalidInputError, UnsupportedError
from vzarr.overlay.export.shown.export import flatten_n5
from vzarr.overlay.export.shown.n5 import N5Array, N5View, same_compression
from vzarr.overlay.sources import n5
from vzarr.overlay.sources.files import LocalFiles

CHUNK = (4, 5, 6)
STRAYS = [
    *("", "0", "em", "em/s0", "em/s2/attributes.json", "em/s0/9/0/0", "em/s0/0/0", "em/s0/00/0/0", "em/s0/-1/0/0"),
    *("em/s0/0/0/0/0", "nosuch/attributes.json", "em/s0/c/0/0/0", "em/s0/zarr.json", "em/s00/0/0/0"),
]


def ome(path: str) -> dict[str, Any]:
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    steps = [
        [{"type": "scale", "scale": [4.0, 2.0, 2.0]}],
        [{"type": "scale", "scale": [4.0, 4.0, 4.0]}, {"type": "translation", "translation": [0.0, 1.0, 1.0]}],
    ]
    datasets = [{"path": str(n), "coordinateTransformations": s} for n, s in enumerate(steps)]
    return {"ome": {"version": "0.5", "multiscales": [{"name": path, "axes": axes, "datasets": datasets}]}}


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(5).integers(1, 60000, (9, 11, 13)).astype("u2")


@pytest.fixture
def version(file_repo: vzarr.Repo, voxels: np.ndarray) -> vzarr.Version:
    """A pyramid ``em``, edited twice; an array in shards; one that reaches below 0; one with a fill value."""
    root = file_repo.root
    em = root.zarr.create_group("em", attributes={**ome("em"), "note": "hello"})
    em.create_array("0", data=voxels // 2, chunks=CHUNK)
    em.create_array("1", data=voxels[:, ::2, ::2], chunks=CHUNK)
    root.zarr.create_array("sharded", data=voxels, chunks=CHUNK, shards=(8, 10, 12))
    root.zarr.create_array("filled", shape=(5, 5), chunks=(2, 2), dtype="i4", fill_value=-1)[:2, :3] = 7
    root.create_array("below", dtype="u2", chunks=CHUNK)
    child = root.commit().newversion()
    child.zarr["em/0"][...] = voxels
    child.write("below", (-3, 0, 0), voxels)
    return child


def by_tensorstore(folder: Path) -> np.ndarray:
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    return tensorstore.open(spec).result().read().result().T


@pytest.mark.parametrize("seal", [False, True])
def test_a_version_written_out(version: vzarr.Version, voxels: np.ndarray, tmp_path: Path, seal: bool):
    target = tmp_path / "out.n5"
    done = flatten_n5((version.commit() if seal else version).store, target)
    files = [p for p in target.rglob("*") if p.is_file()]
    assert (done.keys, done.linked) == (len(files), 0)
    wanted = {
        "em/s0": voxels,
        "em/s1": voxels[:, ::2, ::2],
        "sharded": voxels,
        "filled": version.zarr["filled"][...],
        "below": version.zarr["below"][...],
    }
    for path, expected in wanted.items():
        assert np.array_equal(by_tensorstore(target / path), expected), path
        assert np.array_equal(z5py.File(str(target), "r")[path][:], expected), path
    volume = n5.open_volume(LocalFiles(target / "em"))
    assert volume.voxel_sizes == [(4, 2, 2), (4, 4, 4)]
    assert volume.translations == [(0, 0, 0), (0, 1, 1)]
    assert volume.units == ("micrometer",) * 3
    assert volume.attributes == {"note": "hello"}
    assert json.loads((target / "attributes.json").read_bytes())["n5"] == "4.0.0"
    with pytest.raises(AlreadyExistsError):
        flatten_n5(version.store, target)


def test_from_the_command_line(
    version: vzarr.Version, voxels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "out.n5"
    assert main(["flatten", version.url, "master", str(target), "--format", "n5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["keys"] > 9
    assert np.array_equal(by_tensorstore(target / "em/s0"), voxels)


def test_objects_one_by_one(version: vzarr.Version, tmp_path: Path):
    flatten_n5(version.store, tmp_path / "out.n5")
    view = N5View.of(version.store)
    for file in (tmp_path / "out.n5").rglob("*"):
        if file.is_file():
            assert view.get(file.relative_to(tmp_path / "out.n5").as_posix()) == file.read_bytes()
    for stray in STRAYS:
        assert view.get(stray) is None, stray
    # The version's own names are there, too: a Zarr path may be all that somebody knows.
    assert view.get("em/0/0/0/0") == view.get("em/s0/0/0/0")


CHAINS = {
    "raw": None,
    "gzip": GzipCodec(level=3),
    "zstd": ZstdCodec(level=2),
    "blosc": BloscCodec(cname="lz4", clevel=3, shuffle="bitshuffle", typesize=2),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chunks_that_are_payloads_keep_their_bytes(
    file_repo: vzarr.Repo, voxels: np.ndarray, tmp_path: Path, name: str
):
    compressors = [CHAINS[name]] if CHAINS[name] else None
    big = BytesCodec(endian="big")
    root = file_repo.root
    root.zarr.create_array("a", data=voxels, chunks=CHUNK, serializer=big, compressors=compressors)
    view = N5View.of(root.store)
    array = N5Array.of(view.array("a"))
    assert array.verbatim
    assert view.get("a/0/0/0").endswith(root.store.read("a/c/0/0/0")[0])
    flatten_n5(root.store, tmp_path / "a.n5")
    assert np.array_equal(by_tensorstore(tmp_path / "a.n5/a"), voxels)


def test_other_chains_are_not_taken_for_payloads():
    big = {"name": "bytes", "configuration": {"endian": "big"}}
    zstd = {"name": "zstd", "configuration": {"level": 1}}
    assert same_compression([big, zstd], 2).kind == "zstd"
    assert same_compression([{"name": "bytes"}, zstd], 1).kind == "zstd"
    for chain in ([], [zstd], [{"name": "bytes"}, zstd], [big, zstd, zstd], [big, {"name": "crc32c"}]):
        assert same_compression(chain, 2) is None


def test_what_n5_has_not(file_repo: vzarr.Repo, tmp_path: Path):
    file_repo.root.zarr.create_array("flags", shape=(3,), chunks=(2,), dtype="bool")
    with pytest.raises(UnsupportedError, match="bool"):
        flatten_n5(file_repo.root.store, tmp_path / "a.n5")
    assert not (tmp_path / "a.n5").exists()
    scalar = file_repo.root.commit().newversion()
    zarr.open_group(scalar.store).create_array("flags", shape=(), chunks=(), dtype="u1", overwrite=True)
    with pytest.raises(InvalidInputError):
        flatten_n5(scalar.store, tmp_path / "a.n5")
