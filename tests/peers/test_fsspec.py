"""fsspec's own tests of file systems, and its cases of mappers: on a root, a child, and a tip that inherits all."""

from __future__ import annotations

import array
import pickle
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import fsspec.tests.abstract as peers
import numpy as np
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

import vzarr
from vzarr.errors import InvalidInputError
from vzarr.overlay.fsspec import VersionFileSystem


class InheritingFileSystem(VersionFileSystem):
    """The open tip two commits after the last change: whatever a test reads was set, or removed, in an ancestor."""

    cachable = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, mode, **kwargs)
        self._move_on()

    def rm_file(self, path: str) -> None:
        super().rm_file(path)
        self._move_on()

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        super().rm(path, recursive=recursive, maxdepth=maxdepth)
        self._move_on()

    def _move_on(self) -> None:
        for _ in range(2):
            self.version = self.version.commit().newversion()
        self.store = self.version.store


def opened(repo: vzarr.Repo, kind: str) -> VersionFileSystem:
    """File system of an open version with no key in it."""
    repo.root.store.delete_sync("zarr.json")
    if kind == "root":
        return VersionFileSystem(repo.root)
    child = repo.root.commit().newversion()
    return InheritingFileSystem(child) if kind == "inherited" else VersionFileSystem(child)


@pytest.fixture(name="fs", params=["root", "child", "inherited"])
def file_system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VersionFileSystem]:
    """Files for what is edited in place; memory, which is quicker, for what commits at every step."""
    url = f"memory://{uuid.uuid4().hex}" if request.param == "inherited" else str(tmp_path / "repo")
    with vzarr.create(url) as repo:
        yield opened(repo, request.param)


class Peer(peers.AbstractFixtures):
    """What fsspec's tests need to know of a file system."""

    fs = None  # theirs, which raises, would hide the module's

    @pytest.fixture
    def fs_path(self) -> str:
        return ""

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(peers.AbstractCopyTests, Peer): ...


class TestGet(peers.AbstractGetTests, Peer): ...


class TestPut(peers.AbstractPutTests, Peer): ...


class TestOpen(peers.AbstractOpenTests, Peer): ...


class TestPipe(peers.AbstractPipeTests, Peer): ...


class TestMapper:
    """fsspec's cases of `FSMap`, which it keeps for its memory and local file systems."""

    @pytest.fixture
    def mapper(self, fs: VersionFileSystem) -> fsspec.FSMap:
        return fs.get_mapper("")

    def test_mapping_prefix(self, fs: VersionFileSystem):
        fs.pipe({"a/file": b"1", "a/folder/other": b"2"})
        url = f"vzarr://a::{fs.version.url}"
        mappers = [fs.get_mapper("a"), fs.get_mapper("vzarr://a"), fsspec.get_mapper(url, version=fs.version.uuid)]
        for mapper in mappers:
            assert "file" in mapper
            assert mapper["folder/other"] == b"2"
        assert mappers[0] == mappers[1] == mappers[2]

    def test_getitems_errors(self, fs: VersionFileSystem):
        fs.pipe_file("a", b"1")
        mapper = fs.get_mapper("")
        assert mapper.getitems(["a", "b"], on_error="omit") == {"a": b"1"}
        with pytest.raises(KeyError):
            mapper.getitems(["a", "b"])
        assert isinstance(mapper.getitems(["a", "b"], on_error="return")["b"], KeyError)
        strict = fs.get_mapper("", missing_exceptions=())
        assert strict.getitems(["a", "b"], on_error="omit") == {"a": b"1"}
        with pytest.raises(FileNotFoundError):
            strict.getitems(["a", "b"])

    def test_ops(self, mapper: fsspec.FSMap):
        assert not mapper
        assert list(mapper) == []
        with pytest.raises(KeyError):
            mapper["hi"]
        assert mapper.pop("key", 0) == 0
        mapper["key0"] = b"data"
        assert list(mapper) == ["key0"]
        assert mapper["key0"] == b"data"
        mapper.clear()
        assert list(mapper) == []

    def test_pickle(self, mapper: fsspec.FSMap):
        mapper["key"] = b"data"
        there = pickle.loads(pickle.dumps(mapper))
        assert list(there) == ["key"]
        assert there["key"] == b"data"
        assert there.missing_exceptions == mapper.missing_exceptions

    def test_keys_view(self, mapper: fsspec.FSMap):
        mapper["key"] = b"data"
        keys = mapper.keys()
        assert len(keys) == 1
        assert len(keys) == 1

    def test_multi(self, mapper: fsspec.FSMap):
        data = {"a": b"data1", "b": b"data2"}
        mapper.setitems(data)
        assert mapper.getitems(list(data)) == data
        mapper.delitems(list(data))
        assert not list(mapper)

    def test_setitem_types(self, mapper: fsspec.FSMap):
        one = (1).to_bytes(4, sys.byteorder)
        mapper["a"] = array.array("i", [1])
        mapper["b"] = bytearray(b"123")
        mapper.setitems({"c": array.array("i", [1]), "d": bytearray(b"123")})
        assert dict(mapper) == {"a": one, "b": b"123", "c": one, "d": b"123"}

    @pytest.mark.parametrize("shape", [(), (2,)])
    @pytest.mark.parametrize("dtype", ["<i4", "<M8[ns]", "<m8[ns]"])
    def test_setitem_numpy(self, mapper: fsspec.FSMap, dtype: str, shape: tuple[int, ...]):
        value = np.full(shape, 946771199999999999 % 2**31, "i8").astype(dtype)
        mapper["c"] = value
        assert mapper["c"] == value.tobytes()

    def test_empty_url(self):
        assert isinstance(fsspec.get_mapper().fs, LocalFileSystem)

    def test_fsmap_access_with_root_prefix(self, fs: VersionFileSystem):
        fs.pipe_file("m/a", b"data")
        mapper = fs.get_mapper("m")
        assert mapper["a"] == b"data"
        # As in memory, and unlike on a disk, "/a" is another key than "a"; here it is none at all.
        with pytest.raises(KeyError):
            mapper["/a"]
        with pytest.raises(InvalidInputError, match="is no key"):
            mapper["/a"] = b"other"

    @pytest.mark.parametrize("key", [b"k", 1234, (1,), [""]], ids=["bytes", "int", "tuple", "list"])
    def test_fsmap_non_str_keys(self, mapper: fsspec.FSMap, key: Any):
        with pytest.warns(DeprecationWarning, match="non-str keys"), pytest.raises(KeyError):
            mapper[key]

    def test_fsmap_error_on_protocol_keys(self, fs: VersionFileSystem):
        mapper = fs.get_mapper("m", create=True)
        mapper["a"] = b"data"
        assert mapper["a"] == b"data"
        with pytest.raises(KeyError):
            mapper["vzarr://m/a"]

    def test_fsmap_access_with_suffix(self, fs: VersionFileSystem):
        fs.pipe_file("b/a", b"data")
        mapper = fs.get_mapper("")
        with pytest.raises(KeyError):
            mapper["b/"]
        assert mapper["b/a/"] == b"data"

    def test_fsmap_dirfs(self, fs: VersionFileSystem):
        mapper = fs.get_mapper("m")
        assert isinstance(mapper.dirfs, DirFileSystem)
        assert mapper.dirfs.path.strip("/") == mapper.root.strip("/")
