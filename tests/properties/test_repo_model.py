"""A repo against a model of nested dicts: whatever happens to it, every version equals its model for ever.

Versions are compared through the store, zarr, the fsspec mapper and HTTP.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from contextlib import suppress
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
from tests.properties.model import KINDS, Array, Coord, Kind, Model, check_hierarchy, check_store
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.config import Settings
from vzarr.errors import ConflictError, SealedError
from vzarr.overlay.threeway.disputes import Dispute, Held
from vzarr.types import registry

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
PATHS = st.sampled_from(["a", "g/b", "c", "h/b"])
GROUPS = ["g", "h"]
KEYS = st.sampled_from(["k", "l"])
STRATEGIES = st.sampled_from(["fail", "ours", "theirs", "asked"])
LOOSE = st.sampled_from(["notes.txt", "g/readme", "g/b.bak/x", "a/c/7/7/x"])
CHANGES = [
    *("write", "write", "delete", "grow", "attribute", "remove", "resize", "cut"),
    *("again", "other", "rename", "rename group", "key", "no key"),
]
SMALL = st.tuples(*[st.integers(0, 2)] * 2)
COORDS = st.tuples(*[st.integers(-2, 2)] * 2)


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

    @initialize(fill=st.sampled_from([0, 9]), held=st.sets(SMALL.filter(lambda c: max(c) < 2)), adopted=st.booleans())
    def init(self, fill: int, held: set[Coord], adopted: bool) -> None:
        self.repo = vzarr.create(f"{self.place}/repo", keys=self.keys)
        registry.create(self.repo.root, "kv", "keyvalue")
        self.models = {self.repo.uuid: Model()}
        self.kinds = [Kind(k.dtype, k.side, k.packed, fill) for k in KINDS]
        self.source, self.held = str(self.folder / "source.zarr"), held
        if adopted:
            self.adopt("g")

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

    @precondition(lambda self: self.models[self.repo.uuid].open)
    @rule(path=st.sampled_from(GROUPS))
    def adopt(self, path: str) -> None:
        """The root takes in an array that lies elsewhere and has some of its chunks."""
        model, root, kind = self.models[self.repo.uuid], self.repo.uuid, self.kinds[0]
        if model.taken(path):
            return
        make_source(self.source, kind, self.held)
        self.repo.adopt(path, self.source, typename="zarr")
        chunks = {c: (root, kind.chunk(100 + n)) for n, c in enumerate(sorted(self.held))}
        model.groups[path] = {}
        model.groups.setdefault("", {})
        model.arrays[f"{path}/0"] = Array((root, f"{path}/0"), kind, (0, 0), (2 * kind.side,) * 2, {}, chunks)

    @precondition(any_open)
    @rule(data=st.data(), path=PATHS, shape=SMALL)
    def create_array(self, data: st.DataObject, path: str, shape: Coord) -> None:
        version, model = self.pick_open(data)
        kind = data.draw(st.sampled_from(self.kinds), label="kind")
        shape = tuple(n * kind.side for n in shape)
        version.create_array(
            path, dtype=kind.dtype, chunks=(kind.side,) * 2, codecs=kind.compressors, fill_value=kind.fill, shape=shape,
            dimension_names=None,
        )  # fmt: skip
        if path not in model.arrays:
            self._made(version, model, path, kind, shape)

    def _made(self, version: vzarr.Version, model: Model, path: str, kind: Kind, shape: Coord) -> None:
        self.made += 1
        # In a root an array that is made again is the same one: its folder is all there is.
        name = (version.uuid, path) if not model.parents else (version.uuid, path, self.made)
        model.arrays[path] = Array(name, kind, (0, 0), shape)
        for above in {"", path.rpartition("/")[0]}:
            model.groups.setdefault(above, {})

    @precondition(any_open)
    @rule(data=st.data(), path=PATHS, shape=SMALL)
    def overwrite(self, data: st.DataObject, path: str, shape: Coord) -> None:
        """Make an array anew where one was, as zarr does: what is below its path goes first."""
        version, model = self.pick_open(data)
        kind = data.draw(st.sampled_from(self.kinds), label="kind")
        shape = tuple(n * kind.side for n in shape)
        version.zarr.create_array(
            path, dtype=kind.dtype, chunks=(kind.side,) * 2, compressors=kind.compressors, filters=None,
            fill_value=kind.fill, shape=shape, overwrite=True,
        )  # fmt: skip
        model.remove(path)
        self._made(version, model, path, kind, shape)

    @precondition(any_array)
    @rule(data=st.data(), shape=SMALL)
    def turn_into(self, data: st.DataObject, shape: Coord) -> None:
        """Metadata of another kind make another array; keys beside it stay.  In a plain root they are just a file."""
        version, path, array = self.pick_array(data)
        kind = data.draw(st.sampled_from([k for k in self.kinds if k != array.kind]), label="kind")
        model = self.models[version.uuid]
        if model.parents:
            shape = tuple(n * kind.side for n in shape)
            version.store.write(f"{path}/zarr.json", kind.doc(shape))
            self._made(version, model, path, kind, shape)

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
        values = np.random.default_rng(seed).integers(0, 250, [b - a + 1 for a, b in box]).astype(array.kind.dtype)
        if seed % 4 == 0:
            values[:] = array.kind.fill
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
        chunk, side = array.kind.chunk(value), array.kind.side
        version.write_chunks(path, dict.fromkeys(coords, chunk))
        for coord in coords:
            array.cover(tuple(c * side for c in coord), tuple((c + 1) * side for c in coord))
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
        shape = tuple(n * array.kind.side for n in shape)
        version.zarr[path].resize(shape)
        before = set(array.grid())
        array.hi = tuple(a + n for a, n in zip(array.lo, shape, strict=True))
        for coord in before - set(array.grid()):
            array.chunks.pop(coord, None)

    @precondition(any_array)
    @rule(data=st.data(), lo=COORDS, shape=SMALL)
    def cut(self, data: st.DataObject, lo: Coord, shape: Coord) -> None:
        """Resize on any side."""
        version, path, array = self.pick_array(data)
        side = array.kind.side
        array.lo = tuple(a * side for a in lo)
        array.hi = tuple((a + n) * side for a, n in zip(lo, shape, strict=True))
        version.resize(path, array.lo, array.hi)
        inside = set(array.grid())
        array.chunks = {c: chunk for c, chunk in array.chunks.items() if c in inside}

    @precondition(any_array)
    @rule(data=st.data(), before=st.tuples(*[st.integers(0, 1)] * 2), after=st.tuples(*[st.integers(0, 1)] * 2))
    def grow(self, data: st.DataObject, before: Coord, after: Coord) -> None:
        version, path, array = self.pick_array(data)
        side = array.kind.side
        if max(np.abs([array.lo, array.hi]).ravel()) > 5 * side:
            return
        version.grow(path, [n * side for n in before], [n * side for n in after])
        array.lo = tuple(a - n * side for a, n in zip(array.lo, before, strict=True))
        array.hi = tuple(b + n * side for b, n in zip(array.hi, after, strict=True))

    @precondition(any_array)
    @rule(data=st.data())
    def delete_array(self, data: st.DataObject) -> None:
        version, path, _ = self.pick_array(data)
        del version.zarr[path]
        self.models[version.uuid].remove(path)

    @precondition(any_open)
    @rule(data=st.data(), path=st.sampled_from(GROUPS))
    def delete_group(self, data: st.DataObject, path: str) -> None:
        version, model = self.pick_open(data)
        if path in model.groups:
            del version.zarr[path]
            model.remove(path)

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
        version, path, _ = self.pick_array(data)
        model = self.models[version.uuid]
        if not model.taken(onto):
            version.rename(path, onto)
            model.move(version.uuid, path, onto)
            model.groups.setdefault(onto.rpartition("/")[0], {})

    @precondition(any_open)
    @rule(data=st.data(), path=st.sampled_from(GROUPS))
    def rename_group(self, data: st.DataObject, path: str) -> None:
        version, model = self.pick_open(data)
        onto = next(g for g in GROUPS if g != path)
        if path in model.groups and not model.taken(onto):
            version.rename(path, onto)
            model.move(version.uuid, path, onto)

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
            version, path, array = self.pick_array(data)
            self.delete_array(Fixed(array=(version.uuid, path)))
            self.create_array(Fixed(version=version.uuid, kind=array.kind), path, (1, 1))
        elif change == "other":
            self.turn_into(data, (1, 1))
        elif change == "rename":
            self.rename(data, data.draw(PATHS))
        elif change == "rename group":
            self.rename_group(data, data.draw(st.sampled_from(GROUPS)))
        elif change == "cut":
            self.cut(data, data.draw(COORDS), data.draw(SMALL))
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
        outcome = dense.merge(joiner, heads, said, _box_of, self._content)
        if outcome.conflicts and strategy == "fail":
            with pytest.raises(ConflictError) as caught:
                self.repo.merge(heads)
            assert set(self.repo.merge_conflicts(heads)) == set(caught.value.conflicts)
            # The others are about paths: the model knows that there is one, not how it is worded.
            if all(place == "kv" or (place != "renamed" and box is not None) for place, box in outcome.conflicts):
                assert set(caught.value.conflicts) == outcome.conflicts
            return None
        merged = self.repo.merge(heads, first_who_changed if strategy == "asked" else strategy)
        self.models[merged.uuid] = self._modelled(merged.uuid, heads, outcome)
        return merged.uuid

    def _content(self, node: str, place: Any) -> Any:
        """What a version holds at a place of `dense.merge`."""
        model = self.models[node]
        if place[0] == "kv":
            return model.keys[place[1]][1]
        if len(place) == 1:
            return model.loose[place[0]][1]
        (_, identity, kind), coord = place
        array = next(a for a in model.arrays.values() if (a.id, a.kind) == (identity, kind))
        return array.chunks[coord][1].tobytes()

    def _modelled(self, node: str, heads: list[str], outcome: dense.Outcome) -> Model:
        model = Model(tuple(heads), True, {}, {})
        sides = [self.models[h] for h in heads]
        for path, (name, thing) in outcome.things.items():
            if name[0] == "group":
                model.groups[path] = dict(thing.attrs)
                continue
            _, identity, kind = name
            stored = {
                (coord, owner): value
                for side in sides
                for array in side.arrays.values()
                if (array.id, array.kind) == (identity, kind)
                for coord, (owner, value) in array.chunks.items()
            }
            chunks = {coord: (owner, stored[coord, owner]) for coord, owner in thing.chunks.items()}
            model.arrays[path] = Array(identity, kind, *thing.window, dict(thing.attrs), chunks)
        for key, owner in outcome.loose.items():
            model.loose[key] = next(s.loose[key] for s in sides if s.loose.get(key, (None,))[0] == owner)
        for key, seen in outcome.keys.items():
            owner, value = next(s.keys[key] for s in sides if key in s.keys and s.keys[key][0] in seen)
            # What was decided about a conflict is a write of the merge.
            model.keys[key] = (node if ("kv", key) in outcome.conflicts | outcome.alike else owner), value
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
                shown = [c - o // array.kind.side for c, o in zip(coord, array.lo, strict=True)]
                key = f"{path}/c/{shown[0]}/{shown[1]}"
                answer = self.http.get(f"/zarr/{node}/{key}")
                if coord in array.chunks:
                    stored = self.repo[node].store.read(key)[0]
                    assert answer.content == stored
                    assert array.kind.packed or stored == array.chunks[coord][1].tobytes()
                else:
                    assert answer.status_code == 404
            shape = [b - a for a, b in zip(array.lo, array.hi, strict=True)]
            assert self.http.get(f"/zarr/{node}/{path}/zarr.json").json()["shape"] == shape
        for key, (_, value) in model.loose.items():
            assert self.http.get(f"/zarr/{node}/{key}").content == value


def first_who_changed(dispute: Dispute) -> Held:
    """A resolver that does what the strategy ``ours`` does, and looks at everything."""
    for held in (*dispute.sides, *dispute.bases):
        with suppress(ConflictError):
            assert held.value is None or isinstance(held.value, bytes | dict | np.ndarray)
    return dispute.sides[dispute.changed[0]]


def _box_of(thing: Any, coord: Coord) -> tuple[Coord, Coord]:
    side = thing[2].side
    return tuple(c * side for c in coord), tuple((c + 1) * side for c in coord)


def make_source(place: str, kind: Kind, held: set[Coord]) -> None:
    """A Zarr array of two by two chunks, of which it has some; nothing happens when it is there."""
    if Path(place).exists():
        return
    array = zarr.create_array(
        place,
        shape=(2 * kind.side,) * 2,
        chunks=(kind.side,) * 2,
        dtype=kind.dtype,
        compressors=None,
        fill_value=kind.fill,
    )
    for n, coord in enumerate(sorted(held)):
        array.blocks[coord] = kind.chunk(100 + n)


class Fixed:
    """Draws what a rule is meant to have, by label."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def draw(self, _strategy: Any, label: Any = None) -> Any:
        return self.values[label]


@pytest.mark.slow
@pytest.mark.timeout(7200 if MANY else 300)
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy")
def test_every_version_equals_its_model():
    run_state_machine_as_test(RepoMachine, settings=SETTINGS)
