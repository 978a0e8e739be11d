"""A repo against a model of nested dicts: whatever happens to it, every version equals its model for ever.

The model keeps, per version, groups and arrays by path, and per array its chunks with the version that wrote each.
It knows nothing of pages, seals or leases.  Versions are compared through zarr, the fsspec mapper and HTTP.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import vzarr
from tests.properties import dense
from tests.properties.dense import Thing, Whole
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings
from vzarr.errors import ConflictError, SealedError
from vzarr.overlay.threeway.disputes import Dispute, Held
from vzarr.types import registry
from vzarr.types.keyvalue import KeyValue

# Loaded here first: with httpx, not its successor, beneath it the module warns once, and warnings are errors.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Using `httpx` with")
    from starlette.testclient import TestClient

MANY = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SETTINGS = settings(
    max_examples=300 if MANY else 25,
    stateful_step_count=50 if MANY else 30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SIDE = 4
PATHS = st.sampled_from(["a", "g/b", "c"])
KEYS = st.sampled_from(["k", "l"])
STRATEGIES = st.sampled_from(["fail", "ours", "theirs", "asked"])
LOOSE = st.sampled_from(["notes.txt", "g/readme", "g/b.bak/x", "a/c/7/7/x"])
CHANGES = [
    *("write", "write", "delete", "grow", "attribute", "remove", "resize"),
    *("again", "rename", "key", "no key"),
]
COORDS = st.tuples(*[st.integers(-2, 2)] * 2)
Coord = tuple[int, ...]


@dataclass
class Array:
    """One array: who made it, its window in voxels, its chunks with their owners, and its attributes."""

    id: Any
    fill: int
    lo: Coord
    hi: Coord
    attrs: dict[str, Any] = field(default_factory=dict)
    chunks: dict[Coord, tuple[Any, np.ndarray]] = field(default_factory=dict)

    def metadata(self) -> tuple[Any, ...]:
        return self.id, self.fill, self.lo, self.hi, self.attrs

    def cover(self, lo: Coord, hi: Coord) -> None:
        self.lo = tuple(min(a, b) for a, b in zip(self.lo, lo, strict=True))
        self.hi = tuple(max(a, b) for a, b in zip(self.hi, hi, strict=True))

    def grid(self) -> list[Coord]:
        return list(product(*[range(a // SIDE, b // SIDE) for a, b in zip(self.lo, self.hi, strict=True)]))

    def voxels(self) -> np.ndarray:
        whole = np.full([b - a for a, b in zip(self.lo, self.hi, strict=True)], self.fill, "u2")
        for coord in self.grid():
            if coord in self.chunks:
                whole[self._place(coord)] = self.chunks[coord][1]
        return whole

    def set(self, owner: Any, lo: Coord, values: np.ndarray, *, drop_empty: bool) -> None:
        """Write a box inside the window; zarr drops chunks that come to hold nothing but the fill value."""
        whole = self.voxels()
        start = tuple(a - o for a, o in zip(lo, self.lo, strict=True))
        whole[tuple(slice(a, a + n) for a, n in zip(start, values.shape, strict=True))] = values
        end = [a + n for a, n in zip(lo, values.shape, strict=True)]
        for coord in product(*[range(a // SIDE, -(-b // SIDE)) for a, b in zip(lo, end, strict=True)]):
            chunk = whole[self._place(coord)].copy()
            if drop_empty and (chunk == self.fill).all():
                self.chunks.pop(coord, None)
            else:
                self.chunks[coord] = owner, chunk

    def _place(self, coord: Coord) -> tuple[slice, ...]:
        return tuple(slice(c * SIDE - o, c * SIDE - o + SIDE) for c, o in zip(coord, self.lo, strict=True))


@dataclass
class Model:
    """One version."""

    parents: tuple[str, ...] = ()
    open: bool = True
    groups: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {}})
    arrays: dict[str, Array] = field(default_factory=dict)
    loose: dict[str, tuple[Any, bytes]] = field(default_factory=dict)
    keys: dict[str, tuple[Any, bytes]] = field(default_factory=dict)

    def child(self, *parents: str) -> Model:
        return Model(parents, True, deepcopy(self.groups), deepcopy(self.arrays), dict(self.loose), dict(self.keys))

    def whole(self) -> Whole:
        """The same for the merge rule."""
        things: dict[Any, Thing] = {("group", path): Thing(path, attrs) for path, attrs in self.groups.items()}
        for path, a in self.arrays.items():
            owners = {coord: owner for coord, (owner, _) in a.chunks.items()}
            things["array", a.id, a.fill] = Thing(path, a.attrs, (a.lo, a.hi), owners)
        loose = {key: owner for key, (owner, _) in self.loose.items()}
        return Whole(things, loose, {key: frozenset([owner]) for key, (owner, _) in self.keys.items()})


class RepoMachine(RuleBasedStateMachine):
    """Random histories."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="vzarr-model-"))
        self.place, self.keys = self.settle()
        self.hub = Hub(self.place)
        self.http = TestClient(create_app(Settings(), self.hub), base_url="http://localhost")
        self.made = 0

    def settle(self) -> tuple[str, str | None]:
        """Where repos are made, and where their keys lie."""
        return str(self.folder), None

    @initialize(fill=st.sampled_from([0, 9]), adopted=st.none() | st.sets(COORDS.filter(lambda c: min(c) >= 0)))
    def init(self, fill: int, adopted: set[Coord] | None) -> None:
        self.repo = vzarr.create(f"{self.place}/repo", keys=self.keys)
        registry.create(self.repo.root, "kv", "keyvalue")
        self.models = {self.repo.uuid: Model()}
        self.fill = fill
        if adopted is not None:
            self._adopt(adopted)

    def _adopt(self, coords: set[Coord]) -> None:
        """The root begins with an array that lies elsewhere and has some of its chunks."""
        source, chunks = str(self.folder / "source.zarr"), (SIDE, SIDE)
        array = zarr.create_array(
            source, shape=(2 * SIDE, 2 * SIDE), chunks=chunks, dtype="u2", compressors=None, fill_value=self.fill
        )
        held = {c: np.full(chunks, 100 + n, "u2") for n, c in enumerate(sorted(c for c in coords if max(c) < 2))}
        for (y, x), chunk in held.items():
            array[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE] = chunk
        self.repo.adopt("g", source, typename="zarr")
        model, root = self.models[self.repo.uuid], self.repo.uuid
        model.groups["g"] = {}
        model.arrays["g/0"] = Array((root, "g/0"), self.fill, (0, 0), array.shape)
        model.arrays["g/0"].chunks = {c: (root, chunk) for c, chunk in held.items()}

    def teardown(self) -> None:
        try:
            if hasattr(self, "repo"):
                self.check_all()
                self.repo.close()
        finally:
            self.hub.close()
            self.http.close()
            shutil.rmtree(self.folder)

    # -- drawing

    def pick_open(self, data: st.DataObject) -> tuple[vzarr.Version, Model]:
        node = data.draw(st.sampled_from([n for n, m in self.models.items() if m.open]), label="version")
        return self.repo[node], self.models[node]

    def pick_array(self, data: st.DataObject) -> tuple[vzarr.Version, str, Array]:
        found = [(n, p) for n, m in self.models.items() if m.open for p in m.arrays]
        node, path = data.draw(st.sampled_from(found), label="array")
        return self.repo[node], path, self.models[node].arrays[path]

    def any_open(self) -> bool:
        return any(m.open for m in self.models.values())

    def any_array(self) -> bool:
        return any(m.open and m.arrays for m in self.models.values())

    # -- changing an open version

    @precondition(any_open)
    @rule(data=st.data(), path=PATHS, shape=st.tuples(*[st.integers(0, 2)] * 2))
    def create_array(self, data: st.DataObject, path: str, shape: Coord) -> None:
        version, model = self.pick_open(data)
        shape = tuple(n * SIDE for n in shape)
        version.create_array(
            path, dtype="u2", chunks=(SIDE, SIDE), codecs=(), fill_value=self.fill, shape=shape, dimension_names=None
        )
        if path not in model.arrays:
            self.made += 1
            # In a root an array that is made again is the same one: its folder is all there is.
            name = (version.uuid, path) if not model.parents else (version.uuid, path, self.made)
            model.arrays[path] = Array(name, self.fill, (0, 0), shape)
        for above in ["", "g"] if path == "g/b" else [""]:
            model.groups.setdefault(above, {})

    @precondition(any_array)
    @rule(data=st.data(), seed=st.integers(0, 99), use_zarr=st.booleans())
    def write_box(self, data: st.DataObject, seed: int, use_zarr: bool) -> None:
        version, path, array = self.pick_array(data)
        if not array.grid():
            return
        box = [
            sorted(data.draw(st.tuples(*[st.integers(a, b - 1)] * 2))) for a, b in zip(array.lo, array.hi, strict=True)
        ]
        lo = tuple(a for a, _ in box)
        values = np.random.default_rng(seed).integers(0, 60000, [b - a + 1 for a, b in box]).astype("u2")
        if seed % 4 == 0:
            values[:] = array.fill
        if use_zarr:
            start = [a - o for a, o in zip(lo, array.lo, strict=True)]
            where = tuple(slice(a, a + n) for a, n in zip(start, values.shape, strict=True))
            version.zarr[path][where] = values
        else:
            version.write(path, lo, values)
        array.set(version.uuid, lo, values, drop_empty=use_zarr)

    @precondition(any_array)
    @rule(data=st.data(), coords=st.sets(COORDS, min_size=1, max_size=3), value=st.integers(0, 9))
    def write_chunks(self, data: st.DataObject, coords: set[Coord], value: int) -> None:
        version, path, array = self.pick_array(data)
        chunk = np.full((SIDE, SIDE), value, "u2")
        version.write_chunks(path, dict.fromkeys(coords, chunk))
        for coord in coords:
            array.cover(tuple(c * SIDE for c in coord), tuple((c + 1) * SIDE for c in coord))
        for coord in coords:
            array.chunks[coord] = version.uuid, chunk

    @precondition(any_array)
    @rule(data=st.data(), coords=st.sets(COORDS, min_size=1, max_size=6))
    def delete_chunks(self, data: st.DataObject, coords: set[Coord]) -> None:
        version, path, array = self.pick_array(data)
        version.delete_chunks(path, coords)
        for coord in coords:
            array.chunks.pop(coord, None)

    @precondition(any_array)
    @rule(data=st.data(), shape=st.tuples(*[st.integers(0, 4)] * 2))
    def resize(self, data: st.DataObject, shape: Coord) -> None:
        version, path, array = self.pick_array(data)
        shape = tuple(n * SIDE for n in shape)
        version.zarr[path].resize(shape)
        before = set(array.grid())
        array.hi = tuple(a + n for a, n in zip(array.lo, shape, strict=True))
        for coord in before - set(array.grid()):
            array.chunks.pop(coord, None)

    @precondition(any_array)
    @rule(data=st.data(), before=st.tuples(*[st.integers(0, 1)] * 2), after=st.tuples(*[st.integers(0, 1)] * 2))
    def grow(self, data: st.DataObject, before: Coord, after: Coord) -> None:
        version, path, array = self.pick_array(data)
        if max(np.abs([array.lo, array.hi]).ravel()) > 5 * SIDE:
            return
        version.grow(path, [n * SIDE for n in before], [n * SIDE for n in after])
        array.lo = tuple(a - n * SIDE for a, n in zip(array.lo, before, strict=True))
        array.hi = tuple(b + n * SIDE for b, n in zip(array.hi, after, strict=True))

    @precondition(any_array)
    @rule(data=st.data())
    def delete_array(self, data: st.DataObject) -> None:
        version, path, _ = self.pick_array(data)
        del version.zarr[path]
        model = self.models[version.uuid]
        del model.arrays[path]
        for key in [k for k in model.loose if k.startswith(f"{path}/")]:
            del model.loose[key]

    @precondition(any_open)
    @rule(data=st.data())
    def delete_group(self, data: st.DataObject) -> None:
        version, model = self.pick_open(data)
        if "g" in model.groups:
            del version.zarr["g"]
            del model.groups["g"]
            for held in (model.arrays, model.loose):
                for key in [k for k in held if k.startswith("g/")]:
                    del held[key]

    @precondition(any_open)
    @rule(data=st.data(), value=st.integers(0, 3))
    def set_attribute(self, data: st.DataObject, value: int) -> None:
        version, model = self.pick_open(data)
        path = data.draw(st.sampled_from(sorted({**model.groups, **model.arrays})))
        (version.zarr[path] if path else version.zarr).attrs["seen"] = value
        attrs = model.arrays[path].attrs if path in model.arrays else model.groups[path]
        attrs["seen"] = value

    @precondition(any_open)
    @rule(data=st.data(), key=LOOSE, value=st.binary(max_size=40))
    def write_key(self, data: st.DataObject, key: str, value: bytes) -> None:
        version, model = self.pick_open(data)
        version.store.write(key, value)
        model.loose[key] = version.uuid, value

    @precondition(any_open)
    @rule(data=st.data(), key=LOOSE)
    def delete_key(self, data: st.DataObject, key: str) -> None:
        version, model = self.pick_open(data)
        version.store.delete_sync(key)
        model.loose.pop(key, None)

    @precondition(any_array)
    @rule(data=st.data(), onto=PATHS)
    def rename(self, data: st.DataObject, onto: str) -> None:
        version, path, array = self.pick_array(data)
        model = self.models[version.uuid]
        taken = {*model.arrays, *model.loose}
        if any(t == onto or t.startswith(f"{onto}/") for t in taken) or path == onto:
            return
        version.create_group(onto.rpartition("/")[0])
        version.rename(path, onto)
        model.groups.setdefault(onto.rpartition("/")[0], {})
        model.arrays[onto] = model.arrays.pop(path)
        if not model.parents:
            array.id = version.uuid, onto
        for key in [k for k in model.loose if k.startswith(f"{path}/")]:
            model.loose[onto + key[len(path) :]] = version.uuid, model.loose.pop(key)[1]

    @precondition(any_open)
    @rule(data=st.data(), key=KEYS, value=st.binary(max_size=4))
    def put_key(self, data: st.DataObject, key: str, value: bytes) -> None:
        version, model = self.pick_open(data)
        version["kv"].put(key, value)
        model.keys[key] = version.uuid, value

    @precondition(any_open)
    @rule(data=st.data(), key=KEYS)
    def remove_key(self, data: st.DataObject, key: str) -> None:
        version, model = self.pick_open(data)
        version["kv"].delete(key)
        model.keys.pop(key, None)

    # -- history

    @precondition(any_open)
    @rule(data=st.data(), branch=st.booleans())
    def commit(self, data: st.DataObject, branch: bool) -> None:
        version, model = self.pick_open(data)
        store = version.store
        version.commit("done")
        model.open = False
        with pytest.raises(SealedError):
            store.write("notes.txt", b"late")
        self._child(version, branch=branch)

    @precondition(lambda self: any(not m.open for m in self.models.values()))
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from([n for n, m in self.models.items() if not m.open]))
        self._child(self.repo[node], branch=True)

    def _child(self, version: vzarr.Version, *, branch: bool) -> None:
        self.made += 1
        child = version.branch(f"b{self.made}") if branch else version.newversion()
        self.models[child.uuid] = self.models[version.uuid].child(version.uuid)

    @precondition(lambda self: sum(not m.open for m in self.models.values()) > 1)
    @rule(data=st.data(), strategy=STRATEGIES)
    def merge(self, data: st.DataObject, strategy: str) -> None:
        sealed = [n for n, m in self.models.items() if not m.open]
        self._merge(data.draw(st.lists(st.sampled_from(sealed), min_size=2, max_size=3, unique=True)), strategy)

    @precondition(lambda self: any(not m.open for m in self.models.values()))
    @rule(data=st.data(), count=st.integers(2, 3), strategy=STRATEGIES)
    def diverge(self, data: st.DataObject, count: int, strategy: str) -> None:
        """Branches of one version, each changed a little, are joined."""
        sealed = {n: m for n, m in self.models.items() if not m.open}
        base = data.draw(st.sampled_from([n for n, m in sealed.items() if m.arrays] or list(sealed)))
        heads = []
        for _ in range(count):
            self._child(self.repo[base], branch=True)
            heads.append(self._changed(data, list(self.models)[-1]))
        self._merge(heads, strategy)

    @precondition(lambda self: sum(not m.open for m in self.models.values()) > 1)
    @rule(data=st.data(), first=STRATEGIES, second=STRATEGIES, third=STRATEGIES)
    def cross(self, data: st.DataObject, first: str, second: str, third: str) -> None:
        """Two versions are joined twice, and what came of it is joined."""
        sealed = [n for n, m in self.models.items() if not m.open]
        heads = data.draw(st.lists(st.sampled_from(sealed), min_size=2, max_size=2, unique=True))
        made = [self._merge(h, s) for h, s in ((heads, first), (heads[::-1], second))]
        if None not in made:
            self._merge([self._changed(data, m) for m in made if m is not None], third)

    def _changed(self, data: st.DataObject, head: str) -> str:
        """Change an open version a little and seal it."""
        others = {n: self.models.pop(n) for n in [n for n, m in self.models.items() if m.open and n != head]}
        for _ in range(data.draw(st.integers(0, 3))):
            if self.any_array():
                self._change(data, data.draw(st.sampled_from(CHANGES)))
            else:
                self.create_array(data, data.draw(PATHS), (1, 1))
        self.models = {**others, **self.models}
        self.repo[head].commit()
        self.models[head].open = False
        return head

    def _change(self, data: st.DataObject, change: str) -> None:
        coords = data.draw(st.sets(st.sampled_from([(0, 0), (0, 1), (-1, 0)]), min_size=1))
        if change == "write":
            self.write_chunks(data, coords, data.draw(st.integers(0, 9)))
        elif change == "delete":
            self.delete_chunks(data, coords)
        elif change == "grow":
            self.grow(data, (0, 1), (1, 0))
        elif change == "attribute":
            self.set_attribute(data, data.draw(st.integers(0, 3)))
        elif change == "remove":
            self.delete_array(data)
        elif change == "again":
            version, path, _ = self.pick_array(data)
            self.delete_array(_Fixed(version.uuid, path))
            self.create_array(_Fixed(version.uuid), path, (1, 1))
        elif change == "rename":
            self.rename(data, data.draw(PATHS))
        elif change == "key":
            self.put_key(data, data.draw(KEYS), data.draw(st.binary(max_size=4)))
        elif change == "no key":
            self.remove_key(data, data.draw(KEYS))
        else:
            self.resize(data, data.draw(st.tuples(*[st.integers(0, 3)] * 2)))

    def _merge(self, heads: list[str], strategy: str) -> str | None:
        """Merge, and give the new version, which the model has too; None where conflicts stood against it."""
        said = "ours" if strategy == "asked" else strategy
        joiner = dense.Joiner(lambda n: self.models[n].whole(), lambda n: self.models[n].parents)
        outcome = dense.merge(joiner, heads, said, _box_of)
        if outcome.conflicts and strategy == "fail":
            with pytest.raises(ConflictError) as caught:
                self.repo.merge(heads)
            assert set(self.repo.merge_conflicts(heads)) == set(caught.value.conflicts)
            if all(box is not None or place == "kv" for place, box in outcome.conflicts):
                assert set(caught.value.conflicts) == outcome.conflicts
            return None
        merged = self.repo.merge(heads, first_who_changed if strategy == "asked" else strategy)
        self.models[merged.uuid] = self._modelled(merged.uuid, heads, outcome)
        return merged.uuid

    def _modelled(self, node: str, heads: list[str], outcome: dense.Outcome) -> Model:
        model = Model(tuple(heads), True, {}, {})
        sides = [self.models[h] for h in heads]
        for path, (name, thing) in outcome.things.items():
            if name[0] == "group":
                model.groups[path] = dict(thing.attrs)
                continue
            _, identity, fill = name
            stored = {
                (coord, owner): value
                for side in sides
                for array in side.arrays.values()
                if array.id == identity
                for coord, (owner, value) in array.chunks.items()
            }
            chunks = {coord: (owner, stored[coord, owner]) for coord, owner in thing.chunks.items()}
            model.arrays[path] = Array(identity, fill, *thing.window, dict(thing.attrs), chunks)
        for key, owner in outcome.loose.items():
            model.loose[key] = next(s.loose[key] for s in sides if s.loose.get(key, (None,))[0] == owner)
        for key, seen in outcome.keys.items():
            owner, value = next(s.keys[key] for s in sides if key in s.keys and s.keys[key][0] in seen)
            # What was decided about a conflict is a write of the merge.
            model.keys[key] = (node if ("kv", key) in outcome.conflicts else owner), value
        return model

    @rule()
    def reopen(self) -> None:
        self.repo.close()
        self.repo = vzarr.open(f"{self.place}/repo")

    # -- comparing

    @invariant()
    def check_open_versions(self) -> None:
        for node, model in getattr(self, "models", {}).items():
            if model.open:
                check_store(self.repo[node], model)

    @rule()
    def check_all(self) -> None:
        for node, model in self.models.items():
            version = self.repo[node]
            check_store(version, model)
            check_hierarchy(version.zarr, model)
            check_hierarchy(zarr.open(fsspec.get_mapper("vzarr://", repo=version), mode="r"), model)
            self.check_http(node, model)

    def check_http(self, node: str, model: Model) -> None:
        for path, array in model.arrays.items():
            for coord in array.grid():
                shown = [c - o // SIDE for c, o in zip(coord, array.lo, strict=True)]
                answer = self.http.get(f"/zarr/{node}/{path}/c/{shown[0]}/{shown[1]}")
                if coord in array.chunks:
                    assert answer.content == array.chunks[coord][1].tobytes()
                else:
                    assert answer.status_code == 404
            shape = [b - a for a, b in zip(array.lo, array.hi, strict=True)]
            assert self.http.get(f"/zarr/{node}/{path}/zarr.json").json()["shape"] == shape
        for key, (_, value) in model.loose.items():
            assert self.http.get(f"/zarr/{node}/{key}").content == value


def check_store(version: vzarr.Version, model: Model) -> None:
    """Every key, and voxels by region, and who wrote each chunk."""
    keys = {f"{p}/zarr.json".lstrip("/") for p in (*model.groups, *model.arrays)} | set(model.loose)
    for path, array in model.arrays.items():
        shift = [o // SIDE for o in array.lo]
        for coord in array.chunks:
            # After a merge some may lie outside the window: one side wrote what the other cut off.
            shown = [c - s for c, s in zip(coord, shift, strict=True)]
            keys |= {f"{path}/c/{'/'.join(map(str, shown))}"} if min(shown) >= 0 else set()
        assert sorted(map(tuple, version.chunk_coords(path).tolist())) == sorted(array.chunks)
        lo, hi = tuple(a - 3 for a in array.lo), tuple(b + 3 for b in array.hi)
        found = version.read(path, lo, hi)
        assert np.array_equal(found, np.pad(array.voxels(), 3, constant_values=array.fill))
        assert version.owners(path, list(array.chunks)) == [o for o, _ in array.chunks.values()]
    assert sorted(version.store.keys()) == sorted(keys)
    for key, (_, value) in model.loose.items():
        assert version.store.read(key) == (value, len(value))
    kv = version["kv"]
    assert isinstance(kv, KeyValue)
    assert dict(kv.items("a", "z")) == {key: value for key, (_, value) in model.keys.items()}


def check_hierarchy(group: zarr.Group, model: Model) -> None:
    """Groups, arrays, attributes and values, as zarr sees them."""
    members = dict(group.members(max_depth=None))
    assert set(members) == {*model.groups, *model.arrays} - {""}
    assert dict(group.attrs) == model.groups[""]
    for path, attrs in model.groups.items():
        assert not path or dict(members[path].attrs) == attrs
    for path, array in model.arrays.items():
        attrs = dict(members[path].attrs)
        assert attrs.pop("vzarr_origin", [0, 0]) == list(array.lo)
        assert attrs == array.attrs
        assert np.array_equal(members[path][...], array.voxels())


def first_who_changed(dispute: Dispute) -> Held:
    """A resolver that does what the strategy ``ours`` does, and looks at everything."""
    for held in (*dispute.sides, *dispute.bases):
        with suppress(ConflictError):
            assert held.value is None or isinstance(held.value, bytes | dict | np.ndarray)
    return dispute.sides[dispute.changed[0]]


def _box_of(coord: Coord) -> tuple[Coord, Coord]:
    lo = tuple(c * SIDE for c in coord)
    return lo, tuple(a + SIDE for a in lo)


class _Fixed:
    """Draws what a rule is meant to have."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def draw(self, _strategy: Any, label: Any = None) -> Any:
        return self.values if label == "array" else self.values[0]


@pytest.mark.slow
@pytest.mark.timeout(7200 if MANY else 300)
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy")
def test_every_version_equals_its_model():
    run_state_machine_as_test(RepoMachine, settings=SETTINGS)
