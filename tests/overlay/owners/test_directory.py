"""Owner pages against a dict of chunks: any coordinates, any dimensions, over many versions."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.hierarchy.tree import ArrayId
from vzarr.overlay.objects.memory import MemoryObjects
from vzarr.overlay.owners import directory
from vzarr.overlay.owners.directory import (
    ABSENT,
    CONFLICT,
    DELETED,
    Owners,
    PackWriter,
    Page,
    PageReader,
    Table,
    Written,
    by_page,
    side,
)

A, B = ArrayId("0" * 32, "a"), ArrayId("0" * 32, "b", 3)


names = directory.names_below("root")


def node(n: int) -> str:
    return "root" if n == 0 else f"{n:032x}"


class Chain:
    """Versions, each with changes over the one before."""

    def __init__(self) -> None:
        self.objects = MemoryObjects(uuid.uuid4().hex)
        self.reader = PageReader(self.objects, names)
        self.tip = Owners(Table(), self.reader)
        self.count = 0

    def commit(self, changes, keep=(A, B)) -> Owners:
        name = node(self.count)
        self.count += 1
        pack = PackWriter(name)
        table = pack.update(self.tip, changes, keep)
        self.objects.put(layout.owner_pages(name), b"".join(pack.parts))
        # What a reader in another process sees.
        self.tip = Owners(Table.from_bytes(table.to_bytes()), PageReader(self.objects, names))
        return self.tip


@st.composite
def chains(draw: st.DrawFn):
    ndim = draw(st.integers(0, 5))
    far = draw(st.sampled_from([3, 40, 10**7]))
    coords = st.tuples(*[st.integers(-far, far)] * ndim)
    owner = st.sampled_from(["own", DELETED, CONFLICT])
    return ndim, draw(st.lists(st.dictionaries(coords, owner, max_size=12), min_size=1, max_size=5))


@given(chains())
def test_changes_as_columns_are_those_of_a_mapping(chain):
    ndim, commits = chain
    for changes in commits:
        gone = np.array([o == DELETED for o in changes.values()], bool)
        coords = np.array(list(changes), np.int64).reshape(len(changes), ndim)
        written = Written(coords, gone, "own")
        mapping = {c: DELETED if o == DELETED else "own" for c, o in changes.items()}
        assert written.as_mapping() == mapping
        pages, same = ([(at, local.tolist(), o) for at, local, o in by_page(c)] for c in (written, mapping))
        assert pages == same


@given(chains())
def test_every_version_answers_as_a_dict_would(chain):
    ndim, commits = chain
    history = Chain()
    model: dict[tuple[int, ...], str | int] = {}
    versions = []
    for n, changes in enumerate(commits):
        named = {c: node(n) if o == "own" else o for c, o in changes.items()}
        model = {**model, **named}
        versions.append((history.commit({A: named}), model))
    for found, expected in versions:
        for coord, owner in expected.items():
            assert found.owner(A, coord) == owner
            assert found.owner(B, coord) == ABSENT
            near = tuple(c + 1 for c in coord)
            assert found.owner(A, near) == expected.get(near, ABSENT)
        stored = {c for c, o in expected.items() if isinstance(o, str)}
        rows = [tuple(r) for coords, _, _ in found.chunks(A, ndim) for r in coords.tolist()]
        assert len(rows) == len(set(rows))
        assert set(rows) == stored


@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(-3, 700)), max_size=900))
def test_a_page_survives_its_bytes(changes):
    local = np.array([place for place, _ in changes], np.int64)
    page = Page.empty(3).with_codes(local, [-o - 1 if o < 0 else node(o) for _, o in changes])
    again = Page.decode(page.encode(), names)
    assert again.codes.size == side(3) ** 3
    for place in {*local.tolist(), 0, 4095}:
        assert again.owner(place) == page.owner(place)
    assert set(again.owners) == {again.owner(p) for p in range(4096) if isinstance(again.owner(p), str)}


def test_only_what_changed_is_written():
    history = Chain()
    first = history.commit({A: {(z, 0, 0): node(0) for z in range(160)}})
    second = history.commit({A: {(3, 0, 0): node(1)}})
    assert sum(1 for _ in second.pages(A)) == 10
    shared = [ref for at, ref in second.pages(A) if ref == first.page_ref(A, at)]
    assert len(shared) == 9
    third = history.commit({})
    assert third.table.to_bytes() == second.table.to_bytes()
    assert not history.objects.get(layout.owner_pages(node(2)))
    assert history.commit({}, keep=[B]).table.arrays == {}


def test_a_cold_page_is_small():
    everywhere = np.arange(4096, dtype=np.int64)
    for count in (1, 4, 200, 1000):
        page = Page.empty(3).with_codes(everywhere, [node(1 + i % count) for i in range(4096)])
        assert len(page.encode()) <= 2 * 4096 + 16 * count + 16


def test_damage_is_told_from_absence():
    history = Chain()
    tip = history.commit({A: {(0, 0, 0): node(0)}})
    key = layout.owner_pages(node(0))
    whole = history.objects.get(key)
    fresh = lambda: Owners(tip.table, PageReader(history.objects, names))  # noqa: E731
    history.objects.put(key, b"\0" * len(whole))
    with pytest.raises(FormatError, match="damaged"):
        fresh().owner(A, (0, 0, 0))
    history.objects.put(key, whole[:-3])
    with pytest.raises(StorageError, match="cut short"):
        fresh().owner(A, (0, 0, 0))
    history.objects.delete(key)
    with pytest.raises(StorageError, match="missing"):
        fresh().owner(A, (0, 0, 0))
    assert fresh().owner(A, (4096, 4096, 4096)) == ABSENT


def test_few_pages_are_kept():
    history = Chain()
    tip = history.commit({A: {(16 * z, 0, 0): node(0) for z in range(100)}})
    reader = PageReader(history.objects, names, limit=20_000)
    small = Owners(tip.table, reader)
    for z in range(100):
        small.owner(A, (16 * z, 0, 0))
    assert len(reader._kept) < 20
    assert small.owner(A, (0, 0, 0)) == node(0)
