"""One small adapter per library, all with the same face and the same codecs, so that only the store differs.

A backend holds one array in a folder of its own.  `read` and `write` work on boxes of voxels; `edit` replaces whole
chunks and, where the library has versions, commits them as one.
"""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import LocalStore

import vzarr
from vzarr.overlay.hierarchy.arrays import array_docs, compressors
from vzarr.overlay.hierarchy.tree import V3_DOC

# It warns each time a repository on a local file system is opened.
os.environ.setdefault("ICECHUNK_LOG", "error")

Coord = tuple[int, ...]
Reader = Callable[[Coord, Coord], NDArray[Any]]
LARGE = 1 << 14
"""Bytes from which a file counts as large."""
ROOT, SEALED, OPEN = "root", "sealed tip", "open tip"


def box(lo: Coord, hi: Coord) -> tuple[slice, ...]:
    """Slices of a box."""
    return tuple(map(slice, lo, hi))


class Backend(ABC):
    """One library with one array.

    Parameters
    ----------
    folder
        Where it may write.
    """

    name: str
    needs = "zarr"
    versioned = False

    def __init__(self, folder: Path) -> None:
        self._home = folder / self.name
        self._made = 0
        self.folder = self._home

    @classmethod
    def missing(cls) -> bool:
        """Whether the library is not installed."""
        return importlib.util.find_spec(cls.needs) is None

    def create(self, shape: Coord, dtype: Any, chunk: int, codec: str) -> None:
        """Make an empty array in a new folder; large files of the one before are emptied, not removed.

        Right after many removals ext4 without a journal looks long for an inode that was not in use a moment ago, and
        the more so the fewer folders a library makes its files in: a round would pay for the cleaning before it.
        """
        for file in self.folder.rglob("*"):
            # Key stores are left alone: SQLite maps a file that it has open.
            if file.is_file() and file.stat().st_size > LARGE and file.parent.name != "keys":
                os.truncate(file, 0)
        self._made += 1
        self.folder = self._home / str(self._made)
        self.folder.mkdir(parents=True)
        self.chunk = chunk
        self.start(shape, dtype, codec)

    def new_array(self, store: Store, shape: Coord, dtype: Any, codec: str) -> None:
        """Make the array with zarr in a store."""
        zarr.create_array(
            store, name="a", shape=shape, chunks=(self.chunk,) * len(shape), dtype=dtype, filters=None,
            compressors=compressors(codec, np.dtype(dtype).itemsize),
        )  # fmt: skip

    @abstractmethod
    def start(self, shape: Coord, dtype: Any, codec: str) -> None:
        """Make the empty array."""

    @abstractmethod
    def write(self, volume: NDArray[Any]) -> None:
        """Write the whole volume."""

    def seal_root(self) -> None:  # noqa: B027 - nothing to do without versions
        """End of the first version."""

    @abstractmethod
    def edit(self, chunks: Mapping[Coord, NDArray[Any]]) -> None:
        """Make one new version in which some chunks are replaced (in place where there are no versions)."""

    def begin(self) -> None:  # noqa: B027
        """Leave a new, open version behind."""

    def seal_tip(self) -> None:  # noqa: B027
        """End the open version."""

    @abstractmethod
    def open(self, which: str) -> Reader:
        """A reader of a version, opened from nothing."""

    @abstractmethod
    def count(self, which: str) -> int:
        """Number of keys that a listing of a version finds."""


class Local(Backend):
    """zarr-python on plain files, default codec pipeline: the measure of all others."""

    name = "LocalStore"

    def start(self, shape: Coord, dtype: Any, codec: str) -> None:
        self.new_array(self._store(ROOT, write=True), shape, dtype, codec)

    def write(self, volume: NDArray[Any]) -> None:
        self._array(ROOT, write=True)[...] = volume

    def edit(self, chunks: Mapping[Coord, NDArray[Any]]) -> None:
        array = self._array(OPEN, write=True)
        for coord, voxels in chunks.items():
            lo = tuple(c * self.chunk for c in coord)
            array[box(lo, tuple(a + self.chunk for a in lo))] = voxels

    def open(self, which: str) -> Reader:
        array = self._array(which)
        return lambda lo, hi: array[box(lo, hi)]

    def count(self, which: str) -> int:
        store = self._store(which)

        async def run() -> int:
            return len([key async for key in store.list_prefix("a/")])

        return sync(run())

    def _store(self, which: str, *, write: bool = False) -> Store:
        return LocalStore(self.folder)

    def _array(self, which: str, *, write: bool = False) -> Any:
        return zarr.open_array(self._store(which, write=write), path="a", mode="r+" if write else "r")


class TensorStore(Local):
    """TensorStore on the same plain Zarr, without its chunk cache and without fsync, as zarr-python."""

    name, needs = "TensorStore", "tensorstore"

    def write(self, volume: NDArray[Any]) -> None:
        self._handle()[...].write(volume).result()

    def edit(self, chunks: Mapping[Coord, NDArray[Any]]) -> None:
        array, done = self._handle(), []
        for coord, voxels in chunks.items():
            lo = tuple(c * self.chunk for c in coord)
            done.append(array[box(lo, tuple(a + self.chunk for a in lo))].write(voxels))
        for future in done:
            future.result()

    def open(self, which: str) -> Reader:
        array = self._handle(which)
        return lambda lo, hi: array[box(lo, hi)].read().result()

    def count(self, which: str) -> int:
        import tensorstore as ts

        return len(ts.KvStore.open(self._files(which), context=self._context()).result().list().result())

    def _handle(self, which: str = OPEN) -> Any:
        import tensorstore as ts

        return ts.open({"driver": "zarr3", "kvstore": self._files(which)}, context=self._context()).result()

    def _files(self, which: str = OPEN) -> dict[str, Any]:
        return {"driver": "file", "path": f"{self.folder}/a/"}

    def _context(self) -> Any:
        import tensorstore as ts

        return ts.Context({"file_io_sync": False, "data_copy_concurrency": {"limit": 2}})


class Ocdbt(TensorStore):
    """TensorStore on its own versioned key-value store; a version is one transaction, and so one generation."""

    name, versioned = "OCDBT", True

    def start(self, shape: Coord, dtype: Any, codec: str) -> None:
        import tensorstore as ts

        doc = array_docs(shape, (self.chunk,) * len(shape), dtype, codec, 0, None, None)[V3_DOC]
        ts.KvStore.open(self._files(), context=self._context()).result().write(V3_DOC, doc).result()

    def write(self, volume: NDArray[Any]) -> None:
        import tensorstore as ts

        with ts.Transaction(atomic=True) as transaction:
            self._handle().with_transaction(transaction)[...] = volume

    def edit(self, chunks: Mapping[Coord, NDArray[Any]]) -> None:
        import tensorstore as ts

        with ts.Transaction(atomic=True) as transaction:
            array, done = self._handle().with_transaction(transaction), []
            for coord, voxels in chunks.items():
                lo = tuple(c * self.chunk for c in coord)
                done.append(array[box(lo, tuple(a + self.chunk for a in lo))].write(voxels))
            for future in done:
                future.result()

    def _files(self, which: str = OPEN) -> dict[str, Any]:
        files = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{self.folder}/"}, "path": "a/"}
        # Generation 1 is empty, 2 the array without chunks, 3 the volume.
        return {**files, "version": 3} if which == ROOT else files


class Icechunk(Local):
    """icechunk through zarr.Array; a version is one commit."""

    name, needs, versioned = "icechunk", "icechunk", True

    def start(self, shape: Coord, dtype: Any, codec: str) -> None:
        import icechunk

        session = icechunk.Repository.create(self._storage()).writable_session("main")
        self.new_array(session.store, shape, dtype, codec)
        session.commit("create")

    def write(self, volume: NDArray[Any]) -> None:
        session = self._repo().writable_session("main")
        zarr.open_array(session.store, path="a", mode="r+")[...] = volume
        self.first = session.commit("write")

    def edit(self, chunks: Mapping[Coord, NDArray[Any]]) -> None:
        session = self._repo().writable_session("main")
        array = zarr.open_array(session.store, path="a", mode="r+")
        for coord, voxels in chunks.items():
            lo = tuple(c * self.chunk for c in coord)
            array[box(lo, tuple(a + self.chunk for a in lo))] = voxels
        session.commit("edit")

    def _store(self, which: str, *, write: bool = False) -> Store:
        repo = self._repo()
        if which == OPEN:
            return repo.writable_session("main").store
        return repo.readonly_session(**({"snapshot_id": self.first} if which == ROOT else {"branch": "main"})).store

    def _repo(self) -> Any:
        import icechunk

        return icechunk.Repository.open(self._storage())

    def _storage(self) -> Any:
        import icechunk

        return icechunk.local_filesystem_storage(str(self.folder / "repo"))


class VzarrStore(Local):
    """vzarr's Store through zarr.Array; a version is newversion and commit."""

    name, needs, versioned = "vzarr Store", "vzarr", True

    def start(self, shape: Coord, dtype: Any, codec: str) -> None:
        self.repo = vzarr.create(str(self.folder / "repo"))
        self.new_array(self.repo.root.store, shape, dtype, codec)

    def seal_root(self) -> None:
        self.repo.root.commit()

    def edit(self, chunks: Mapping[Coord, NDArray[Any]]) -> None:
        version = self.repo["master"].newversion()
        self.replace(version, chunks)
        version.commit()

    def replace(self, version: Any, chunks: Mapping[Coord, NDArray[Any]]) -> None:
        """Write whole chunks into an open version."""
        array = zarr.open_array(version.store, path="a", mode="r+")
        for coord, voxels in chunks.items():
            lo = tuple(c * self.chunk for c in coord)
            array[box(lo, tuple(a + self.chunk for a in lo))] = voxels

    def begin(self) -> None:
        self.repo["master"].newversion()

    def seal_tip(self) -> None:
        self.repo["master"].commit()

    def _version(self, repo: Any, which: str) -> Any:
        if which == ROOT:
            return repo.root
        tip = repo["master"]
        return tip if tip.sealed is (which == SEALED) else tip.parents[0]

    def _store(self, which: str, *, write: bool = False) -> Store:
        repo = self.repo if write else vzarr.open(str(self.folder / "repo"))
        store: Store = self._version(repo, which).store
        return store


class VzarrRegions(VzarrStore):
    """vzarr's own region reader and writer of whole chunks, without zarr.Array."""

    name = "vzarr"

    def write(self, volume: NDArray[Any]) -> None:
        self.repo.root.write("a", (0, 0, 0), volume)

    def replace(self, version: Any, chunks: Mapping[Coord, NDArray[Any]]) -> None:
        version.write_chunks("a", chunks)

    def open(self, which: str) -> Reader:
        version = self._version(vzarr.open(str(self.folder / "repo")), which)
        return lambda lo, hi: version.read("a", lo, hi)

    def count(self, which: str) -> int:
        version = self._version(vzarr.open(str(self.folder / "repo")), which)
        return len(version.chunk_coords("a")) + 1


BACKENDS: tuple[type[Backend], ...] = (Local, TensorStore, Ocdbt, Icechunk, VzarrStore, VzarrRegions)
