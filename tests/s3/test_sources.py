"""A source in a bucket: adopted in place by a repo on files, edited, pinned, vanished."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr

import vzarr
from vzarr.errors import StorageError
from vzarr.overlay.care.verify import verify
from vzarr.overlay.objects.drivers import systems
from vzarr.overlay.sources.locate import open_files


def put(url: str, data: bytes) -> None:
    system = systems.open_system("s3")
    systems.run(system._pipe_file(url.removeprefix("s3://"), data), 30)


def remove(url: str) -> None:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    systems.run(systems.open_system("s3")._call_s3("delete_object", Bucket=bucket, Key=key), 30)


@pytest.fixture
def source(bucket: str, tmp_path: Path) -> tuple[str, np.ndarray]:
    """An array of which one half is stored, and its voxels."""
    url = f"s3://{bucket}/{uuid.uuid4().hex[:8]}/em.zarr"
    voxels = np.random.default_rng(0).integers(1, 9, (16, 16, 16)).astype("u1")
    voxels[8:] = 0
    folder = tmp_path / "em.zarr"
    zarr.create_array(folder, shape=voxels.shape, chunks=(8, 8, 8), dtype="u1")[...] = voxels
    for file in folder.rglob("*"):
        if file.is_file():
            put(f"{url}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return url, voxels


def test_ranges(bucket: str):
    url = f"s3://{bucket}/{uuid.uuid4().hex[:8]}"
    data = bytes(range(100))
    put(f"{url}/a b#c", data)
    put(f"{url}/empty", b"")
    files = open_files(url)
    for offset, length in ((0, None), (10, None), (10, 5), (-7, None), (-7, 3), (95, 50), (0, 0), (200, 5)):
        found = files.read("a b#c", offset, length)
        start = max(0, 100 + offset) if offset < 0 else offset
        assert found.data == data[start : None if length is None else start + length]
        assert (found.size, found.stamp[:5]) == (100, "etag:")
    assert [files.read("empty", *r).data for r in ((0, None), (0, 0), (0, 4))] == [b"", b"", b""]
    assert files.read("missing") is None
    assert list(files.walk()) == [("a b#c", 100), ("empty", 0)]
    assert list(files.walk("missing")) == []


@pytest.mark.parametrize("pin", [False, True])
def test_an_instance_in_a_bucket(source: tuple[str, np.ndarray], tmp_path: Path, pin: bool):
    url, voxels = source
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.adopt("em", url, pin=pin)
        version = repo.root
        version.write("em/0", (4, 4, 4), np.full((8, 8, 8), 7, "u1"))
        voxels[4:12, 4:12, 4:12] = 7
        child = version.commit().newversion()
        child.delete_chunks("em/0", [(0, 0, 0)])
        voxels[:8, :8, :8] = 0
        assert np.array_equal(child.commit().zarr["em/0"][...], voxels)
        assert np.array_equal(child.read("em/0", (0, 0, 0), voxels.shape), voxels)
        assert len(child.chunk_coords("em/0")) == 7
        assert [f.name for f in verify(repo.objects)] == ([] if pin else ["source-unpinned"])


def test_a_change_is_told(source: tuple[str, np.ndarray], tmp_path: Path):
    url, _ = source
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.adopt("em", url, pin=True)
        repo.root.commit()
        put(f"{url}/c/0/0/0", b"other")
        with pytest.raises(StorageError, match="not what was pinned"):
            repo.root.read("em/0", (0, 0, 0), (1, 1, 1))
        assert [f.name for f in verify(repo.objects)] == ["source-differs"]
        remove(f"{url}/zarr.json")
        with pytest.raises(StorageError, match=r"em\.zarr"):
            repo.root.read("em/0", (15, 0, 0), (16, 1, 1))
