"""Merges: what one side changed is taken, what both changed is listed by box, and nothing is written then."""

from __future__ import annotations

import numpy as np
import pytest

import vzarr
from vzarr.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError, SealedError


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
    joined = left.repo.merge([left.commit(), right.commit()], "joined")
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
    paint(right, {(0, 0): 3, (2, 2): 3, (-1, -1): 2})
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
