"""Parts of Blosc frames decompress to the same parts of the whole, whoever wrote the frame."""

from __future__ import annotations

from pathlib import Path

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import vzarr
from vzarr.errors import StorageError
from vzarr.overlay.chunks import blosc

SHAPE = (64, 64, 64)


def _voxels(dtype: str, noise: int) -> np.ndarray:
    rng = np.random.default_rng(noise)
    return (np.arange(64)[:, None, None] + rng.integers(0, noise, SHAPE)).astype(dtype)


@given(
    st.sampled_from(["u1", "<u2", "<u4", "<u8", "<f4"]),
    st.sampled_from(["lz4", "lz4hc", "zstd", "zlib", "blosclz"]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 65536, 1 << 17]),
    st.sampled_from([1, 40]),
    st.tuples(st.integers(0, 63), st.integers(1, 64)).map(lambda p: (p[0], max(p[0] + 1, p[1]))),
)
def test_a_part_is_that_part_of_the_whole(
    dtype: str, cname: str, shuffle: int, block: int, noise: int, rows: tuple[int, int]
) -> None:
    voxels = _voxels(dtype, noise)
    frame = numcodecs.Blosc(cname, 1, shuffle, block).encode(voxels)
    row = voxels.nbytes // 64
    part = blosc.cut(frame, voxels.nbytes, rows[0] * row, rows[1] * row)
    if part is None:
        return
    small, lo, hi = part
    assert len(small) < len(frame)
    assert lo <= rows[0] * row < rows[1] * row <= hi <= voxels.nbytes
    assert bytes(numcodecs.Blosc().decode(small)) == voxels.tobytes()[lo:hi]


def test_a_plane_of_a_common_chunk_needs_half_of_it() -> None:
    voxels = _voxels("u1", 40)
    frame = numcodecs.Blosc("lz4", 5, 2).encode(voxels)
    part = blosc.cut(memoryview(frame), voxels.nbytes, 10 * 4096, 11 * 4096)
    assert part is not None
    assert part[1:] == (0, voxels.nbytes // 2)
    assert blosc.cut(frame, voxels.nbytes, 0, voxels.nbytes) is None, "nothing is saved"


@pytest.mark.parametrize("frame", [b"", b"\2\1\1\1", bytes(16), b"\xff" * 64])
def test_what_is_no_frame_is_told(frame: bytes) -> None:
    assert not blosc.is_whole(frame)


@pytest.mark.parametrize("box", [((10, 0, 0), (11, 64, 64)), ((40, 3, 3), (70, 60, 90)), ((-5, 0, 0), (3, 64, 64))])
def test_the_region_reader_reads_planes_through_parts(tmp_path: Path, box: tuple[tuple[int, ...], ...]) -> None:
    voxels = _voxels("u1", 40)
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.root.create_array("a", dtype="u1", chunks=SHAPE, fill_value=7)
        repo.root.write("a", (0, 0, 0), voxels)
        around = np.full((128 + 64, 128, 128), 7, np.uint8)
        around[64:128, :64, :64] = voxels
        cut = tuple(slice(a + o, b + o) for a, b, o in zip(*box, (64, 0, 0), strict=True))
        np.testing.assert_array_equal(repo.root.read("a", *box), around[cut])


CODECS = {
    "blosc": BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=1),
    "zstd": ZstdCodec(level=1),
    "gzip": GzipCodec(level=1),
    "none": (),
}


@pytest.mark.parametrize("codec", CODECS)
def test_a_truncated_chunk_is_an_error_and_never_what_the_buffer_held_before(tmp_path: Path, codec: str) -> None:
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.root.create_array("a", dtype="u1", chunks=SHAPE, codecs=CODECS[codec])
        repo.root.write("a", (0, 0, 0), _voxels("u1", 40))
        (path,) = (tmp_path / "repo" / "nodes").rglob("c/0/0/0")
        repo.root.read("a", (0, 0, 0), SHAPE)
        path.write_bytes(path.read_bytes()[:-100])
        for box in (((10, 0, 0), (11, 64, 64)), ((0, 0, 0), SHAPE)):
            with pytest.raises(StorageError, match="damaged"):
                repo.root.read("a", *box)
