"""What power loss leaves: the worst that POSIX allows, put together from what was brought to the disk."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.errors import InvalidInputError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.kv.sqlite import SqliteKV
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.durable import DurableFiles

KEYS = ["a", "b/c", "b/d/e", "f/g/h"]
PASSING = ("tmp/", "keys/")
"""What may be thrown away, and what SQLite looks after, whose waiting for the disk is not seen from here."""
FOLDERS = ["b", "b/d", "f"]


class Disk:
    """What a disk must hold: of each file its bytes, of each folder its names, as of the last `fsync` on it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._held: list[int] = []
        self._lock = threading.Lock()
        self._fsync = os.fsync
        patch.setattr(os, "fsync", self._sync)
        for name in ("replace", "link"):
            patch.setattr(os, name, self._checked(getattr(os, name)))

    def _sync(self, fd: int) -> None:
        about = os.fstat(fd)
        with self._lock:  # of two threads, the last to look is the last to note what it saw
            if stat.S_ISDIR(about.st_mode):
                with os.scandir(fd) as entries:
                    self._names[about.st_ino] = {e.name: (e.inode(), e.is_dir()) for e in entries}
            else:
                self._bytes[about.st_ino] = os.pread(fd, about.st_size, 0)
            self._held.append(os.dup(fd))  # so that no other file gets the number
        self._fsync(fd)

    def _checked(self, name: Callable[..., None]) -> Callable[..., None]:
        """A name may reach the disk at once: what it names must be there before."""

        def checked(source: str, target: str) -> None:
            if "/keys/" in str(target):  # SQLite brings its file to the disk by itself
                return name(source, target)
            assert Path(source).read_bytes() == self._bytes.get(Path(source).stat().st_ino), (
                f"{target} before its bytes"
            )
            return name(source, target)

        return checked

    def after_power_loss(self) -> dict[str, bytes | None]:
        """Bytes by key; None where a name has outlasted what it named."""
        found = self._below("", self.folder.stat().st_ino) if self.folder.exists() else ()
        return {key: data for key, data in found if not key.startswith(PASSING)}

    def _below(self, prefix: str, folder: int) -> Iterator[tuple[str, bytes | None]]:
        for name, (inode, is_folder) in self._names.get(folder, {}).items():
            if is_folder:
                yield from self._below(f"{prefix}{name}/", inode)
            else:
                yield f"{prefix}{name}", self._bytes.get(inode)

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(tmp_path / "above" / "repo", monkeypatch)
    yield made
    made.close()


def shown(objects: Objects) -> dict[str, bytes | None]:
    """What a store holds now."""
    return {key: objects.get(key) for key, _size in objects.walk() if not key.startswith(PASSING)}


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(KEYS), st.binary(max_size=3)),
        st.tuples(st.just("create"), st.sampled_from(KEYS), st.binary(max_size=3)),
        st.tuples(st.sampled_from(["move", "copy"]), st.sampled_from(KEYS), st.sampled_from(KEYS)),
        st.tuples(st.just("delete"), st.sampled_from(KEYS)),
        st.tuples(st.just("delete_tree"), st.sampled_from(FOLDERS)),
        st.tuples(st.just("rename_tree"), st.sampled_from(FOLDERS), st.just("moved/to")),
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_every_change_is_on_the_disk_when_it_returns(tmp_path: Path, changes: list[tuple[Any, ...]]):
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(tmp_path / os.urandom(8).hex(), patch)
        objects = DurableFiles(disk.folder)
        try:
            for name, *rest in changes:
                if name in ("move", "copy") and (objects.get(rest[0]) is None or rest[0] == rest[1]):
                    continue
                if name == "rename_tree" and (not list(objects.walk(rest[0])) or list(objects.walk(rest[1]))):
                    continue
                getattr(objects, name)(*rest)
                assert disk.after_power_loss() == shown(objects)
        finally:
            disk.close()


def test_the_folders_above_a_new_repo_last_too(disk: Disk):
    DurableFiles(disk.folder).put("a", b"1")
    above = disk.folder.parent
    assert disk._names[above.parent.stat().st_ino]["above"] == (above.stat().st_ino, True)


def test_a_stage_that_was_taken_away_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    objects = DurableFiles(tmp_path)
    with pytest.raises(StorageError):
        objects.put("a", b"1", stage="nodes/1/journal/2")

    def broken(fd: int) -> None:
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageError, match="the disk is broken"):
        objects.put("a", b"1")
    assert list(objects.walk()) == []


def test_a_repo_outlasts_power_loss(disk: Disk):
    with vzarr.create(str(disk.folder), durability="fsync") as repo:
        root = repo.root
        root.create_array("a", dtype="u1", chunks=(4, 4), shape=(8, 8))
        root.write("a", (0, 0), np.ones((8, 8), "u1"))
        before = shown(repo.objects)
        assert disk.after_power_loss() == before
        assert sum("/zarr/a/c/" in key for key in before) == 4
        root.commit().newversion().write("a", (2, 2), np.full((4, 4), 2, "u1"))
        assert disk.after_power_loss() == shown(repo.objects)
    with vzarr.open(str(disk.folder)) as again:
        assert isinstance(again.objects, DurableFiles)
        again["master"].commit()
        again["master"].tag("v1")
        assert disk.after_power_loss() == shown(again.objects)
        assert layout.seal(again["master"].uuid) in disk.after_power_loss()


@pytest.mark.parametrize("keys", [None, "sqlite"])
def test_the_keys_of_a_repo_outlast_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str | None):
    """SQLite waits for the disk by itself where it is told to; counted is that it is."""
    told: list[str] = []
    opened = SqliteKV.__init__

    def recorded(self: SqliteKV, path: Any, *, create: bool = True, durability: str = "process") -> None:
        told.append(durability)
        opened(self, path, create=create, durability=durability)

    monkeypatch.setattr(SqliteKV, "__init__", recorded)
    url = str(tmp_path / "repo")
    vzarr.create(url, durability="fsync", keys=keys and f"sqlite:///{tmp_path}/keys.sqlite").close()
    told.clear()
    vzarr.open(url).close()
    assert set(told) == {"fsync"}


def test_there_is_no_other_durability(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="process, fsync"):
        vzarr.create(str(tmp_path / "repo"), durability="hope")
    assert not (tmp_path / "repo").exists()
