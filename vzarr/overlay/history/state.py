"""The repo's state as a value: what the log's entries add up to, and the pure function that adds one.

An entry is a transaction of operations.  `replay` never validates: whoever publishes an entry has validated it
against the state that the entry follows, and the log decides who came first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import orjson

from vzarr.errors import FormatError
from vzarr.overlay.history.dag import Position
from vzarr.overlay.history.instances import InstanceInfo as InstanceInfo
from vzarr.overlay.history.instances import by_kind, with_tuples
from vzarr.overlay.history.nodeinfo import MASTER as MASTER
from vzarr.overlay.history.nodeinfo import NodeInfo as NodeInfo
from vzarr.overlay.history.nodes import Nodes, Packed

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


_SCALARS = ("next", "root", "alias", "description", "created", "updated")
_HEAD = struct.Struct("<II")
"""How a checkpoint begins: length of its head, and CRC-32 of all after these eight bytes."""


@dataclass(frozen=True)
class State:
    """All that the log says; replaced, never changed.

    Parameters
    ----------
    next
        Number of the first entry that is not part of this state.
    root
        Id of the root version, which also names the repo.
    """

    next: int = 0
    root: str = ""
    alias: str = ""
    description: str = ""
    created: str = ""
    updated: str = ""
    log: tuple[str, ...] = ()
    nodes: Nodes = field(default_factory=Nodes)
    instances: Mapping[str, InstanceInfo] = field(default_factory=dict)
    deleted: Mapping[str, InstanceInfo] = field(default_factory=dict)
    """Instances that were deleted, by data id."""
    moved: tuple[str, ...] = ()
    """Ids of keys that have moved to another store."""

    @cached_property
    def renamed(self) -> bool:
        """Whether some folder of an instance is not called like it, or is not to be seen."""
        return bool(self.deleted) or any(info.folder for info in self.instances.values())

    def every_instance(self) -> Iterator[InstanceInfo]:
        """Instances that are there, and those that were deleted."""
        yield from self.instances.values()
        yield from self.deleted.values()

    def kept_instances(self) -> Iterator[InstanceInfo]:
        """Instances whose data are still there; deleted ones go by their data ids, for others may have their names."""
        yield from self.instances.values()
        for info in self.deleted.values():
            if not info.collected:
                yield replace(info, name=info.data_uuid, folder=info.path)

    def rivals(self, info: InstanceInfo) -> list[InstanceInfo]:
        """Instances that other repos brought, and whose arrays are in a folder of the same name as this one's."""
        if not self.renamed:
            return []
        return [i for i in self.every_instance() if i.path == info.path and i.data_uuid != info.data_uuid]

    def children(self, node: str) -> list[str]:
        """Ids of a version's children, oldest first."""
        return list(self.nodes.children(node))

    def parents(self, node: str) -> tuple[str, ...]:
        """Ids of a version's parents, in the order in which they were named."""
        return self.nodes.parents(node)

    def with_prefix(self, prefix: str) -> list[str]:
        """Ids that start with `prefix`, sorted."""
        return self.nodes.with_prefix(prefix)

    def leaf(self, branch: str) -> str | None:
        """Newest version of a branch that has no child on the same branch, or None for an unknown branch."""
        # The newest of all: a child is newer than what it comes from.
        return self.nodes.last_on(MASTER if branch == "master" else branch)

    def branches(self) -> list[str]:
        """Names of all branches, the default one as ``master``, in order of their first version."""
        return [b or "master" for b in self.nodes.branches()]

    def branch_versions(self, branch: str) -> list[str]:
        """Ids from a branch's leaf to the root; of a merge all parents, then on through the last one."""
        return list(self.back_from(branch))

    def back_from(self, branch: str) -> Iterator[str]:
        """The same, one after the other."""
        at = self.leaf(branch)
        if at is None:
            return
        yield at
        while parents := self.nodes.parents(at):
            yield from parents
            at = parents[-1]

    def position(self, node: str) -> Position:
        """Place of a version for the key store (see `Position`)."""
        info = self.nodes[node]
        return Position(info.line, info.version_id, self._line_parents(info.line))

    @cached_property
    def _known_lines(self) -> dict[int, tuple[Position, ...]]:
        return {}

    def _line_parents(self, line: int) -> tuple[Position, ...]:
        """Positions that a line came from; a line comes from older ones only, and histories may be deep."""
        known, above = self._known_lines, {}
        todo = [line]
        while todo:
            at = todo.pop()
            if at not in known and at not in above:
                above[at] = [self.nodes[p] for p in self.nodes.numbered(at).parents]
                todo += [p.line for p in above[at]]
        for at, parents in sorted(above.items()):
            known[at] = tuple(Position(p.line, p.version_id, known[p.line]) for p in parents)
        return known[line]

    def is_ancestor(self, a: int, b: int) -> bool:
        """Whether the version numbered `a` is the one numbered `b` or an ancestor of it; by lines, not by versions."""
        line = self.nodes.numbered(a).line
        todo, seen = [(self.nodes.numbered(b).line, b)], set[int]()
        while todo:
            at, last = todo.pop()
            if at == line and a <= last:
                return True
            # A second way into a line may reach further down it, but what it came from is the same.
            if at > a and at not in seen:
                seen.add(at)
                todo += [(p.line, p.version) for p in self._line_parents(at)]
        return False

    def compact(self) -> State:
        """The same, its versions in columns."""
        return replace(self, nodes=self.nodes.compact())

    def head(self) -> bytes:
        """What a checkpoint begins with: all but the rows of versions; the state must be `compact`."""
        head = {name: getattr(self, name) for name in (*_SCALARS, "log", *(["moved"] if self.moved else []))}
        instances = [i.to_json() for i in self.every_instance()]
        return orjson.dumps({**head, "instances": instances, "nodes": self.nodes.packed.head()})

    def to_bytes(self) -> bytes:
        """Bytes of a checkpoint; the state must be `compact`."""
        data = self.head()
        rest = data + self.nodes.packed.to_bytes()
        return _HEAD.pack(len(data), zlib.crc32(rest)) + rest

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Inverse of `to_bytes`.

        Raises
        ------
        ValueError, LookupError, TypeError
            If the bytes are no checkpoint.
        """
        if len(data) < _HEAD.size:
            raise ValueError("it is cut short")
        length, checksum = _HEAD.unpack_from(data)
        if zlib.crc32(memoryview(data)[_HEAD.size :]) != checksum:
            raise ValueError("its checksum differs")
        end = _HEAD.size + length
        plain = orjson.loads(data[_HEAD.size : end])
        return cls.from_head(plain, Packed.from_bytes(data[end:], plain["nodes"]))

    @classmethod
    def from_head(cls, plain: Mapping[str, Any], packed: Packed) -> State:
        """Inverse of `head`, given the versions."""
        return cls(
            **{k: plain[k] for k in _SCALARS},
            log=tuple(plain["log"]),
            moved=tuple(plain.get("moved", ())),
            nodes=Nodes(packed),
            **by_kind(plain["instances"]),
        )

    def since(self, base: State) -> dict[str, Any]:
        """What became of an older, compact state, as plain data: as much as changed."""
        data: dict[str, Any] = {name: getattr(self, name) for name in _SCALARS}
        data["log"] = self.log[len(base.log) :]
        if self.moved:
            data["moved"] = self.moved
        data["nodes"] = dict(self.nodes.changed)
        if (self.instances, self.deleted) != (base.instances, base.deleted):
            data["instances"] = [i.to_json() for i in self.every_instance()]
        return data

    def then(self, data: Mapping[str, Any]) -> State:
        """Inverse of `since`, on the older state.

        Raises
        ------
        ValueError, LookupError, TypeError
            If the data are none that `since` gave.
        """
        if not {*map(len, data["nodes"].values())} <= {len(NodeInfo.FIELDS)}:
            raise ValueError("a version has not all its fields")
        known = {"instances": self.instances, "deleted": self.deleted}
        return State(
            **{k: data[k] for k in _SCALARS},
            log=(*self.log, *data["log"]),
            moved=tuple(data.get("moved", ())),
            nodes=Nodes(self.nodes.packed, data["nodes"]),
            **(by_kind(data["instances"]) if "instances" in data else known),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> State:
        """A state from a checkpoint as earlier releases wrote it."""
        nodes = [NodeInfo(**with_tuples(n, "parents", "log")) for n in data["nodes"]]
        return cls(
            **{k: data[k] for k in _SCALARS},
            log=tuple(data["log"]),
            nodes=Nodes().edited({n.id: n for n in nodes}).compact(),
            **by_kind(data["instances"]),
        )


def replay(state: State, entries: Iterable[Entry]) -> State:
    """State after some more entries.

    Raises
    ------
    FormatError
        If an entry holds an operation that this release does not know, or entries are missing.
    """
    scalars = {k: getattr(state, k) for k in _SCALARS}
    draft = _Draft(scalars, list(state.log), state.nodes, dict(state.instances), dict(state.deleted), list(state.moved))
    for entry in entries:
        if entry.number != draft.scalars["next"]:
            raise FormatError(f"log entry {draft.scalars['next']} is missing")
        for op in entry.ops:
            draft.apply(op, entry.time)
        draft.scalars.update(next=entry.number + 1, updated=entry.time)
    return State(
        **draft.scalars,
        log=tuple(draft.log),
        nodes=state.nodes.edited(draft.nodes),
        instances=draft.instances,
        deleted=draft.deleted,
        moved=tuple(draft.moved),
    )


@dataclass
class _Draft:
    scalars: dict[str, Any]
    log: list[str]
    before: Nodes
    instances: dict[str, InstanceInfo]
    deleted: dict[str, InstanceInfo]
    moved: list[str]
    nodes: dict[str, NodeInfo] = field(default_factory=dict)
    count: int = 0
    lines: dict[int, str] = field(default_factory=dict)
    """Newest version of each line that these entries made or continued."""

    def node(self, name: str) -> NodeInfo:
        return self.nodes.get(name) or self.before[name]

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
        # Columns are not read for this: who publishes has looked there, and `verify` does.
        if op["id"] in self.nodes or self.before.surely_has(op["id"]):
            raise FormatError(f"the log makes version {op['id']} twice")
        self.count += 1
        number = len(self.before) + self.count
        parents = tuple(op["parents"])
        self.nodes[op["id"]] = NodeInfo(
            op["id"], number, parents, op["branch"], op["note"], tuple(op.get("log", ())), op.get("seal"),
            created=op.get("created", time), updated=op.get("updated", time),
            line=self._line(op["id"], parents, number),
        )  # fmt: skip

    def _line(self, node: str, parents: tuple[str, ...], number: int) -> int:
        """A line goes on through the first child of a version with one parent; all else starts a new one."""
        if len(parents) != 1:
            self.lines[number] = node
            return number
        parent = self.node(parents[0])
        last = self.lines.get(parent.line) or (parent.id if self.before.ends_line(parent) else "")
        if last != parent.id:
            self.lines[number] = node
            return number
        self.lines[parent.line] = node
        return parent.line

    def op_seal(self, op: Op, time: str) -> None:
        self._change(op["id"], time, seal=op["sha256"])

    def op_note(self, op: Op, time: str) -> None:
        self._change(op["id"], time, note=op["note"])

    def op_node_log(self, op: Op, time: str) -> None:
        lines = tuple(f"{time}  {line}" for line in op["lines"])
        self._change(op["id"], time, log=self.node(op["id"]).log + lines)

    def _change(self, node: str, time: str, **changes: Any) -> None:
        self.nodes[node] = replace(self.node(node), updated=time, **changes)

    def op_instance(self, op: Op, time: str) -> None:
        fields = {"created": time, **{k: v for k, v in op.items() if k != "op"}}
        info = InstanceInfo(**with_tuples(fields, "syncs"))
        if info.deleted:
            self.deleted[info.data_uuid] = info
        else:
            self.instances[info.name] = info

    def op_instance_set(self, op: Op, time: str) -> None:
        changes: dict[str, Any] = {k: op[k] for k in ("config", "tags", "syncs") if k in op}
        self.instances[op["name"]] = replace(self.instances[op["name"]], **with_tuples(changes, "syncs"))

    def op_instance_remove(self, op: Op, time: str) -> None:
        del self.instances[op["name"]]

    def op_instance_rename(self, op: Op, time: str) -> None:
        old = self.instances[op["name"]]
        new = replace(old, name=op["to"], folder="" if op["to"] == old.path else old.path)
        # In its old place: people know instances by their order, too.
        self.instances = {i.name: i for i in (new if i is old else i for i in self.instances.values())}

    def op_instance_delete(self, op: Op, time: str) -> None:
        info = self.instances.pop(op["name"])
        self.deleted[info.data_uuid] = replace(info, deleted=time)

    def op_instance_undelete(self, op: Op, time: str) -> None:
        old = self.deleted.pop(op["data_uuid"])
        folder = "" if op["name"] == old.path else old.path
        self.instances[op["name"]] = replace(old, name=op["name"], folder=folder, deleted="", maker="")

    def op_keys_moved(self, op: Op, time: str) -> None:
        self.moved.append(op["id"])

    def op_instance_collect(self, op: Op, time: str) -> None:
        self.deleted[op["data_uuid"]] = replace(self.deleted[op["data_uuid"]], collected=True)
