"""zarr's own contract of a Store, on a root and on a version that inherits everything from two sealed ancestors."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zarr.core.buffer import cpu
from zarr.testing.store import StoreTests

import vzarr
from vzarr import VersionStore
from vzarr.overlay import layout


@pytest.fixture(params=["memory", "files"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vzarr.Repo]:
    """A new repo."""
    with vzarr.create(f"memory://{uuid.uuid4().hex}" if request.param == "memory" else str(tmp_path)) as repo:
        yield repo


class Contract(StoreTests[VersionStore, cpu.Buffer]):
    """What zarr's tests need to know of the store; keys are read and written behind its back."""

    store_cls, buffer_cls = VersionStore, cpu.Buffer

    def test_store_repr(self, store: VersionStore) -> None:
        assert str(store) == f"vzarr://{store.version.uuid}::{store.version.url}"

    def test_store_supports_writes(self, store: VersionStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: VersionStore) -> None:
        assert store.supports_listing


class TestRoot(Contract):
    """An open root: every key is an object of its folder."""

    @pytest.fixture
    def store_kwargs(self, repo: vzarr.Repo) -> dict[str, Any]:
        repo.objects.delete_tree(layout.zarr(repo.uuid))
        return {"version": repo.root}

    async def get(self, store: VersionStore, key: str) -> cpu.Buffer:
        data = store.version.repo.objects.get(f"{layout.zarr(store.version.uuid)}/{key}")
        return self.buffer_cls.from_bytes(data)

    async def set(self, store: VersionStore, key: str, value: cpu.Buffer) -> None:
        store.version.repo.objects.put(f"{layout.zarr(store.version.uuid)}/{key}", value.to_bytes())


class TestChild(Contract):
    """An open child of an empty root."""

    @pytest.fixture
    def store_kwargs(self, repo: vzarr.Repo) -> dict[str, Any]:
        repo.objects.delete_tree(layout.zarr(repo.uuid))
        return {"version": repo.root.commit().newversion()}

    async def get(self, store: VersionStore, key: str) -> cpu.Buffer:
        with vzarr.open(store.version.url) as repo:
            return self.buffer_cls.from_bytes(repo[store.version.uuid].store.read(key)[0])

    async def set(self, store: VersionStore, key: str, value: cpu.Buffer) -> None:
        _set(store, key, value.to_bytes())


class TestInherited(Contract):
    """Keys that a test sets are set in an ancestor; the store under test is the open tip two commits later."""

    @pytest.fixture
    def store_kwargs(self, repo: vzarr.Repo) -> dict[str, Any]:
        repo.objects.delete_tree(layout.zarr(repo.uuid))
        return {"version": repo.root}

    async def get(self, store: VersionStore, key: str) -> cpu.Buffer:
        with vzarr.open(store.version.url) as repo:
            return self.buffer_cls.from_bytes(repo[store.version.uuid].store.read(key)[0])

    async def set(self, store: VersionStore, key: str, value: cpu.Buffer) -> None:
        await asyncio.to_thread(_set_two_commits_ago, store, key, value.to_bytes())


class Descending(VersionStore):
    """A store that commits twice what was written, before anything is read: the open tip has it from ancestors."""

    def __init__(self, version: vzarr.Version, **options: bool) -> None:
        super().__init__(version, **options)
        self.written, self.lock = False, threading.Lock()

    def _writable(self) -> Any:
        self.written = True
        return super()._writable()

    def read(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        self.descend()
        return super().read(key, offset, length)

    def keys(self, prefix: str = "") -> Iterator[str]:
        self.descend()
        return super().keys(prefix)

    def names(self, folder: str) -> list[str]:
        self.descend()
        return super().names(folder)

    def descend(self) -> None:
        with self.lock:
            if self.written:
                self.written = False
                for _ in range(2):
                    self.version = self.version.commit().newversion()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "written": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.Lock())


class TestHeir(TestInherited):
    """Keys that the store itself sets are inherited by the time they are read, too."""

    store_cls = Descending

    async def get(self, store: VersionStore, key: str) -> cpu.Buffer:
        store.descend()
        return await super().get(store, key)


def _set(store: VersionStore, key: str, data: bytes) -> None:
    """Set a key through a repo opened anew, which shares nothing in memory with the store under test."""
    with vzarr.open(store.version.url) as repo:
        repo[store.version.uuid].store.write(key, data)


def _set_two_commits_ago(store: VersionStore, key: str, data: bytes) -> None:
    _set(store, key, data)
    for _ in range(2):
        store.version = store.version.commit().newversion()
