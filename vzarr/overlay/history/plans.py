"""Changes of history as pure functions: from a state to the operations of one log entry, or an error.

Each function makes a *plan*: called with the newest state, and again whenever another writer was first, it validates
and gives the operations to publish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vzarr.errors import AlreadyExistsError, NotFoundError, SealedError
from vzarr.overlay.history.state import MASTER, Op, State

Plan = Callable[[State], Sequence[Op]]


def create(root: str, alias: str, description: str, url: str) -> Plan:
    """The first entry: the repo and its open root."""

    def plan(state: State) -> Sequence[Op]:
        if state.nodes:
            raise AlreadyExistsError(f"{url} is a repo already")
        return (
            {"op": "repo", "root": root, "alias": alias, "description": description},
            {"op": "node", "id": root, "parents": [], "branch": MASTER, "note": ""},
        )

    return plan


def child(node: str, parents: Sequence[str], branch: str | None, note: str) -> Plan:
    """A version `node` made from sealed ones: on the first parent's branch (None), or on a named one.

    A branch's first version needs an unused name; the default branch may be joined by merges.
    """

    def plan(state: State) -> Sequence[Op]:
        check_parents(state, parents)
        name = state.nodes[parents[0]].branch if branch is None else branch
        siblings = (state.nodes[c].branch for p in parents for c in state.children(p))
        taken = name in siblings if branch is None else branch != MASTER and state.leaf(branch) is not None
        if taken:
            raise AlreadyExistsError("branch already exists with given name")
        check_free(state, node)
        return ({"op": "node", "id": node, "parents": list(parents), "branch": name, "note": note},)

    return plan


def tag(name: str, node: str, record: str) -> Plan:
    """A sealed, empty child of `node` whose id is the tag; `record` is the hash of its seal."""

    def plan(state: State) -> Sequence[Op]:
        check_parents(state, [node])
        check_free(state, name)
        note = f'Tag of version {node} with "{name}"'
        return (
            {"op": "node", "id": name, "parents": [node], "branch": f"tag-{name}", "note": note},
            {"op": "seal", "id": name, "sha256": record},
        )

    return plan


def seal(node: str, record: str, note: str | None, log: Sequence[str]) -> Plan:
    """The end of a version's open life; `record` is the hash of its seal."""

    def plan(state: State) -> Sequence[Op]:
        check_open(state, node)
        ops: list[Op] = [{"op": "seal", "id": node, "sha256": record}]
        if note:
            ops.append({"op": "note", "id": node, "note": note})
        if log:
            ops.append({"op": "node_log", "id": node, "lines": list(log)})
        return ops

    return plan


def on_open(node: str, op: Op) -> Plan:
    """One operation on a version that must be open."""

    def plan(state: State) -> Sequence[Op]:
        check_open(state, node)
        return (op,)

    return plan


def instance(node: str, info: Mapping[str, Any]) -> Plan:
    """A new instance, made from an open version; `info` is the operation without its name."""

    def plan(state: State) -> Sequence[Op]:
        check_open(state, node)
        name = info["name"]
        if name in state.instances:
            raise AlreadyExistsError(f"an instance named {name!r} exists already")
        line = f'New data instance "{name}" of type "{info["typename"]}" with config {info["config"]}'
        return {"op": "instance", **info}, {"op": "repo_log", "lines": [line]}

    return plan


def on_instance(name: str, op: Op) -> Plan:
    """One operation on an instance that must exist."""

    def plan(state: State) -> Sequence[Op]:
        if name not in state.instances:
            raise NotFoundError(f"no instance {name!r} in this repo")
        return (op,)

    return plan


def check_parents(state: State, parents: Sequence[str]) -> None:
    """Refuse parents that are unknown or open."""
    for parent in parents:
        if parent not in state.nodes:
            raise NotFoundError(f"no version {parent}")
        if not state.nodes[parent].sealed:
            raise SealedError(f"can't branch an unlocked node: commit {parent} first")


def check_open(state: State, node: str) -> None:
    """Refuse a version that is sealed."""
    if state.nodes[node].sealed:
        raise SealedError(f"version {node} is locked already")


def check_free(state: State, node: str) -> None:
    """Refuse an id that a version has."""
    if node in state.nodes:
        raise AlreadyExistsError(f"a version named {node} exists already")
