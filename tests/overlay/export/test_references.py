"""References: fsspec alone reads a version in place, from one JSON document or a folder of parquet."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from fsspec.implementations.reference import ReferenceFileSystem

import vzarr
from tests.overlay.export.test_standalone import CHUNK, edited
from vzarr.errors import AlreadyExistsError, ConflictError, InvalidInputError, UnsupportedError
from vzarr.overlay.export import references as module
from vzarr.overlay.export.references import export_references, references
from vzarr.overlay.hierarchy.zarr2 import as_v2


@pytest.mark.parametrize("seal", [True, False])
def test_fsspec_alone_reads_the_references(file_repo: vzarr.Repo, tmp_path: Path, seal: bool):
    version = edited(file_repo)
    if seal:
        version.commit()
    count = export_references(version.view, tmp_path / "refs.json")
    refs = json.loads((tmp_path / "refs.json").read_text())["refs"]
    assert set(refs) == set(version.store.keys())
    assert count == len(refs)
    mapper = fsspec.filesystem("reference", fo=str(tmp_path / "refs.json"), remote_protocol="file").get_mapper()
    assert {key: mapper[key] for key in refs} == {key: version.store.read(key)[0] for key in refs}
    storage = {"fo": str(tmp_path / "refs.json"), "remote_protocol": "file", "asynchronous": True}
    group = zarr.open_group("reference://", storage_options=storage, mode="r")
    assert np.array_equal(group["image/0"][:], version.zarr["image/0"][:])


def by_parquet(folder: Path) -> zarr.Group:
    files = ReferenceFileSystem(str(folder), remote_protocol="file", asynchronous=True)
    return zarr.open_group(zarr.storage.FsspecStore(files), mode="r", zarr_format=2)


@pytest.mark.filterwarnings("ignore:The 'fastparquet' engine")  # fsspec's default
@pytest.mark.parametrize("seal", [True, False])
def test_so_it_does_those_in_parquet(
    file_repo: vzarr.Repo, tmp_path: Path, seal: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "RECORD_SIZE", 5)
    version = edited(file_repo)
    if seal:
        version.commit()
    export_references(version.view, tmp_path / "refs.parq")
    group = by_parquet(tmp_path / "refs.parq")
    assert np.array_equal(group["image/0"][:], version.zarr["image/0"][:])
    assert np.array_equal(group["old"][:], np.full((5, 5), 3))
    assert group["image/0"].attrs["_ARRAY_DIMENSIONS"] == ["z", "y", "x"]
    assert group["image/0"].attrs["vzarr_origin"] == [-4, 0, 0]
    with pytest.raises(AlreadyExistsError):
        export_references(version.view, tmp_path / "refs.parq")


CODECS = [
    {"compressors": zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")},
    {"compressors": zarr.codecs.BloscCodec(cname="zstd", shuffle="noshuffle")},
    {"compressors": zarr.codecs.GzipCodec(level=1)},
    {"compressors": zarr.codecs.ZstdCodec(level=3, checksum=True)},
    {"compressors": None},
    {"compressors": None, "serializer": zarr.codecs.BytesCodec(endian="big")},
    {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))], "compressors": zarr.codecs.ZstdCodec()},
]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "f4", "c8", "bool", "M8[s]"])
@pytest.mark.parametrize("codecs", CODECS, ids=[str(i) for i in range(len(CODECS))])
def test_zarr_2_reads_the_bytes_of_zarr_3(dtype: str, codecs: dict[str, object], tmp_path: Path):
    values = np.arange(35).reshape(5, 7).astype(dtype)
    array = zarr.create_array(tmp_path / "a", shape=(5, 7), chunks=(2, 3), dtype=dtype, zarr_format=3, **codecs)
    array[:] = values
    for name, doc in as_v2({"zarr.json": (tmp_path / "a/zarr.json").read_bytes()}).items():
        (tmp_path / "a" / name).write_text(json.dumps(doc))
    (tmp_path / "a/zarr.json").unlink()
    for chunk in (tmp_path / "a/c").glob("*/*"):
        chunk.rename(tmp_path / "a" / f"{chunk.parent.name}.{chunk.name}")
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r", zarr_format=2)[:], values)


@pytest.mark.parametrize(
    "options", [{"shards": (4, 4)}, {"compressors": [zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()]}]
)
def test_what_zarr_2_cannot_say_is_refused_by_name(file_repo: vzarr.Repo, tmp_path: Path, options: dict[str, object]):
    file_repo.root.zarr.create_array("a/b", shape=(8, 8), chunks=(2, 2), dtype="u1", **options)
    with pytest.raises(UnsupportedError, match="'a/b'"):
        export_references(file_repo.root.view, tmp_path / "refs.parq")
    assert not (tmp_path / "refs.parq").exists()
    export_references(file_repo.root.view, tmp_path / "refs.json")


def test_conflicts_are_refused(file_repo: vzarr.Repo, tmp_path: Path):
    file_repo.root.create_array("a", dtype="u1", chunks=CHUNK)
    file_repo.root.commit()
    for value, branch in enumerate(("x", "y"), 1):
        version = file_repo.root.branch(branch)
        version.write_chunks("a", {(0, 0, 0): np.full(CHUNK, value, "u1")})
        version.commit()
    merged = file_repo.merge(["x", "y"], keep_conflicts=True)
    for name in ("refs.json", "refs.parq"):
        with pytest.raises(ConflictError):
            export_references(merged.view, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_references_need_a_place_that_others_can_read(tmp_path: Path):
    with vzarr.create("memory://standalone-refs") as repo, pytest.raises(UnsupportedError):
        references(repo.root.view)


def test_the_name_tells_the_form(file_repo: vzarr.Repo, tmp_path: Path):
    with pytest.raises(InvalidInputError):
        export_references(file_repo.root.view, tmp_path / "refs.txt")
