"""A repo against a model of nested dicts: whatever happens to it, every version equals its model for ever.

The model keeps, per version, groups and arrays by path, and per array its chunks with the version that wrote each.
It knows nothing of pages, seals or leases.  Versions are compared through zarr, the fsspec mapper and HTTP.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
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
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings
from vzarr.errors import ConflictError, SealedError
from vzarr.overlay.dag import ancestors, merge_bases

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
PATHS = st.sampled_from(["a", "g/b"])
LOOSE = st.sampled_from(["notes.txt", "g/readme", "g/b.bak/x", "a/c/7/7/x"])
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

    def entry(self, path: str) -> Any:
        return self.arrays[path].metadata() if path in self.arrays else self.groups.get(path)

    def child(self, *parents: str) -> Model:
        return Model(parents, True, deepcopy(self.groups), deepcopy(self.arrays), dict(self.loose))


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
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        sealed = [n for n, m in self.models.items() if not m.open]
        self._merge(data.draw(st.lists(st.sampled_from(sealed), min_size=2, max_size=2, unique=True)))

    @precondition(lambda self: any(not m.open for m in self.models.values()))
    @rule(data=st.data())
    def diverge(self, data: st.DataObject) -> None:
        """Two branches of one version, each changed a little, are joined."""
        sealed = {n: m for n, m in self.models.items() if not m.open}
        base = data.draw(st.sampled_from([n for n, m in sealed.items() if m.arrays] or list(sealed)))
        others = [n for n, m in self.models.items() if m.open]
        heads = []
        for _ in range(2):
            self._child(self.repo[base], branch=True)
            heads.append(list(self.models)[-1])
            hidden = {n: self.models.pop(n) for n in others}
            for _ in range(data.draw(st.integers(0, 3))):
                if self.any_array():
                    change = data.draw(
                        st.sampled_from(["write", "write", "delete", "grow", "attribute", "remove", "resize"])
                    )
                    self._change(data, change)
                else:
                    self.create_array(data, data.draw(PATHS), (1, 1))
            self.models = {**hidden, **self.models}
            self.repo[heads[-1]].commit()
            self.models[heads[-1]].open = False
        self._merge(heads)

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
        else:
            self.resize(data, data.draw(st.tuples(*[st.integers(0, 3)] * 2)))

    def _merge(self, heads: list[str]) -> None:
        joined, conflicts = merged(self.models, heads)
        if not conflicts:
            self.models[self.repo.merge(heads).uuid] = joined
            return
        with pytest.raises(ConflictError) as caught:
            self.repo.merge(heads)
        assert {p for p, _ in caught.value.conflicts} == {p for p, _ in conflicts}
        if not any(box is None for _, box in conflicts):
            assert sorted(caught.value.conflicts) == sorted(conflicts)

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


def merged(models: dict[str, Model], heads: list[str]) -> tuple[Model, list[tuple[str, Any]]]:
    """What joining two versions comes to, and what stands against it."""
    parents = {n: m.parents for n, m in models.items()}
    for one, other in (heads, heads[::-1]):
        if other in ancestors(one, parents.__getitem__):
            return models[one].child(*heads), []
    first, second = (models[h] for h in heads)
    bases = [models[b] for b in merge_bases(heads, parents.__getitem__)]
    conflicts: list[tuple[str, Any]] = []
    result = Model(tuple(heads), True, {}, {}, {})

    def owner(a: Any, b: Any, before: list[Any]) -> Any:
        changed = [x for x in (a, b) if x not in before]
        if a == b or not changed:
            return a
        if len(changed) == 1:
            return changed[0]
        if None not in changed:
            for x, y in ((a, b), (b, a)):
                if y in ancestors(x, parents.__getitem__):
                    return x
        return "conflict"

    for path in sorted({p for m in (first, second) for p in (*m.groups, *m.arrays)}):
        sides = [m.entry(path) for m in (first, second)]
        before = [m.entry(path) for m in bases]
        changed = [s for s in sides if s not in before]
        arrays = [m.arrays.get(path) for m in (first, second)]
        if sides[0] == sides[1] or not changed:
            chosen = sides[0]
        elif len(changed) == 1:
            chosen = changed[0]
        elif None not in arrays and arrays[0].id == arrays[1].id and arrays[0].attrs == arrays[1].attrs:
            both = deepcopy(arrays[0])
            both.cover(arrays[1].lo, arrays[1].hi)
            chosen = both.metadata()
        else:
            conflicts.append((path, None))
            continue
        if chosen is None:
            known = [_owners(b.arrays.get(path)) for b in bases]
            if any(x is not None and _owners(x) not in known for x in arrays):
                conflicts.append((path, None))
        elif isinstance(chosen, dict):
            result.groups[path] = deepcopy(chosen)
        else:
            array = result.arrays[path] = Array(*chosen[:4], attrs=deepcopy(chosen[4]))
            same = [x for x in arrays if x is not None and x.id == array.id]
            old = [b.arrays[path] for b in bases if path in b.arrays and b.arrays[path].id == array.id]
            for coord in {c for x in same for c in x.chunks}:
                held = [None if x is None or x.id != array.id else x.chunks.get(coord, (None,))[0] for x in arrays]
                known = [b.chunks.get(coord, (None,))[0] for b in old] or [None]
                winner = owner(*held, known)
                if winner == "conflict":
                    lo = tuple(c * SIDE for c in coord)
                    conflicts.append((path, (lo, tuple(a + SIDE for a in lo))))
                elif winner is not None:
                    array.chunks[coord] = next(
                        x.chunks[coord] for x in same if x.chunks.get(coord, (None,))[0] == winner
                    )
    for key in sorted({*first.loose, *second.loose}):
        held = [m.loose.get(key, (None,))[0] for m in (first, second)]
        winner = owner(*held, [b.loose.get(key, (None,))[0] for b in bases] or [None])
        if winner == "conflict":
            conflicts.append((key, None))
        elif winner is not None:
            result.loose[key] = next(m.loose[key] for m in (first, second) if m.loose.get(key, (None,))[0] == winner)
    return result, conflicts


def _owners(array: Array | None) -> Any:
    return None if array is None else (array.id, {c: o for c, (o, _) in array.chunks.items()})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy")
def test_every_version_equals_its_model():
    run_state_machine_as_test(RepoMachine, settings=SETTINGS)
