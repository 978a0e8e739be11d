"""Routes of one repo: ``/api/repo/{uuid}/...`` for info, log, instances, branches and merges."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, repojson, wire
from vzarr.api.errors import UnknownReferenceError
from vzarr.api.hub import Hub
from vzarr.api.routes.node import log_lines
from vzarr.api.routing import read
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.overlay.repo import Repo, Version
from vzarr.types import registry

router = APIRouter(redirect_slashes=False)

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
    try:
        handle = registry.create_from_settings(version, body, user=user, app=app)
    except NotFoundError as error:
        raise UnknownReferenceError(str(error)) from error
    info = handle.info
    return wire.json({"result": f"Added {info.name} [{info.typename}] to node {version.uuid}"})


@read(router, "/branch-versions/{branch}")
def get_branch_versions(repo: InRepo, branch: str) -> Response:
    """Ids from a branch's newest version to the root (DVID: ``GET R/branch-versions/{branch}``)."""
    return wire.json(repo.branch_versions(branch))


@router.post("/merge")
def post_merge(repo: InRepo, hub: Repos, body: Body, user: User) -> Response:
    """Join sealed versions in an open child (DVID: ``POST R/merge``).

    Body ``{"mergeType": "conflict-free", "parents": [...], "note": "..."}``.
    """
    if body.get("mergeType") != "conflict-free":
        raise InvalidInputError('"mergeType" should be "conflict-free"')
    child = repo.merge(_parents(repo, hub, body), note=str(body.get("note", "")), user=user)
    return wire.json({"child": child.uuid})


def _parents(repo: Repo, hub: Hub, body: dict[str, Any]) -> list[Version]:
    """Versions of `repo` that a body names under ``parents``, at least two."""
    refs = body.get("parents")
    if not isinstance(refs, list) or len(refs) < 2 or not all(isinstance(ref, str) for ref in refs):
        raise InvalidInputError('"parents" should list two or more versions')
    found = [hub.find(ref) for ref in refs]
    if any(home.uuid != repo.uuid for home, _ in found):
        raise InvalidInputError("versions of another repo cannot be parents")
    return [version for _, version in found]
