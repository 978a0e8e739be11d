"""HTTP routes of the datatype ``counter``, relative to ``/api/node/{uuid}/{instance}``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from vzarr_counter.datatype import Counters

from vzarr.api import deps

router = APIRouter()
Handle = Annotated[Counters, Depends(deps.instance)]


@router.get("/count/{counter}")
def get_count(counter: str, handle: Handle) -> int:
    """Where one counter stands."""
    return handle.count(counter)


@router.get("/counts")
def get_counts(handle: Handle) -> dict[str, int]:
    """All counters that were touched."""
    return handle.counts()


@router.post("/add/{counter}/{step}")
def post_add(counter: str, step: int, handle: Handle) -> int:
    """Move one counter and answer where it stands then."""
    return handle.add(counter, step)
