"""Jobs, ``/api/jobs``: what was asked for, how far it is and how it ended; administrators only.

Their arguments name folders and addresses that are nobody else's business.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from vzarr.api import deps, wire
from vzarr.api.jobs import Jobs
from vzarr.api.routing import read

router = APIRouter(prefix="/api/jobs", tags=["jobs"], dependencies=[Depends(deps.admin)])

Known = Annotated[Jobs, Depends(deps.jobs)]


@read(router, "")
def get_jobs(jobs: Known) -> Response:
    """All jobs that are remembered, newest first: ``{"jobs": [...]}``."""
    return wire.json({"jobs": [job.to_json() for job in jobs.all()]})


@read(router, "/{job}")
def get_job(jobs: Known, job: str, wait: Annotated[float, Query(ge=0)] = 0.0) -> Response:
    """One job (docs/jobs.md); ``?wait=30`` answers when it ends, or after so many seconds, 60 at most."""
    return wire.json(jobs.find(job, wait).to_json())


@router.delete("/{job}")
def delete_job(jobs: Known, job: str) -> Response:
    """Ask a job to stop, whichever server runs it; the answer says how it is.  One that has ended stays as it is."""
    return wire.json(jobs.cancel(job).to_json())
