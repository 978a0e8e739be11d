"""What the design promises, each with a test that can fail; see also test_seal, test_depth, test_failures, tests/crash.

1. A sealed version never changes.  2. A version costs what changed in it.  4. Every version is a complete, plain Zarr
through the overlay; a bare folder is plain Zarr or is refused, and never silently reads as fill value.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import zarr

import vzarr
from tests.serving import serving
from vzarr.errors import SealedError
from vzarr.overlay import layout
from vzarr.overlay.fsspec import VersionFileSystem
from vzarr.types import registry

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of its dependencies are not ours to mend
    from cloudvolume import CloudVolume

DATA = np.arange(1, 16**3 + 1, dtype=np.uint64).reshape(16, 16, 16)
FEW = 6
"""Objects of a sealed version beside its chunks: seal, sums, tree, owner table, owner pages, an array's metadata."""


def files(folder: Path) -> dict[str, str]:
    """Checksum of every file below a folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def folder_of(version: vzarr.Version) -> Path:
    path = version.repo.objects.path(layout.node(version.uuid))
    assert path is not None
    return Path(path)


def paint(version: vzarr.Version) -> None:
    version.create_array("em/0", dtype="u8", chunks=(8, 8, 8), codecs="labels")
    version.write("em/0", (0, 0, 0), DATA)


def work(version: vzarr.Version) -> None:
    """All that can be done to what is inherited."""
    version.write("em/0", (0, 0, 0), np.full((8, 8, 8), 3, np.uint64))
    version.write("em/0", (-8, 0, 0), np.full((8, 8, 24), 4, np.uint64))
    version.delete_chunks("em/0", [(1, 1, 1)])
    group = version.zarr
    group.attrs["said"] = "something"
    group["em/0"].attrs["said"] = "more"
    group.create_array("new", shape=(4,), chunks=(2,), dtype="u1")[:] = 1
    version["notes"].put("a", b"changed")
    version["notes"].delete("b")
    version.rename("em", "moved")


# ---------------------------------------------------------------- 1: what is sealed never changes


def test_no_byte_of_a_sealed_version_changes_under_later_work(file_repo: vzarr.Repo, tmp_path: Path):
    root = file_repo.root
    paint(root)
    notes = registry.create(root, "notes", "keyvalue")
    notes.put_many([("a", b"1"), ("b", b"2")])
    sealed: dict[str, dict[str, str]] = {}

    def remember(version: vzarr.Version) -> vzarr.Version:
        sealed[version.uuid] = files(folder_of(version))
        return version

    remember(root.commit("first"))
    child = root.newversion()
    work(child)
    remember(child.commit())
    side = root.branch("side")
    side.write("em/0", (8, 8, 8), np.full((8, 8, 8), 5, np.uint64))
    remember(side.commit())
    remember(root.tag("v1"))
    other = root.branch("other")
    other.write("em/0", (0, 8, 8), np.full((8, 8, 8), 6, np.uint64))
    remember(other.commit())
    merged = file_repo.merge([side, other], note="both")
    work(merged)
    remember(merged.commit())
    file_repo.set_info(alias="new")
    file_repo.update_instance("notes", tags={"x": "y"})
    registry.create(child.newversion(), "gray", "uint8blk")
    file_repo.close()
    with vzarr.open(str(tmp_path / "repo")) as again:
        for version in again.versions():
            if version.sealed:
                array = version.zarr["moved/0" if "moved" in version.zarr else "em/0"]
                assert array[:].any()
        assert {uuid: files(folder_of(again[uuid])) for uuid in sealed} == sealed


WRITES: dict[str, Callable[[vzarr.Version], object]] = {
    "write": lambda v: v.write("em/0", (0, 0, 0), DATA),
    "write_chunks": lambda v: v.write_chunks("em/0", {(0, 0, 0): DATA[:8, :8, :8]}),
    "delete_chunks": lambda v: v.delete_chunks("em/0", [(0, 0, 0)]),
    "create_array": lambda v: v.create_array("new", dtype="u1", chunks=(1, 1, 1)),
    "create_group": lambda v: v.create_group("new"),
    "grow": lambda v: v.grow("em/0", (8, 0, 0), (0, 0, 0)),
    "rename": lambda v: v.rename("em", "moved"),
    "note": lambda v: v.set_note("late"),
    "log": lambda v: v.add_log(["late"]),
    "commit": lambda v: v.commit(),
    "keys": lambda v: v["notes"].put("a", b"late"),
    "store": lambda v: v.store.with_read_only(False).write("em/0/c/0/0/0", b"late"),
    "store doc": lambda v: v.store.with_read_only(False).write("zarr.json", b"{}"),
    "store delete": lambda v: v.store.with_read_only(False).delete_below("em"),
}


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("which", ["root", "child", "stale handle"])
def test_no_way_of_writing_gets_into_a_sealed_version(file_repo: vzarr.Repo, tmp_path: Path, which: str, how: str):
    version = file_repo.root
    paint(version)
    registry.create(version, "notes", "keyvalue")
    if which == "child":
        version = version.commit().newversion()
    if which == "stale handle":
        file_repo.authority.writer(version.uuid).finish()  # or the other would wait until it is seen to be idle
        with vzarr.open(str(tmp_path / "repo")) as other:
            other.root.commit()
    else:
        version.commit()
    before, entries = files(folder_of(version)), len(file_repo.log())
    with pytest.raises(SealedError):
        WRITES[how](version)
    assert files(folder_of(version)) == before
    assert len(file_repo.log()) == entries


# ---------------------------------------------------------------- 2: a version costs what changed


@pytest.mark.parametrize("changed", [0, 1, 7, 50])
def test_n_changed_chunks_are_n_new_objects_and_a_small_seal(file_repo: vzarr.Repo, changed: int):
    root = file_repo.root
    for scale in range(2):
        root.create_array(f"em/{scale}", dtype="u1", chunks=(4, 4, 4), shape=(64, 64, 64))
        root.write(f"em/{scale}", (0, 0, 0), np.ones((64, 64, 64), "u1"))
    root.commit()
    before = files(Path(file_repo.objects.path("nodes")))
    child = root.newversion()
    rng = np.random.default_rng(changed)
    rows = rng.choice(16**3, changed, replace=False)
    coords = [tuple(int(n) for n in np.unravel_index(row, (16, 16, 16))) for row in rows]
    child.write_chunks("em/0", {c: rng.integers(0, 255, (4, 4, 4)).astype("u1") for c in coords})
    child.commit()
    after = files(Path(file_repo.objects.path("nodes")))
    assert {key: after[key] for key in before} == before
    new = [key for key in after if key not in before]
    chunks = [key for key in new if "/c/" in key]
    assert len(chunks) == changed
    assert len(new) - changed <= (FEW if changed else 3)
    size = sum((folder_of(child).parent / key).stat().st_size for key in new if key not in chunks)
    assert size <= 10_000 + 200 * changed


# ---------------------------------------------------------------- 4: complete, or plain, or refused


@pytest.fixture
def history(file_repo: vzarr.Repo) -> vzarr.Repo:
    """A repo with a sealed root and a sealed child that changed one chunk."""
    paint(file_repo.root)
    child = file_repo.root.commit().newversion()
    child.write("em/0", (8, 8, 8), np.full((8, 8, 8), 7, np.uint64))
    child.commit()
    return file_repo


def changed() -> np.ndarray:
    data = DATA.copy()
    data[8:, 8:, 8:] = 7
    return data


def _zarr(folder: str) -> np.ndarray:
    return np.asarray(zarr.open_array(folder, mode="r")[:])


def _tensorstore(folder: str) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": folder}}
    return np.asarray(ts.open(spec, read=True, open=True).result().read().result())


def _cloudvolume(folder: str) -> np.ndarray:
    volume = CloudVolume(f"zarr3://file://{folder}", progress=False)
    return np.asarray(volume[:, :, :])[..., 0].T  # it shows x, y, z, channel


READERS = [_zarr, _tensorstore, _cloudvolume]


@pytest.mark.parametrize("read", READERS)
def test_a_root_folder_is_plain_zarr(history: vzarr.Repo, read: Callable[[str], np.ndarray]):
    assert np.array_equal(read(str(folder_of(history.root) / "zarr" / "em" / "0")), DATA)


@pytest.mark.parametrize("read", READERS)
def test_a_folder_that_inherits_is_refused(history: vzarr.Repo, read: Callable[[str], np.ndarray]):
    child = history["master"]
    array = next(path.parent for path in (folder_of(child) / "zarr").rglob("zarr.json"))
    with pytest.raises((ValueError, KeyError, NotImplementedError), match="vzarr"):
        read(str(array))


@pytest.mark.parametrize("read", READERS)
def test_a_root_that_reaches_below_zero_is_refused(file_repo: vzarr.Repo, read: Callable[[str], np.ndarray]):
    paint(file_repo.root)
    file_repo.root.write("em/0", (-8, 0, 0), DATA[:8])
    for _ in range(2):
        with pytest.raises((ValueError, KeyError, NotImplementedError), match="vzarr"):
            read(str(folder_of(file_repo.root) / "zarr" / "em" / "0"))
        file_repo.root.sealed or file_repo.root.commit()


@pytest.fixture
def url(history: vzarr.Repo, tmp_path: Path) -> Iterator[str]:
    history.close()
    with serving(tmp_path) as server:
        yield server.url


@pytest.mark.slow
def test_each_version_is_complete_over_http(history: vzarr.Repo, url: str):
    root = history.root.uuid
    for ref, expected in ((root, DATA), (f"{root}:master", changed())):
        for spec in (
            {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{url}/zarr/{ref}/em/0/"}},
            {"driver": "auto", "kvstore": f"{url}/zarr/{ref}/em/0/"},
        ):
            found = ts.open(spec, read=True, open=True).result()
            assert np.array_equal(found.read().result(), expected)
        assert np.array_equal(zarr.open_array(f"{url}/zarr/{ref}/em/0", mode="r")[:], expected)
        group = zarr.open_group(f"{url}/zarr/{ref}", mode="r")
        assert np.array_equal(group["em/0"][2:9, :, 3:], expected[2:9, :, 3:])


def test_each_version_is_complete_through_store_and_mapper(history: vzarr.Repo):
    for ref, expected in ((history.uuid, DATA), ("master", changed())):
        version = history[ref]
        assert np.array_equal(version.zarr["em/0"][:], expected)
        mapper = VersionFileSystem(version).get_mapper("")
        held = {key: bytes(mapper[key]) for key in mapper}
        store = {key: zarr.core.buffer.cpu.Buffer.from_bytes(value) for key, value in held.items()}
        plain = zarr.open_array(zarr.storage.MemoryStore(store), path="em/0", mode="r")
        assert np.array_equal(plain[:], expected)
        assert sorted(k for k in held if "/c/" in k) == [
            f"em/0/c/{z}/{y}/{x}" for z in range(2) for y in range(2) for x in range(2)
        ]
