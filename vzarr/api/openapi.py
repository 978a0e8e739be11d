"""One OpenAPI document for all endpoints, those of datatypes included, which no application holds."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from vzarr.api.datatypes import datatype_router
from vzarr.api.routes import instance, node, repo
from vzarr.api.routing import flat
from vzarr.types import registry

_NODE = "/api/node/{uuid}"
_TEXT = {"in": "path", "required": True, "schema": {"type": "string"}}


def document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI document of the server.

    OpenAPI tells endpoints apart by path alone, so the instance's place is called after the datatype:
    ``/api/node/{uuid}/{labelmap}/raw`` beside ``/api/node/{uuid}/{uint8blk}/raw``.
    """
    everything = APIRouter()
    everything.include_router(repo.router, prefix="/api/repo/{uuid}", tags=["repos"])
    everything.include_router(node.router, prefix=_NODE, tags=["nodes"])
    everything.include_router(instance.router, prefix=_NODE + "/{instance}", tags=["instances"])
    for name, router in _routers().items():
        everything.include_router(router, prefix=f"{_NODE}/{{{_place(name, router)}}}", tags=[name])
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=[*app.routes, *everything.routes],
    )
    _name_parameters(made["paths"])
    return made


def _routers() -> dict[str, APIRouter]:
    """Each router once, under the first datatype that uses it."""
    found: dict[int, tuple[str, APIRouter]] = {}
    for name in registry.names():
        router = datatype_router(name)
        if router.routes:
            found.setdefault(id(router), (name, router))
    return dict(found.values())


def _place(name: str, router: APIRouter) -> str:
    """What the instance's place in a path is called: after the datatype, unless a route uses that name itself."""
    used = {parameter for route in flat(router.routes) for parameter in route.param_convertors}
    return f"{name}_instance" if name in used else name


def _name_parameters(paths: dict[str, Any]) -> None:
    """Declare the parameters of paths that the dispatcher reads and the routes never see."""
    for path, operations in paths.items():
        for operation in operations.values():
            known = operation.setdefault("parameters", [])
            missing = [n for n in re.findall(r"{(\w+)}", path) if n not in {p["name"] for p in known}]
            known += [{"name": n, **_TEXT} for n in missing]
