"""Precomputed volumes in place, against TensorStore and CloudVolume: encodings, shards, offsets, channels; damage."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import compressed_segmentation
import numpy as np
import pytest
import tensorstore
from cloudvolume import CloudVolume
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vzarr
from vzarr.errors import InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.adopt import adopt_volume
from vzarr.overlay.sources import precomputed
from vzarr.overlay.sources.files import Answer, LocalFiles
from vzarr.overlay.sources.formats import open_volume
from vzarr.overlay.sources.precomputedchunks import decode_chunk, decode_segmentation
from vzarr.overlay.sources.precomputedinfo import Scale
from vzarr.overlay.sources.precomputedshards import morton, murmur3, unmorton

SHAPE, CHUNKS, OFFSET = (20, 13, 9), (8, 6, 4), (5, -3, 7)


def voxels(dtype: str, channels: int = 1) -> np.ndarray:
    random = np.random.default_rng(3)
    found = random.integers(0, 5, (channels, *SHAPE)).astype(dtype)
    if np.dtype(dtype).itemsize > 2 and np.dtype(dtype).kind == "u":
        found *= np.array(0x12345678, dtype)
    return found


def sharding(**more: Any) -> dict[str, Any]:
    bits = {"preshift_bits": 1, "minishard_bits": 2, "shard_bits": 3}
    return {"@type": "neuroglancer_uint64_sharded_v1", "hash": "identity", **bits, **more}


def written(folder: Path, voxels: np.ndarray, encoding: str, **scale: Any) -> None:
    """A volume of one scale, by TensorStore."""
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "multiscale_metadata": {
            "type": "segmentation" if encoding == "compressed_segmentation" else "image",
            "data_type": voxels.dtype.name,
            "num_channels": voxels.shape[0],
        },
        "scale_metadata": {
            "key": "s",
            "size": SHAPE[::-1],
            "voxel_offset": OFFSET[::-1],
            "chunk_size": CHUNKS[::-1],
            "resolution": [8, 8, 40],
            "encoding": encoding,
            **scale,
        },
    }
    tensorstore.open(spec, create=True).result()[...] = np.moveaxis(voxels, 0, -1).transpose(2, 1, 0, 3)


def reader(folder: Path) -> Any:
    files = LocalFiles(folder)
    assert precomputed.detect(files)
    found = precomputed.open_volume(files).scales[0]
    return precomputed.open_array(files, found.locator)


def shown(found: Any) -> np.ndarray:
    layout = found.layout
    whole = np.full(layout.shape, layout.fill_value, layout.dtype)
    for coord in found.coords():
        part = found.read(coord)
        lo = [c * n for c, n in zip(coord, layout.chunks, strict=True)]
        whole[tuple(slice(a, a + n) for a, n in zip(lo, part.shape, strict=True))] = part
    return whole


BLOCK = {"compressed_segmentation_block_size": [4, 4, 8]}
KINDS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "raw u1": ("raw", "uint8", 1, {}),
    "raw u2 x 3": ("raw", "uint16", 3, {}),
    "raw f4": ("raw", "float32", 1, {}),
    "raw i4": ("raw", "int32", 1, {}),
    "cseg u4": ("compressed_segmentation", "uint32", 1, BLOCK),
    "cseg u8": ("compressed_segmentation", "uint64", 1, BLOCK),
    "cseg u8 x 2": ("compressed_segmentation", "uint64", 2, BLOCK),
    "png u1": ("png", "uint8", 1, {}),
    "png u1 x 4": ("png", "uint8", 4, {}),
    "png u2": ("png", "uint16", 1, {}),
    "sharded": ("raw", "uint16", 1, {"sharding": sharding()}),
    "sharded, hashed": ("raw", "uint64", 1, {"sharding": sharding(hash="murmurhash3_x86_128")}),
    "sharded, gzip": (
        "compressed_segmentation",
        "uint64",
        1,
        {**BLOCK, "sharding": sharding(minishard_index_encoding="gzip", data_encoding="gzip")},
    ),
    "one shard": ("raw", "uint8", 1, {"sharding": sharding(preshift_bits=0, minishard_bits=0, shard_bits=0)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_tensorstore_writes(tmp_path: Path, kind: str):
    encoding, dtype, channels, scale = KINDS[kind]
    wanted = voxels(dtype, channels)
    wanted[:, :8, :6, :4] = 0
    written(tmp_path, wanted, encoding, **scale)
    found = reader(tmp_path)
    many = channels > 1
    assert found.layout.offset == ((0,) if many else ()) + OFFSET
    assert found.layout.dimension_names == (("c",) if many else ()) + ("z", "y", "x")
    assert np.array_equal(shown(found), wanted if many else wanted[0])
    # TensorStore stores no chunk of nothing but 0.
    assert found.read(((0,) if many else ()) + (0, 0, 0)) is None
    assert all((tmp_path / found.key(coord)).is_file() for coord in found.coords())


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(tmp_path: Path, channels: int):
    ramp = np.arange(SHAPE[0], dtype="u1")[None, :, None, None] * np.uint8(10)
    wanted = np.broadcast_to(ramp, (channels, *SHAPE)).copy()
    written(tmp_path, wanted, "jpeg")
    found = shown(reader(tmp_path)).reshape(wanted.shape).astype(int)
    assert np.abs(found - wanted).max() < 12


def test_the_volume(tmp_path: Path):
    written(tmp_path, voxels("uint64"), "compressed_segmentation", **BLOCK)
    info = json.loads((tmp_path / "info").read_bytes())
    coarse = {**info["scales"][0], "key": "t", "resolution": [16, 16, 40], "voxel_offset": [4, 0, 5]}
    info = {**info, "mesh": "mesh", "scales": [*info["scales"], coarse]}
    (tmp_path / "info").write_bytes(gzip.compress(json.dumps(info).encode()))
    volume = precomputed.open_volume(LocalFiles(tmp_path))
    assert volume.labels is True
    assert volume.voxel_sizes == [(40, 8, 8), (40, 16, 16)]
    assert volume.units == ("nanometer",) * 3
    assert volume.attributes == {"mesh": "mesh"}
    # Voxel 4 of the coarse scale begins at 64 nm: its centre is 72, that of the finest voxel 0 is 4.
    assert volume.translations == [(200, -24, 56), (200, 4, 68)]
    again = json.loads(volume.scales[1].metadata())
    assert (again["key"], again["data_type"]) == ("t", "uint64")


@pytest.mark.parametrize("compress", [None, "gzip"])
@pytest.mark.parametrize(("encoding", "dtype"), [("raw", "uint16"), ("compressed_segmentation", "uint64")])
def test_what_cloudvolume_writes(tmp_path: Path, encoding: str, dtype: str, compress: str | None):
    info = CloudVolume.create_new_info(
        num_channels=1,
        layer_type="segmentation" if dtype == "uint64" else "image",
        data_type=dtype,
        encoding=encoding,
        resolution=[8, 8, 40],
        voxel_offset=[8, 16, 0],
        chunk_size=CHUNKS[::-1],
        volume_size=SHAPE[::-1],
    )
    volume = CloudVolume(f"file://{tmp_path}", info=info, compress=compress or False, progress=False)
    volume.commit_info()
    wanted = voxels(dtype)[0]
    volume[...] = wanted.T[..., None]
    found = reader(tmp_path)
    assert any(p.suffix == ".gz" for p in (tmp_path / found.folder).iterdir()) == (compress == "gzip")
    assert np.array_equal(shown(found), wanted)


def test_a_compression_that_is_not_read_is_not_absent(tmp_path: Path):
    written(tmp_path, voxels("uint8"), "raw")
    found = reader(tmp_path)
    file = tmp_path / found.key((0, 0, 0))
    file.rename(f"{file}.br")
    with pytest.raises(StorageError, match="only gzip"):
        found.read((0, 0, 0))
    with pytest.raises(StorageError, match="only gzip"):
        list(found.coords())


def test_voxels_that_look_like_gzip(tmp_path: Path):
    wanted = voxels("uint8")
    wanted[0, 0, 0, :2] = 0x1F, 0x8B
    written(tmp_path, wanted, "raw")
    assert np.array_equal(shown(reader(tmp_path)), wanted[0])


# -- shards


class CountedFiles(LocalFiles):
    """Files that count what is read and cannot list, as over HTTP."""

    reads = 0

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Answer | None:
        self.reads += 1
        return super().read(key, offset, length)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        raise UnsupportedError("no lists here")


def test_a_chunk_in_a_shard_costs_three_ranged_reads_then_one(tmp_path: Path):
    written(tmp_path, voxels("uint16"), "raw", sharding=sharding(preshift_bits=9))
    files = CountedFiles(tmp_path)
    found = precomputed.open_volume(files).scales[0]
    files.reads = 0
    assert found.read((0, 0, 0)) is not None
    assert files.reads == 3
    assert found.read((1, 1, 1)) is not None
    assert files.reads == 4


@pytest.mark.parametrize("scale", [{}, {"sharding": sharding()}], ids=["files", "shards"])
def test_without_lists(tmp_path: Path, scale: dict[str, Any]):
    wanted = voxels("uint8")
    wanted[:, :8, :6, :4] = 0
    written(tmp_path, wanted, "raw", **scale)
    found = precomputed.open_volume(CountedFiles(tmp_path)).scales[0]
    assert np.array_equal(shown(found), wanted[0])


def test_a_shard_that_was_replaced_is_read_anew(tmp_path: Path):
    one = sharding(preshift_bits=0, minishard_bits=0, shard_bits=0, data_encoding="gzip")
    written(tmp_path, voxels("uint16"), "raw", sharding=one)
    found = reader(tmp_path)
    found.read((0, 0, 0))
    other = voxels("uint16") * 7
    other[:, :, 6:] = 0
    (tmp_path / "s/0.shard").unlink()
    written(tmp_path / "other", other, "raw", sharding=one)
    (tmp_path / "other/s/0.shard").rename(tmp_path / "s/0.shard")
    assert np.array_equal(found.read((0, 0, 0)), other[0, :8, :6, :4])


def test_old_shards_are_not_absent(tmp_path: Path):
    written(tmp_path, voxels("uint8"), "raw", sharding=sharding(minishard_bits=0, shard_bits=0))
    shard = tmp_path / "s/0.shard"
    shard.rename(tmp_path / "s/0.index")
    with pytest.raises(StorageError, match="older kind"):
        reader(tmp_path).read((0, 0, 0))


def test_hash_and_code():
    # Of MurmurHash3_x86_128 by its author's implementation.
    assert murmur3(12345) == 2103515819662501136
    # z = 1 of 2, y = 10 of 4, x = 11 of 4 in binary: bits 0 of x, y, z, then bits 1 of x and y.
    assert morton((1, 2, 3), (2, 4, 4)) == 0b1_1_1_0_1
    grid = (3, 1, 6)
    codes = [morton((z, 0, x), grid) for z in range(3) for x in range(6)]
    assert sorted(codes) == sorted(set(codes))
    assert max(codes) < 1 << 5
    assert [unmorton(c, grid) for c in codes] == [(z, 0, x) for z in range(3) for x in range(6)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:10],
        lambda b: b[:40],
        lambda b: b[:-3],
        lambda b: struct.pack("<QQ", 1 << 63, (1 << 64) - 1) + b[16:],
        lambda b: struct.pack("<QQ", 90, 3) + b[16:],
        lambda b: struct.pack("<QQ", 0, 24) + struct.pack("<QQQ", 0, 1 << 63, 1 << 63) + b[40:],
        lambda b: struct.pack("<QQ", 0, 24) + struct.pack("<QQQ", 0, 0, 1 << 40) + b[40:],
        lambda b: struct.pack("<QQ", 0, 25) + b[16:],
        lambda b: struct.pack("<QQ", 0, 48) + struct.pack("<QQQQQQ", 0, 0, 0, 0, 1, 1) + b[64:],
    ],
)
def test_a_damaged_shard_is_named(tmp_path: Path, damage: Any):
    written(tmp_path, voxels("uint8"), "raw", sharding=sharding(preshift_bits=0, minishard_bits=0, shard_bits=0))
    shard = tmp_path / "s/0.shard"
    shard.write_bytes(damage(shard.read_bytes()))
    found = reader(tmp_path)
    with pytest.raises(StorageError, match=r"0\.shard"):
        [found.read(coord) for coord in np.ndindex(3, 3, 3)]


# -- chunks


@settings(max_examples=40)
@given(st.data())
def test_compressed_segmentation_as_its_library_writes_it(data: st.DataObject):
    size, block = (data.draw(st.tuples(*[st.integers(1, n)] * 3)) for n in (12, 9))
    dtype = np.dtype(data.draw(st.sampled_from(["uint32", "uint64"])))
    many = data.draw(st.sampled_from([1, 2, 3, 17, 300, 1 << 20]))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    wanted = random.integers(0, many, size).astype(dtype) * dtype.type(0x1000003 if dtype.itemsize == 4 else 1 << 41)
    packed = compressed_segmentation.compress(wanted.T, block[::-1], order="F")
    assert np.array_equal(decode_segmentation(packed, size, 1, dtype, block)[0], wanted)


@contextmanager
def refused() -> Iterator[None]:
    """Whatever is read from damaged bytes, either is some voxels or a `StorageError`."""
    try:
        yield
    except StorageError:
        return


@pytest.mark.parametrize("encoding", ["compressed_segmentation", "png", "jpeg", "raw"])
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_chunks(encoding: str, data: st.DataObject):
    size, dtype = (8, 8, 8), np.dtype("u4" if encoding == "compressed_segmentation" else "u1")
    wanted = np.random.default_rng(0).integers(0, 9, size).astype(dtype)
    if encoding == "compressed_segmentation":
        good = compressed_segmentation.compress(wanted.T, (4, 4, 4), order="F")
    elif encoding == "raw":
        good = gzip.compress(wanted.tobytes())
    else:
        held = BytesIO()
        Image.fromarray(wanted.reshape(64, 8)).save(held, encoding)
        good = held.getvalue()
    bad = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 4)) if bad else 0):
        bad[data.draw(st.integers(0, min(len(bad), 80) - 1))] = data.draw(st.integers(0, 255))
    with refused():
        found = decode_chunk(bytes(bad), encoding, size, 1, dtype, (4, 4, 4))
        assert found.shape == (1, *size)


def test_bombs():
    zeros = gzip.compress(bytes(1 << 24))
    for encoding in ("raw", "compressed_segmentation", "png", "jpeg"):
        with pytest.raises(StorageError):
            decode_chunk(zeros, encoding, (8, 8, 8), 1, np.dtype("u4"), (8, 8, 8))
    held = BytesIO()
    Image.new("L", (20000, 20000)).save(held, "png")
    with pytest.raises(StorageError, match="image"):
        decode_chunk(held.getvalue(), "png", (8, 8, 8), 1, np.dtype("u1"))


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f\x8b", b"abcd" * 9, bytes(513)])
@pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation", "png", "jpeg"])
def test_what_is_no_chunk_is_named(tmp_path: Path, encoding: str, data: bytes):
    dtype = "uint32" if encoding == "compressed_segmentation" else "uint8"
    written(tmp_path, voxels(dtype), encoding, **(BLOCK if dtype == "uint32" else {}))
    found = reader(tmp_path)
    (tmp_path / found.key((0, 0, 0))).write_bytes(data)
    with pytest.raises(StorageError, match="7-11_-3-3_5-13"):
        found.read((0, 0, 0))


# -- info


def test_names():
    scale = Scale("s", SHAPE, CHUNKS, OFFSET, (1.0,) * 3, "raw", (), None)
    assert scale.name((2, 2, 2)) == "15-16_9-10_21-25"
    assert scale.name((0, 0, 0)) == "7-11_-3-3_5-13"
    for coord in np.ndindex(*scale.grid):
        assert scale.coord(scale.name(coord)) == coord
    for stray in ("", "info", "7-11", "7-11_-3-3_5-12", "8-12_-3-3_5-13", "a-b_c-d_e-f", "7-11_-3-3_5-13.tmp", "-_-_-"):
        assert scale.coord(stray) is None


@pytest.mark.parametrize(
    ("where", "change", "error"),
    [
        ("info", {"@type": "neuroglancer_skeletons"}, UnsupportedError),
        ("info", {"data_type": "complex64"}, UnsupportedError),
        ("info", {"num_channels": 0}, InvalidInputError),
        ("info", {"num_channels": "3"}, InvalidInputError),
        ("info", {"scales": []}, InvalidInputError),
        ("info", {"scales": [1]}, InvalidInputError),
        ("scale", {"key": "../elsewhere"}, UnsupportedError),
        ("scale", {"key": "/etc"}, UnsupportedError),
        ("scale", {"key": ""}, InvalidInputError),
        ("scale", {"encoding": "compresso"}, UnsupportedError),
        ("scale", {"encoding": "jpeg", "data_type": "uint16"}, None),
        ("scale", {"size": [1, 2]}, InvalidInputError),
        ("scale", {"size": [1, 2, -3]}, InvalidInputError),
        ("scale", {"size": [1, 2, 3.5]}, InvalidInputError),
        ("scale", {"voxel_offset": [1 << 70, 0, 0]}, InvalidInputError),
        ("scale", {"chunk_sizes": []}, InvalidInputError),
        ("scale", {"chunk_sizes": [[0, 1, 1]]}, InvalidInputError),
        ("scale", {"chunk_sizes": [[1 << 20, 1 << 20, 1]]}, UnsupportedError),
        ("scale", {"resolution": [0, 1, 1]}, InvalidInputError),
        ("scale", {"resolution": None}, InvalidInputError),
        ("scale", {"encoding": "compressed_segmentation"}, UnsupportedError),
        ("scale", {"sharding": 3}, InvalidInputError),
        ("scale", {"sharding": {"@type": "x"}}, UnsupportedError),
        ("scale", {"sharding": sharding(hash="crc")}, UnsupportedError),
        ("scale", {"sharding": sharding(shard_bits=-1)}, InvalidInputError),
        ("scale", {"sharding": sharding(minishard_bits=40)}, InvalidInputError),
        ("scale", {"sharding": sharding(data_encoding="brotli")}, UnsupportedError),
    ],
    ids=str,
)
def test_bad_info(tmp_path: Path, where: str, change: dict[str, Any], error: type[Exception] | None):
    written(tmp_path, voxels("uint8"), "raw")
    info = json.loads((tmp_path / "info").read_bytes())
    (info if where == "info" else info["scales"][0]).update(change)
    (tmp_path / "info").write_text(json.dumps(info))
    if error is None:
        precomputed.open_volume(LocalFiles(tmp_path))
        return
    with pytest.raises(error, match="info: "):
        precomputed.open_volume(LocalFiles(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x1f\x8b"])
def test_an_info_that_is_none(tmp_path: Path, text: str):
    (tmp_path / "info").write_text(text)
    assert not precomputed.detect(LocalFiles(tmp_path))
    with pytest.raises(InvalidInputError, match="info"):
        precomputed.open_volume(LocalFiles(tmp_path))


def test_a_volume_that_is_gone(tmp_path: Path):
    assert not precomputed.detect(LocalFiles(tmp_path))
    with pytest.raises(InvalidInputError, match="there is no"):
        precomputed.open_volume(LocalFiles(tmp_path))
    written(tmp_path, voxels("uint8"), "raw")
    found = reader(tmp_path)
    info = json.loads((tmp_path / "info").read_bytes())
    (tmp_path / "info").write_text(json.dumps({**info, "scales": [{**info["scales"][0], "key": "other"}]}))
    with pytest.raises(StorageError, match="no scale 's'"):
        found.metadata()
    (tmp_path / "info").unlink()
    with pytest.raises(StorageError, match="is gone"):
        precomputed.open_array(LocalFiles(tmp_path), found.locator)


# -- as the root of a repo


@pytest.mark.parametrize("kind", ["raw u1", "raw u2 x 3", "cseg u8", "sharded, hashed"])
def test_adopted_and_edited(tmp_path: Path, kind: str):
    encoding, dtype, channels, scale = KINDS[kind]
    wanted = voxels(dtype, channels)
    written(tmp_path / "source", wanted, encoding, **scale)
    lead = (0,) if channels > 1 else ()
    wanted = wanted if lead else wanted[0]
    lo = lead + OFFSET
    hi = tuple(a + n for a, n in zip(lo, wanted.shape, strict=True))
    with vzarr.create(str(tmp_path / "repo")) as repo:
        adopt_volume(repo.root, "em", open_volume(f"precomputed://{tmp_path}/source"))
        assert np.array_equal(repo.root.read("em/0", lo, hi), wanted)
        child = repo.root.commit().newversion()
        at = tuple(a + 2 for a in OFFSET)
        edit = np.full((channels,) * bool(lead) + (3, 3, 3), 77, dtype)
        child.write("em/0", lead + at, edit)
        changed = wanted.copy()
        changed[..., 2:5, 2:5, 2:5] = 77
        assert np.array_equal(child.commit().read("em/0", lo, hi), changed)
        assert np.array_equal(repo.root.read("em/0", lo, hi), wanted)
