"""What a transfer has to do, as pure functions of two repos' states."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict

from vzarr.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError
from vzarr.overlay.dag import ancestry
from vzarr.overlay.plans import Plan
from vzarr.overlay.state import Op, State


def heads(source: State, branches: Collection[str] | None) -> list[str]:
    """Newest sealed versions of some branches, or of all (None), oldest first.

    Raises
    ------
    NotFoundError
        If there is no such branch, or nothing on it is sealed.
    """
    found = {}
    for branch in branches if branches is not None else source.branches():
        sealed = next((n for n in source.branch_versions(branch) if source.nodes[n].sealed), None)
        if sealed is None and branches is not None:
            known = source.leaf(branch) is not None
            raise NotFoundError(f"nothing on branch {branch!r} is sealed yet" if known else f"no branch {branch!r}")
        if sealed is not None:
            found[sealed] = source.nodes[sealed].version_id
    return sorted(found, key=found.__getitem__)


def missing(source: State, target: State, tips: Iterable[str]) -> list[str]:
    """Versions behind `tips` that the target does not have, parents first.

    Raises
    ------
    InvalidInputError
        If the two have no version in common, but both have some.
    """
    if target.nodes and source.root != target.root:
        raise InvalidInputError(
            f"the repos are unrelated: their roots are {source.root} and {target.root}; clone one of them instead"
        )
    wanted = {n for tip in tips for n in ancestry(tip, source.parents)}
    return sorted((n for n in wanted if n not in target.nodes), key=lambda n: source.nodes[n].version_id)


def receive(source: State, nodes: Sequence[str], *, aside: str | None = None) -> Plan:
    """Add versions that were copied; they keep their ids, notes and times.

    Parameters
    ----------
    source
        Where they come from.
    nodes
        Their ids, parents first.
    aside
        Put what grew on both sides on branches of its own, named ``ASIDE-BRANCH``, instead of refusing it.

    Raises
    ------
    ConflictError
        (The plan:) a branch grew on both sides, and `aside` is not given; ``conflicts`` names the branches.
    AlreadyExistsError
        (The plan:) both repos made an instance of the same name.
    """

    def plan(target: State) -> Sequence[Op]:
        fresh = [n for n in nodes if n not in target.nodes]
        names = _branch_names(source, target, fresh, aside)
        ops: list[Op] = [] if target.nodes else [_repo(source)]
        ops += [_node(source, n, names(source.nodes[n].branch)) for n in fresh]
        return [*ops, *_instances(source, target, {*fresh, *target.nodes})]

    return plan


def _repo(source: State) -> Op:
    return {"op": "repo", "root": source.root, "alias": source.alias, "description": source.description}


def _node(source: State, node: str, branch: str) -> Op:
    info = source.nodes[node]
    kept = {name: getattr(info, name) for name in ("note", "created", "updated", "seal")}
    return {"op": "node", "id": node, "parents": list(info.parents), "branch": branch, "log": list(info.log), **kept}


def _instances(source: State, target: State, known: Collection[str]) -> list[Op]:
    ids = {i.data_uuid for i in target.instances.values()}
    ops: list[Op] = []
    for info in source.instances.values():
        if info.data_uuid in ids or info.version not in known:
            continue
        if info.name in target.instances:
            raise AlreadyExistsError(f"both repos made an instance {info.name!r} of their own: rename one of them")
        ops.append({"op": "instance", **asdict(info)})
    return ops


def _branch_names(source: State, target: State, fresh: Sequence[str], aside: str | None) -> Callable[[str], str]:
    """How the branches of fresh versions are to be called in the target."""
    grown = [b for b in dict.fromkeys(source.nodes[n].branch for n in fresh) if _grew_apart(source, target, b)]
    if grown and aside is None:
        shown = ", ".join(b or "master" for b in grown)
        raise ConflictError(
            f"not fast-forward: branch {shown} grew on both sides; fetch it beside your own and merge the two:"
            " vzarr fetch REPO REMOTE --as THEIRS, then vzarr merge REPO BRANCH THEIRS-BRANCH",
            [b or "master" for b in grown],
        )
    renamed: Mapping[str, str] = {b: f"{aside}-{b or 'master'}" for b in grown}
    for name in renamed.values():
        leaf = target.leaf(name)
        if leaf is not None and leaf not in source.nodes:
            raise AlreadyExistsError(f"there is a branch {name!r} already that has versions of its own")
    return lambda branch: renamed.get(branch, branch)


def _grew_apart(source: State, target: State, branch: str) -> bool:
    """Whether the target's newest version of a branch is not among those that the source's builds on."""
    leaf = target.leaf(branch or "master")
    if leaf is None:
        return False
    theirs = next(n for n in source.branch_versions(branch or "master") if source.nodes[n].sealed)
    return leaf not in source.nodes or not source.is_ancestor(
        source.nodes[leaf].version_id, source.nodes[theirs].version_id
    )
