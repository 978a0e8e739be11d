"""Shards: a few chunks of one are read without the others, and say what the whole says."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import ShardingCodec

import vzarr
from vzarr.errors import StorageError

DATA = np.random.default_rng(0).integers(0, 60000, (40, 33, 20)).astype("u2")
DATA[16:24] = 0
KINDS = {
    "zstd": {"compressors": zarr.codecs.ZstdCodec(level=1)},
    "blosc": {"compressors": zarr.codecs.BloscCodec()},
    "raw": {"compressors": None},
    "F order": {"filters": [zarr.codecs.TransposeCodec(order=(2, 1, 0))]},
}


def made(version: vzarr.Version, **options) -> None:
    version.zarr.create_array(
        "a", shape=DATA.shape, chunks=(8, 8, 4), shards=(32, 32, 16), dtype="u2", fill_value=0, **options
    )[...] = DATA


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, vzarr.Repo]:
    found = {}
    for name, options in KINDS.items():
        found[name] = vzarr.create(str(tmp_path_factory.mktemp("shards") / "repo"))
        made(found[name].root, **options)
        child = found[name].root.commit().newversion()
        child.write("a", (0, 0, 0), DATA[:9, :9, :9] // 2)
        child.delete_chunks("a", [(1, 1, 1)])
    return found


EXPECTED = DATA.copy()
EXPECTED[:9, :9, :9] //= 2
EXPECTED[32:, 32:, 16:] = 0


@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)))
def test_any_box_is_that_of_the_array(repos: dict[str, vzarr.Repo], data: st.DataObject, kind: str):
    lo = [data.draw(st.integers(-3, n + 2)) for n in DATA.shape]
    hi = [data.draw(st.integers(a, min(a + 12, n + 5))) for a, n in zip(lo, DATA.shape, strict=True)]
    for version, look in ((repos[kind].root, DATA), (repos[kind]["master"], EXPECTED)):
        padded = np.pad(look, [(3, 5)] * 3)
        box = tuple(slice(a + 3, b + 3) for a, b in zip(lo, hi, strict=True))
        assert np.array_equal(version.read("a", lo, hi), padded[box])


def test_one_chunk_costs_no_shard(file_repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    made(file_repo.root, compressors=None)
    version = file_repo.root.commit().newversion()
    version.read("a", (8, 8, 4), (16, 16, 8))  # from now on the owner pages are known
    read: list[int] = []
    objects = type(version.view.storage.objects)
    fetch, whole = objects.fetch, objects.read_into
    monkeypatch.setattr(objects, "fetch", lambda *a: (f := fetch(*a)) and (read.append(len(f[0])) or f))
    monkeypatch.setattr(objects, "read_into", lambda *a: (f := whole(*a)) and (read.append(len(f)) or f))
    assert np.array_equal(version.read("a", (8, 8, 4), (16, 16, 8)), DATA[8:16, 8:16, 4:8])
    assert sum(read) == 8 * 8 * 4 * 2 + (4 * 4 * 4 * 16 + 4)
    read.clear()
    version.read("a", (0, 0, 0), (32, 32, 16))
    assert sum(read) > 32 * 32 * 8


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
def test_a_chain_with_more_than_shards_is_read_whole(repo: vzarr.Repo):
    sharding = ShardingCodec(chunk_shape=(4, 8, 8), index_location="start")
    repo.root.zarr.create_array("begins", shape=DATA.shape, chunks=(16, 32, 32), dtype="u2", serializer=sharding,
                                compressors=None)[...] = DATA  # fmt: skip
    assert np.array_equal(repo.root.read("begins", (5, 5, 5), (9, 9, 9)), DATA[5:9, 5:9, 5:9])
    repo.root.zarr.create_array("more", shape=DATA.shape, chunks=(16, 32, 32), dtype="u2", serializer=sharding,
                                compressors=zarr.codecs.GzipCodec())[...] = DATA  # fmt: skip
    assert np.array_equal(repo.root.read("more", (5, 5, 5), (9, 9, 9)), DATA[5:9, 5:9, 5:9])


@pytest.mark.parametrize("size", [0, 10, 500, 2000, -3])
def test_a_damaged_shard_is_no_fill_value(file_repo: vzarr.Repo, size: int):
    made(file_repo.root)
    key = f"nodes/{file_repo.uuid}/zarr/a/c/0/0/0"
    data = file_repo.objects.get(key)
    file_repo.objects.put(key, data[:size])
    with pytest.raises(StorageError, match="damaged"):
        file_repo.root.read("a", (8, 8, 4), (16, 16, 8))
