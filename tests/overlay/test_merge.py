"""Merges: what one side changed is taken, what both changed is listed by box, and nothing is written then."""

from __future__ import annotations

import numpy as np
import pytest

import vzarr
from vzarr.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.hierarchy.tree import ArrayEntry
from vzarr.overlay.owners.directory import PageReader, Ref
from vzarr.overlay.threeway.disputes import Dispute


def paint(version: vzarr.Version, values: dict[tuple[int, int], int]) -> None:
    version.write_chunks("a", {c: np.full((4, 4), v, "u2") for c, v in values.items()})


def value(version: vzarr.Version, coord: tuple[int, int]) -> int | None:
    found = next(iter(version.read_chunks("a", [coord])))[1]
    return None if found is None else int(found[0, 0])


@pytest.fixture
def base(repo: vzarr.Repo) -> vzarr.Version:
    """A sealed root with an array ``a`` of 3 by 3 chunks, all 1."""
    root = repo.root
    root.create_array("a", dtype="u2", chunks=(4, 4), shape=(12, 12), dimension_names=None)
    paint(root, {(y, x): 1 for y in range(3) for x in range(3)})
    root.store.write("notes", b"base")
    return root.commit()


@pytest.fixture
def sides(base: vzarr.Version) -> tuple[vzarr.Version, vzarr.Version]:
    """Two open children of it."""
    return base.newversion(), base.branch("side")


def test_what_one_side_changed_is_taken(sides: tuple[vzarr.Version, vzarr.Version]):
    left, right = sides
    paint(left, {(0, 0): 2, (-1, 0): 3})
    paint(right, {(2, 2): 4, (5, 5): 5})
    left.delete_chunks("a", [(1, 0)])
    right.delete_chunks("a", [(1, 1)])
    left.store.write("notes", b"left")
    right.store.write("more", b"right")
    left.create_group("l", {"k": 1})
    joined = left.repo.merge([left.commit(), right.commit()], note="joined")
    for at in (lambda: joined, joined.commit, joined.newversion):
        found = at()
        coords = [(0, 0), (-1, 0), (2, 2), (5, 5), (1, 0), (1, 1), (0, 1)]
        assert [value(found, c) for c in coords] == [2, 3, 4, 5, None, None, 1]
        owners = [left.uuid, left.uuid, right.uuid, right.uuid, None, None, left.repo.uuid]
        assert found.owners("a", coords) == owners
        assert found.bounds("a") == ((-4, 0), (24, 24))
        assert [found.store.read(k)[0] for k in ("notes", "more")] == [b"left", b"right"]
        assert found.attributes("l") == {"k": 1}
    assert joined.parents == [left, right]
    assert (joined.branch_name, joined.note) == ("master", "joined")


def test_a_merge_goes_on_like_any_version(sides: tuple[vzarr.Version, vzarr.Version]):
    left, right = sides
    paint(left, {(0, 0): 2})
    paint(right, {(0, 1): 3})
    joined = left.repo.merge([left.commit(), right.commit()])
    paint(joined, {(0, 0): 7, (2, 2): 8})
    joined.delete_chunks("a", [(0, 1)])
    with vzarr.open(left.url) as elsewhere:
        assert [value(elsewhere[joined.uuid], c) for c in ((0, 0), (0, 1), (2, 2), (1, 1))] == [7, None, 8, 1]
    child = joined.commit().newversion()
    assert [value(child, c) for c in ((0, 0), (0, 1), (2, 2), (1, 1))] == [7, None, 8, 1]


def test_what_both_changed_is_listed_by_box_and_nothing_is_written(sides: tuple[vzarr.Version, vzarr.Version]):
    left, right = sides
    paint(left, {(0, 0): 2, (1, 1): 2, (-1, -1): 2})
    paint(right, {(0, 0): 3, (2, 2): 3, (-1, -1): 3})
    left.delete_chunks("a", [(2, 2)])
    left.commit()
    right.commit()
    before = dict(left.repo.objects.walk())
    with pytest.raises(ConflictError, match="3 conflicts") as caught:
        left.repo.merge([left, right])
    boxes = [("a", ((-4, -4), (0, 0))), ("a", ((0, 0), (4, 4))), ("a", ((8, 8), (12, 12)))]
    assert sorted(caught.value.conflicts) == boxes
    assert dict(left.repo.objects.walk()) == before


def test_deleting_on_both_sides_is_no_conflict(sides: tuple[vzarr.Version, vzarr.Version]):
    for side in sides:
        side.delete_chunks("a", [(0, 0)])
        side.commit()
    assert value(sides[0].repo.merge(list(sides)), (0, 0)) is None


def test_kept_conflicts_raise_until_they_are_written(sides: tuple[vzarr.Version, vzarr.Version]):
    left, right = sides
    paint(left, {(0, 0): 2, (0, 1): 2})
    paint(right, {(0, 0): 3, (0, 1): 3})
    joined = left.repo.merge([left.commit(), right.commit()], keep_conflicts=True)
    for read in (
        lambda: joined.read("a", (0, 0), (4, 4)),
        lambda: joined.store.read("a/c/0/0"),
        lambda: joined.zarr["a"][0, 0],
        lambda: joined.owners("a", [(0, 0)]),
    ):
        with pytest.raises(ConflictError):
            read()
    assert value(joined, (1, 1)) == 1
    paint(joined, {(0, 0): 9})
    joined.delete_chunks("a", [(0, 1)])
    assert value(joined, (0, 0)) == 9
    assert joined.store.read("a/c/0/1") is None
    child = joined.commit().newversion()
    assert (value(child, (0, 0)), value(child, (0, 1))) == (9, None)


def test_conflicts_that_are_kept_pass_into_the_seal(sides: tuple[vzarr.Version, vzarr.Version]):
    left, right = sides
    paint(left, {(0, 0): 2})
    paint(right, {(0, 0): 3})
    joined = left.repo.merge([left.commit(), right.commit()], keep_conflicts=True).commit()
    with pytest.raises(ConflictError):
        value(joined.newversion(), (0, 0))


def test_growth_on_both_sides_is_joined(sides: tuple[vzarr.Version, vzarr.Version]):
    left, right = sides
    left.grow("a", (4, 0), (0, 0))
    right.zarr["a"].resize((12, 40))
    joined = left.repo.merge([left.commit(), right.commit()])
    assert joined.bounds("a") == ((-4, 0), (12, 40))


def test_equal_metadata_written_differently_are_no_conflict(sides: tuple[vzarr.Version, vzarr.Version]):
    """One side's document is zarr's, the other's ours: they say the same."""
    left, right = sides
    left.grow("a", (0, 0), (4, 4))
    right.zarr["a"].resize((16, 16))
    assert left.repo.merge([left.commit(), right.commit()]).bounds("a") == ((0, 0), (16, 16))


@pytest.mark.parametrize("change", ["attributes", "two arrays", "array and group", "deleted and changed", "loose key"])
def test_conflicts_of_metadata_are_listed_by_path(sides: tuple[vzarr.Version, vzarr.Version], change: str):
    left, right = sides
    path = "new"
    if change == "attributes":
        path = "a"
        left.zarr["a"].attrs["k"], right.zarr["a"].attrs["k"] = 1, 2
    elif change == "two arrays":
        for side in sides:
            side.create_array("new", dtype="u1", chunks=(4,), dimension_names=None)
    elif change == "array and group":
        left.create_array("new", dtype="u1", chunks=(4,), dimension_names=None)
        right.create_group("new")
    elif change == "deleted and changed":
        path = "a"
        del left.zarr["a"]
        paint(right, {(0, 0): 3})
    else:
        path = "notes"
        left.store.write("notes", b"left")
        right.store.write("notes", b"right")
    with pytest.raises(ConflictError) as caught:
        left.repo.merge([left.commit(), right.commit()])
    assert (path, None) in caught.value.conflicts
    joined = left.repo.merge([left, right], keep_conflicts=True)
    assert joined.commit().sealed


def test_the_change_that_knew_the_other_wins(base: vzarr.Version):
    """A criss-cross: what both sides have from each other is no conflict."""
    left, right = base.newversion(), base.branch("side")
    paint(left, {(0, 0): 2})
    paint(right, {(1, 1): 3})
    left.commit()
    right.commit()
    one = base.repo.merge([left, right])
    paint(one, {(0, 0): 4})
    other = right.branch("other")
    other.commit()
    two = base.repo.merge([left, other])
    joined = base.repo.merge([one.commit(), two.commit()])
    assert [value(joined, c) for c in ((0, 0), (1, 1), (2, 2))] == [4, 3, 1]


def test_three_versions_at_once(base: vzarr.Version):
    heads = [base.branch(f"b{n}") for n in range(3)]
    for n, head in enumerate(heads):
        paint(head, {(n, n): 10 + n})
        head.commit()
    joined = base.repo.merge(heads)
    assert [value(joined, (n, n)) for n in range(3)] == [10, 11, 12]
    assert joined.parents == heads


def test_an_ancestor_adds_nothing(base: vzarr.Version):
    child = base.newversion()
    paint(child, {(0, 0): 2})
    joined = base.repo.merge([base, child.commit()])
    assert value(joined, (0, 0)) == 2


def test_what_cannot_be_merged(sides: tuple[vzarr.Version, vzarr.Version], base: vzarr.Version):
    left, right = sides
    for versions, error in [
        ([left, right], SealedError),
        ([base], InvalidInputError),
        ([base, base], InvalidInputError),
        ([], InvalidInputError),
        ([base, "nosuch"], NotFoundError),
    ]:
        with pytest.raises(error):
            base.repo.merge(versions)
    with pytest.raises(AlreadyExistsError):
        base.newversion()
    assert len(base.repo.versions()) == 3


# -- strategies


def three(base: vzarr.Version, *values: dict[tuple[int, int], int | None]) -> list[vzarr.Version]:
    """A sealed branch for each set of changes; None deletes."""
    heads = []
    for changes in values:
        head = base.branch(f"t{len(base.repo.versions())}")
        paint(head, {c: v for c, v in changes.items() if v is not None})
        head.delete_chunks("a", [c for c, v in changes.items() if v is None])
        heads.append(head.commit())
    return heads


@pytest.mark.parametrize(("strategy", "expected"), [("ours", [2, 9, None, 7]), ("theirs", [4, 3, 8, 7])])
def test_a_strategy_takes_the_first_or_last_that_changed_something(
    base: vzarr.Version, strategy: str, expected: object
):
    heads = three(base, {(0, 0): 2, (1, 0): None}, {(0, 0): 3, (0, 1): 9, (2, 2): 7}, {(0, 0): 4, (0, 1): 3, (1, 0): 8})
    joined = base.repo.merge(heads, strategy)
    coords = [(0, 0), (0, 1), (1, 0), (2, 2)]
    for at in (joined, joined.commit()):
        assert [value(at, c) for c in coords] == expected
    assert list(base.repo.objects.walk(f"nodes/{joined.uuid}/zarr")) == []


def test_a_function_decides_chunk_by_chunk(base: vzarr.Version):
    heads = three(base, {(0, 0): 2, (1, 0): None, (2, 0): 5}, {(0, 0): 3, (1, 0): 8, (2, 0): 6})
    asked: list[tuple[object, ...]] = []

    def decide(dispute: Dispute) -> object:
        assert dispute.base is not None
        held = [None if s.value is None else int(s.value[0, 0]) for s in (*dispute.sides, dispute.base)]
        asked.append((dispute.path, dispute.box, held, dispute.changed))
        if dispute.box == ((0, 0), (4, 4)):
            return np.maximum(dispute.sides[0].value, dispute.sides[1].value) * 10
        return dispute.sides[0 if dispute.box == ((4, 0), (8, 4)) else 1]

    joined = base.repo.merge(heads, decide)
    assert asked == [
        ("a", ((0, 0), (4, 4)), [2, 3, 1], (0, 1)),
        ("a", ((4, 0), (8, 4)), [None, 8, 1], (0, 1)),
        ("a", ((8, 0), (12, 4)), [5, 6, 1], (0, 1)),
    ]
    coords = [(0, 0), (1, 0), (2, 0)]
    assert [value(joined, c) for c in coords] == [30, None, 6]
    assert joined.owners("a", [(0, 0)]) == [joined.uuid]
    with vzarr.open(base.repo.url) as elsewhere:
        assert [value(elsewhere[joined.uuid], c) for c in coords] == [30, None, 6]
    joined.delete_chunks("a", [(0, 0)])
    assert value(joined, (0, 0)) is None
    child = joined.commit().newversion()
    assert [value(child, c) for c in coords] == [None, None, 6]
    assert not [f for f in verify(base.repo.objects) if f.damage]


@pytest.mark.parametrize("answer", ["nothing", "base", "shape", "dtype", "raise", "range", "below", "fraction", "nan"])
def test_a_function_that_does_not_decide(base: vzarr.Version, answer: str):
    heads = three(base, {(0, 0): 2}, {(0, 0): 3})
    errors = {"nothing": ConflictError, "raise": ZeroDivisionError}

    def decide(dispute: Dispute) -> object:
        if answer == "raise":
            raise ZeroDivisionError
        full = {"range": 65536, "below": -1, "fraction": 0.5, "nan": np.nan}
        if answer in full:
            return np.full((4, 4), full[answer])
        return {"base": dispute.base, "shape": np.zeros(4), "dtype": "text"}.get(answer)

    before = dict(base.repo.objects.walk())
    with pytest.raises(errors.get(answer, InvalidInputError)):
        base.repo.merge(heads, decide)
    assert dict(base.repo.objects.walk()) == before
    with pytest.raises(InvalidInputError, match="strategy"):
        base.repo.merge(heads, "mine")


def test_what_stands_against_a_merge_can_be_asked_before(base: vzarr.Version):
    heads = three(base, {(0, 0): 2, (1, 1): 1}, {(0, 0): 3})
    before = dict(base.repo.objects.walk())
    assert base.repo.merge_conflicts(heads) == [("a", ((0, 0), (4, 4)))]
    assert base.repo.merge_conflicts([heads[0], base]) == []
    assert dict(base.repo.objects.walk()) == before


def change_metadata(side: vzarr.Version, how: str) -> None:
    if how == "rename":
        side.rename("a", "b")
    elif how == "other rename":
        side.rename("a", "c")
    elif how == "attribute":
        side.zarr["a"].attrs["k"] = 1
    elif how == "other value":
        side.zarr["a"].attrs["k"] = 2
    elif how == "other attribute":
        side.zarr["a"].attrs["m"] = 3
    elif how == "grow":
        side.grow("a", (4, 0), (0, 0))
    elif how == "again":
        side.zarr.create_array("a", shape=(4,), chunks=(4,), dtype="f4", overwrite=True)
    elif how == "delete":
        del side.zarr["a"]
    elif how == "group":
        del side.zarr["a"]
        side.create_group("a/x")
    else:
        paint(side, {(0, 0): 5})


@pytest.mark.parametrize(
    ("left", "right", "ours", "theirs"),
    [
        ("rename", "attribute", {"b": {"k": 1}}, None),
        ("rename", "paint", {"b": {}}, None),
        ("rename", "grow", {"b": {}}, None),
        ("rename", "delete", {"b": {}}, {}),
        ("rename", "other rename", {"b": {}}, {"c": {}}),
        ("rename", "again", {"b": {}}, {"a": {}}),
        ("attribute", "other attribute", {"a": {"k": 1, "m": 3}}, None),
        ("attribute", "grow", {"a": {"k": 1}}, None),
        ("attribute", "other value", {"a": {"k": 1}}, {"a": {"k": 2}}),
        ("again", "again", {"a": {}}, {"a": {}}),
        ("again", "paint", {"a": {}}, {"a": {}}),
        ("again", "attribute", {"a": {}}, {"a": {"k": 1}}),
        ("delete", "paint", {}, {"a": {}}),
        ("delete", "delete", {}, None),
        ("group", "paint", {}, {"a": {}}),
        ("group", "attribute", {}, {"a": {"k": 1}}),
    ],
)
def test_metadata(
    sides: tuple[vzarr.Version, vzarr.Version], left: str, right: str, ours: dict[str, object], theirs: object
):
    """`theirs` is None where there is nothing to decide."""
    repo = sides[0].repo
    for side, how in zip(sides, (left, right), strict=True):
        change_metadata(side, how)
        side.commit()

    def arrays(version: vzarr.Version) -> dict[str, dict[str, object]]:
        entries = version.view.entries
        found = {p: version.attributes(p) for p, e in entries.items() if isinstance(e, ArrayEntry)}
        return {p: {k: v for k, v in a.items() if k != "vzarr_origin"} for p, a in found.items()}

    conflicts = repo.merge_conflicts(list(sides))
    assert bool(conflicts) == (theirs is not None)
    assert all(c.box is None and c.why for c in conflicts)
    expected = {"ours": ours, "theirs": ours if theirs is None else theirs}
    for strategy, wanted in expected.items():
        joined = repo.merge(list(sides), strategy)
        assert arrays(joined) == wanted
        assert arrays(joined.commit()) == wanted
        lone = next(iter(wanted), "")
        if "paint" in (left, right) and joined.has_array(lone) and len(joined.chunk_shape(lone)) == 2:
            assert next(iter(joined.read_chunks(lone, [(0, 0)])))[1][0, 0] == 5
    for place in (0, 1):
        joined = repo.merge(list(sides), lambda d, place=place: d.sides[place])
        assert arrays(joined) == list(expected.values())[place]
    repo.merge(list(sides), keep_conflicts=True).commit()
    assert not [f for f in verify(repo.objects) if f.damage]


def test_a_change_that_was_chosen_is_seen_where_the_other_cut_it_off(base: vzarr.Version):
    repo = base.repo
    writer, cutter = base.branch("w"), base.branch("c")
    paint(writer, {(2, 2): 9, (0, 0): 3})
    cutter.zarr["a"].resize((8, 8))
    heads = [writer.commit(), cutter.commit()]
    for order in (heads, heads[::-1]):
        assert repo.merge_conflicts(order) == [("a", ((8, 8), (12, 12)))]
    for strategy in ("ours", lambda dispute: dispute.sides[0], lambda dispute: np.full((4, 4), 9, "u2")):
        joined = repo.merge(heads, strategy)
        for at in (joined, joined.commit()):
            assert at.bounds("a") == ((0, 0), (12, 12))
            assert [value(at, c) for c in ((2, 2), (0, 0), (2, 0))] == [9, 3, None]
            assert (at.zarr["a"][8:, 8:] == 9).all()
    joined = repo.merge(heads, "theirs")
    assert joined.bounds("a") == ((0, 0), (8, 8))
    joined.zarr["a"].resize((12, 12))
    assert (joined.zarr["a"][8:, 8:] == 0).all()
    assert not [f for f in verify(repo.objects) if f.damage]


@pytest.mark.parametrize("shapes", [(16, 8), (8, 4), (8, 6)])
def test_a_cut_against_another_change_of_the_window_is_a_conflict(base: vzarr.Version, shapes: tuple[int, int]):
    heads = [base.branch(f"s{size}") for size in shapes]
    for head, size in zip(heads, shapes, strict=True):
        head.zarr["a"].resize((12, size))
        head.commit()
    assert [str(c) for c in base.repo.merge_conflicts(heads)][:1] == ["a: shape"]
    joined = [base.repo.merge(heads, strategy) for strategy in ("ours", "theirs", lambda dispute: dispute.sides[1])]
    assert [version.bounds("a") for version in joined] == [((0, 0), (12, shapes[n])) for n in (0, 1, 1)]
    assert base.repo.merge([heads[0], base.branch("same").commit()]).bounds("a") == ((0, 0), (12, shapes[0]))


# -- equal changes


def test_what_several_wrote_alike_is_no_conflict(base: vzarr.Version):
    heads = [base.branch(f"s{n}") for n in range(3)]
    for n, head in enumerate(heads):
        paint(head, {(0, 0): 7, (1, 0): 8 if n else 9, (n, 2): 6})
        head.store.write("notes", b"alike")
        head.store.write("new", b"alike")
        notes = head.create_instance("kv", "keyvalue") if not n else head["kv"]
        notes.put("same", b"1")
        notes.put("other", bytes([n > 0]))
        head.commit()
    _, two, three = heads
    assert base.repo.merge_conflicts([two, three]) == []
    assert [str(c) for c in base.repo.merge_conflicts(heads)] == ["a 4,0..8,4", "kv: key 'other'"]
    for pair in ([two, three], [three, two]):
        joined = base.repo.merge(pair)
        for at in (joined, joined.commit()):
            assert [value(at, c) for c in ((0, 0), (1, 0), (1, 2), (2, 2))] == [7, 8, 6, 6]
            assert at.owners("a", [(0, 0)]) == [pair[0].uuid]
            assert (at.store.read("notes"), at.store.read("new")) == ((b"alike", 5),) * 2
            assert (at["kv"].get("same"), at["kv"].get("other")) == (b"1", b"\1")
    joined = base.repo.merge(heads, "theirs").commit()
    assert [value(joined, c) for c in ((0, 0), (1, 0))] == [7, 8]
    assert not [f for f in verify(base.repo.objects) if f.damage]


def test_equal_chunks_are_told_by_the_lists_of_checksums(base: vzarr.Version, monkeypatch: pytest.MonkeyPatch):
    """However many chunks both wrote alike, none of them is read."""
    coords = [(y, x) for y in range(3) for x in range(3)]
    heads = three(base, *(dict.fromkeys(coords, 5) | {(0, 0): n} for n in (6, 7)))
    kind = type(base.repo.objects)
    read: dict[str, list[str]] = {"get": [], "fetch": [], "size": []}
    for name, keys in read.items():
        ask = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, k, *a, ask=ask, keys=keys: (keys.append(k), ask(self, k, *a))[1])
    assert base.repo.merge_conflicts(heads) == [("a", ((0, 0), (4, 4)))]
    assert sorted(k for k in read["get"] if "/sums/" in k) == sorted(layout.sums(h.uuid) for h in heads)
    assert not [k for keys in read.values() for k in keys if "/zarr/a/c/" in k]


# -- histories


def test_a_deletion_is_kept_whichever_version_is_named_first(base: vzarr.Version):
    """The common ancestors of a criss-cross disagree: one has the chunk, the other never had it."""
    one, other = three(base, {(5, 5): 2}, {(6, 6): 3})
    left, right = base.repo.merge([one, other]), base.repo.merge([other, one])
    left.delete_chunks("a", [(5, 5)])
    for heads in ([left.commit(), right.commit()], [right, left]):
        assert value(base.repo.merge(heads), (5, 5)) is None


def test_conflicts_that_were_decided_differently_are_conflicts_again(base: vzarr.Version):
    heads = three(base, {(0, 0): 2}, {(0, 0): 3})
    left, right = (base.repo.merge(heads, how).commit() for how in ("ours", "theirs"))
    kept = base.repo.merge(heads, keep_conflicts=True).commit()
    assert base.repo.merge_conflicts([left, right]) == [("a", ((0, 0), (4, 4)))]
    assert value(base.repo.merge([left, right], "ours"), (0, 0)) == 2
    assert value(base.repo.merge([kept, right]), (0, 0)) == 3
    same = base.repo.merge(heads, "ours").commit()
    assert value(base.repo.merge([left, same]), (0, 0)) == 2


def test_what_two_of_three_share_is_their_base(base: vzarr.Version):
    """One of two with a younger common ancestor deletes what that made; the third never heard of it."""
    shared = three(base, {(5, 5): 2})[0]
    gone, same = three(shared, {(5, 5): None}, {(0, 0): 4})
    stranger = three(base, {(1, 1): 6})[0]
    for heads in ([gone, same, stranger], [stranger, same, gone], [same, stranger, gone]):
        joined = base.repo.merge(heads)
        assert [value(joined, c) for c in ((5, 5), (0, 0), (1, 1))] == [None, 4, 6]


def test_a_long_criss_cross(base: vzarr.Version):
    left, right = three(base, {(0, 0): 2}, {(1, 1): 3})
    for n in range(60):
        one, two = base.repo.merge([left, right], "ours"), base.repo.merge([right, left], "ours")
        paint(one, {(0, 0): 10 + n})
        paint(two, {(1, 1): 100 + n, (0, 1): n})
        left, right = one.commit(), two.commit()
    joined = base.repo.merge([left, right])
    assert [value(joined, c) for c in ((0, 0), (1, 1), (0, 1), (2, 2))] == [69, 159, 59, 1]


# -- cost


def test_only_pages_that_differ_are_read_and_only_those_of_both_sides_written(
    repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch
):
    """Of 8 x 8 pages one side changed one, the other another, both a third."""
    root = repo.root
    root.create_array("a", dtype="u1", chunks=(1, 1), shape=(512, 512), dimension_names=None)
    root.write("a", (0, 0), np.zeros((1, 1), "u1"))
    for y in range(8):
        for x in range(8):
            root.write_chunks("a", {(64 * y, 64 * x): np.ones((1, 1), "u1")})
    base = root.commit()
    heads = []
    for n in range(2):
        head = base.branch(f"b{n}")
        head.write_chunks("a", {(64 * n, 0): np.full((1, 1), 2, "u1"), (500, 500 + n): np.full((1, 1), 3, "u1")})
        heads.append(head.commit().uuid)
    read: list[Ref] = []
    decode = PageReader.page
    monkeypatch.setattr(PageReader, "page", lambda self, ref: (read.append(ref), decode(self, ref))[1])
    with vzarr.open(repo.url) if "://" not in repo.url else repo as cold:
        joined = cold.merge(heads)
        assert len(set(read)) <= 3 * 3
        table = cold.objects.get(layout.owner_table(layout.of_base(joined.uuid)))
        assert table is not None
        made = [p for _, p in joined.view.base.owners.pages(joined.view.array("a").id) if p.node == joined.uuid]
        assert len(made) == 1
