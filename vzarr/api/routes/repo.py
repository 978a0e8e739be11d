"""Routes of one repo: ``/api/repo/{uuid}/...`` for info, log, instances, branches and merges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, repojson, wire
from vzarr.api.bodies import log_lines, string
from vzarr.api.errors import UndecidedError, references
from vzarr.api.hub import Hub
from vzarr.api.routes import instances, verbs
from vzarr.api.routing import read
from vzarr.errors import ConflictError, InvalidInputError
from vzarr.overlay.repo import Repo
from vzarr.overlay.threeway.disputes import Conflict, KeyConflict
from vzarr.overlay.version import Version
from vzarr.types import registry
from vzarr.types.resolve import merge_preferring

router = APIRouter(redirect_slashes=False)
router.include_router(instances.router)
router.include_router(verbs.router)

InRepo = Annotated[Repo, Depends(deps.repo)]
AtVersion = Annotated[Version, Depends(deps.version)]
Repos = Annotated[Hub, Depends(deps.hub)]
Body = Annotated[dict[str, Any], Depends(deps.json_object)]
User = Annotated[str, Depends(deps.user)]
App = Annotated[str, Depends(deps.app_name)]


@router.head("/")
def head_repo() -> Response:
    """Whether there is such a repo (DVID: ``HEAD R``)."""
    return wire.empty()


@read(router, "/info")
def get_info(repo: InRepo) -> Response:
    """Everything about the repo: its versions and instances (DVID: ``GET R/info``)."""
    return wire.json(repojson.repo_json(repo))


@router.post("/info")
def post_info(repo: InRepo, body: Body) -> Response:
    """Change alias or description (DVID: ``POST R/info``); body ``{"alias", "description"}``."""
    given = {key.lower(): value for key, value in body.items()}
    changes = {key: given[key] for key in ("alias", "description") if key in given}
    if not all(isinstance(value, str) for value in changes.values()):
        raise InvalidInputError("alias and description should be strings")
    if changes:
        repo.set_info(**changes)
    return wire.empty()


@read(router, "/log")
def get_log(repo: InRepo) -> Response:
    """Lines of the repo's log, oldest first (DVID: ``GET R/log``)."""
    return wire.json({"log": list(repo.state.log)})


@router.post("/log")
def post_log(repo: InRepo, body: Body) -> Response:
    """Append lines to the repo's log (DVID: ``POST R/log``); body ``{"log": ["...", ...]}``."""
    repo.add_log(log_lines(body))
    return wire.empty()


@router.post("/instance")
def post_instance(version: AtVersion, body: Body, user: User, app: App) -> Response:
    """Make an instance (DVID: ``POST R/instance``); body ``{"typename", "dataname", "versioned", settings}``.

    The version must be open; the instance is then seen from every version.  All values are strings.
    """
    with references():
        handle = registry.create_from_settings(version, body, user=user, app=app)
    info = handle.info
    return wire.json({"result": f"Added {info.name} [{info.typename}] to node {version.uuid}"})


@read(router, "/branch-versions/{branch}")
def get_branch_versions(repo: InRepo, branch: str) -> Response:
    """Ids from a branch's newest version to the root (DVID: ``GET R/branch-versions/{branch}``)."""
    return wire.json(repo.branch_versions(branch))


@router.post("/merge")
def post_merge(repo: InRepo, hub: Repos, body: Body, user: User, app: App) -> Response:
    """Join sealed versions in an open child (DVID: ``POST R/merge``).

    Body ``{"mergeType": "conflict-free", "parents": [...], "note": "..."}``.  Keys and chunks that were changed
    differently stay in conflict until they are written.  Bodies cannot: 409 names them, and nothing is made; then
    ``POST R/resolve`` decides.
    """
    if body.get("mergeType") != "conflict-free":
        raise InvalidInputError('"mergeType" should be "conflict-free"')
    note = string(body, "note", "")
    parents = _parents(repo, hub, body)
    with _undecided():
        child = repo.merge(parents, note=note, keep_conflicts=_may_stay, user=user, app=app)
    return wire.json({"child": child.uuid})


@router.post("/resolve")
def post_resolve(repo: InRepo, hub: Repos, body: Body, user: User, app: App) -> Response:
    """Join sealed versions and let the first one named win where they are in conflict (DVID: ``POST R/resolve``).

    Body ``{"data": ["name", ...], "parents": [...], "note": "..."}``; departs from DVID in what is no conflict.
    Decides about keys, blocks and bodies of the instances under ``data``; conflicts in the blocks or bodies of others
    are 409, and nothing is made.
    """
    names = body.get("data")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidInputError('"data" should list one or more instances')
    parents = _parents(repo, hub, body)
    with references(), _undecided():
        child = merge_preferring(parents, names, string(body, "note", ""), user=user, app=app)
    return wire.json({"child": child.uuid})


def _may_stay(conflict: Any) -> bool:
    """Whether a conflict can be left open in the new version."""
    return isinstance(conflict, Conflict | KeyConflict)


@contextmanager
def _undecided() -> Iterator[None]:
    """Context in which conflicts are those of a merge."""
    try:
        yield
    except ConflictError as error:
        how = "POST resolve with the instances under data lets the first of the parents decide"
        raise UndecidedError(f"{error}; {how}", error.conflicts) from error


def _parents(repo: Repo, hub: Hub, body: dict[str, Any]) -> list[Version]:
    """Versions of `repo` that a body names under ``parents``, at least two."""
    refs = body.get("parents")
    if not isinstance(refs, list) or len(refs) < 2 or not all(isinstance(ref, str) for ref in refs):
        raise InvalidInputError('"parents" should list two or more versions')
    found = [hub.find(ref) for ref in refs]
    if any(home.uuid != repo.uuid for home, _ in found):
        raise InvalidInputError("versions of another repo cannot be parents")
    return [version for _, version in found]
