"""Verbs of a repo that run as jobs: push, pull, mirror, copy, limit-versions and migrate-keys; administrators only.

Each answers at once with 202 and the job (docs/jobs.md), which ``GET /api/jobs/{id}`` shows from then on.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from vzarr.api import deps, wire
from vzarr.api.errors import references
from vzarr.api.jobs import Jobs
from vzarr.config import Settings
from vzarr.jobs import instances, keys, transfers, versions
from vzarr.jobs.runner import Order
from vzarr.overlay.repo import Repo
from vzarr.overlay.version import Version

router = APIRouter(redirect_slashes=False)
ADMIN = [Depends(deps.admin)]

InRepo = Annotated[Repo, Depends(deps.repo)]
AtVersion = Annotated[Version, Depends(deps.version)]
Configured = Annotated[Settings, Depends(deps.settings)]
User = Annotated[str, Depends(deps.user)]
App = Annotated[str, Depends(deps.app_name)]
Body = Annotated[dict[str, Any], Depends(deps.json_object)]


class Starter:
    """Starts a job for whoever asks."""

    def __init__(
        self, jobs: Annotated[Jobs, Depends(deps.jobs)], user: Annotated[str, Depends(deps.user)],
        app: Annotated[str, Depends(deps.app_name)],
    ) -> None:  # fmt: skip
        self._jobs, self._user, self._app = jobs, user, app

    def start(self, repo: Repo, order: Order) -> Response:
        """Begin a job and answer with it."""
        job = self._jobs.start(repo, order, self._user, self._app)
        answer = wire.json(job.to_json())
        answer.status_code, answer.headers["Location"] = 202, f"/api/jobs/{job.id}"
        return answer


Starting = Annotated[Starter, Depends()]


@router.post("/push", dependencies=ADMIN, status_code=202)
def post_push(version: AtVersion, settings: Configured, body: Body, starting: Starting) -> Response:
    """Give sealed versions to another repo, or make one (DVID's command line: ``repo UUID push``).

    Body ``{"target": "...", "transmit": "all" | "branch" | "version" | "flatten", "data": "a,b", "filter":
    "roi:name,uuid", "unversioned": false, "keys": "...", "token": "..."}``; all but the target may be left out.
    """
    with references():
        order = transfers.push(version, body, settings.remotes)
    return starting.start(version.repo, order)


@router.post("/pull", dependencies=ADMIN, status_code=202)
def post_pull(repo: InRepo, settings: Configured, body: Body, starting: Starting) -> Response:
    """Get the sealed versions that another repo has.

    Body ``{"source": "...", "branches": ["..."], "as": "...", "unversioned": false, "token": "..."}``; with ``as``,
    what grew on both sides arrives beside one's own instead of being refused.
    """
    return starting.start(repo, transfers.pull(repo, body, settings.remotes))


@router.post("/mirror", dependencies=ADMIN, status_code=202)
def post_mirror(repo: InRepo, settings: Configured, body: Body, starting: Starting) -> Response:
    """Make a backup, log and all, or bring one up to date.

    Body ``{"target": "...", "open": false, "token": "..."}``; all but the target may be left out.
    """
    return starting.start(repo, transfers.mirror(repo, body, settings.remotes))


@router.post("/copy", dependencies=ADMIN, status_code=202)
def post_copy(version: AtVersion, body: Body, user: User, app: App, starting: Starting) -> Response:
    """Copy an instance into an open version under a new name (DVID's command line: ``repo UUID copy``).

    Body ``{"source": "NAME", "target": "NAME", "filter": "roi:name,uuid", "into": "..."}``; the last two may be left
    out.  A sealed version is copied from, into the open one at the end of its branch; an open one is copied into.
    """
    with references():
        order = instances.copy(version, body, user=user, app=app)
    return starting.start(version.repo, order)


@router.post("/limit-versions", dependencies=ADMIN, status_code=202)
def post_limit_versions(repo: InRepo, settings: Configured, body: Body, starting: Starting) -> Response:
    """Make a new repo of some versions under their own ids (DVID's command line: ``repo UUID limit-versions``).

    Body ``{"Versions": ["...", ...], "target": "...", "keys": "..."}``; the repo itself stays as it is.
    """
    with references():
        order = versions.limit_versions(repo, body, settings.remotes)
    return starting.start(repo, order)


@router.post("/migrate-keys", dependencies=ADMIN, status_code=202)
def post_migrate_keys(repo: InRepo, body: Body, starting: Starting) -> Response:
    """Move the repo's keys to another store; nothing can be written meanwhile.

    Body ``{"keys": "postgresql://HOST/DATABASE" | "sqlite:///PATH" | "embedded", "drop": false}``; the latter, which
    may be left out, removes the old keys at once.
    """
    return starting.start(repo, keys.migrate_keys(repo, body))
