"""Sources on a web server: ranges, what is absent, what fails, what changed; real requests to a real server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import uvicorn
import zarr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

import vzarr
from vzarr.errors import InvalidInputError, StorageError, UnsupportedError
from vzarr.overlay.care.verify import verify
from vzarr.overlay.sources.files import Files
from vzarr.overlay.sources.locate import open_files


@dataclass
class Site:
    """A web server over a folder: what it was asked, and what it shall answer instead of files."""

    folder: Path
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    broken: dict[str, int] = field(default_factory=dict)
    ranges: bool = True


@contextmanager
def served(site: Site) -> Iterator[Site]:
    files = StaticFiles(directory=site.folder)

    async def answer(scope, receive, send):
        if scope["type"] != "http":
            return
        request = Request(scope)
        path = request.url.path.strip("/")
        site.asked[path] += 1
        if path in site.broken:
            await Response("no", status_code=site.broken[path])(scope, receive, send)
            return
        if not site.ranges:
            scope["headers"] = [(k, v) for k, v in scope["headers"] if k != b"range"]
        await files(scope, receive, send)

    app = Starlette()
    app.mount("/", answer)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        site.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield site
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    with served(Site(folder)) as site:
        yield site


@pytest.mark.parametrize("ranges", [True, False])
def test_ranges(site: Site, ranges: bool):
    site.ranges = ranges
    data = bytes(range(100))
    (site.folder / "sub dir").mkdir()
    (site.folder / "sub dir" / "a#b").write_bytes(data)
    (site.folder / "empty").write_bytes(b"")
    files = open_files(f"{site.url}/")
    key = "sub dir/a#b"
    for offset, length in ((0, None), (10, None), (10, 5), (-7, None), (-7, 3), (95, 50), (0, 0), (200, 5)):
        found = files.read(key, offset, length)
        start = max(0, 100 + offset) if offset < 0 else offset
        assert found.data == data[start : None if length is None else start + length]
        assert found.size == 100
        assert found.stamp.startswith("etag:") or not found.data
    assert [files.read("empty", *r).data for r in ((0, None), (0, 0), (0, 4))] == [b"", b"", b""]
    assert files.read("missing") is None
    assert files.get("empty/below") is None
    with pytest.raises(UnsupportedError, match="does not list"):
        list(files.walk())


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_refusal_is_no_absence(site: Site, status: int):
    site.broken["a"] = status
    with pytest.raises(StorageError, match=str(status)):
        open_files(site.url).read("a")


def test_nobody_at_home():
    with pytest.raises(StorageError, match=r"could not read http://127\.0\.0\.1:1/a"):
        open_files("http://127.0.0.1:1").read("a")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://me:secret@host/x", InvalidInputError),
        ("https://host/x?token=secret", InvalidInputError),
        ("nonsense://host/x", UnsupportedError),
        ("", InvalidInputError),
    ],
)
def test_urls_that_cannot_be_kept(url: str, error: type[Exception]):
    with pytest.raises(error):
        open_files(url)


@pytest.mark.parametrize("pin", [False, True])
def test_an_instance_over_http(site: Site, tmp_path: Path, pin: bool):
    voxels = np.random.default_rng(0).integers(1, 9, (16, 16, 16)).astype("u1")
    array = zarr.create_array(site.folder / "em", shape=voxels.shape, chunks=(8, 8, 8), dtype="u1")
    array[:8] = voxels[:8]
    voxels[8:] = 0
    with vzarr.create(str(tmp_path / "repo")) as repo:
        repo.adopt("em", f"{site.url}/em", pin=pin)
        version = repo.root
        assert np.array_equal(version.read("em/0", (0, 0, 0), voxels.shape), voxels)
        version.delete_chunks("em/0", [(0, 1, 1)])
        voxels[:8, 8:, 8:] = 0
        assert len(version.chunk_coords("em/0")) == 3
        child = version.commit().newversion()
        assert np.array_equal(child.zarr["em/0"][...], voxels)
        site.asked.clear()
        child.commit().read("em/0", (0, 0, 0), (8, 8, 8))
        assert site.asked == {"em/c/0/0/0": 1}
        assert [f.name for f in verify(repo.objects)] == ([] if pin else ["source-unpinned"])
        (site.folder / "em" / "c" / "0" / "0" / "0").write_bytes(b"other")
        with pytest.raises(StorageError, match="pinned" if pin else "damaged"):
            child.read("em/0", (0, 0, 0), (8, 8, 8))
        (site.folder / "em" / "zarr.json").unlink()
        with pytest.raises(StorageError, match=r"/em"):
            child.read("em/0", (8, 0, 0), (9, 1, 1))


def test_other_protocols_go_through_fsspec(tmp_path: Path):
    files: Files = open_files(f"local://{tmp_path}")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"12345")
    found = files.read("a/b", -3, 2)
    assert (found.data, found.size) == (b"34", 5)
    assert found.stamp.startswith("mtime:")
    assert files.read("a") is None
    assert files.read("c") is None
    assert list(files.walk()) == [("a/b", 5)]
    assert list(files.walk("nothing")) == []
