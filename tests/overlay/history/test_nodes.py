"""Versions in columns: the same as one by one, at any depth, and what a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.nodes import NodeInfo, Nodes, Packed
from vzarr.overlay.history.state import Entry, State, replay
from vzarr.overlay.objects.memory import MemoryObjects

STAMPS = ["2026-11-22T18:00:00.000001Z", "2026-11-22T18:00:00Z", "1969-12-31T23:59:59.999999Z", "", "yesterday"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def name(n: int) -> str:
    return f"{n:032x}" if n % 3 else f"tag-{n}"


@st.composite
def versions(draw: st.DrawFn) -> list[NodeInfo]:
    found: list[NodeInfo] = []
    for n in range(1, draw(st.integers(1, 12))):
        above = draw(st.lists(st.sampled_from(found), max_size=3, unique=True)) if found else []
        seal = draw(st.sampled_from([None, "", "ff", "0" * 64, f"{n:064x}"]))
        info = NodeInfo(
            name(n), n, tuple(i.id for i in above), draw(st.sampled_from(["", "side", "ütf"])), draw(TEXTS),
            tuple(draw(st.lists(TEXTS, max_size=2))), seal, draw(st.sampled_from(STAMPS)),
            draw(st.sampled_from(STAMPS)), draw(st.integers(0, n)),
        )  # fmt: skip
        found.append(info)
    return found


def check(nodes: Nodes, infos: list[NodeInfo]) -> None:
    assert list(nodes) == [i.id for i in infos]
    assert len(nodes) == len(infos)
    for info in infos:
        assert nodes[info.id] == info
        assert nodes.numbered(info.version_id) == info
        assert nodes.parents(info.id) == info.parents
        assert nodes.children(info.id) == tuple(i.id for i in infos if info.id in i.parents)
        newest = [i.id for i in infos if i.branch == info.branch][-1]
        assert nodes.last_on(info.branch) == newest
        later = [i for i in infos if i.line == info.line and i.version_id > info.version_id]
        assert nodes.ends_line(info) is not bool(later)
    assert nodes.branches() == list(dict.fromkeys(i.branch for i in infos))
    for prefix in ("", "0", "tag", f"{1:032x}", "f"):
        assert nodes.with_prefix(prefix) == sorted(i.id for i in infos if i.id.startswith(prefix))
    for unknown in ("f" * 32, "nobody", "", "0" * 31 + "g"):
        assert unknown not in nodes
        with pytest.raises(KeyError):
            nodes[unknown]


@given(versions(), st.integers(0, 12), st.integers(0, 12))
def test_packed_rows_are_the_versions_they_were(infos: list[NodeInfo], cut: int, changed: int):
    first = Nodes().edited({i.id: i for i in infos[:cut]}).compact()
    packed = Packed.from_bytes(first.packed.to_bytes(), orjson.loads(orjson.dumps(first.packed.head())))
    check(Nodes(packed), infos[:cut])
    some = {i.id: i for i in infos[:changed]}
    both = Nodes(packed).edited({**some, **{i.id: i for i in infos[cut:]}})
    check(both, infos)
    check(both.compact(), infos)
    whole = Nodes().edited({i.id: i for i in infos}).compact()
    assert whole.packed.to_bytes() == both.compact().packed.to_bytes(), "whoever writes a checkpoint writes the same"


def node(n: int, *parents: int) -> dict[str, Any]:
    return {"op": "node", "id": f"{n:032x}", "parents": [f"{p:032x}" for p in parents], "branch": "", "note": "x"}


def entry(number: int, *ops: dict[str, Any]) -> Entry:
    return Entry(number, str(number), "2026-01-01T00:00:00.000000Z", "", "", "", ops)


def test_a_state_of_many_versions_answers_without_walking_them():
    log = [entry(0, {"op": "repo", "root": f"{0:032x}", "alias": "", "description": ""}, node(0))]
    state = replay(State(), [*log, *(entry(n, node(n, n - 1)) for n in range(1, 10_000))]).compact()
    again = State.from_bytes(state.to_bytes())
    made = []
    again.nodes.packed.info = lambda row, info=again.nodes.packed.info: made.append(row) or info(row)
    tip = again.leaf("master")
    assert tip == f"{9999:032x}"
    assert again.nodes[tip].version_id == 10_000
    assert again.is_ancestor(1, 10_000)
    assert not again.is_ancestor(10_000, 1)
    assert again.position(tip).parents == ()
    later = replay(again, [entry(10_000, node(10_000, 9999))])
    assert later.nodes[f"{10_000:032x}"].line == 1
    assert len(made) < 20


def test_a_thousand_merges_in_a_row_are_no_deep_recursion_and_no_explosion():
    entries = [entry(0, {"op": "repo", "root": f"{0:032x}", "alias": "", "description": ""}, node(0))]
    for n in range(1, 1000, 3):
        last = max(0, n - 1)
        entries.append(entry(len(entries), node(n, last), node(n + 1, last), node(n + 2, n, n + 1)))
    state = replay(State(), entries)
    tip = state.leaf("master")
    at = state.position(tip)
    assert [p.version for p in at.parents] == [state.nodes[p].version_id for p in state.parents(tip)]
    assert state.is_ancestor(1, at.version)
    assert state.is_ancestor(2, at.version)


def test_checkpoints_of_earlier_releases_are_read():
    objects = MemoryObjects("earlier checkpoints")
    log = RepoLog(objects)
    root = {"op": "repo", "root": "a", "alias": "r", "description": "d"}
    log.publish(lambda _: (root, {"op": "node", "id": "a", "parents": [], "branch": "", "note": "n"}))
    for n in range(1, layout.CHECKPOINT_EVERY + 2):
        log.publish(lambda _, n=n: ({"op": "repo_log", "lines": [f"line {n}"]},))
    expected = log.refresh()
    number = layout.CHECKPOINT_EVERY - 1
    state = State.from_bytes(objects.get(layout.checkpoint(number)))
    scalars = {k: getattr(state, k) for k in ("next", "root", "alias", "description", "created", "updated", "log")}
    nodes = [asdict(i) for i in state.nodes.values()]
    objects.put(layout.checkpoint_json(number), orjson.dumps({**scalars, "nodes": nodes, "instances": []}))
    objects.delete(layout.checkpoint(number))
    after = [orjson.loads(objects.get(layout.log_entry(number + n))) for n in (1, 2)]
    objects.put(layout.LATEST, orjson.dumps({"checkpoint": number, "entries": after}))
    for n in range(number + 1):
        objects.delete(layout.log_entry(n))
    assert RepoLog(objects).open() == expected


@pytest.mark.parametrize("at", [0, 4, 8, 100, -1])
def test_one_wrong_byte_of_a_checkpoint_is_noticed(at: int, caplog: pytest.LogCaptureFixture):
    """The entries tell what it no longer does."""
    objects = MemoryObjects(f"one wrong byte {at}")
    log = RepoLog(objects)
    root = {"op": "repo", "root": "a", "alias": "r", "description": "d"}
    log.publish(lambda _: (root, {"op": "node", "id": "a", "parents": [], "branch": "", "note": "n"}))
    for _ in range(layout.CHECKPOINT_EVERY - 1):
        log.publish(lambda _: ({"op": "info", "alias": "r"},))
    key = layout.checkpoint(layout.CHECKPOINT_EVERY - 1)
    data = bytearray(objects.get(key))
    data[at] ^= 1
    objects.put(key, bytes(data))
    state = RepoLog(objects).open()
    assert (list(state.nodes), state.nodes["a"].note, state.alias) == (["a"], "n", "r")
    assert "checkpoint" in caplog.text


def test_a_log_that_makes_a_version_twice_is_refused():
    with pytest.raises(FormatError, match="twice"):
        replay(State(), [entry(0, node(1)), entry(1, node(1))])
