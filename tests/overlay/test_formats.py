"""Zarr's formats under a history: each version equals the plain Zarr that the same calls make, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import TransposeCodec, ZstdCodec
from zarr.storage import MemoryStore

import vzarr
from vzarr import VersionStore
from vzarr.errors import InvalidInputError
from vzarr.overlay.care.verify import verify
from vzarr.types import registry

pytestmark = pytest.mark.filterwarnings(
    "ignore::zarr.errors.UnstableSpecificationWarning",
    "ignore::zarr.errors.ZarrUserWarning",
    "ignore:.*onsolidated metadata:UserWarning",
)

SHAPE, CHUNKS = (10, 7), (4, 3)
RECORD = np.dtype([("id", "<u4"), ("weight", "<f4")])

V3: dict[str, Any] = {"zarr_format": 3}
V2: dict[str, Any] = {"zarr_format": 2}
FORMATS: dict[str, dict[str, Any]] = {
    "v3": {**V3, "dtype": "u2"},
    "v3 sharded": {**V3, "dtype": "u2", "shards": (8, 6)},
    "v3 dots": {**V3, "dtype": "i4", "chunk_key_encoding": {"name": "default", "separator": "."}},
    "v3 keys of v2": {**V3, "dtype": "i4", "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v3 F order": {**V3, "dtype": "f4", "filters": [TransposeCodec(order=(1, 0))], "fill_value": float("nan")},
    "v3 bytes": {**V3, "dtype": "S5", "fill_value": b"-"},
    "v3 text": {**V3, "dtype": "U4"},
    "v3 strings": {**V3, "dtype": str},
    "v3 records": {**V3, "dtype": RECORD, "fill_value": (7, 0.5)},
    "v3 times": {**V3, "dtype": "datetime64[s]"},
    "v2": {**V2, "dtype": "u2"},
    "v2 slashes": {**V2, "dtype": "u2", "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v2 F order": {**V2, "dtype": "f8", "order": "F", "fill_value": float("nan")},
    "v2 filters": {**V2, "dtype": "i4", "filters": [numcodecs.Delta("<i4")], "compressors": numcodecs.LZ4()},
    "v2 strings": {**V2, "dtype": str},
    "v2 records": {**V2, "dtype": RECORD, "fill_value": (7, 0.5)},
    "v2 times": {**V2, "dtype": ">M8[ms]"},
    "v2 booleans": {**V2, "dtype": "?", "compressors": None},
}


def values(rng: random.Random, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Some values of any type."""
    numbers = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 99, shape)
    if dtype is str:
        return numbers.astype("U").astype(object)
    if dtype == RECORD:
        made = np.zeros(shape, RECORD)
        made["id"], made["weight"] = numbers, numbers / 2
        return made
    return numbers.astype("i8").astype(dtype)


@dataclass
class Twins:
    """An open version, and what plain Zarr has after the same calls."""

    version: vzarr.Version
    options: dict[str, Any]
    rng: random.Random
    plain: dict[str, bytes] = field(default_factory=dict)
    sealed: list[tuple[vzarr.Version, dict[str, bytes]]] = field(default_factory=list)
    path: str = "g/a"

    def each(self, call: Callable[[zarr.Group], Any]) -> None:
        """Do the same to both."""
        held: dict[str, Any] = {k: zarr.core.buffer.cpu.Buffer.from_bytes(v) for k, v in self.plain.items()}
        for store in (MemoryStore(held), self.version.store):
            call(zarr.open_group(store, mode="a", zarr_format=self.options["zarr_format"], use_consolidated=False))
        self.plain = {k: v.to_bytes() for k, v in held.items()}

    def create(self, path: str, **changes: Any) -> None:
        options = {"shape": SHAPE, "chunks": CHUNKS, **self.options, **changes}
        del options["zarr_format"]
        self.each(lambda g: g.create_array(path, overwrite=True, **options))

    def write(self) -> None:
        """Any box of the array."""
        version = self.version.zarr[self.path]
        lo = [self.rng.randrange(max(1, n)) for n in version.shape]
        hi = [self.rng.randint(a, n) for a, n in zip(lo, version.shape, strict=True)]
        box = tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))
        dtype = str if self.options["dtype"] is str and version.dtype.kind in "OT" else version.dtype
        data = values(self.rng, dtype, tuple(b - a for a, b in zip(lo, hi, strict=True)))
        self.each(lambda g: g[self.path].__setitem__(box, data))

    def attributes(self) -> None:
        number = self.rng.random()
        self.each(lambda g: g[self.path].attrs.update({"n": number}))
        self.each(lambda g: g.attrs.update({"n": number}))

    def grow(self) -> None:
        shape = tuple(n + self.rng.randrange(6) for n in self.version.zarr[self.path].shape)
        self.each(lambda g: g[self.path].resize(shape))

    def shrink(self) -> None:
        shape = tuple(self.rng.randint(1, max(1, n)) for n in self.version.zarr[self.path].shape)
        self.each(lambda g: g[self.path].resize(shape))

    def rename(self) -> None:
        """The array, or the group that it is in."""
        number = f"{self.rng.randrange(1 << 20)}"
        group, _, name = self.path.partition("/")
        source, target = self.rng.choice([(group, f"g{number}"), (self.path, f"{group}/a{number}")])
        self.version.rename(source, target)
        self.plain = {
            target + k[len(source) :] if k == source or k.startswith(f"{source}/") else k: v
            for k, v in self.plain.items()
        }
        self.path = target if "/" in target else f"{target}/{name}"

    def other_type(self) -> None:
        self.create(self.path, dtype="u1", fill_value=3, filters="auto")
        self.write()

    def other_codec(self) -> None:
        # Not gzip, whose bytes hold the time.
        plain = self.options["zarr_format"] == 3
        self.create(self.path, compressors=ZstdCodec(level=3) if plain else numcodecs.Zlib(1))
        self.write()

    def other_grid(self) -> None:
        self.create(self.path, chunks=(3, 5), shards=None)
        self.write()

    def delete(self) -> None:
        """The array, and one like it at its place that has nothing."""
        self.each(lambda g: g.__delitem__(self.path))
        self.create(self.path)

    def consolidate(self) -> None:
        def call(group: zarr.Group) -> None:
            zarr.consolidate_metadata(group.store, zarr_format=self.options["zarr_format"])

        self.each(call)

    def commit(self) -> None:
        self.sealed.append((self.version.commit(), dict(self.plain)))
        self.version = self.version.newversion()


STEPS = ("write", "attributes", "grow", "shrink", "rename", "other_type", "other_codec", "other_grid", "delete")


def keys(store: VersionStore) -> dict[str, bytes]:
    """All that a store has."""
    return {key: store.read(key)[0] for key in store.keys("")}


def lived(repo: vzarr.Repo, name: str, seed: int, times: int) -> Twins:
    """A history with every kind of step so many times, in any order."""
    rng = random.Random(f"{name} {seed}")
    repo.root.store.delete_sync("zarr.json")
    twins = Twins(repo.root, FORMATS[name], rng)
    twins.create("g/a")
    twins.create("beside", shape=(), chunks=(), shards=None, filters="auto")
    order = list(STEPS) * times
    rng.shuffle(order)
    for step in order:
        getattr(twins, step)()
        twins.write()
        if rng.random() < 0.6:
            twins.commit()
    twins.consolidate()
    twins.commit()
    return twins


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("seed", "times"), [(0, 1), pytest.param(1, 4, marks=pytest.mark.exhaustive)])
def test_every_version_is_the_plain_zarr_of_its_time(file_repo: vzarr.Repo, name: str, seed: int, times: int):
    twins = lived(file_repo, name, seed, times)
    assert len(twins.sealed) > 2
    with vzarr.open(file_repo.url) as again:
        for version, plain in [*twins.sealed, (twins.version, twins.plain)]:
            assert keys(again[version.uuid].store) == plain


def merged(a: dict[str, bytes], b: dict[str, bytes], base: dict[str, bytes]) -> dict[str, bytes]:
    """What each side changed, on what neither did."""
    found = dict(base)
    for side in (a, b):
        found.update({k: v for k, v in side.items() if base.get(k) != v})
        for key in base.keys() - side.keys():
            del found[key]
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_branches_of_any_format_merge_by_chunks(name: str):
    repo = vzarr.create(f"memory://formats-{name.replace(' ', '-')}")
    twins = Twins(repo.root, FORMATS[name], random.Random(name))
    twins.plain = keys(repo.root.store)
    if twins.options["zarr_format"] == 2:
        twins.each(lambda g: g.create_group("g"))
    twins.create("g/a", shape=(24, 18))
    dtype = str if twins.options["dtype"] is str else np.dtype(twins.options["dtype"])
    data = values(twins.rng, dtype, (24, 18))
    twins.each(lambda g: g["g/a"].__setitem__(..., data))
    base = dict(twins.plain)
    repo.root.commit()
    sides = []
    for branch, box in (("left", np.s_[:8, :6]), ("right", np.s_[16:, 12:])):
        twins.version, twins.plain = repo.root.branch(branch), dict(base)
        twins.each(lambda g, box=box: g["g/a"].__setitem__(box, data[::-1, ::-1][box]))
        twins.create(f"g/{branch}")
        twins.version.commit()
        sides.append(twins.plain)
    result = repo.merge(["left", "right"])
    assert keys(result.store) == merged(*sides, base)
    assert keys(result.commit().store) == merged(*sides, base)


@pytest.mark.parametrize("inherited", [False, True])
def test_nothing_of_zarr_3_is_made_where_zarr_would_not_see_it(file_repo: vzarr.Repo, tmp_path: Path, inherited: bool):
    version = file_repo.root
    group = zarr.open_group(version.store, mode="w", zarr_format=2).create_group("g")
    group.create_array("a", shape=(8,), chunks=(4,), dtype="u1")[:] = 1
    if inherited:
        version = version.commit().newversion()
    before = sorted(version.store.keys())
    zarr.create_array(tmp_path / "source", shape=(4,), chunks=(2,), dtype="u1")
    makes = [
        lambda: version.create_array("b", dtype="u1", chunks=(4,)),
        lambda: version.create_array("g/h/b", dtype="u1", chunks=(4,)),
        lambda: version.create_group("g/h"),
        lambda: registry.create(version, "seg", "labelmap"),
        *([] if inherited else [lambda: file_repo.adopt("em", str(tmp_path / "source"), typename="zarr")]),
    ]
    for make in makes:
        with pytest.raises(InvalidInputError, match=r"make '.*' by zarr"):
            make()
    assert sorted(version.store.keys()) == before
    assert not file_repo.state.instances
    version.create_group("g")
    version.create_array("g/a", dtype="u1", chunks=(4,))
    version.create_group("g", {"said": 1})
    version.rename("g", "h")
    registry.create(version, "notes", "keyvalue").put("k", b"1")
    found = zarr.open_group(version.store, mode="r", zarr_format=2)["h"]
    assert (dict(found.attrs), found["a"][:].tolist()) == ({"said": 1}, [1] * 8)


@pytest.mark.parametrize("made_in", ["root", "child"])
def test_the_array_may_be_the_store_itself(file_repo: vzarr.Repo, made_in: str):
    version = file_repo.root
    version.store.delete_sync("zarr.json")
    if made_in == "child":
        version = version.commit().newversion()
    zarr.create_array(version.store, shape=(8,), chunks=(4,), dtype="u1")[:] = 1
    child = version.commit().newversion()
    zarr.open_array(child.store)[4:] = 2
    zarr.open_array(child.store).attrs["said"] = 1
    for found in (child, child.commit(), child.newversion()):
        assert sorted(found.store.keys()) == ["c/0", "c/1", "zarr.json"]
        array = zarr.open_array(found.store, mode="r")
        assert (array[:].tolist(), dict(array.attrs)) == ([1] * 4 + [2] * 4, {"said": 1})
        assert found.owners("", [(0,), (1,)]) == [version.uuid, child.uuid]
    found.store.delete_below("c")
    assert sorted(found.commit().store.keys()) == ["zarr.json"]
    assert not list(verify(file_repo.objects))
    assert sorted(version.store.keys()) == ["c/0", "c/1", "zarr.json"]


@pytest.mark.parametrize("depth", [0, 1])
def test_documents_of_both_formats_lie_beside_each_other(file_repo: vzarr.Repo, depth: int):
    """As on a disk: readers of Zarr 3 come first, and nothing that was written is lost."""
    version = file_repo.root
    if depth:
        version = version.commit().newversion()
    array = version.zarr.create_array("a", shape=(8,), chunks=(4,), dtype="u1")
    array[:] = 1
    held = {"a/.zattrs": b'{"k": 1}', "a/.zgroup": b'{"zarr_format": 2}', ".zgroup": b'{"zarr_format": 2}'}
    held |= {"b/.zgroup": b'{"zarr_format": 2}', "b/.zattrs": b"{}"}
    for key, data in held.items():
        version.store.write(key, data)
    version.store.write("b/zarr.json", version.store.read("zarr.json")[0])
    for found in (version, version.commit(), version.newversion()):
        keys = {"zarr.json", "a/zarr.json", "a/c/0", "a/c/1", "b/zarr.json"}
        assert set(found.store.keys()) == keys | set(held)
        assert all(found.store.read(key) == (data, len(data)) for key, data in held.items())
        assert found.zarr["a"][:].tolist() == [1] * 8
        assert sorted(found.zarr.group_keys()) == ["b"]


def test_what_is_no_metadata_takes_the_place_of_one_document_alone(version: vzarr.Version):
    version.store.delete_sync("zarr.json")
    group = zarr.open_group(version.store, mode="a", zarr_format=2)
    group.create_array("a", shape=(8,), chunks=(4,), dtype="u1", compressors=None, attributes={"k": 1})[:] = 1
    version.store.write("a/.zattrs", b"[")
    for found in (version, version.commit(), version.newversion()):
        assert found.store.read("a/.zattrs") == (b"[", 1)
        assert found.store.read("a/0") == (b"\1" * 4, 4)
        assert found.has_array("a")
    found.store.write("a/.zarray", b"nonsense")
    assert not found.has_array("a")
    assert found.commit().store.read("a/0") == (b"\1" * 4, 4)
