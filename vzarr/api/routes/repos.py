"""Routes of all repos together: ``/api/repos`` and ``/api/repos/info``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, repojson, wire
from vzarr.api.hub import Hub
from vzarr.api.routing import read
from vzarr.errors import InvalidInputError

router = APIRouter(prefix="/api", tags=["repos"])

Repos = Annotated[Hub, Depends(deps.hub)]
Body = Annotated[dict[str, Any], Depends(deps.optional_json_object)]


@router.post("/repos", dependencies=[Depends(deps.admin)])
def post_repos(hub: Repos, body: Body) -> Response:
    """Make a repo (DVID: ``POST /api/repos``); body ``{"alias", "description", "root", "passcode"}``.

    All of these are optional strings; whoever renames or deletes an instance must know the passcode.  Administrators
    only.
    """
    given = {key.lower(): value for key, value in body.items()}
    if not all(isinstance(value, str) for value in given.values()):
        raise InvalidInputError("alias, description, root and passcode should be strings")
    about = {key: given.get(key, "") for key in ("alias", "description", "passcode")}
    repo = hub.create(root=given.get("root") or None, **about)
    return wire.json({"root": repo.uuid})


@read(router, "/repos/info")
def get_repos_info(hub: Repos) -> Response:
    """Everything about every repo, by root (DVID: ``GET /api/repos/info``)."""
    return wire.json({repo.uuid: repojson.repo_json(repo) for repo in hub.repos()})
