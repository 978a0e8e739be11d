"""Help pages, made from the docstrings of the routes: they cannot say what the routes do not do."""

from __future__ import annotations

import html
import inspect

from fastapi.routing import APIRoute

from vzarr.api.datatypes import datatype_router
from vzarr.api.routing import flat
from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types import registry
from vzarr.types.base import Datatype

_INSTANCE = "/api/node/{uuid}/{name}"


def index() -> str:
    """Page (HTML) that leads to the help of each datatype and to the API's own documentation."""
    items = "".join(
        f'<li><a href="/api/help/{name}">{name}</a>: {html.escape(datatype(name).summary)}</li>'
        for name in registry.names()
    )
    return (
        "<!doctype html><title>vzarr API</title><h1>vzarr API</h1>"
        f'<p><a href="/docs">All endpoints</a>. Datatypes:</p><ul>{items}</ul>'
    )


def datatype(typename: str) -> Datatype:
    """A datatype by name.

    Raises
    ------
    InvalidInputError
        If there is none, in DVID's words (status 400).
    """
    try:
        return registry.get(typename)
    except NotFoundError as error:
        raise InvalidInputError(f'Data type "{typename}" is not supported by current DVID server') from error


def type_help(typename: str) -> str:
    """Help of one datatype in plain text: what it is, and each endpoint with its docstring."""
    found = datatype(typename)
    entries = [_entry(route) for route in flat(datatype_router(typename).routes) if route.include_in_schema]
    return "\n".join([typename, "=" * len(typename), "", found.summary, "", *entries])


def _entry(route: APIRoute) -> str:
    text = inspect.cleandoc(route.endpoint.__doc__ or "").replace("\n", "\n    ")
    return f"{'/'.join(sorted(route.methods or ()))} {_INSTANCE}{route.path}\n\n    {text}\n"
