"""A new repo that holds only some versions of another, under their own ids: what is published of a longer history.

Each version comes from those of its nearest ancestors that are listed too, and stores what differs from them.  The repo
with all versions stays what it is; the two are strangers, for their versions of one id have other parents.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial

from vzarr.errors import AlreadyExistsError, InvalidInputError, SealedError
from vzarr.overlay import layout, opening
from vzarr.overlay.extract.content import Content, keys_of
from vzarr.overlay.extract.differences import Differences
from vzarr.overlay.extract.flat import copy_strays, put, write_root
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.state import MASTER, Op, State
from vzarr.overlay.repo import Repo
from vzarr.overlay.transfer.copying import Progress, adding_up
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.version import Version
from vzarr.overlay.views.openview import OpenView
from vzarr.overlay.views.rootview import RootView


def limit(
    source: Repo, refs: Sequence[str], url: str, *, keys: str | None = None, progress: Progress | None = None
) -> list[str]:
    """Make a new repo of some sealed versions, the oldest of which is its root.

    Versions keep their ids, notes, logs and times, and instances their data ids; unversioned instances come as they are
    now.  A tag brings the version that it names.  What was begun and cut off goes on when it is asked for again.

    Parameters
    ----------
    source, refs
        The repo and the versions.
    url, keys
        Where the new repo is to be, and its keys (see `vzarr.create`).
    progress
        Told of each chunk.

    Returns
    -------
    list of str
        Ids of the versions, parents first.

    Raises
    ------
    InvalidInputError
        If no version is listed, or several of which none comes from the oldest.
    NotFoundError, SealedError
        If one is not there, or is open.
    ConflictError
        If one has chunks or keys in conflict.
    AlreadyExistsError
        If there is a repo already.
    """
    state = source.state
    nodes = listed(source, state, refs)
    root, *others = nodes
    told = adding_up(progress)
    with closing(_begun(source, state, nodes, url, keys)) as target:
        if not target.root.sealed:
            _write_root(Version(source, root), target, told)
        for node in others:
            if node not in target.state.nodes:
                target.carry(_op(state, node, nearest(state, node, nodes), state.nodes[root].branch))
            made = Version(target, node)
            if not made.sealed:
                view = made.view
                assert isinstance(view, OpenView)
                Differences(Version(source, node), made, view).write(told)
                made.commit()
    return nodes


def listed(source: Repo, state: State, refs: Sequence[str]) -> list[str]:
    """Ids of versions, oldest first; a tag, which stores nothing itself, brings the version that it names.

    Raises
    ------
    InvalidInputError
        If none is listed, or one does not come from the oldest.
    NotFoundError, SealedError
        If one is not there, or is open.
    """
    if not refs:
        raise InvalidInputError("list one or more versions")
    nodes = {source.resolve(ref) for ref in refs}
    nodes |= {node for tag in nodes if not layout.HEX_ID.fullmatch(tag) for node in state.parents(tag)}
    for node in nodes:
        if not state.nodes[node].sealed:
            raise SealedError(f"version {node} is open: commit it first")
    root, *others = sorted(nodes, key=lambda node: state.nodes[node].version_id)
    for node in others:
        if not nearest(state, node, [*nodes]):
            raise InvalidInputError(f"version {node} does not come from {root}: list a version from which both come")
    return [root, *others]


def nearest(state: State, node: str, listed: Sequence[str]) -> list[str]:
    """Listed ancestors of a version from which none of the other ones descends, in the order of parents."""
    found, seen, todo = [], set[str](), list(reversed(state.parents(node)))
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        if at in listed:
            found.append(at)
        else:
            todo += reversed(state.parents(at))
    numbers = {n: state.nodes[n].version_id for n in found}
    return [n for n in found if not any(n != m and state.is_ancestor(numbers[n], numbers[m]) for m in found)]


def _op(state: State, node: str, parents: Sequence[str], first: str) -> Op:
    """A version as the log of the new repo is to know it; the branch of its root is the default one."""
    info = state.nodes[node]
    kept = {name: getattr(info, name) for name in ("note", "created", "updated")}
    branch = MASTER if info.branch == first else info.branch
    return {"op": "node", "id": node, "parents": list(parents), "branch": branch, "log": list(info.log), **kept}


def _begun(source: Repo, state: State, nodes: Sequence[str], url: str, keys: str | None) -> Repo:
    """A new repo with an open root, or the one that was begun for the same versions."""
    objects, root = opening.open_objects(url), nodes[0]
    place, purpose = StoredPlace(objects), f"vzarr limit-versions {' '.join(nodes)} of {source.uuid}"
    if place.state().nodes:
        found = Repo.open(url)
        if found.log()[0].app != purpose:
            found.close()
            raise AlreadyExistsError(f"{url} is a repo already")
        return found
    place.begin(root, keys)
    objects.create(f"{layout.zarr(root)}/{arrays.doc_key('')}", arrays.group_doc(None))
    about = {"op": "repo", "root": root, "alias": state.alias, "description": state.description}
    made = [
        {"op": "instance", **info.to_json(), "version": info.version if info.version in nodes else root}
        for info in state.instances.values()
    ]
    line = {"op": "repo_log", "lines": [f"limited to {len(nodes)} versions of repo {source.uuid}"]}
    ops = (about, _op(state, root, (), state.nodes[root].branch), *made, line)
    RepoLog(objects).publish(lambda _state: ops, app=purpose)
    return Repo(objects)


def _write_root(version: Version, target: Repo, progress: Progress | None) -> None:
    content, view = Content.of(version, shown=False), target.view(target.uuid)
    assert isinstance(view, RootView)
    write_root(content, view, progress)
    for info in content.infos:
        for some in keys_of(version, info):
            target.keys.transact(target.uuid, target.state.instances[info.name], partial(put, some))
    copy_strays(version.repo, target)
    target.root.commit()
