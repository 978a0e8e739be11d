"""Chunk bytes are those that zarr writes and reads, through whichever chain of codecs."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis.extra import numpy as npst
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import MemoryStore

from vzarr.errors import StorageError
from vzarr.overlay.chunks.codec import FastCodec, codec_of
from vzarr.overlay.hierarchy.tree import ArrayEntry, ArrayId

CHAINS: dict[str, dict[str, Any]] = {
    "none": {"compressors": None},
    "zstd": {"compressors": ZstdCodec(level=1)},
    "zstd with checksum": {"compressors": ZstdCodec(level=1, checksum=True)},
    "gzip": {"compressors": GzipCodec(level=1)},
    "blosc lz4": {"compressors": BloscCodec(cname="lz4", shuffle="bitshuffle")},
    "blosc zstd": {"compressors": BloscCodec(cname="zstd", shuffle="shuffle")},
    "big endian": {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": None},
    "big endian zstd": {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": ZstdCodec()},
    "big endian blosc": {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": BloscCodec(cname="lz4")},
    "two compressors": {"compressors": [ZstdCodec(), GzipCodec()]},
    "transposed": {"filters": [TransposeCodec(order=(1, 0))]},
    "shards": {"shards": (8, 6), "compressors": ZstdCodec()},
    "v2": {"zarr_format": 2},
    "v2 fortran": {"zarr_format": 2, "order": "F", "compressors": None},
}
BIG = {"big endian", "big endian zstd", "big endian blosc"}
FAST = {"none", "zstd", "zstd with checksum", "gzip", "blosc lz4", "blosc zstd", *BIG}


def _array(chain: str, dtype: Any = "u2", fill: Any = 3) -> tuple[ArrayEntry, zarr.Array, dict[str, Any]]:
    held: dict[str, Any] = {}
    array = zarr.create_array(
        MemoryStore(held), shape=(8, 6), chunks=(4, 3), dtype=dtype, fill_value=fill, **CHAINS[chain]
    )
    return ArrayEntry({k: v.to_bytes() for k, v in held.items()}, ArrayId("x", "a")), array, held


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "f4", "bool", "c8"])
def test_bytes_are_exchanged_with_zarr(chain: str, dtype: str):
    entry, array, held = _array(chain, dtype, fill=0)
    codec = codec_of(entry)
    if chain in FAST and np.dtype(dtype).kind in "uif":
        assert isinstance(codec, FastCodec)
    assert codec.shape == entry.spec.chunks
    voxels = np.random.default_rng(0).integers(0, 2, (8, 6)).astype(dtype)
    voxels[0, 0] = 1
    array[...] = voxels
    part = voxels[: codec.shape[0], : codec.shape[1]]
    key = entry.spec.key((0, 0))
    assert np.array_equal(codec.decode(held[key].to_bytes()), part)
    changed = part[::-1].copy()
    held[key] = held[key].from_bytes(codec.encode(changed))
    assert np.array_equal(array[: codec.shape[0], : codec.shape[1]], changed)


@given(npst.arrays(npst.unsigned_integer_dtypes(endianness="<") | npst.floating_dtypes(endianness="<"), (4, 3)))
def test_any_values_survive(voxels: np.ndarray):
    for chain in ("zstd", "blosc lz4", "big endian zstd", "transposed"):
        codec = codec_of(_array(chain, voxels.dtype, fill=0)[0])
        found = codec.decode(codec.encode(voxels))
        assert found.dtype == voxels.dtype
        assert found.tobytes() == np.ascontiguousarray(voxels).tobytes()


@pytest.mark.parametrize("chain", sorted(FAST))
def test_decoding_into_scratch(chain: str):
    codec = codec_of(_array(chain)[0])
    scratch = np.zeros((4, 3), "u2")
    voxels = np.arange(12, dtype="u2").reshape(4, 3)
    assert codec.decode(codec.encode(voxels[:, ::-1]), scratch) is scratch
    assert np.array_equal(scratch, voxels[:, ::-1])


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("harm", ["empty", "cut", "noise", "longer"])
def test_damaged_chunks_are_errors(chain: str, harm: str):
    codec = codec_of(_array(chain)[0])
    data = codec.encode(np.arange(codec.shape[0] * codec.shape[1], dtype="u2").reshape(codec.shape))
    harmed = {"empty": b"", "cut": data[: len(data) // 2], "noise": b"\x7f" * len(data), "longer": data + data[:5]}[
        harm
    ]
    plain = chain in ("none", "big endian", "transposed", "v2 fortran")
    if harm == "noise" and plain:
        pytest.skip("without compression any bytes of the right number are a chunk")
    if harm == "longer" and not plain:
        pytest.skip("what follows a whole frame is the business of the compressor")
    with pytest.raises(StorageError, match="damaged"):
        codec.decode(harmed)


@pytest.mark.parametrize("chain", [*sorted(FAST), "v2", "two compressors"])
@pytest.mark.parametrize("count", [0, 1, 11, 13])
def test_a_sound_frame_of_another_size_is_no_chunk(chain: str, count: int):
    """A decompressor that fills only a part of the result would leave old memory in the rest."""
    codec = codec_of(_array(chain)[0])
    held: dict[str, Any] = {}
    other = zarr.create_array(
        MemoryStore(held), shape=(count,), chunks=(max(1, count),), dtype="u2", fill_value=3, **CHAINS[chain]
    )
    other[...] = 5
    keys = [k for k in held if not k.startswith((".z", "zarr"))]
    data = held[keys[0]].to_bytes() if keys else b""
    with pytest.raises(StorageError, match="damaged"):
        codec.decode(data, np.full((4, 3), 9, "u2"))


def test_frames_without_a_size_are_read():
    codec = codec_of(_array("zstd")[0])
    voxels = np.arange(12, dtype="u2").reshape(4, 3)
    # One frame by the stream interface of a compressor, which does not state the size; RFC 8878.
    frame = bytes.fromhex("28b52ffd0058") + (len(voxels.tobytes()) << 3 | 1).to_bytes(3, "little") + voxels.tobytes()
    assert np.array_equal(codec.decode(frame, np.zeros((4, 3), "u2")), voxels)


def test_fill_values():
    for fill in (0, 7, 65535):
        assert codec_of(_array("zstd", fill=fill)[0]).fill == fill
    assert np.isnan(codec_of(_array("zstd", "f4", fill=float("nan"))[0]).fill)
    assert codec_of(_array("v2", fill=None)[0]).fill == 0


@pytest.mark.parametrize("chain", ["gzip", "zstd"])
def test_a_chunk_that_would_fill_the_memory_is_refused(chain: str):
    """Whatever it claims, it is expanded to no more than a chunk; compared by the memory that was ever in use."""
    codec = codec_of(_array(chain)[0])
    bomb = gzip.compress(bytes(1 << 26)) if chain == "gzip" else numcodecs.Zstd().encode(bytes(1 << 26))
    tracemalloc.start()
    try:
        with pytest.raises(StorageError, match="damaged"):
            codec.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
