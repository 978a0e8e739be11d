"""Routers of datatypes, found by entry point: built-in ones enter by a stranger's door."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter

from vzarr.plugins import offered

GROUP = "vzarr.routers"


@cache
def datatype_router(typename: str) -> APIRouter:
    """Own routes of a datatype; none when no installed package brings any.

    Raises
    ------
    TypeError
        If the entry point names something else.
    """
    found = offered(GROUP).get(typename)
    router = APIRouter() if found is None else found.load()
    if not isinstance(router, APIRouter):
        raise TypeError(f"entry point {typename} of {GROUP} is no APIRouter")
    return router
