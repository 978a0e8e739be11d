"""What routes ask for with ``Depends``: the instance, its version and repo, who asks, and the body.

All of these are coroutines that only look into the request, so that none costs a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import Depends, Query
from starlette.requests import Request

from vzarr.api import security
from vzarr.api.errors import references
from vzarr.api.hub import Hub
from vzarr.api.jobs import Jobs
from vzarr.api.params import VoxelRequest
from vzarr.api.target import TARGET, Target
from vzarr.config import Settings
from vzarr.errors import ForbiddenError, InvalidInputError
from vzarr.overlay.repo import Repo
from vzarr.overlay.version import Version
from vzarr.types import registry


def _target(request: Request) -> Target:
    found: Target = request.scope[TARGET]
    return found


async def hub(request: Request) -> Hub:
    """All repos that this server serves."""
    found: Hub = request.app.state.hub
    return found


async def jobs(request: Request) -> Jobs:
    """Long-running work of this server."""
    found: Jobs = request.app.state.jobs
    return found


async def settings(request: Request) -> Settings:
    """How this server was started."""
    found: Settings = request.app.state.settings
    return found


async def repo(request: Request) -> Repo:
    """Repo that the URL names."""
    return _target(request).repo


async def version(request: Request) -> Version:
    """Version that the URL names."""
    return _target(request).version


async def instance(request: Request) -> Any:
    """Handle of the instance that the URL names, of its datatype's own class."""
    return _target(request).handle


async def segments(request: Request) -> tuple[str, ...]:
    """Decoded segments of the path from the keyword on; a ``%2F`` does not split."""
    return _target(request).segments


async def key(segments: Annotated[tuple[str, ...], Depends(segments)]) -> str:
    """The segment after the keyword, as a key; one that would be cut off is refused, for it may mean another's."""
    if len(segments) > 2:
        wanted = quote("/".join(segments[1:]), safe="")
        raise InvalidInputError(f"a slash in a key is sent as %2F: {segments[0]}/{wanted:.200}")
    return segments[1]


async def first_and_last(segments: Annotated[tuple[str, ...], Depends(segments)]) -> tuple[str, str]:
    """The two segments after the keyword, as the ends of a range of keys."""
    if len(segments) != 3:
        raise InvalidInputError(
            "a range of keys is named by its first and its last key, {first}/{last}; a slash in a key is sent as %2F"
        )
    return segments[1], segments[2]


async def voxel_request(request: Request) -> VoxelRequest:
    """Box that ``{dims}/{size}/{offset}[/{fmt}]`` in the path names."""
    return asked_voxels(request.path_params)


def asked_voxels(path: Mapping[str, str]) -> VoxelRequest:
    """As `voxel_request`, from the parameters of the path."""
    return VoxelRequest.parse(path["dims"], path["size"], path["offset"], path.get("fmt"))


async def user(u: Annotated[str, Query(description="who asks, not proven by anything")] = "") -> str:
    """Who asks, by ``?u=``; not proven by anything, "" when not said."""
    return u


async def app_name(app: Annotated[str, Query(description="which program asks")] = "") -> str:
    """Which program asks, by ``?app=``; "" when not said."""
    return app


async def is_admin(request: Request) -> bool:
    """Whether the request has the server's token; never, when the server has none."""
    return security.is_admin(request.scope, await settings(request))


async def admin(request: Request) -> None:
    """Refuse who is not an administrator; for ``dependencies=[Depends(deps.admin)]``."""
    if not await is_admin(request):
        wrong = "another admin token than the one given" if security.token_in(request.scope) else "the admin token"
        raise ForbiddenError(f"this request needs {wrong} (?admintoken= or Authorization: Bearer)")


async def body(request: Request) -> bytes:
    """Whole body, whatever the method: DVID's batch endpoints read the body of a GET."""
    return await request.body()


async def octets(request: Request) -> bytes | memoryview:
    """Whole body of voxels, for who takes it as it lies in memory."""
    return await request.body()


Body = Annotated[bytes, Depends(body)]
Octets = Annotated[bytes | memoryview, Depends(octets)]


async def json_body(body: Body) -> Any:
    """Body as JSON; an empty or malformed one is refused."""
    return parse_json(body)


async def json_object(body: Body) -> dict[str, Any]:
    """Body as a JSON object; anything else is refused."""
    return as_object(parse_json(body))


async def optional_json_object(body: Body) -> dict[str, Any]:
    """Body as a JSON object; an empty body is an empty object."""
    return as_object(parse_json(body)) if body.strip() else {}


def parse_json(content: bytes) -> Any:
    """Read JSON, integers up to 2^64 - 1 exactly."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the body should be JSON: {error}") from error


def as_object(value: Any) -> dict[str, Any]:
    """`value` if it is a JSON object."""
    if not isinstance(value, dict):
        raise InvalidInputError(f"the body should be a JSON object, not {type(value).__name__}")
    return value


def sibling(version: Version, name: str) -> Any:
    """Handle of another instance of the same version, by a name that the request gives (``?roi=NAME``).

    Raises
    ------
    UnknownReferenceError
        There is none; DVID answers 400, not 404.
    """
    with references():
        return registry.open_instance(version, name)
