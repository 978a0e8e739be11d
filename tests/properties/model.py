"""What the versions of a repo are, as nested dictionaries, and how they are compared with the real ones.

A version has groups and arrays by path, and of each array its chunks with the version that wrote each.  The model knows
nothing of pages, seals or leases.  Versions are compared by the store's keys, by region, and through zarr.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

import vzarr
from tests.properties.dense import Thing, Whole
from vzarr.overlay.hierarchy import arrays
from vzarr.types.keyvalue import KeyValue

Coord = tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """What the bytes of an array mean: two arrays of different kinds are never one."""

    dtype: str = "u2"
    side: int = 4
    packed: bool = False
    fill: int = 0

    @property
    def compressors(self) -> tuple[Any, ...]:
        return (ZstdCodec(level=1),) if self.packed else ()

    def chunk(self, value: int) -> np.ndarray:
        return np.full((self.side, self.side), value, self.dtype)

    def doc(self, shape: Coord) -> bytes:
        """Metadata of a new array."""
        made = arrays.array_docs(shape, (self.side,) * 2, self.dtype, self.compressors, self.fill, None, None)
        return made["zarr.json"]


KINDS = [Kind(), Kind("i4", 2), Kind("u1", 4, packed=True)]
"""A chunk of the first is as long as the mark of a deleted one."""


@dataclass
class Array:
    """One array: who made it, its kind, its window in voxels, its chunks with their owners, and its attributes."""

    id: Any
    kind: Kind
    lo: Coord
    hi: Coord
    attrs: dict[str, Any] = field(default_factory=dict)
    chunks: dict[Coord, tuple[Any, np.ndarray]] = field(default_factory=dict)

    def cover(self, lo: Coord, hi: Coord) -> None:
        self.lo = tuple(min(a, b) for a, b in zip(self.lo, lo, strict=True))
        self.hi = tuple(max(a, b) for a, b in zip(self.hi, hi, strict=True))

    def grid(self) -> list[Coord]:
        side = self.kind.side
        return list(product(*[range(a // side, b // side) for a, b in zip(self.lo, self.hi, strict=True)]))

    def voxels(self) -> np.ndarray:
        shape = [b - a for a, b in zip(self.lo, self.hi, strict=True)]
        whole = np.full(shape, self.kind.fill, self.kind.dtype)
        for coord in self.grid():
            if coord in self.chunks:
                whole[self._place(coord)] = self.chunks[coord][1]
        return whole

    def set(self, owner: Any, lo: Coord, values: np.ndarray, *, drop_empty: bool) -> None:
        """Write a box inside the window; zarr drops chunks that come to hold nothing but the fill value."""
        whole, side = self.voxels(), self.kind.side
        start = tuple(a - o for a, o in zip(lo, self.lo, strict=True))
        whole[tuple(slice(a, a + n) for a, n in zip(start, values.shape, strict=True))] = values
        end = [a + n for a, n in zip(lo, values.shape, strict=True)]
        for coord in product(*[range(a // side, -(-b // side)) for a, b in zip(lo, end, strict=True)]):
            chunk = whole[self._place(coord)].copy()
            if drop_empty and (chunk == self.kind.fill).all():
                self.chunks.pop(coord, None)
            else:
                self.chunks[coord] = owner, chunk

    def _place(self, coord: Coord) -> tuple[slice, ...]:
        side = self.kind.side
        return tuple(slice(c * side - o, c * side - o + side) for c, o in zip(coord, self.lo, strict=True))


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

    def taken(self, path: str) -> bool:
        """Whether something is at a path or below it."""
        return any(k == path or k.startswith(f"{path}/") for k in (*self.groups, *self.arrays, *self.loose))

    def remove(self, path: str) -> None:
        """Forget what is at a path and below it."""
        for held in (self.groups, self.arrays, self.loose):
            for key in [k for k in held if k == path or k.startswith(f"{path}/")]:
                del held[key]

    def move(self, node: str, source: str, target: str) -> None:
        """Give what is at a path and below it another; what `node`, the version, stores by path it stores anew."""
        for held in (self.groups, self.arrays, self.loose):
            for key in [k for k in held if k == source or k.startswith(f"{source}/")]:
                held[target + key[len(source) :]] = held.pop(key)
        for path, array in self.arrays.items():
            if not self.parents and (path == target or path.startswith(f"{target}/")):
                array.id = node, path
        self.loose |= {k: (node, v) for k, (_, v) in self.loose.items() if k.startswith(f"{target}/")}

    def whole(self) -> Whole:
        """The same for the merge rule."""
        things: dict[Any, Thing] = {("group", path): Thing(path, attrs) for path, attrs in self.groups.items()}
        for path, a in self.arrays.items():
            owners = {coord: owner for coord, (owner, _) in a.chunks.items()}
            things["array", a.id, a.kind] = Thing(path, a.attrs, (a.lo, a.hi), owners)
        loose = {key: owner for key, (owner, _) in self.loose.items()}
        return Whole(things, loose, {key: frozenset([owner]) for key, (owner, _) in self.keys.items()})


def check_store(version: vzarr.Version, model: Model) -> None:
    """Every key, and voxels by region, and who wrote each chunk."""
    keys = {f"{p}/zarr.json".lstrip("/") for p in (*model.groups, *model.arrays)} | set(model.loose)
    for path, array in model.arrays.items():
        assert version.has_array(path)
        shift = [o // array.kind.side for o in array.lo]
        for coord in array.chunks:
            # After a merge some may lie outside the window: one side wrote what the other cut off.
            shown = [c - s for c, s in zip(coord, shift, strict=True)]
            keys |= {f"{path}/c/{'/'.join(map(str, shown))}"} if min(shown) >= 0 else set()
        assert sorted(map(tuple, version.chunk_coords(path).tolist())) == sorted(array.chunks)
        lo, hi = tuple(a - 3 for a in array.lo), tuple(b + 3 for b in array.hi)
        found = version.read(path, lo, hi)
        assert found.dtype == array.kind.dtype
        assert np.array_equal(found, np.pad(array.voxels(), 3, constant_values=array.kind.fill))
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


def between(version: vzarr.Version, before: Model, after: Model) -> Model:
    """What a version is that was to become another, part by part: each as it was, or as it was to be."""
    found = Model(before.parents, before.open, {}, {}, {}, dict(after.keys))
    for path, entry in version.view.entries.items():
        if path in before.groups or path in after.groups:
            attrs = version.attributes(path)
            assert attrs in [m.groups[path] for m in (before, after) if path in m.groups]
            found.groups[path] = attrs
            continue
        said = version.attributes(path), entry.window, version.zarr[path].dtype
        sides = [m.arrays[path] for m in (after, before) if path in m.arrays]
        array = next(a for a in sides if (a.attrs, (a.lo, a.hi), np.dtype(a.kind.dtype)) == said)
        sides = [a for a in sides if (a.id, a.kind) == (array.id, array.kind)]
        found.arrays[path] = replace(array, chunks={})
        for coord, voxels in version.read_chunks(path, version.chunk_coords(path)):
            held = [a.chunks[coord] for a in sides if coord in a.chunks]
            found.arrays[path].chunks[coord] = next(c for c in held if np.array_equal(c[1], voxels))
    for key in version.view.loose():
        value = version.store.read(key)
        held = [m.loose[key] for m in (before, after) if key in m.loose]
        found.loose[key] = next(h for h in held if (h[1], len(h[1])) == value)
    return found
