"""N5 in place, against TensorStore and z5py: both ways, every type, compression and header mode, cut blocks; damage."""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import z5py
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import vzarr
from vzarr.errors import InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.adopt import adopt_volume
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.sources import n5
from vzarr.overlay.sources.base import SourceArray
from vzarr.overlay.sources.files import LocalFiles
from vzarr.overlay.sources.formats import open_volume
from vzarr.overlay.sources.n5attributes import DTYPES
from vzarr.overlay.sources.n5blocks import DEFAULT, VARLENGTH, Compression
from vzarr.overlay.sources.n5write import write_attributes, write_dataset, write_multiscale

SHAPE, CHUNKS = (11, 9, 7), (4, 5, 6)
COMPRESSIONS: dict[str, dict[str, Any]] = {
    "raw": {},
    "gzip": {"level": 3},
    "zlib": {"level": 1, "useZlib": True},
    "bzip2": {"blockSize": 5},
    "xz": {"preset": 1},
    "zstd": {"level": 2},
    "blosc": {"cname": "zstd", "clevel": 3, "shuffle": 2, "blocksize": 0},
}


def voxels(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    random = np.random.default_rng(7)
    found = random.integers(0, 100, shape).astype(dtype)
    found[4:8, :5, :6] = 0
    return found


def compression(name: str) -> Compression:
    return Compression("gzip" if name == "zlib" else name, COMPRESSIONS[name])


def shown(found: Any) -> np.ndarray:
    """What a reader of Zarr makes of an array in place, or a `ChunkReader` chunk by chunk."""
    if isinstance(found, SourceArray):
        held = {name: default_buffer_prototype().buffer.from_bytes(doc) for name, doc in found.docs.items()}
        for coord in found.coords():
            data, size = found.fetch(coord)
            assert size == len(data)
            held["c/" + "/".join(map(str, coord))] = default_buffer_prototype().buffer.from_bytes(data)
        return zarr.open_array(MemoryStore(held), mode="r")[...]
    layout = found.layout
    whole = np.full(layout.shape, layout.fill_value, layout.dtype)
    for coord in found.coords():
        part = found.read(coord)
        lo = [c * n for c, n in zip(coord, layout.chunks, strict=True)]
        at = tuple(slice(a, a + n) for a, n in zip(lo, part.shape, strict=True))
        cut = tuple(slice(0, n) for n in whole[at].shape)
        whole[at] = part[cut]
    return whole


def opened(folder: Path) -> np.ndarray:
    volume = n5.open_volume(LocalFiles(folder))
    again = n5.open_array(LocalFiles(folder), volume.scales[0].locator)
    assert type(again) is type(volume.scales[0])
    return shown(again)


def by_tensorstore(folder: Path, **more: Any) -> Any:
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}, **more}
    return tensorstore.open(spec, open=True, create="metadata" in more).result()


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_tensorstore_writes(tmp_path: Path, name: str, dtype: str):
    wanted = voxels(dtype)
    packed = {"type": "gzip" if name == "zlib" else name, **COMPRESSIONS[name]}
    metadata = {"dimensions": SHAPE[::-1], "blockSize": CHUNKS[::-1], "dataType": dtype, "compression": packed}
    by_tensorstore(tmp_path, metadata=metadata)[...] = wanted.T
    assert n5.detect(LocalFiles(tmp_path))
    found = opened(tmp_path)
    assert found.dtype.name == dtype
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("mode", [DEFAULT, VARLENGTH])
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_tensorstore_and_z5_read(tmp_path: Path, name: str, mode: int, dtype: str):
    wanted = voxels(dtype)
    write_dataset(FileObjects(tmp_path), "", wanted, chunks=CHUNKS, compression=compression(name), mode=mode)
    assert np.array_equal(opened(tmp_path), wanted)
    if mode == DEFAULT:
        assert np.array_equal(by_tensorstore(tmp_path).read().result(), wanted.T)
    if name != "zlib" and mode == DEFAULT:
        write_dataset(FileObjects(tmp_path), "a", wanted, chunks=CHUNKS, compression=compression(name))
        assert np.array_equal(z5py.File(str(tmp_path), "r")["a"][:], wanted)


@pytest.mark.parametrize("name", ["raw", "gzip", "bzip2", "xz", "blosc", "zstd", "lz4"])
@pytest.mark.parametrize("dtype", ["uint8", "uint64", "float32"])
def test_what_z5_writes(tmp_path: Path, name: str, dtype: str):
    wanted = voxels(dtype)
    z5py.File(str(tmp_path / "a.n5"), "a").create_dataset("x", data=wanted, chunks=CHUNKS, compression=name)
    assert np.array_equal(opened(tmp_path / "a.n5/x"), wanted)


@pytest.mark.parametrize("name", ["raw", "gzip", "bzip2", "xz", "blosc", "zstd"])
def test_blocks_of_stated_length_and_z5(tmp_path: Path, name: str):
    """Header mode 1, which TensorStore refuses; z5 takes and gives its elements as one row, block by block."""
    wanted = voxels("uint16")
    objects = FileObjects(tmp_path)
    write_attributes(objects, "", {})
    write_dataset(objects, "ours", wanted, chunks=CHUNKS, compression=compression(name), mode=VARLENGTH)
    file = z5py.File(str(tmp_path), "a")
    theirs = file.create_dataset("theirs", shape=SHAPE, chunks=CHUNKS, dtype="uint16", compression=name)
    for coord in np.ndindex(3, 2, 2):
        block = wanted[tuple(slice(c * n, (c + 1) * n) for c, n in zip(coord, CHUNKS, strict=True))]
        if block.any():
            assert np.array_equal(file["ours"].read_chunk(coord), block.ravel())
        if block.shape == CHUNKS:
            theirs.write_chunk(coord, block.ravel(), True)
    found = opened(tmp_path / "theirs")
    assert np.array_equal(found[:8, :5, :6], wanted[:8, :5, :6])
    assert (tmp_path / "theirs/0/0/0").read_bytes()[:2] == b"\0\1"


def test_standard_payloads_are_not_decoded(tmp_path: Path):
    wanted = voxels("uint16", (8, 5, 6))
    write_dataset(FileObjects(tmp_path), "", wanted, chunks=CHUNKS, compression=compression("zstd"))
    found = n5.open_volume(LocalFiles(tmp_path)).scales[0]
    assert isinstance(found, SourceArray)
    payload, size = found.fetch((0, 0, 0))
    assert (tmp_path / "0/0/0").read_bytes()[16:] == payload
    assert size == len(payload)
    assert [c["name"] for c in json.loads(found.docs["zarr.json"])["codecs"]] == ["bytes", "zstd"]


@pytest.mark.parametrize("coord", [(0, 0, 0), (2, 1, 1)])
def test_ranges_are_ranges_of_the_chunk(tmp_path: Path, coord: tuple[int, ...]):
    write_dataset(FileObjects(tmp_path), "", voxels("uint16"), chunks=CHUNKS, compression=compression("gzip"))
    found = n5.open_volume(LocalFiles(tmp_path)).scales[0]
    whole, size = found.fetch(coord)
    for offset, length in ((0, 0), (3, 5), (-4, None), (size - 2, 9), (size + 5, 3), (-size - 9, 2)):
        start = max(0, size + offset) if offset < 0 else offset
        want = whole[start:] if length is None else whole[start : start + length]
        assert found.fetch(coord, offset, length) == (want, size)
    assert found.fetch((9, 9, 9)) is None
    assert found.fetch((1, 0, 0)) is None


@settings(max_examples=25)
@given(st.data())
def test_any_array_comes_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    ndim = data.draw(st.integers(1, 4))
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * ndim))
    chunks = data.draw(st.tuples(*[st.integers(1, 6)] * ndim))
    dtype = data.draw(st.sampled_from(sorted(DTYPES)))
    packed = compression(data.draw(st.sampled_from(sorted(COMPRESSIONS))))
    mode = data.draw(st.sampled_from([DEFAULT, VARLENGTH]))
    wanted = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, shape).astype(dtype)
    folder = tmp_path_factory.mktemp("n5")
    write_dataset(FileObjects(folder), "", wanted, chunks=chunks, compression=packed, mode=mode)
    assert np.array_equal(opened(folder), wanted)
    if mode == DEFAULT:
        assert np.array_equal(by_tensorstore(folder).read().result(), wanted.T)


# -- what attributes say


def test_a_pyramid_by_any_dialect(tmp_path: Path):
    scales = [voxels("uint8", (8, 8, 8)), voxels("uint8", (8, 4, 4))]
    sizes, shifts = [(40.0, 4.0, 8.0), (40.0, 8.0, 16.0)], [(0.0, 0.0, 0.0), (0.0, 2.0, 4.0)]
    write_multiscale(FileObjects(tmp_path), "em", scales, voxel_sizes=sizes, translations=shifts, chunks=(4, 4, 4))
    group = json.loads((tmp_path / "em/attributes.json").read_bytes())
    finer = json.loads((tmp_path / "em/s0/attributes.json").read_bytes())
    coarser = json.loads((tmp_path / "em/s1/attributes.json").read_bytes())

    def placed(drop_group: set[str], drop_scale: set[str], **more: Any):
        objects = FileObjects(tmp_path)
        write_attributes(objects, "em", {**{k: v for k, v in group.items() if k not in drop_group}, **more})
        for path, said in (("em/s0", finer), ("em/s1", coarser)):
            write_attributes(objects, path, {k: v for k, v in said.items() if k not in drop_scale})
        volume = n5.open_volume(LocalFiles(tmp_path / "em"))
        assert [np.array_equal(shown(a), b) for a, b in zip(volume.scales, scales, strict=True)] == [True, True]
        assert volume.axes == ("z", "y", "x")
        return volume.voxel_sizes, volume.translations, volume.units

    wanted = (sizes, shifts, ("nanometer",) * 3)
    cosem, viewer, root = {"multiscales"}, {"transform"}, {"resolution", "axes", "units"}
    assert placed(set(), set()) == wanted
    assert placed(cosem | root | {"downsamplingFactors"}, set()) == wanted  # COSEM per dataset; scales found by name
    assert placed(root | {"downsamplingFactors"}, {"transform", "downsamplingFactors", "pixelResolution"}) == wanted
    assert placed(cosem | root, viewer) == wanted  # n5-viewer
    assert placed(cosem, {"transform", "pixelResolution", "downsamplingFactors"}) == wanted  # neuroglancer
    nothing = {"transform", "pixelResolution", "downsamplingFactors"}
    assert placed(cosem | root, nothing) == ((), (), ())
    ome = {
        "axes": [{"name": a, "unit": "nanometer"} for a in "zyx"],
        "datasets": [
            {
                "path": f"s{i}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": sizes[i]},
                    {"type": "translation", "translation": shifts[i]},
                ],
            }
            for i in range(2)
        ],
    }
    assert placed(root, nothing, multiscales=[ome]) == wanted


def test_scales_of_which_only_the_finest_says_its_size(tmp_path: Path):
    for n in range(2):
        shape = (10 >> n, 8, 6)
        where = {"driver": "n5", "kvstore": f"file://{tmp_path}/em/s{n}/"}
        metadata = {"dataType": "uint8", "dimensions": shape[::-1], "blockSize": [6, 8, 5]}
        tensorstore.open({**where, "metadata": metadata}, create=True).result()
        attributes = tmp_path / "em" / f"s{n}" / "attributes.json"
        more = {"downsamplingFactors": [1, 1, 2]} if n else {"pixelResolution": {"unit": "nm", "dimensions": [4, 5, 6]}}
        attributes.write_text(json.dumps({**json.loads(attributes.read_text()), **more}))
    volume = n5.open_volume(LocalFiles(tmp_path / "em"))
    assert volume.voxel_sizes == [(6.0, 5.0, 4.0), (12.0, 5.0, 4.0)]
    assert volume.translations == [(0.0, 0.0, 0.0), (3.0, 0.0, 0.0)]
    assert volume.units == ("nanometer",) * 3


def test_other_attributes_are_kept_and_old_forms_are_read(tmp_path: Path):
    write_dataset(FileObjects(tmp_path), "", voxels("uint8"), chunks=CHUNKS, attributes={"maxId": 99, "note": "x"})
    said = json.loads((tmp_path / "attributes.json").read_bytes())
    old = {**said, "compressionType": "gzip"}
    old.pop("compression")
    (tmp_path / "attributes.json").write_text(json.dumps(old))
    volume = n5.open_volume(LocalFiles(tmp_path))
    assert volume.attributes == {"maxId": 99, "note": "x"}
    assert volume.labels is True
    assert np.array_equal(shown(volume.scales[0]), voxels("uint8"))
    (tmp_path / "attributes.json").write_text(json.dumps({**old, "compressionType": None, "compression": "gzip"}))
    assert np.array_equal(opened(tmp_path), voxels("uint8"))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"dimensions": [4, 4]}, InvalidInputError),
        ({"dimensions": [4, 4, -1]}, InvalidInputError),
        ({"dimensions": [4, 4, True]}, InvalidInputError),
        ({"dimensions": [4, 4, 1 << 63]}, InvalidInputError),
        ({"dimensions": "big"}, InvalidInputError),
        ({"blockSize": [0, 4, 4]}, InvalidInputError),
        ({"blockSize": [1 << 20, 1 << 20, 1 << 20]}, UnsupportedError),
        ({"dataType": "string"}, UnsupportedError),
        ({"dataType": 8}, UnsupportedError),
        ({"compression": {"type": "jpeg"}}, UnsupportedError),
        ({"compression": {"level": 1}}, InvalidInputError),
        ({"compression": {"type": "gzip", "level": "high"}}, InvalidInputError),
        ({"compression": {"type": "blosc", "clevel": 10, "cname": "lz4"}}, InvalidInputError),
        ({"compression": {"type": "zstd", "level": True}}, InvalidInputError),
        ({"compression": None}, InvalidInputError),
        ({"isLabelMultiset": True}, UnsupportedError),
        ({"n5": "5.0.0"}, UnsupportedError),
    ],
    ids=str,
)
def test_bad_attributes(tmp_path: Path, change: dict[str, Any], error: type[Exception]):
    write_dataset(FileObjects(tmp_path), "", voxels("uint8"), chunks=CHUNKS)
    said = json.loads((tmp_path / "attributes.json").read_bytes())
    (tmp_path / "attributes.json").write_text(json.dumps({**said, **change}))
    with pytest.raises(error, match=r"attributes\.json"):
        n5.open_volume(LocalFiles(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_attributes_that_are_none(tmp_path: Path, text: str):
    (tmp_path / "attributes.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"attributes\.json"):
        n5.open_volume(LocalFiles(tmp_path))


def test_what_is_not_there(tmp_path: Path):
    assert not n5.detect(LocalFiles(tmp_path))
    with pytest.raises(InvalidInputError, match="neither"):
        n5.open_volume(LocalFiles(tmp_path))
    write_dataset(FileObjects(tmp_path), "", voxels("uint8"), chunks=CHUNKS)
    found = n5.open_volume(LocalFiles(tmp_path)).scales[0]
    (tmp_path / "attributes.json").unlink()
    with pytest.raises(StorageError, match="is gone"):
        found.metadata()
    with pytest.raises(StorageError, match="is gone"):
        n5.open_array(LocalFiles(tmp_path), found.locator)


# -- damage

HUGE = (1 << 32) - 1


def header(*parts: int, mode: int = 0) -> bytes:
    return struct.pack(f">HH{len(parts)}I", mode, 3, *parts)


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b"", "cut short"),
        (lambda b: b[:3], "cut short"),
        (lambda b: b[:15], "cut short"),
        (lambda b: b"\0\0\0\2" + b[4:], "axes"),
        (lambda b: b"\0\0\xff\xff" + b[4:], "axes"),
        (lambda b: b"\0\2" + b[2:], "mode 2"),
        (lambda b: b"\0\7" + b[2:], "mode 7"),
        (lambda b: header(HUGE, HUGE, HUGE) + b[16:], "size"),
        (lambda b: header(0, 5, 4) + b[16:], "size"),
        (lambda b: header(6, 5, 4, 7, mode=1) + b[16:], "elements"),
        (lambda b: header(5, 5, 4) + b[16:], ""),
        (lambda b: header(5, 5, 4) + b[16:-7], ""),
        (lambda b: header(5, 5, 4), ""),
        (lambda b: header(5, 5, 4) + b"garbage" * 50, ""),
    ],
    ids=itertools.count(),
)
def test_a_damaged_block_is_named(tmp_path: Path, name: str, damage: Any, message: str):
    write_dataset(FileObjects(tmp_path), "", voxels("uint16"), chunks=CHUNKS, compression=compression(name))
    found = n5.open_volume(LocalFiles(tmp_path)).scales[0]
    block = tmp_path / "0/0/0"
    block.write_bytes(damage(block.read_bytes()))
    with pytest.raises(StorageError, match=f"0/0/0 .*{message}"):
        found.fetch((0, 0, 0)) if isinstance(found, SourceArray) else found.read((0, 0, 0))


def test_blocks_elsewhere_are_not_seen(tmp_path: Path):
    write_dataset(FileObjects(tmp_path), "", voxels("uint8"), chunks=CHUNKS)
    found = n5.open_volume(LocalFiles(tmp_path)).scales[0]
    before = set(found.coords())
    for stray in ("9/0/0", "00/1/1", "0/0/x", "-1/0/0", "0/1"):
        if not (tmp_path / stray).exists():
            (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / stray).write_bytes(b"?")
    assert set(found.coords()) == before


def test_larger_and_smaller_blocks_than_their_place(tmp_path: Path):
    """Some writers store whole blocks at the edge; a smaller block is filled up with 0."""
    for name in ("gzip", "bzip2"):
        folder = tmp_path / name
        wanted = voxels("uint16", (4, 5, 9))
        write_dataset(FileObjects(folder), "", wanted, chunks=CHUNKS, compression=compression(name))
        whole = voxels("uint16", CHUNKS)
        write_dataset(FileObjects(folder / "w"), "", whole, chunks=CHUNKS, compression=compression(name))
        write_dataset(FileObjects(folder / "p"), "", whole[:2, :3, :4], chunks=CHUNKS, compression=compression(name))
        (folder / "1/0/0").write_bytes((folder / "w/0/0/0").read_bytes())
        (folder / "0/0/0").write_bytes((folder / "p/0/0/0").read_bytes())
        found = opened(folder)
        assert np.array_equal(found[:, :, 6:], whole[:, :, :3])
        assert np.array_equal(found[:2, :3, :4], whole[:2, :3, :4])
        assert not found[2:, :, :6].any()
        assert not found[:, :, 4:6].any()


# -- as the root of a repo


@pytest.mark.parametrize("name", ["gzip", "blosc", "bzip2"])
def test_adopted_and_edited(tmp_path: Path, name: str):
    scales = [voxels("uint16"), voxels("uint16")[::2, ::2, ::2]]
    sizes = [(8.0, 8.0, 8.0), (16.0, 16.0, 16.0)]
    source = FileObjects(tmp_path / "em.n5")
    write_multiscale(source, "em", scales, voxel_sizes=sizes, chunks=CHUNKS, compression=compression(name))
    before = {key: source.get(key) for key, _ in source.walk()}
    with vzarr.create(str(tmp_path / "repo")) as repo:
        adopt_volume(repo.root, "em", open_volume(f"{tmp_path}/em.n5/em"))
        assert np.array_equal(repo.root.zarr["em/0"][...], scales[0])
        assert np.array_equal(repo.root.read("em/1", (0, 0, 0), scales[1].shape), scales[1])
        child = repo.root.commit().newversion()
        child.write("em/0", (3, 3, 3), np.full((4, 4, 4), 999, "u2"))
        wanted = scales[0].copy()
        wanted[3:7, 3:7, 3:7] = 999
        assert np.array_equal(child.commit().zarr["em/0"][...], wanted)
        assert np.array_equal(repo.root.zarr["em/0"][...], scales[0])
        assert np.array_equal(child.read("em/0", (2, 2, 2), (11, 9, 7)), wanted[2:, 2:, 2:])
    assert {key: source.get(key) for key, _ in source.walk()} == before
