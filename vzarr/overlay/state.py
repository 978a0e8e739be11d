"""The repo's state as a value: what the log's entries add up to, and the pure function that adds one.

An entry is a transaction of operations.  `replay` never validates: whoever publishes an entry has validated it
against the state that the entry follows, and the log decides who came first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from vzarr.errors import FormatError
from vzarr.overlay.dag import Position

MASTER = ""
"""How the default branch is recorded; people write it ``master``."""

Op = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One entry of the repo log.

    Parameters
    ----------
    number
        Place in the log, counted from 0.
    id
        Random name, by which a writer knows its own entry again after a lost answer.
    time
        UTC, RFC 3339.
    user, app, tool
        Who, through which application, with which version of this library.
    ops
        Operations, applied together: dictionaries with a key ``op``.
    """

    number: int
    id: str
    time: str
    user: str
    app: str
    tool: str
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class NodeInfo:
    """One version, as the log knows it (times are RFC 3339 in UTC)."""

    id: str
    version_id: int
    parents: tuple[str, ...]
    branch: str = MASTER
    note: str = ""
    log: tuple[str, ...] = ()
    seal: str | None = None
    created: str = ""
    updated: str = ""
    line: int = 0

    @property
    def sealed(self) -> bool:
        """Whether the version can never change again."""
        return self.seal is not None


@dataclass(frozen=True)
class InstanceInfo:
    """One named set of data of one datatype, as the log knows it."""

    name: str
    typename: str
    data_uuid: str
    version: str
    versioned: bool = True
    config: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] | None = None
    syncs: tuple[str, ...] = ()
    created: str = ""


@dataclass(frozen=True)
class State:
    """All that the log says; replaced, never changed.

    Parameters
    ----------
    next
        Number of the first entry that is not part of this state.
    root
        Id of the root version, which also names the repo.
    successors
        Children of each version that has any, oldest first.
    """

    next: int = 0
    root: str = ""
    alias: str = ""
    description: str = ""
    created: str = ""
    updated: str = ""
    log: tuple[str, ...] = ()
    nodes: Mapping[str, NodeInfo] = field(default_factory=dict)
    successors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instances: Mapping[str, InstanceInfo] = field(default_factory=dict)

    @cached_property
    def _sorted_ids(self) -> list[str]:
        return sorted(self.nodes)

    @cached_property
    def _by_version_id(self) -> dict[int, str]:
        return {n.version_id: n.id for n in self.nodes.values()}

    def children(self, node: str) -> list[str]:
        """Ids of a version's children, oldest first."""
        return list(self.successors.get(node, ()))

    def parents(self, node: str) -> tuple[str, ...]:
        """Ids of a version's parents, in the order in which they were named."""
        return self.nodes[node].parents

    def with_prefix(self, prefix: str) -> list[str]:
        """Ids that start with `prefix`, sorted."""
        ids = self._sorted_ids
        first = bisect_left(ids, prefix)
        last = first
        while last < len(ids) and ids[last].startswith(prefix):
            last += 1
        return ids[first:last]

    @cached_property
    def _leaves(self) -> dict[str, str]:
        """Newest version of each branch; it has no child on the branch, for children are newer."""
        return {info.branch: info.id for info in self.nodes.values()}

    def leaf(self, branch: str) -> str | None:
        """Newest version of a branch that has no child on the same branch, or None for an unknown branch."""
        return self._leaves.get(MASTER if branch == "master" else branch)

    def branches(self) -> list[str]:
        """Names of all branches, the default one as ``master``, in order of their first version."""
        return [b or "master" for b in dict.fromkeys(n.branch for n in self.nodes.values())]

    def branch_versions(self, branch: str) -> list[str]:
        """Ids from a branch's leaf to the root; of a merge all parents, then on through the last one."""
        at = self.leaf(branch)
        if at is None:
            return []
        found = [at]
        while parents := self.nodes[at].parents:
            found.extend(parents)
            at = parents[-1]
        return found

    def position(self, node: str) -> Position:
        """Place of a version for the key store (see `Position`)."""
        info = self.nodes[node]
        first = self.nodes[self._by_version_id[info.line]]
        return Position(info.line, info.version_id, tuple(self.position(p) for p in first.parents))

    def is_ancestor(self, a: int, b: int) -> bool:
        """Whether the version numbered `a` is the one numbered `b` or an ancestor of it."""
        above, seen = [self._by_version_id[b]], set()
        while above:
            info = self.nodes[above.pop()]
            if info.version_id == a:
                return True
            if info.version_id > a and info.id not in seen:
                seen.add(info.id)
                above.extend(info.parents)
        return False

    def to_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        data = {k: getattr(self, k) for k in ("next", "root", "alias", "description", "created", "updated", "log")}
        data["nodes"] = [vars(n) for n in self.nodes.values()]
        data["instances"] = [vars(i) for i in self.instances.values()]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> State:
        """Inverse of `to_json`."""
        # The one loop that every opening of a repo runs for every version.
        nodes = [NodeInfo(**{**n, "parents": tuple(n["parents"]), "log": tuple(n["log"])}) for n in data["nodes"]]
        instances = [InstanceInfo(**_tuples(i, "syncs")) for i in data["instances"]]
        plain = {k: v for k, v in data.items() if k not in ("nodes", "instances", "log")}
        return cls(
            **plain,
            log=tuple(data["log"]),
            nodes={n.id: n for n in nodes},
            successors=_successors(nodes),
            instances={i.name: i for i in instances},
        )


def _successors(nodes: Iterable[NodeInfo]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for info in nodes:
        for parent in info.parents:
            found[parent] = (*found.get(parent, ()), info.id)
    return found


def _tuples(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {k: tuple(v) if k in names else v for k, v in data.items()}


def replay(state: State, entries: Iterable[Entry]) -> State:
    """State after some more entries.

    Raises
    ------
    FormatError
        If an entry holds an operation that this release does not know, or entries are missing.
    """
    scalars = {k: getattr(state, k) for k in ("next", "root", "alias", "description", "created", "updated")}
    draft = _Draft(scalars, list(state.log), dict(state.nodes), dict(state.successors), dict(state.instances))
    for entry in entries:
        if entry.number != draft.scalars["next"]:
            raise FormatError(f"log entry {draft.scalars['next']} is missing")
        for op in entry.ops:
            draft.apply(op, entry.time)
        draft.scalars.update(next=entry.number + 1, updated=entry.time)
    return State(
        **draft.scalars,
        log=tuple(draft.log),
        nodes=draft.nodes,
        successors=draft.successors,
        instances=draft.instances,
    )


@dataclass
class _Draft:
    scalars: dict[str, Any]
    log: list[str]
    nodes: dict[str, NodeInfo]
    successors: dict[str, tuple[str, ...]]
    instances: dict[str, InstanceInfo]

    def apply(self, op: Op, time: str) -> None:
        method = getattr(self, "op_" + str(op.get("op")).replace("-", "_"), None)
        if method is None:
            raise FormatError(f"the log holds an operation {op.get('op')!r} that this release does not know")
        method(op, time)

    def op_repo(self, op: Op, time: str) -> None:
        self.scalars.update(root=op["root"], alias=op["alias"], description=op["description"], created=time)

    def op_info(self, op: Op, time: str) -> None:
        self.scalars.update({k: op[k] for k in ("alias", "description") if k in op})

    def op_repo_log(self, op: Op, time: str) -> None:
        self.log.extend(f"{time}  {line}" for line in op["lines"])

    def op_node(self, op: Op, time: str) -> None:
        number = len(self.nodes) + 1
        parents = tuple(op["parents"])
        self.nodes[op["id"]] = NodeInfo(
            op["id"], number, parents, op["branch"], op["note"], created=time, updated=time,
            line=self._line(parents, number),
        )  # fmt: skip
        for parent in parents:
            self.successors[parent] = (*self.successors.get(parent, ()), op["id"])

    def _line(self, parents: tuple[str, ...], number: int) -> int:
        """A line goes on through the first child of a version with one parent; all else starts a new one."""
        if len(parents) != 1:
            return number
        line = self.nodes[parents[0]].line
        taken = any(self.nodes[c].line == line for c in self.successors.get(parents[0], ()))
        return number if taken else line

    def op_seal(self, op: Op, time: str) -> None:
        self._change(op["id"], time, seal=op["sha256"])

    def op_note(self, op: Op, time: str) -> None:
        self._change(op["id"], time, note=op["note"])

    def op_node_log(self, op: Op, time: str) -> None:
        lines = tuple(f"{time}  {line}" for line in op["lines"])
        self._change(op["id"], time, log=self.nodes[op["id"]].log + lines)

    def _change(self, node: str, time: str, **changes: Any) -> None:
        self.nodes[node] = replace(self.nodes[node], updated=time, **changes)

    def op_instance(self, op: Op, time: str) -> None:
        info = {k: v for k, v in op.items() if k != "op"}
        self.instances[op["name"]] = InstanceInfo(**_tuples(info, "syncs"), created=time)

    def op_instance_set(self, op: Op, time: str) -> None:
        changes: dict[str, Any] = {k: op[k] for k in ("config", "tags", "syncs") if k in op}
        self.instances[op["name"]] = replace(self.instances[op["name"]], **_tuples(changes, "syncs"))

    def op_instance_remove(self, op: Op, time: str) -> None:
        del self.instances[op["name"]]
