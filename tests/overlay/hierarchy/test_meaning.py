"""Metadata as others word them: an edit by zarr, which words them its way, keeps the array and all its chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tensorstore
import zarr

import vzarr
from vzarr.overlay.hierarchy.meaning import same_meaning

DATA = np.arange(1, 9, dtype="f4")
GRID = {"name": "regular", "configuration": {"chunk_shape": [4]}}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
V3: dict[str, Any] = {
    "zarr_format": 3, "node_type": "array", "shape": [8], "data_type": "float32", "chunk_grid": GRID,
    "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [BYTES],
}  # fmt: skip
V2: dict[str, Any] = {
    "zarr_format": 2, "shape": [8], "chunks": [4], "dtype": "<f4", "fill_value": 0, "order": "C", "filters": None,
    "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
}  # fmt: skip
SHARDS = {"name": "sharding_indexed", "configuration": {"chunk_shape": [2], "codecs": [BYTES]}}


def by_hand(folder: Path) -> None:
    (folder / "c").mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps(V3))
    for n in (0, 1):
        (folder / "c" / str(n)).write_bytes(DATA[4 * n : 4 * n + 4].tobytes())


def by_hand_in_zarr_2(folder: Path) -> None:
    folder.mkdir()
    (folder / ".zarray").write_text(json.dumps(V2))
    for n in (0, 1):
        blosc = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=1)
        (folder / str(n)).write_bytes(blosc.encode(DATA[4 * n : 4 * n + 4]))


def by_tensorstore(folder: Path) -> None:
    metadata = {"shape": [8], "data_type": "float32", "chunk_grid": GRID, "codecs": [SHARDS]}
    where = {"driver": "file", "path": f"{folder}/"}
    array = tensorstore.open({"driver": "zarr3", "kvstore": where, "metadata": metadata, "create": True}).result()
    array.write(DATA).result()


@pytest.mark.parametrize("write", [by_hand, by_hand_in_zarr_2, by_tensorstore])
def test_an_edit_by_zarr_keeps_what_others_wrote(file_repo: vzarr.Repo, write: Any):
    root, zarr_format = file_repo.root, 2 if write is by_hand_in_zarr_2 else 3
    if zarr_format == 2:
        root.store.delete_sync("zarr.json")
        zarr.open_group(root.store, mode="a", zarr_format=2)
    write(Path(file_repo.objects.path(f"nodes/{root.uuid}/zarr/a")))
    child = root.commit().newversion()
    array = zarr.open_array(child.store, path="a", mode="r+", zarr_format=zarr_format)
    array.attrs["said"] = 1
    assert array[:].tolist() == DATA.tolist()
    array.resize((10,))
    assert child.zarr["a"][:].tolist() == [*DATA.tolist(), 0, 0]
    assert child.owners("a", [(0,), (1,)]) == [root.uuid] * 2


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"fill_value": 0.0}, True),
        ({"attributes": {"a": 1}, "shape": [80], "dimension_names": ["x"]}, True),
        ({"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}}, True),
        ({"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}]}, False),
        ({"fill_value": 1}, False),
        ({"data_type": "int32"}, False),
        ({"data_type": "nonsense"}, False),
        ({"chunk_key_encoding": {"name": "v2"}}, False),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}}}, False),
        ({"codecs": [BYTES, {"name": "zstd", "configuration": {"level": 0, "checksum": False}}]}, False),
    ],
)
def test_what_means_the_same(change: dict[str, Any], same: bool):
    docs = [{"zarr.json": json.dumps(doc).encode()} for doc in (V3, V3 | change)]
    assert same_meaning(*docs) == same
    assert same_meaning(*docs[::-1]) == same


def test_formats_never_mean_the_same():
    assert not same_meaning({"zarr.json": json.dumps(V3).encode()}, {".zarray": json.dumps(V2).encode()})
