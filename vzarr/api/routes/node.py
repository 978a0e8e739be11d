"""Routes of one version, ``/api/node/{uuid}/...``: note, log, status, commit, newversion, branch and tag."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, wire
from vzarr.api.bodies import log_lines, string
from vzarr.api.hub import Hub
from vzarr.api.routing import read
from vzarr.errors import InvalidInputError
from vzarr.overlay.version import Version

router = APIRouter(redirect_slashes=False)

Repos = Annotated[Hub, Depends(deps.hub)]
AtVersion = Annotated[Version, Depends(deps.version)]
Body = Annotated[dict[str, Any], Depends(deps.json_object)]
MaybeBody = Annotated[dict[str, Any], Depends(deps.optional_json_object)]
User = Annotated[str, Depends(deps.user)]
App = Annotated[str, Depends(deps.app_name)]


@read(router, "/note")
def get_note(version: AtVersion) -> Response:
    """Note of the version (DVID: ``GET N/note``)."""
    return wire.json({"note": version.note})


@router.post("/note")
def post_note(version: AtVersion, body: Body, user: User, app: App) -> Response:
    """Replace the note (DVID: ``POST N/note``); body ``{"note": "..."}``."""
    version.set_note(string(body, "note"), user=user, app=app)
    return wire.empty()


@read(router, "/log")
def get_log(version: AtVersion) -> Response:
    """Lines of the version's log, oldest first (DVID: ``GET N/log``)."""
    return wire.json({"log": list(version.info.log)})


@router.post("/log")
def post_log(version: AtVersion, body: Body, user: User, app: App) -> Response:
    """Append lines to the version's log (DVID: ``POST N/log``); body ``{"log": ["...", ...]}``."""
    version.add_log(log_lines(body), user=user, app=app)
    return wire.empty()


@read(router, "/status")
def get_status(version: AtVersion) -> Response:
    """Whether the version is sealed (DVID: ``GET N/status``)."""
    return wire.json({"Locked": version.sealed})


@read(router, "/commit")
def get_commit(version: AtVersion) -> Response:
    """Whether the version is sealed (DVID: ``GET N/commit``)."""
    return wire.json({"Locked": version.sealed})


@router.post("/commit")
def post_commit(version: AtVersion, hub: Repos, body: Body, user: User, app: App) -> Response:
    """Seal the version for ever (DVID: ``POST N/commit``); body ``{"note": "...", "log": ["..."]}``."""
    lines = log_lines(body) if "log" in body else []
    note = string(body, "note", "") or None
    version.repo.commit(version.uuid, note, user=user, app=app, log=lines, later=hub.behind)
    return wire.json({"committed": version.uuid})


@router.post("/newversion")
def post_newversion(version: AtVersion, body: MaybeBody, user: User, app: App) -> Response:
    """Make an open child on the same branch (DVID: ``POST N/newversion``); body ``{"note", "uuid"}``."""
    child = version.newversion(string(body, "note", ""), uuid=string(body, "uuid", "") or None, user=user, app=app)
    return wire.json({"child": child.uuid})


@router.post("/branch")
def post_branch(version: AtVersion, body: Body, user: User, app: App) -> Response:
    """Make an open child on a new branch (DVID: ``POST N/branch``); body ``{"branch", "note", "uuid"}``."""
    name = string(body, "branch", "")
    if not name:
        raise InvalidInputError('the body should name the new branch: {"branch": "NAME"}')
    child = version.branch(name, string(body, "note", ""), uuid=string(body, "uuid", "") or None, user=user, app=app)
    return wire.json({"child": child.uuid})


@router.post("/tag")
def post_tag(version: AtVersion, body: Body, user: User, app: App) -> Response:
    """Make a sealed child whose id is the tag (DVID: ``POST N/tag``); body ``{"tag": "v1.0"}``."""
    child = version.tag(string(body, "tag"), user=user, app=app)
    return wire.json({"child": child.uuid})
