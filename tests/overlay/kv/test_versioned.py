"""The visibility rule against a model, case by case, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vzarr.errors import ConflictError, FormatError, InvalidInputError
from vzarr.overlay.history.dag import Position, ancestors
from vzarr.overlay.kv import folding, rows, spans
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
    """A store and a graph, with the verbs of the tests; ancestors are folded before a version is looked at."""

    def __init__(self, parents: list[list[int]], kv=None) -> None:
        self.graph = Graph(parents)
        self.kv = kv or MemoryKV()
        self.store = VersionedKV(self.kv, self.graph.is_ancestor)
        self.folded: set[int] = set()

    def at(self, version: int, instance: bytes = INSTANCE, **how):
        self.fold(*self.graph.above[version])
        return self.store.at(instance, self.graph.positions[version], **how)

    def transact(self, version: int, fn, instance: bytes = INSTANCE):
        self.fold(*self.graph.above[version])
        position = self.graph.positions[version]
        return self.kv.transact(lambda txn: fn(self.store.within(txn, instance, position)))

    def put(self, version: int, key: bytes, value: bytes, instance: bytes = INSTANCE) -> None:
        assert version not in self.folded
        self.transact(version, lambda tx: tx.put(key, value), instance)

    def delete(self, version: int, key: bytes) -> None:
        assert version not in self.folded
        self.transact(version, lambda tx: tx.delete(key))

    def fold(self, *versions: int) -> None:
        for version in {*versions} - self.folded:
            for instance in list(self.store.instances_changed(version)):
                self.store.fold(instance, self.graph.positions[version])
        self.folded |= {*versions}

    def fold_some(self, version: int, count: int) -> None:
        """Fold as many of a version's keys as who is killed may have come to."""
        with batches_of(1):
            start: bytes | None = b""
            for _ in range(count):
                if start is not None:
                    args = INSTANCE, self.graph.positions[version], start
                    start = self.kv.transact(lambda txn, args=args: folding._fold_some(txn, *args))


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
    op = st.tuples(st.integers(0, 11), st.sampled_from(KEYS), st.none() | st.binary(max_size=3))
    return st.lists(op, max_size=40)


FOLDS = st.lists(st.integers(0, 13), min_size=12, max_size=12)
"""How many keys are folded of each version that has no child yet."""


def apply(rig: Rig, model: Model, ops, folds=(0,) * 12) -> None:
    """Write versions one after the other; of those from which none comes, some keys are folded."""
    with_children = {p for above in rig.graph.parents.values() for p in above}
    for version in rig.graph.parents:
        for number, key, value in ops:
            if number % len(model.writes) + 1 != version:
                continue
            if value is None:
                rig.delete(version, key)
                model.delete(version, key)
            else:
                rig.put(version, key, value)
                model.writes[version][key] = value
        if version not in with_children:
            rig.fold_some(version, folds[version - 1])


@contextmanager
def batches_of(keys: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "BATCH", keys)
        yield


@pytest.fixture(scope="module", autouse=True)
def large() -> Iterator[None]:
    """Values of more than a byte have rows of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "LARGE", 1)
        yield


@contextmanager
def short_spans(count: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "FIRST_SPAN", count)
        patch.setattr(spans, "LARGEST_SPAN", 2 * count)
        yield


@settings(max_examples=150, deadline=None)
@given(graphs(), operations(), FOLDS)
def test_gets_agree_with_model(parents, ops, folds):
    rig = Rig(parents)
    model = Model(rig.graph)
    apply(rig, model, ops, folds)
    for version in rig.graph.parents:
        for key in KEYS:
            expected = model.get_with_version(version, key)
            assert caught(lambda: rig.at(version).get_with_version(key)) == expected  # noqa: B023
            plain = expected[1] if isinstance(expected, tuple) else expected
            assert caught(lambda: rig.at(version).get(key)) == plain  # noqa: B023
            assert rig.transact(version, lambda tx: caught(lambda: tx.get(key))) == plain  # noqa: B023
        assert list(rig.store.changes(INSTANCE, version)) == sorted(model.writes[version].items())
        assert list(rig.store.changed_keys(INSTANCE, version)) == sorted(model.writes[version])


@settings(max_examples=150, deadline=None)
@given(graphs(), operations(), FOLDS, st.sampled_from([1, 2, 8]), st.data())
def test_scans_agree_with_model(parents, ops, folds, span_rows, data):
    rig = Rig(parents)
    model = Model(rig.graph)
    for instance in (LOW, HIGH):
        rig.put(1, b"a", b"other", instance)
    apply(rig, model, ops, folds)
    for instance in (LOW, HIGH):
        rig.put(len(parents), b"a", b"other", instance)
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
        with short_spans(span_rows):
            pairs = caught(lambda: list(keys.scan(start, end, **span)))  # noqa: B023
            names = caught(lambda: list(keys.scan_keys(start, end, **span)))  # noqa: B023
        if any(found == CONFLICT for _, found in seen):
            assert pairs == names == CONFLICT
        else:
            assert pairs == [(k, found[1]) for k, found in seen]
            assert names == [k for k, _ in pairs]


@settings(max_examples=100, deadline=None)
@given(graphs(), operations(), FOLDS, st.data())
def test_folded_versions_need_no_own_rows(parents, ops, folds, data):
    """A version that is folded is read by heads alone, also while a child that goes on with its line is half folded."""
    rig = Rig(parents)
    model = Model(rig.graph)
    apply(rig, model, ops, folds)
    version = data.draw(st.sampled_from(list(rig.graph.parents)))
    rig.fold(version)
    for keys in (rig.at(version, folded=True), rig.at(version)):
        wanted = [model.get_with_version(version, key) for key in KEYS]
        plain = [expected[1] if isinstance(expected, tuple) else expected for expected in wanted]
        assert [caught(lambda k=key, at=keys: at.get(k)) for key in KEYS] == plain
        assert keys.without_conflicts().get_many(KEYS) == [None if v == CONFLICT else v for v in plain]
        seen = sorted((k, v) for k, v in zip(KEYS, plain, strict=True) if v not in (None, CONFLICT))
        assert list(keys.without_conflicts().scan()) == seen


@settings(max_examples=100, deadline=None)
@given(graphs(), operations(), st.randoms(use_true_random=False))
def test_versions_may_arrive_in_any_order(parents, ops, random: Random):
    """Versions that came from elsewhere leave the same rows as those that were made here one after the other."""
    made, arrived = Rig(parents), Rig(parents)
    model = Model(made.graph)
    apply(made, model, ops)
    made.fold(*made.graph.parents)
    order = list(made.graph.parents)
    random.shuffle(order)
    for version in order:
        changes, at = list(made.store.changes(INSTANCE, version)), made.graph.positions[version]
        arrived.kv.transact(lambda txn: [arrived.store.within(txn, INSTANCE, at).restore(*c) for c in changes])  # noqa: B023
        arrived.fold_some(version, random.randrange(3))
        arrived.fold(version)
    assert list(arrived.kv.scan(b"")) == list(made.kv.scan(b""))


def test_a_version_that_arrives_late_becomes_past():
    made, arrived = Rig([[], [1], [2]]), Rig([[], [1], [2]])
    for version in (1, 2, 3):
        made.put(version, b"k", b"%d" % version)
    made.fold(1, 2, 3)
    for version in (3, 1, 2):
        at = arrived.graph.positions[version]
        arrived.kv.transact(lambda txn: arrived.store.within(txn, INSTANCE, at).restore(b"k", b"%d" % version))  # noqa: B023
        arrived.fold(version)
    assert list(arrived.kv.scan(b"")) == list(made.kv.scan(b""))


def test_no_large_value_stays_that_nobody_can_see():
    rig = Rig([[]])
    rig.transact(1, lambda tx: [tx.put(key, b"large") for key in (b"a", b"b", b"c")])
    rig.transact(1, lambda tx: (tx.put(b"a", b"s"), tx.delete(b"b")))
    rig.fold(1)
    assert [key[-1:] for key, _ in rig.kv.scan(b"B", b"C")] == [b"c"]
    later = Rig([[], [1]])
    later.transact(1, lambda tx: tx.put(b"a", b"large"))
    later.fold(1)
    later.transact(2, lambda tx: [tx.put(key, b"larger") for key in (b"a", b"b")])
    later.transact(2, lambda tx: tx.delete_many([b"a", b"b"]))
    assert later.at(2).get_many([b"a", b"b"]) == [None, None]
    later.fold(2)
    assert [value for _, value in later.kv.scan(b"B", b"C")] == [b"large"]
    outside = rig.store.within, INSTANCE, Position(0, 0)
    for value in (b"large", b"s"):
        rig.kv.transact(lambda txn: outside[0](txn, *outside[1:]).put(b"o", value))  # noqa: B023
    assert [key[-1:] for key, _ in rig.kv.scan(b"B", b"C")] == [b"c"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs(), operations(), FOLDS)
def test_every_backend_agrees_with_model(kv, parents, ops, folds):
    kv.transact(lambda txn: [txn.delete(k) for k, _ in txn.scan(b"")])
    rig = Rig(parents, kv)
    model = Model(rig.graph)
    apply(rig, model, ops, folds)
    for version in rig.graph.parents:
        expected = [model.get_with_version(version, k) for k in sorted(KEYS)]
        if CONFLICT not in expected:
            found = [(k, e[1]) for k, e in zip(sorted(KEYS), expected, strict=True) if e]
            assert list(rig.at(version).scan()) == found
            assert list(rig.at(version).scan(reverse=True)) == found[::-1]
            assert rig.at(version).get_many(sorted(KEYS)) == [e and e[1] for e in expected]


@pytest.mark.parametrize("byte", [b"k", b"\0"])
def test_a_key_that_a_store_takes_can_be_folded_too(kv, byte):
    rig, taken = Rig([[], [1], [2]], kv), []
    for length in [*range(100, 520, 7), *range(1200, 1320, 7), *range(2500, 2620, 7)]:
        try:
            rig.put(1, byte * length, b"1")
        except InvalidInputError:
            continue
        taken.append(byte * length)
    assert len(taken) > 4
    rig.transact(2, lambda tx: [tx.put(key, b"2") for key in taken])
    assert [rig.at(3).get(key) for key in taken] == [b"2"] * len(taken)
    assert [rig.at(1, folded=True).get(key) for key in taken] == [b"1"] * len(taken)


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
    rig.put(1, b"a", b"fine")
    rig.put(2, b"k", b"left")
    rig.put(3, b"k", b"right")
    with pytest.raises(ConflictError, match="'k'") as caught_error:
        rig.at(4).get(b"k")
    assert caught_error.value.conflicts == [b"k"]
    with pytest.raises(ConflictError, match="'k'"):
        list(rig.at(4).scan_keys())
    assert rig.at(4).get(b"a") == b"fine"
    rig.put(4, b"k", b"agreed")
    assert rig.at(5).get(b"k") == b"agreed"


def test_a_deletion_resolves_a_conflict():
    rig = Rig([*DIAMOND, [4]])
    rig.put(1, b"a", b"fine")
    rig.put(2, b"k", b"left")
    rig.put(3, b"k", b"right")
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


def test_instances_changed():
    rig = Rig([[], [1], [1]])
    for instance in (LOW, INSTANCE, HIGH):
        rig.put(1, b"k", b"base", instance)
    rig.put(2, b"k", b"new", HIGH)
    rig.put(2, b"l", b"new", LOW)
    rig.transact(2, lambda tx: tx.delete(b"k"), LOW)
    assert list(rig.store.instances_changed(1)) == [LOW, INSTANCE, HIGH]
    assert list(rig.store.instances_changed(2)) == [LOW, HIGH]
    assert list(rig.store.instances_changed(3)) == []


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
    rig = Rig([[], [1], [2]])
    rig.put(1, b"k", b"v")
    rig.put(2, b"k", b"w")
    assert rig.at(3).get(b"k") == b"w"
    rig.kv.transact(lambda txn: [txn.delete(k) for k, _ in txn.scan(b"V")])
    with pytest.raises(FormatError, match="'k'"):
        rig.at(1, folded=True).get(b"k")
    rig.kv.transact(lambda txn: [txn.delete(k) for k, _ in txn.scan(b"P")])
    with pytest.raises(FormatError, match="'k'"):
        rig.at(1, folded=True).get(b"k")


@given(graphs(), operations(), st.lists(st.sampled_from(KEYS), min_size=4, max_size=8), st.integers(0, 11))
@settings(max_examples=150, deadline=None)
def test_many_keys_at_once_are_as_many_one_by_one(parents, ops, keys, number):
    rigs = [Rig(parents), Rig(parents)]
    for rig in rigs:
        apply(rig, Model(rig.graph), ops)
    with_children = {p for above in rigs[0].graph.parents.values() for p in above}
    leaves = sorted(set(rigs[0].graph.parents) - with_children)
    version = leaves[number % len(leaves)]
    rigs[0].transact(version, lambda tx: tx.delete_many(keys))
    rigs[1].transact(version, lambda tx: [tx.delete(key) for key in keys])
    assert list(rigs[0].kv.scan(b"")) == list(rigs[1].kv.scan(b""))
    ranges = [(low, high) for low in (b"", b"a", keys[0]) for high in (b"a\1", b"\xff\xff\xff")]
    seen = rigs[0].at(version)
    one_by_one = caught(lambda: [list(seen.scan(low, high)) for low, high in ranges])
    assert caught(lambda: seen.scan_many(ranges)) == one_by_one


class Counting(MemoryKV):
    """A store that counts the rows that are looked up in it, and how often somebody looks."""

    rows = looks = 0

    def get(self, key):
        return self.get_many([key])[0]

    def get_many(self, keys):
        self.looks += 1
        self.rows += len(keys)
        return super().get_many(keys)

    def scan_many(self, ranges, **how):
        self.looks += 1
        found = super().scan_many(ranges, **how)
        self.rows += sum(map(len, found))
        return found


@pytest.fixture(scope="module")
def deep() -> Rig:
    """Fifty keys, each rewritten at 300 versions, of which the last is open."""
    rig = Rig([[], *([v] for v in range(1, 300))], Counting())
    for version in rig.graph.parents:
        rig.transact(version, lambda tx: [tx.put(b"%03d" % i, bytes([version % 256])) for i in range(50)])  # noqa: B023
    return rig


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("version", "how", "rows"), [(300, {}, 2), (299, {"folded": True}, 1), (150, {"folded": True}, 3)]
)
def test_a_scan_costs_its_result(deep: Rig, version: int, how: dict[str, bool], rows: int, reverse: bool):
    at, kv = deep.at(version, **how), deep.kv
    kv.rows = kv.looks = 0
    assert dict(at.scan(reverse=reverse)) == {b"%03d" % i: bytes([version % 256]) for i in range(50)}
    assert kv.rows <= rows * 50
    assert kv.looks <= 8


@pytest.mark.parametrize(("version", "how", "rows"), [(300, {}, 2), (299, {"folded": True}, 1)])
def test_a_key_costs_one_look(deep: Rig, version: int, how: dict[str, bool], rows: int):
    at, kv = deep.at(version, **how), deep.kv
    kv.rows = kv.looks = 0
    assert at.get(b"007") == bytes([version % 256])
    assert (kv.looks, kv.rows) == (1, rows)
    assert at.get(b"none") is None
    assert (kv.looks, kv.rows) == (2, 2 * rows)
    many = [b"%03d" % i for i in range(0, 50, 3)]
    assert at.get_many(many) == [bytes([version % 256])] * 17
    assert (kv.looks, kv.rows) == (3, (2 + 17) * rows)


def test_a_write_is_one_row_and_says_nothing_of_the_past(deep: Rig):
    kv = deep.kv
    kv.rows = kv.looks = 0
    before = len(list(kv.scan(b"")))
    deep.transact(300, lambda tx: [tx.put(b"new%d" % i, b"1") for i in range(50)])
    assert kv.looks == 0
    assert len(list(kv.scan(b""))) == before + 50
    kv.looks = 0
    deep.transact(300, lambda tx: tx.delete_many([b"new%d" % i for i in range(50)]))
    assert len(list(kv.scan(b""))) == before
