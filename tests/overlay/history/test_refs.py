"""How versions are named, and what is said of names that name none or several."""

from __future__ import annotations

import pytest

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.overlay.history import refs
from vzarr.overlay.history.state import Entry, State, replay

A, B, C, D = ("a1" + "0" * 30, "a2" + "0" * 30, "b1" + "0" * 30, "b2" + "0" * 30)


@pytest.fixture(scope="module")
def state() -> State:
    """A (sealed) <- B (master, open); A <- C (side, sealed) <- D (side, open); a tag of A."""
    ops = [
        {"op": "repo", "root": A, "alias": "", "description": ""},
        {"op": "node", "id": A, "parents": [], "branch": "", "note": ""},
        {"op": "seal", "id": A, "sha256": "0"},
        {"op": "node", "id": B, "parents": [A], "branch": "", "note": ""},
        {"op": "node", "id": C, "parents": [A], "branch": "side", "note": ""},
        {"op": "seal", "id": C, "sha256": "0"},
        {"op": "node", "id": D, "parents": [C], "branch": "side", "note": ""},
        {"op": "node", "id": "v1.0", "parents": [A], "branch": "tag-v1.0", "note": ""},
        {"op": "seal", "id": "v1.0", "sha256": "0"},
    ]
    return replay(State(), [Entry(0, "x", "2026-01-01T00:00:00Z", "", "", "", tuple(ops))])


@pytest.mark.parametrize(
    ("ref", "node"),
    [
        (A, A),
        ("a1", A),
        ("a2", B),
        ("master", B),
        (":master", B),
        ("a1:master", B),
        ("b2:master", B),
        ("master~0", B),
        ("master~1", A),
        ("a2:master~1", A),
        ("side", D),
        ("side~1", C),
        ("side~2", A),
        ("b1:side~2", A),
        ("v1.0", "v1.0"),
        ("v1", "v1.0"),
        ("tag-v1.0", "v1.0"),
        ("master@sealed", A),
        ("side@sealed", C),
        (f"{C}@sealed", C),
        ("b2@sealed", C),
        (f"{A}:", A),
        ("a2:", B),
    ],
)
def test_a_ref_names_one_version(state: State, ref: str, node: str):
    assert refs.resolve(state, ref) == node


@pytest.mark.parametrize(
    ("ref", "error", "text"),
    [
        ("", InvalidInputError, "branch, tag or id"),
        ("c", NotFoundError, "could not find UUID with partial match to c"),
        ("a", InvalidInputError, "more than one UUID matches a"),
        ("b:side", InvalidInputError, "more than one"),
        (":nosuch", NotFoundError, "no branch 'nosuch'"),
        ("nosuch:side", NotFoundError, "nosuch"),
        ("master~2", NotFoundError, 'parent 2 is out of range for branch "master"'),
        ("master~" + "9" * 20, NotFoundError, f'parent {"9" * 20} is out of range for branch "master"'),
        (":master~" + "9" * 5000, NotFoundError, "out of range"),
        ("nosuch~1", NotFoundError, "no branch 'nosuch'"),
        ("a1~1", NotFoundError, "counts back from a branch"),
        ("master~", NotFoundError, None),
        ("master~-1", NotFoundError, None),
        (A + "0", NotFoundError, None),
        (A.upper(), NotFoundError, None),
        ("a1:side:x", NotFoundError, None),
        ("@sealed", InvalidInputError, None),
        ("nosuch@sealed", NotFoundError, "nosuch"),
        ("../a1", NotFoundError, None),
        ("a1\n", NotFoundError, None),
    ],
)
def test_other_refs_are_refused(state: State, ref: str, error: type[Exception], text: str | None):
    with pytest.raises(error, match=text):
        refs.resolve(state, ref)


def test_a_version_without_a_sealed_ancestor():
    op = {"op": "node", "id": A, "parents": [], "branch": "", "note": ""}
    state = replay(State(), [Entry(0, "x", "t", "", "", "", (op,))])
    with pytest.raises(NotFoundError, match="no sealed ancestor"):
        refs.resolve(state, "master@sealed")


@pytest.mark.parametrize("name", ["v1", "A.b_c-d", "0", "x" * 128, A])
def test_node_ids(name: str):
    assert refs.check_node_id(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "-x", "_x", "a b", "a/b", "a\n", "ä", "x" * 129, "a:b", "a~1"])
def test_other_node_ids_are_refused(name: str):
    with pytest.raises(InvalidInputError):
        refs.check_node_id(name)


@pytest.mark.parametrize("text", ["", A[:-1], A + "0", A.upper(), A[:-1] + "g", A + "\n"])
def test_uuids_are_32_hex_digits(text: str):
    assert refs.check_uuid(A) == A
    with pytest.raises(InvalidInputError, match="32 character"):
        refs.check_uuid(text)


@pytest.mark.parametrize("name", ["", "master", "a:b", "a~1", "a@b", "a/b", " a", "a ", "a\n"])
def test_branch_names(name: str):
    assert refs.check_branch("a branch.2") == "a branch.2"
    with pytest.raises(InvalidInputError):
        refs.check_branch(name)


@pytest.fixture(scope="module")
def dated() -> State:
    """A, B and D on master, made in the morning of 1, 2 and 4 November and sealed at noon; C on side, on the 3rd.

    On the 5th an open one follows on each.
    """
    nodes = [(A, [], "", 1), (B, [A], "", 2), (C, [A], "side", 3), (D, [B], "", 4)]
    opened = [("e" * 32, [D], "", 5), ("f" * 32, [C], "side", 5)]
    entries: list[Entry] = []
    for node, parents, branch, day in [*nodes, *opened]:
        made = {"op": "node", "id": node, "parents": parents, "branch": branch, "note": ""}
        entries.append(Entry(len(entries), "x", f"2026-11-0{day}T06:00:00.000000Z", "", "", "", (made,)))
        if (node, parents, branch, day) in nodes:
            sealed = {"op": "seal", "id": node, "sha256": "0"}
            entries.append(Entry(len(entries), "x", f"2026-11-0{day}T12:00:00.000000Z", "", "", "", (sealed,)))
    return replay(State(), entries)


@pytest.mark.parametrize(
    ("ref", "node"),
    [
        ("master@2026-11-01T12:00", A),
        ("master@2026-11-02T11:59:59", A),
        ("master@2026-11-02T12:00Z", B),
        ("master@2026-11-02T12:00+01:00", A),
        ("master@2026-11-02T13:00+01:00", B),
        ("master@2026-11-02", B),
        ("master@2026-11-03", B),
        ("master@2030-01-01", D),
        ("side@2026-11-04", C),
        ("a1:side@2026-11-04", C),
        (":master@2026-11-01", A),
        ("@2026-11-03", B),
        (":@2026-11-03", B),
    ],
)
def test_a_moment_names_the_newest_version_of_then(dated: State, ref: str, node: str):
    assert refs.resolve(dated, ref) == node


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ("master@2026-10-31", NotFoundError),
        ("side@2026-11-03T11:59", NotFoundError),
        ("@2026-11-01T11:59", NotFoundError),
        ("nothing@2026-11-03", NotFoundError),
        ("master@2026-11-31", InvalidInputError),
        ("master@2026-11-03Tnoon", InvalidInputError),
        ("master@noon", NotFoundError),
    ],
)
def test_moments_that_name_nothing(dated: State, ref: str, error: type[Exception]):
    with pytest.raises(error):
        refs.resolve(dated, ref)
