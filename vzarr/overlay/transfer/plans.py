"""What a transfer has to do, as pure functions of two repos' states."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vzarr.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError, SealedError
from vzarr.overlay.history.dag import ancestry
from vzarr.overlay.history.state import Op, State


def heads(source: State, branches: Collection[str] | None, versions: Collection[str] | None = None) -> list[str]:
    """Newest sealed versions of some branches, or of all (None), oldest first; or certain versions, by their ids.

    Raises
    ------
    NotFoundError
        If there is no such branch, or nothing on it is sealed.
    SealedError
        If one of the versions is open.
    """
    if versions is not None:
        for node in versions:
            if not source.nodes[node].sealed:
                raise SealedError(f"version {node} is open: commit it first, or send {node}@sealed")
        return sorted(versions, key=lambda node: source.nodes[node].version_id)
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
    AlreadyExistsError
        If they have versions of one id that differ.
    """
    if target.nodes and source.root != target.root:
        raise InvalidInputError(
            f"the repos are unrelated: their roots are {source.root} and {target.root}; clone one of them instead"
        )
    wanted = {n for tip in tips for n in ancestry(tip, source.parents)}
    check_same(source, target, wanted)
    return sorted((n for n in wanted if n not in target.nodes), key=lambda n: source.nodes[n].version_id)


@dataclass(frozen=True)
class Arrival:
    """The plan (see `vzarr.overlay.history.plans`) that adds copied versions, which keep ids, notes and times.

    Parameters
    ----------
    source
        Where they come from.
    nodes
        Their ids, parents first.
    aside
        Put what grew on both sides on branches of its own, named ``ASIDE-BRANCH``, instead of refusing it.
    tips
        Newest versions that are asked for, from which the depth of a partial clone counts; also those that it has.
    """

    source: State
    nodes: Sequence[str]
    aside: str | None = None
    tips: Sequence[str] = ()

    @property
    def newest(self) -> set[str]:
        """Its tips, and of its versions those of which none is a parent of another."""
        return {*self.tips, *self.nodes} - {p for n in self.nodes for p in self.source.parents(n) if p not in self.tips}

    def __call__(self, target: State) -> Sequence[Op]:
        """Operations that add what `target` does not have.

        Raises
        ------
        ConflictError
            If a branch grew on both sides, and `aside` is not given; ``conflicts`` names the branches.
        AlreadyExistsError
            If both repos made an instance, or a version, of the same name; or one a branch, the other a version.
        """
        source = self.source
        check_same(source, target, {a for n in self.nodes for a in ancestry(n, source.parents)})
        fresh = [n for n in self.nodes if n not in target.nodes]
        names = _branch_names(source, target, fresh, self.aside)
        _check_refs(target, fresh, {names(source.nodes[n].branch) for n in fresh})
        ops: list[Op] = [] if target.nodes else [_repo(source)]
        ops += [_node(source, n, names(source.nodes[n].branch)) for n in fresh]
        return [*ops, *_instances(source, target, {*fresh, *target.nodes})]


def history(state: State) -> list[Op]:
    """A repo's state as the operations that would make it at once, open versions too; what was logged is left out."""
    if not state.nodes:
        return []
    nodes = [_node(state, n, state.nodes[n].branch) for n in state.nodes]
    return [_repo(state), *nodes, *_instances(state, State(), state.nodes)]


def check_same(source: State, target: State, nodes: Iterable[str]) -> None:
    """Refuse versions that two repos know by one id and do not agree about.

    Raises
    ------
    AlreadyExistsError
        If there is one, such as a tag that each gave to something else.
    """
    for node in nodes:
        if node in target.nodes:
            here, there = target.nodes[node], source.nodes[node]
            if (here.seal, here.parents) != (there.seal, there.parents):
                raise AlreadyExistsError(f"both repos have a version {node} of their own, and the two differ")


def _repo(source: State) -> Op:
    return {"op": "repo", "root": source.root, "alias": source.alias, "description": source.description}


def _node(source: State, node: str, branch: str) -> Op:
    info = source.nodes[node]
    kept = {name: getattr(info, name) for name in ("note", "created", "updated", "seal")}
    return {"op": "node", "id": node, "parents": list(info.parents), "branch": branch, "log": list(info.log), **kept}


def _instances(source: State, target: State, known: Collection[str]) -> list[Op]:
    """Instances that the target does not know; what became of those that it knows is its own affair."""
    ids = {i.data_uuid for i in target.every_instance()}
    ops: list[Op] = []
    for info in source.every_instance():
        if info.data_uuid in ids or info.version not in known:
            continue
        if info.maker:
            info = replace(info, maker="", collected=True)  # not to be seen there either, nor finished
        if info.name in target.instances and not info.deleted:
            raise AlreadyExistsError(f"both repos made an instance {info.name!r} of their own: rename one of them")
        ops.append({"op": "instance", **info.to_json()})
    return ops


def _check_refs(target: State, nodes: Iterable[str], branches: Iterable[str]) -> None:
    """Refuse a tag that would hide a branch of the target, and a branch that a tag of the target would hide."""
    both = [n for n in nodes if target.leaf(n) is not None] + [b for b in branches if b in target.nodes]
    if both:
        raise AlreadyExistsError(f"{both[0]!r} is a branch in one of the repos and a version or tag in the other")


def _branch_names(source: State, target: State, fresh: Sequence[str], aside: str | None) -> Callable[[str], str]:
    """How the branches of fresh versions are to be called in the target."""
    grown = [b for b in dict.fromkeys(source.nodes[n].branch for n in fresh) if _grew_apart(source, target, b)]
    if grown and aside is None:
        shown = ", ".join(b or "master" for b in grown)
        raise ConflictError(
            f"not fast-forward: branch {shown} grew on both sides; fetch it beside your own and merge the two",
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
