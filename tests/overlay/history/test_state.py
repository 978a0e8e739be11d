"""The state that a log adds up to."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import FormatError
from vzarr.overlay.history.dag import ancestors
from vzarr.overlay.history.state import Entry, State, replay


def entry(number: int, *ops: dict[str, Any]) -> Entry:
    return Entry(number, f"{number}", f"2026-01-01T00:00:{number % 60:02}Z", "ann", "test", "tool", ops)


def node(name: str, *parents: str, branch: str = "") -> dict[str, Any]:
    return {"op": "node", "id": name, "parents": list(parents), "branch": branch, "note": f"note {name}"}


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Entries that make versions n0, n1, ... on few branches."""
    found = [entry(0, {"op": "repo", "root": "n0", "alias": "r", "description": "d"}, node("n0"))]
    for n in range(1, draw(st.integers(1, 14))):
        above = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=2, unique=True))
        parents = [f"n{p}" for p in above]
        found.append(entry(n, node(f"n{n}", *parents, branch=draw(st.sampled_from(["", "b", "c"])))))
    return found


@given(histories(), st.integers(0, 14))
def test_replaying_in_two_steps_through_a_checkpoint_is_replaying_at_once(log: list[Entry], cut: int):
    at_once = replay(State(), log)
    half = State.from_bytes(replay(State(), log[:cut]).compact().to_bytes())
    assert replay(half, log[cut:]) == at_once
    assert State.from_bytes(at_once.compact().to_bytes()) == at_once
    hinted = half.then(orjson.loads(orjson.dumps(replay(half, log[cut:]).since(half))))
    assert hinted == at_once
    assert hinted.compact().to_bytes() == at_once.compact().to_bytes()


@given(histories())
def test_questions_against_their_definitions(log: list[Entry]):
    state = replay(State(), log)
    numbers = {i.version_id: n for n, i in state.nodes.items()}
    assert list(numbers) == list(range(1, len(log) + 1))
    for name, info in state.nodes.items():
        assert state.children(name) == [c for c, i in state.nodes.items() if name in i.parents]
        above = ancestors(name, state.parents) | {name}
        for other, known in state.nodes.items():
            assert state.is_ancestor(known.version_id, info.version_id) == (other in above)
        position = state.position(name)
        assert (position.line, position.version) == (info.line, info.version_id)
        first = state.nodes[numbers[info.line]]
        assert [p.version for p in position.parents] == [state.nodes[p].version_id for p in first.parents]
    for branch in ("", "b", "c"):
        leaves = [
            n
            for n, i in state.nodes.items()
            if i.branch == branch and not any(state.nodes[c].branch == branch for c in state.children(n))
        ]
        assert state.leaf(branch) == (leaves[-1] if leaves else None)


def test_a_line_goes_on_through_the_first_only_child():
    log = [entry(0, node("a")), entry(1, node("b", "a")), entry(2, node("c", "a")), entry(3, node("d", "b"))]
    state = replay(State(), [*log, entry(4, node("e", "c", "d"))])
    assert [i.line for i in state.nodes.values()] == [1, 1, 3, 1, 5]
    assert state.branch_versions("master") == ["e", "c", "d", "b", "a"]
    assert state.branch_versions("nosuch") == []


def test_notes_logs_and_instances():
    instance = {
        "op": "instance", "name": "em", "typename": "uint8blk", "data_uuid": "0" * 32, "version": "a",
        "versioned": True, "config": {"k": "v"}, "tags": None, "syncs": ["x"],
    }  # fmt: skip
    state = replay(State(), [entry(0, {"op": "repo", "root": "a", "alias": "r", "description": "d"}, node("a"))])
    later = replay(
        state,
        [
            entry(1, {"op": "note", "id": "a", "note": "new"}, {"op": "node_log", "id": "a", "lines": ["one", "two"]}),
            entry(2, instance, {"op": "repo_log", "lines": ["made em"]}),
            entry(3, {"op": "instance_set", "name": "em", "tags": {"t": "1"}, "syncs": []}),
            entry(4, {"op": "info", "alias": "s"}),
            entry(5, {"op": "seal", "id": "a", "sha256": "ff"}),
        ],
    )
    assert (state.nodes["a"].note, state.nodes["a"].sealed, state.instances) == ("note a", False, {})
    info = later.nodes["a"]
    assert (info.note, info.seal, info.sealed) == ("new", "ff", True)
    assert info.log == ("2026-01-01T00:00:01Z  one", "2026-01-01T00:00:01Z  two")
    assert (info.created, info.updated) == ("2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z")
    assert later.log == ("2026-01-01T00:00:02Z  made em",)
    assert (later.alias, later.description, later.created) == ("s", "d", "2026-01-01T00:00:00Z")
    em = later.instances["em"]
    assert (em.config, em.tags, em.syncs, em.created) == ({"k": "v"}, {"t": "1"}, (), "2026-01-01T00:00:02Z")
    assert replay(later, [entry(6, {"op": "instance_remove", "name": "em"})]).instances == {}
    assert State.from_bytes(later.compact().to_bytes()) == later


@pytest.mark.parametrize("name", ["nosuch", None, "", "__init__", "apply"])
def test_an_operation_of_a_newer_release_is_refused(name: str | None):
    with pytest.raises(FormatError, match="does not know"):
        replay(State(), [entry(0, {"op": name})])


def test_a_gap_in_the_log_is_refused():
    with pytest.raises(FormatError, match="entry 1 is missing"):
        replay(State(), [entry(0, node("a")), entry(2, node("b", "a"))])
    with pytest.raises(FormatError, match="entry 0 is missing"):
        replay(State(), [entry(1, node("a"))])
