"""Routes of a repo that rename, delete and bring back its instances: ``/api/repo/{uuid}/instance/{name}/...``.

DVID has these verbs on its command line only.  Administrators only; a repo that was made with a passcode asks for it,
too.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, wire
from vzarr.api.bodies import string
from vzarr.api.errors import references
from vzarr.api.routing import read
from vzarr.overlay.repo import Repo
from vzarr.types import registry

router = APIRouter(redirect_slashes=False)
ADMIN = [Depends(deps.admin)]

InRepo = Annotated[Repo, Depends(deps.repo)]
Body = Annotated[dict[str, Any], Depends(deps.json_object)]
MaybeBody = Annotated[dict[str, Any], Depends(deps.optional_json_object)]
User = Annotated[str, Depends(deps.user)]
App = Annotated[str, Depends(deps.app_name)]


@router.post("/instance/{name}/rename", dependencies=ADMIN)
def post_rename(repo: InRepo, name: str, body: Body, user: User, app: App) -> Response:
    """Give an instance another name in every version; body ``{"name": "NEW", "passcode": "..."}``.

    Its data id and its syncs stay, and so does the group of its arrays.  Administrators only.
    """
    passcode = string(body, "passcode", "")
    with references():
        info = registry.rename(repo, name, string(body, "name"), passcode=passcode, user=user, app=app)
    return wire.json({"name": info.name, "data_uuid": info.data_uuid})


@router.delete("/instance/{name}", dependencies=ADMIN)
def delete_instance(repo: InRepo, name: str, body: MaybeBody, user: User, app: App) -> Response:
    """Hide an instance in every version at once, until it is undeleted or collected.

    Body ``{"passcode": "..."}``, optional.  Administrators only.
    """
    with references():
        info = repo.delete_instance(name, passcode=string(body, "passcode", ""), user=user, app=app)
    return wire.json({"name": info.name, "data_uuid": info.data_uuid, "deleted": info.deleted})


@router.post("/instance/{name}/undelete", dependencies=ADMIN)
def post_undelete(repo: InRepo, name: str, body: MaybeBody, user: User, app: App) -> Response:
    """Show a deleted instance, by its name or data id, again; body ``{"name": "NEW", "passcode": "..."}``, optional.

    Administrators only.
    """
    passcode = string(body, "passcode", "")
    with references():
        info = registry.undelete(repo, name, string(body, "name", ""), passcode=passcode, user=user, app=app)
    return wire.json({"name": info.name, "data_uuid": info.data_uuid})


@read(router, "/deleted-instances")
def get_deleted(repo: InRepo) -> Response:
    """Instances that were deleted; those that are not collected may be undeleted."""
    found = [info for info in repo.state.deleted.values() if not info.maker]
    keys = ("name", "typename", "data_uuid", "deleted", "collected")
    return wire.json({"instances": [{key: getattr(info, key) for key in keys} for info in found]})
