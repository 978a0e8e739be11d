"""The visibility rule against a model, case by case, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vzarr.errors import ConflictError, FormatError, InvalidInputError
from vzarr.overlay.history.dag import Position, ancestors
from vzarr.overlay.kv import indexrows
from vzarr.overlay.kv.memory import MemoryKV
from vzarr.overlay.kv.mutationids import next_mutation_id, peek_mutation_id
from vzarr.overlay.kv.versioned import VersionedKV

INSTANCE, LOW, HIGH = b"i" * 16, b"\0" * 16, b"\xff" * 16
KEYS = [
    b"",
    b"\0",
    b"\0\1",
    b"\0\xff",
    b"\0\0",
    b"\1",
    b"a",
    b"a\0",
    b"a\0\0b",
    b"a\1",
    b"ab",
    b"\xff",
    b"\xff\xff",
]
CONFLICT = "conflict"


class Graph:
    """Versions 1, 2, ... by their parents, with positions and ancestry worked out the slow way."""

    def __init__(self, parents: list[list[int]]) -> None:
        self.parents = {i + 1: above for i, above in enumerate(parents)}
        self.positions: dict[int, Position] = {}
        continued: set[int] = set()
        for version, above in self.parents.items():
            line, came_from = version, tuple(self.positions[p] for p in above)
            if len(above) == 1 and above[0] not in continued:
                continued.add(above[0])
                line, came_from = came_from[0].line, came_from[0].parents
            self.positions[version] = Position(line, version, came_from)
        names = {str(v): [str(p) for p in above] for v, above in self.parents.items()}
        self.above = {v: {int(a) for a in ancestors(str(v), names.__getitem__)} for v in self.parents}

    def is_ancestor(self, a: int, b: int) -> bool:
        return a == b or a in self.above[b]


class Model:
    """One dict of writes per version, and the rule by recursion."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writes: dict[int, dict[bytes, bytes | None]] = {v: {} for v in graph.parents}

    def latest(self, version: int, key: bytes) -> set[int]:
        return {version} if key in self.writes[version] else self.below(version, key)

    def below(self, version: int, key: bytes) -> set[int]:
        found = set().union(*(self.latest(p, key) for p in self.graph.parents[version]))
        return {v for v in found if not any(v in self.graph.above[other] for other in found)}

    def values(self, found: set[int], key: bytes) -> list[tuple[int, bytes]]:
        return [(v, value) for v in found if (value := self.writes[v][key]) is not None]

    def delete(self, version: int, key: bytes) -> None:
        self.writes[version].pop(key, None)
        if self.values(self.below(version, key), key):
            self.writes[version][key] = None

    def get_with_version(self, version: int, key: bytes):
        found = self.values(self.latest(version, key), key)
        return CONFLICT if len(found) > 1 else found[0] if found else None


class Rig:
    """A store and a graph, with the verbs of the tests."""

    def __init__(self, parents: list[list[int]], kv=None) -> None:
        self.graph = Graph(parents)
        self.kv = kv or MemoryKV()
        self.store = VersionedKV(self.kv, self.graph.is_ancestor)

    def at(self, version: int, instance: bytes = INSTANCE):
        return self.store.at(instance, self.graph.positions[version])

    def transact(self, version: int, fn, instance: bytes = INSTANCE):
        position = self.graph.positions[version]
        return self.kv.transact(lambda txn: fn(self.store.within(txn, instance, position)))

    def put(self, version: int, key: bytes, value: bytes, instance: bytes = INSTANCE) -> None:
        self.transact(version, lambda tx: tx.put(key, value), instance)

    def delete(self, version: int, key: bytes) -> None:
        self.transact(version, lambda tx: tx.delete(key))


def caught(call):
    try:
        return call()
    except ConflictError:
        return CONFLICT


@st.composite
def graphs(draw, largest=12):
    parents: list[list[int]] = [[]]
    for version in range(2, draw(st.integers(1, largest)) + 1):
        some = st.lists(st.integers(max(1, version - 4), version - 1), min_size=1, max_size=3, unique=True)
        parents.append(draw(some))
    return parents


def operations():
    op = st.tuples(st.integers(0, 11), st.sampled_from(KEYS), st.none() | st.binary(max_size=2))
    return st.lists(op, max_size=40)


def apply(rig: Rig, model: Model, ops) -> None:
    for number, key, value in ops:
        version = number % len(model.writes) + 1
        if value is None:
            rig.delete(version, key)
            model.delete(version, key)
        else:
            rig.put(version, key, value)
            model.writes[version][key] = value


@contextmanager
def short_history(rows: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexrows, "SHORT_HISTORY", rows)
        yield


@settings(max_examples=150, deadline=None)
@given(graphs(), operations())
def test_gets_agree_with_model(parents, ops):
    rig = Rig(parents)
    model = Model(rig.graph)
    apply(rig, model, ops)
    for version in rig.graph.parents:
        for key in KEYS:
            expected = model.get_with_version(version, key)
            assert caught(lambda: rig.at(version).get_with_version(key)) == expected  # noqa: B023
            plain = expected[1] if isinstance(expected, tuple) else expected
            assert caught(lambda: rig.at(version).get(key)) == plain  # noqa: B023
            assert rig.transact(version, lambda tx: caught(lambda: tx.get(key))) == plain  # noqa: B023
        assert list(rig.store.changes(INSTANCE, version)) == sorted(model.writes[version].items())


@settings(max_examples=150, deadline=None)
@given(graphs(), operations(), st.sampled_from([1, 2, 8]), st.data())
def test_scans_agree_with_model(parents, ops, rows, data):
    rig = Rig(parents)
    model = Model(rig.graph)
    for version in (1, len(parents)):
        rig.put(version, b"a", b"other", LOW)
        rig.put(version, b"a", b"other", HIGH)
    apply(rig, model, ops)
    start = data.draw(st.sampled_from(KEYS))
    end = data.draw(st.none() | st.sampled_from(KEYS))
    limit = data.draw(st.none() | st.integers(0, 8))
    reverse = data.draw(st.booleans())
    span = {"limit": limit, "reverse": reverse}
    inside = sorted((k for k in KEYS if start <= k and (end is None or k < end)), reverse=reverse)
    for version in rig.graph.parents:
        seen = [(k, found) for k in inside if (found := model.get_with_version(version, k)) is not None]
        seen = seen[:limit]
        keys = rig.at(version)
        with short_history(rows):
            pairs = caught(lambda: list(keys.scan(start, end, **span)))  # noqa: B023
            names = caught(lambda: list(keys.scan_keys(start, end, **span)))  # noqa: B023
        if any(found == CONFLICT for _, found in seen):
            assert pairs == names == CONFLICT
        else:
            assert pairs == [(k, found[1]) for k, found in seen]
            assert names == [k for k, _ in pairs]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs(), operations())
def test_every_backend_agrees_with_model(kv, parents, ops):
    kv.transact(lambda txn: [txn.delete(k) for k, _ in txn.scan(b"")])
    rig = Rig(parents, kv)
    model = Model(rig.graph)
    apply(rig, model, ops)
    for version in rig.graph.parents:
        expected = [model.get_with_version(version, k) for k in sorted(KEYS)]
        if CONFLICT not in expected:
            found = [(k, e[1]) for k, e in zip(sorted(KEYS), expected, strict=True) if e]
            assert list(rig.at(version).scan()) == found
            assert list(rig.at(version).scan(reverse=True)) == found[::-1]


DIAMOND = [[], [1], [1], [2, 3]]


def test_changed_on_one_side_wins():
    rig = Rig(DIAMOND)
    rig.put(1, b"k", b"base")
    rig.put(3, b"k", b"right")
    assert rig.at(4).get_with_version(b"k") == (3, b"right")


def test_deleted_on_one_side_is_deleted():
    rig = Rig(DIAMOND)
    rig.put(1, b"k", b"base")
    rig.delete(2, b"k")
    assert rig.at(4).get(b"k") is None
    assert rig.at(3).get(b"k") == b"base"


def test_change_beats_delete():
    rig = Rig(DIAMOND)
    rig.put(1, b"k", b"base")
    rig.delete(2, b"k")
    rig.put(3, b"k", b"right")
    assert rig.at(4).get(b"k") == b"right"


def test_conflict_names_the_key_and_a_write_resolves_it():
    rig = Rig([*DIAMOND, [4]])
    rig.put(2, b"k", b"left")
    rig.put(3, b"k", b"right")
    rig.put(1, b"a", b"fine")
    with pytest.raises(ConflictError, match="'k'") as caught_error:
        rig.at(5).get(b"k")
    assert caught_error.value.conflicts == [b"k"]
    with pytest.raises(ConflictError, match="'k'"):
        list(rig.at(4).scan_keys())
    assert rig.at(4).get(b"a") == b"fine"
    rig.put(4, b"k", b"agreed")
    assert rig.at(5).get(b"k") == b"agreed"
    rig.delete(4, b"k")
    assert rig.at(5).get(b"k") is None
    assert list(rig.at(5).scan()) == [(b"a", b"fine")]


def test_deletion_reaches_through_a_nested_merge():
    """2 deletes, 4 merges it with the untouched 3, and merging 4 with the untouched 5 brings nothing back."""
    rig = Rig([[], [1], [1], [2, 3], [1], [4, 5]])
    rig.put(1, b"k", b"base")
    rig.delete(2, b"k")
    assert rig.at(6).get(b"k") is None


def test_criss_cross_merges_stay_cheap():
    """Forty merges of the same two sides have 2**40 paths, of which none is walked twice."""
    parents: list[list[int]] = [[], [1], [1]]
    for left in range(2, 82, 2):
        parents += [[left, left + 1], [left, left + 1]]
    rig = Rig(parents)
    rig.put(1, b"k", b"base")
    assert rig.at(len(parents)).get(b"k") == b"base"


def test_empty_value_is_no_tombstone():
    rig = Rig([[], [1]])
    rig.put(1, b"k", b"")
    rig.put(1, b"", b"empty key")
    assert rig.at(2).get(b"k") == b""
    rig.delete(2, b"k")
    assert rig.at(2).get_many([b"k", b"", b"none"]) == [None, b"empty key", None]
    assert list(rig.store.changes(INSTANCE, 2)) == [(b"k", None)]


def test_deleting_what_is_not_there_writes_nothing():
    rig = Rig([[], [1]])
    rig.delete(1, b"k")
    rig.put(2, b"k", b"v")
    rig.delete(2, b"k")
    assert list(rig.kv.scan(b"")) == []


def test_unversioned():
    store = VersionedKV(MemoryKV(), lambda a, b: False)
    position = Position(0, 0)

    def fn(txn):
        tx = store.within(txn, INSTANCE, position)
        tx.put(b"a", b"1")
        tx.put(b"b", b"2")
        tx.delete(b"a")
        return list(tx.scan())

    assert store._kv.transact(fn) == [(b"b", b"2")]
    assert list(store.at(INSTANCE, position).scan()) == [(b"b", b"2")]
    assert list(store.changes(INSTANCE, 0)) == [(b"b", b"2")]


def test_transaction_reads_its_own_writes_and_rolls_back():
    rig = Rig([[], [1]])
    rig.put(1, b"a", b"1")

    def fn(tx):
        tx.put(b"b", b"2")
        tx.delete(b"a")
        assert list(tx.scan_keys()) == [b"b"]
        assert tx.get_with_version(b"b") == (2, b"2")
        raise KeyError

    with pytest.raises(KeyError):
        rig.transact(2, fn)
    assert list(rig.at(2).scan()) == [(b"a", b"1")]


def test_instances_changed_and_remove_version():
    rig = Rig([[], [1], [1]])
    for instance in (LOW, INSTANCE, HIGH):
        rig.put(1, b"k", b"base", instance)
        rig.put(3, b"x", b"", instance)
    before = list(rig.kv.scan(b""))
    rig.put(2, b"k", b"new", HIGH)
    rig.put(2, b"l", b"new", LOW)
    rig.transact(2, lambda tx: tx.delete(b"k"), LOW)
    assert list(rig.store.instances_changed(1)) == [LOW, INSTANCE, HIGH]
    assert list(rig.store.instances_changed(2)) == [LOW, HIGH]
    rig.kv.transact(lambda txn: rig.store.remove_version(txn, rig.graph.positions[2]))
    assert list(rig.store.instances_changed(2)) == []
    assert list(rig.kv.scan(b"")) == before
    assert rig.at(2, HIGH).get(b"k") == b"base"


def test_changes_of_one_snapshot(kv):
    rig = Rig([[]], kv)
    rig.put(1, b"a", b"1")
    with kv.snapshot() as view:
        rig.put(1, b"b", b"2")
        assert list(rig.store.changes(INSTANCE, 1, view=view)) == [(b"a", b"1")]
        assert list(rig.store.instances_changed(1, view=view)) == [INSTANCE]
    assert list(rig.store.changes(INSTANCE, 1)) == [(b"a", b"1"), (b"b", b"2")]


def test_mutation_ids(kv):
    assert peek_mutation_id(kv) == 1_000_000_000
    assert [kv.transact(next_mutation_id) for _ in range(3)] == [1_000_000_000, 1_000_000_001, 1_000_000_002]
    assert peek_mutation_id(kv) == 1_000_000_003
    rig = Rig([[]], kv)
    assert rig.transact(1, lambda tx: (tx.next_mutation_id(), tx.peek_mutation_id())) == (
        1_000_000_003,
        1_000_000_004,
    )


def test_refuses_bad_names_and_says_what_is_damaged():
    rig = Rig([[]])
    with pytest.raises(InvalidInputError, match="16 bytes"):
        rig.store.at(b"short", Position(1, 1))
    rig.put(1, b"k", b"v")
    rig.kv.transact(lambda txn: [txn.delete(k) for k, _ in txn.scan(b"V")])
    with pytest.raises(FormatError, match="'k'"):
        rig.at(1).get(b"k")


@given(graphs(), operations(), st.lists(st.sampled_from(KEYS), min_size=4, max_size=8), st.integers(0, 11))
@settings(max_examples=150, deadline=None)
def test_many_keys_at_once_are_as_many_one_by_one(parents, ops, keys, number):
    rigs = [Rig(parents), Rig(parents)]
    for rig in rigs:
        apply(rig, Model(rig.graph), ops)
    version = number % len(rigs[0].graph.parents) + 1
    rigs[0].transact(version, lambda tx: tx.delete_many(keys))
    rigs[1].transact(version, lambda tx: [tx.delete(key) for key in keys])
    assert list(rigs[0].kv.scan(b"")) == list(rigs[1].kv.scan(b""))
    ranges = [(low, high) for low in (b"", b"a", keys[0]) for high in (b"a\1", b"\xff\xff\xff")]
    seen = rigs[0].at(version)
    one_by_one = caught(lambda: [list(seen.scan(low, high)) for low, high in ranges])
    assert caught(lambda: seen.scan_many(ranges)) == one_by_one


class Counting(MemoryKV):
    """A store that counts the rows that it and its snapshots give."""

    rows = 0

    def get(self, key):
        self.rows += 1
        return super().get(key)

    def scan(self, *args, **kwargs):
        for item in super().scan(*args, **kwargs):
            self.rows += 1
            yield item

    @contextmanager
    def snapshot(self):
        with super().snapshot() as view:
            yield self._Counted(self, view)

    class _Counted:
        def __init__(self, owner, view):
            self.owner, self.view = owner, view

        def get(self, key):
            self.owner.rows += 1
            return self.view.get(key)

        def get_many(self, keys):
            return [self.get(key) for key in keys]

        def scan(self, *args, **kwargs):
            for item in self.view.scan(*args, **kwargs):
                self.owner.rows += 1
                yield item


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_costs_its_result(reverse):
    """Fifty keys, each rewritten at 300 versions: about a dozen rows a key, at any version."""
    versions, keys = 300, [b"%03d" % i for i in range(50)]
    rig = Rig([[], *([v] for v in range(1, versions))], Counting())
    for version in range(1, versions + 1):
        rig.transact(version, lambda tx: [tx.put(key, b"%d" % version) for key in keys])  # noqa: B023
    for version in (1, 150, 300):
        rig.kv.rows = 0
        found = dict(rig.at(version).scan(reverse=reverse))
        assert found == dict.fromkeys(keys, b"%d" % version)
        assert rig.kv.rows <= 12 * len(keys)
        rig.kv.rows = 0
        assert rig.at(version).get(keys[7]) == b"%d" % version
        assert rig.kv.rows == 2
