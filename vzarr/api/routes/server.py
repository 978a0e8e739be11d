"""Routes of the server itself: ``/api/server/...``, ``/api/help``, ``/api/load``, ``/api/heartbeat``."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from vzarr.api import deps, help, wire
from vzarr.api.activity import Activity
from vzarr.api.hub import Hub
from vzarr.api.routing import read
from vzarr.config import Settings
from vzarr.errors import InvalidInputError, UnsupportedError
from vzarr.kafka.service import Service
from vzarr.types import registry

router = APIRouter(prefix="/api", tags=["server"])

Configured = Annotated[Settings, Depends(deps.settings)]
Repos = Annotated[Hub, Depends(deps.hub)]
ADMIN = [Depends(deps.admin)]

# Clients compare "DVID Version" as a version and want v0.9 or newer; the API served is that of DVID 0.11.
DVID_VERSION = "v0.11.0"
DATASTORE_VERSION = "0.11.0"
_CACHE = {"Bytes": 0, "Items": 0, "Gets": 0, "Hits": 0, "Evictions": 0}
_GROUPCACHE = "Gets CacheHits PeerLoads PeerErrors Loads LoadsDeduped LocalLoads LocalLoadErrs ServerRequests"


async def _activity(request: Request) -> Activity:
    found: Activity = request.app.state.activity
    return found


async def _publishing(request: Request) -> Service | None:
    found: Service | None = request.app.state.publishing
    return found


Counted = Annotated[Activity, Depends(_activity)]
Published = Annotated[Service | None, Depends(_publishing)]
User = Annotated[str, Query(alias="u")]


@read(router, "/help")
@read(router, "/help/")
def get_help() -> Response:
    """Page that leads to the help of each datatype (DVID: ``GET /api/help``)."""
    return Response(help.index(), media_type="text/html; charset=utf-8")


@read(router, "/help/{typename}")
def get_type_help(typename: str) -> Response:
    """Endpoints of a datatype in plain text (DVID: ``GET /api/help/{typename}``)."""
    return wire.text(help.type_help(typename))


@read(router, "/load")
def get_load(activity: Counted) -> Response:
    """How busy the server is (DVID: ``GET /api/load``); what only DVID's storage engine counts is 0."""
    unseen = ("file bytes", "key bytes", "value bytes")
    return wire.json(
        {f"{kind} {verb}": 0 for kind in unseen for verb in ("read", "written")}
        | {"GET requests": activity.requests("GET"), "PUT requests": activity.requests("PUT")}
        | {"handlers active": activity.active, "goroutines": threading.active_count()}
        | {"active CGo writes": 0, "pending log messages": 0}
    )


@read(router, "/heartbeat")
def get_heartbeat(activity: Counted, u: User = "") -> Response:
    """``OK``; with ``?u=`` the user counts as present (DVID: ``GET /api/heartbeat``)."""
    if u:
        activity.ping(u)
    return wire.text("OK")


@read(router, "/user-latencies")
def get_user_latencies(activity: Counted, u: User = "") -> Response:
    """When users were last heard of, or one user (DVID: ``GET /api/user-latencies``)."""
    return wire.json(activity.latency(u) if u else activity.latencies())


@read(router, "/storage", dependencies=ADMIN)
def get_storage(repos: Repos) -> Response:
    """Where the repos lie (DVID: ``GET /api/storage``); administrators only."""
    return wire.json({repo.uuid: repo.url for repo in repos.repos()})


@read(router, "/server/info")
def get_info(settings: Configured, activity: Counted, publishing: Published) -> Response:
    """What the server is, as JSON of strings (DVID: ``GET /api/server/info``)."""
    found = {
        "Cores": str(os.cpu_count()),
        "Maximum Cores": str(os.cpu_count()),
        "Datastore Version": DATASTORE_VERSION,
        "DVID Version": DVID_VERSION,
        "vzarr Version": package_version("vzarr"),
        "Storage backend": "vzarr",
        "Server time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Server uptime": f"{activity.uptime:.2f}s",
        "Host": socket.gethostname(),
        "Note": settings.note,
    }
    found |= {"Mode": "read only"} if settings.readonly else {}
    return wire.json(found if publishing is None else found | publishing.info())


@read(router, "/server/kafka")
def get_kafka(publishing: Published) -> Response:
    """How many changes of each topic are not yet published to Kafka, and why; counted up to 10,000."""
    return wire.json({"servers": []} if publishing is None else publishing.status())


@read(router, "/server/note")
def get_note(settings: Configured) -> Response:
    """Note that the server was started with (DVID: ``GET /api/server/note``)."""
    return wire.text(settings.note)


@read(router, "/server/config", dependencies=ADMIN)
def get_config(settings: Configured) -> Response:
    """Settings without secrets, as TOML (DVID: ``GET /api/server/config``); administrators only."""
    lines = {
        "host": settings.host,
        "port": settings.port,
        "note": settings.note,
        "readonly": settings.readonly,
        "corsDomains": list(settings.cors_origins),
    }
    return wire.text("[server]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in lines.items()))


@read(router, "/server/types")
def get_types(repos: Repos) -> Response:
    """Datatypes that some repo uses (DVID: ``GET /api/server/types``)."""
    used = {info.typename for repo in repos.repos() for info in repo.state.instances.values()}
    return wire.json({name: registry.get(name).url for name in registry.names() if name in used})


@read(router, "/server/compiled-types")
def get_compiled_types() -> Response:
    """Datatypes that are installed (DVID: ``GET /api/server/compiled-types``)."""
    return wire.json({name: registry.get(name).url for name in registry.names()})


@read(router, "/server/groupcache")
def get_groupcache() -> Response:
    """All 0: there is no cache between servers to count (DVID: ``GET /api/server/groupcache``)."""
    zeros = dict.fromkeys(_GROUPCACHE.split(), 0)
    return wire.json({**zeros, "MainCache": _CACHE, "HotCache": _CACHE})


@read(router, "/server/token")
def get_token() -> Response:
    """No tokens are given, as requests need none (DVID: ``GET /api/server/token``): 400."""
    raise UnsupportedError("this server asks nobody for a token and gives none")


@router.post("/server/settings", dependencies=ADMIN)
def post_settings(body: Annotated[dict[str, Any], Depends(deps.json_object)]) -> Response:
    """Check settings that only DVID needs, ``gc`` and ``throttle`` (DVID: ``POST /api/server/settings``)."""
    for key in ("gc", "throttle"):
        value = body.get(key, "0")
        if not isinstance(value, str) or not value.isdecimal():
            raise InvalidInputError(f"Setting for '{key}' was not a string of digits: {value}")
    return wire.text("".join(f"{key} is not needed by this server, left alone\n" for key in body))


@router.post("/server/reload-auth", dependencies=ADMIN)
def post_reload_auth() -> Response:
    """Nothing is cached that could be reloaded (DVID: ``POST /api/server/reload-auth``)."""
    return wire.text("no authorizations are cached\n")


@router.post("/server/reload-blocklist", dependencies=ADMIN)
def post_reload_blocklist() -> Response:
    """There is no block list to reload (DVID: ``POST /api/server/reload-blocklist``)."""
    return wire.text("no block list is in use\n")


@router.post("/server/reload-metadata", dependencies=ADMIN)
def post_reload_metadata() -> Response:
    """Metadata are always read afresh (DVID: ``POST /api/server/reload-metadata``)."""
    return wire.empty()


def _toml(value: object) -> str:
    return str(wire.json(value).body, "utf-8")
