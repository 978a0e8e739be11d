"""Changes of history as pure functions: from a state to the operations of one log entry, or an error.

Each function makes a *plan*: called with the newest state, and again whenever another writer was first, it validates
and gives the operations to publish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError, SealedError
from vzarr.overlay.history.state import MASTER, InstanceInfo, NodeInfo, Op, State

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

    A branch's first version needs a name that no branch and no version has; the default branch may be joined by merges.
    """

    def plan(state: State) -> Sequence[Op]:
        check_parents(state, parents)
        name = state.nodes[parents[0]].branch if branch is None else branch
        siblings = (state.nodes[c].branch for p in parents for c in state.children(p))
        taken = name in siblings if branch is None else branch != MASTER and state.leaf(branch) is not None
        if taken:
            raise AlreadyExistsError("branch already exists with given name")
        if branch:
            _check_unlike_versions(state, branch)
        check_free(state, node)
        return ({"op": "node", "id": node, "parents": list(parents), "branch": name, "note": note},)

    return plan


def carried(op: Op) -> Plan:
    """A version as another repo knows it."""

    def plan(state: State) -> Sequence[Op]:
        check_parents(state, op["parents"])
        check_free(state, op["id"])
        return (op,)

    return plan


def tag(name: str, node: str, record: str) -> Plan:
    """A sealed, empty child of `node` whose id is the tag; `record` is the hash of its seal."""

    def plan(state: State) -> Sequence[Op]:
        check_tag(state, node, name)
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
        return {"op": "instance", **info, **_folder(state, info)}, _logged(line)

    return plan


def _folder(state: State, info: Mapping[str, Any]) -> Mapping[str, str]:
    """Where a new instance has its arrays, if another one's are, or were, in the folder of its name."""
    taken = any(known.path == info["name"] for known in state.every_instance())
    return {"folder": f"{info['name']}~{info['data_uuid'][:8]}"} if taken else {}


def on_instance(name: str, op: Op) -> Plan:
    """One operation on an instance that must exist."""

    def plan(state: State) -> Sequence[Op]:
        find_instance(state, name)
        return (op,)

    return plan


def unfinished_instance(node: str, original: InstanceInfo, to: str, data_uuid: str, maker: str, time: str) -> Plan:
    """An instance like another one, which nobody sees before it is finished."""

    def plan(state: State) -> Sequence[Op]:
        check_open(state, node)
        if to in state.instances:
            raise AlreadyExistsError(f"an instance named {to!r} exists already")
        about = {"name": to, "data_uuid": data_uuid, "version": node, "created": time}
        info = {**original.to_json(), **about, "deleted": time, "maker": maker}
        info.pop("folder", None)
        return ({"op": "instance", **info, **_folder(state, info)},)

    return plan


def finished_instance(data_uuid: str, name: str, line: str) -> Plan:
    """Show an instance that is complete now."""

    def plan(state: State) -> Sequence[Op]:
        if name in state.instances:
            raise AlreadyExistsError(f"an instance named {name!r} exists by now")
        info = state.deleted.get(data_uuid)
        if info is None or info.collected:
            raise NotFoundError(f"instance {name!r} was collected before it was finished")
        return {"op": "instance_undelete", "data_uuid": data_uuid, "name": name}, _logged(line)

    return plan


def rename_instance(name: str, to: str) -> Plan:
    """Another name for an instance; its data id and the folder of its arrays stay."""

    def plan(state: State) -> Sequence[Op]:
        find_instance(state, name)
        if to in state.instances:
            raise AlreadyExistsError(f"an instance named {to!r} exists already")
        return {"op": "instance_rename", "name": name, "to": to}, _logged(f'Renamed data instance "{name}" to "{to}"')

    return plan


def delete_instance(name: str) -> Plan:
    """Hide an instance in every version, until it is undeleted or collected."""

    def plan(state: State) -> Sequence[Op]:
        info = find_instance(state, name)
        line = f'Deleted data instance "{name}" of type "{info.typename}", data id {info.data_uuid}'
        return {"op": "instance_delete", "name": name}, _logged(line)

    return plan


def undelete_instance(name: str, to: str) -> Plan:
    """Show a deleted instance again, under its old name or another (`to`, unless "")."""

    def plan(state: State) -> Sequence[Op]:
        info = find_deleted(state, name)
        if info.maker:
            raise NotFoundError(f"instance {name!r} was never finished: there is nothing to bring back")
        if info.collected:
            raise NotFoundError(f"instance {name!r} cannot come back: it was deleted at {info.deleted}, then collected")
        shown = to or info.name
        if shown in state.instances:
            raise AlreadyExistsError(f"there is an instance {shown!r} by now: give the deleted one another name")
        line = f'Undeleted data instance "{shown}", data id {info.data_uuid}'
        return {"op": "instance_undelete", "data_uuid": info.data_uuid, "name": shown}, _logged(line)

    return plan


def collect_instance(data_uuid: str) -> Plan:
    """The end of a deleted instance: from now on it cannot be undeleted."""

    def plan(state: State) -> Sequence[Op]:
        info = state.deleted.get(data_uuid)
        if info is None:
            raise NotFoundError(f"no deleted instance has the data id {data_uuid}: it is there again")
        return ({"op": "instance_collect", "data_uuid": data_uuid},)

    return plan


def keys_moved(number: str) -> Plan:
    """Keys of an id have moved to another store: who has them open must open the repo again."""
    return lambda _state: ({"op": "keys_moved", "id": number},)


def find_instance(state: State, name: str) -> InstanceInfo:
    """The instance of a name.

    Raises
    ------
    NotFoundError
        If there is none; one that was deleted is named as such.
    """
    info = state.instances.get(name)
    if info is not None:
        return info
    gone = [i for i in state.deleted.values() if i.name == name]
    if gone:
        raise NotFoundError(f"instance {name!r} was deleted at {gone[-1].deleted}")
    raise NotFoundError(f"no instance {name!r} in this repo; it has {sorted(state.instances)}")


def find_deleted(state: State, name: str) -> InstanceInfo:
    """The deleted instance of a name, or of a data id.

    Raises
    ------
    NotFoundError
        If there is none.
    InvalidInputError
        If several had that name.
    """
    if name in state.deleted:
        return state.deleted[name]
    found = [i for i in state.deleted.values() if i.name == name]
    left = [i for i in found if not i.collected] or found
    if not left:
        raise NotFoundError(f"no instance {name!r} was deleted in this repo")
    if len(left) > 1:
        ids = ", ".join(i.data_uuid for i in left)
        raise InvalidInputError(f"several instances {name!r} were deleted: name one by its data id, {ids}")
    return left[0]


def _logged(line: str) -> Op:
    return {"op": "repo_log", "lines": [line]}


def check_parents(state: State, parents: Sequence[str]) -> None:
    """Refuse parents that are unknown or open."""
    for parent in parents:
        if parent not in state.nodes:
            raise NotFoundError(f"no version {parent}")
        if not state.nodes[parent].sealed:
            raise SealedError(f"can't branch an unlocked node: commit {parent} first")


def check_open(state: State, node: str) -> NodeInfo:
    """A version, unless it is sealed."""
    info = state.nodes[node]
    if info.sealed:
        raise SealedError(f"version {node} is locked already")
    return info


def check_tag(state: State, node: str, name: str) -> None:
    """Refuse a tag of an open version, or one whose name or branch a version or another branch has."""
    check_parents(state, [node])
    check_free(state, name)
    if state.leaf(f"tag-{name}") is not None:
        raise AlreadyExistsError(f"the branch of the tag {name!r} would be 'tag-{name}', which exists already")
    _check_unlike_versions(state, f"tag-{name}")


def check_free(state: State, node: str) -> None:
    """Refuse an id that a version has; or a branch, which could not be named any more."""
    if node in state.nodes:
        raise AlreadyExistsError(f"a version named {node} exists already")
    if state.leaf(node) is not None:
        raise AlreadyExistsError(f"a branch is named {node!r}, so no version can be: choose another name")


def _check_unlike_versions(state: State, branch: str) -> None:
    if branch in state.nodes:
        raise AlreadyExistsError(f"a version or tag is named {branch!r}, so no branch can be: choose another name")
