"""The application: guard, dispatchers and routes put together."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from vzarr.api import errors, openapi
from vzarr.api.activity import Activity, CountRequests, ReportRequests
from vzarr.api.dispatch import NodeDispatcher, RepoDispatcher, routed
from vzarr.api.hot import HotRoutes
from vzarr.api.hub import Hub
from vzarr.api.jobs import Jobs
from vzarr.api.protocol import Send as SendWhole
from vzarr.api.routes import interface, mirror, n5, precomputed, repos, server, transfer, zarr
from vzarr.api.routes import jobs as job_routes
from vzarr.api.security import Guard
from vzarr.config import Settings
from vzarr.kafka.service import Service
from vzarr.kafka.topics import Topics
from vzarr.types import kept

DESCRIPTION = """A git-like version graph over plain Zarr, with DVID's datatypes and HTTP API.

A version is named by its id, a unique beginning of it, or `id:branch`."""


class Server:
    """The ASGI application: guard, what is answered ahead of the web framework, and the framework.

    Parameters
    ----------
    framework
        Knows all routes.
    settings, hub, activity
        As for `create_app`; who counts requests.
    publishing
        What publishes requests, if anything does.
    """

    def __init__(
        self, framework: FastAPI, settings: Settings, hub: Hub, activity: Activity, publishing: Service | None
    ) -> None:
        self.framework = framework
        self._activity = activity
        self._hot = HotRoutes(framework, hub)
        self._guard = Guard(CountRequests(self._hot, activity), settings)
        self._reports = None if publishing is None else ReportRequests(self._guard, publishing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self.framework
        if scope["type"] == "http":
            scope["path"] = routed(scope["path"])
        await (self._reports or self._guard)(scope, receive, send)

    def at_once(self, scope: Scope, body: bytes, send: SendWhole) -> bool:
        """Answer a short request without a task; False, and nothing was sent, for what takes the usual way."""
        scope["app"] = self.framework
        report = None if self._reports is None else self._reports.begin(scope)
        refusal, extra = self._guard.look_at(scope)
        found = None if refusal is not None else self._hot.at_once(scope, body)
        if found is None or not send((found.status_code, (*found.raw_headers, *extra), found.body)):
            return False
        self._activity.add(scope["method"])
        if self._reports is not None and report is not None:
            self._reports.end(report.answered(found.status_code, len(found.body)))
        return True


def create_app(settings: Settings, hub: Hub) -> Server:
    """Make the application that serves the repos of a hub.

    Parameters
    ----------
    settings
        How the server is run.
    hub
        Repos to serve; closed when the application shuts down.
    """
    jobs, publishing = Jobs(hub), _publishing(settings, hub)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if publishing is not None:
            publishing.start()
        yield
        await run_in_threadpool(jobs.close)
        if publishing is not None:
            await run_in_threadpool(publishing.stop)
        hub.close()

    app: FastAPI = FastAPIOffline(
        title="vzarr", version=version("vzarr"), description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    app.router.redirect_slashes = False
    app.state.settings = settings
    app.state.hub, app.state.jobs = hub, jobs
    app.state.activity, app.state.publishing = Activity(), publishing
    kept.keep_at_most(settings.cache_mb << 20)
    errors.install(app)
    _add_routes(app, hub)
    _describe(app)
    return Server(app, settings, hub, app.state.activity, publishing)


def _publishing(settings: Settings, hub: Hub) -> Service | None:
    """What publishes to Kafka, if the server has a broker."""
    if not settings.kafka_servers:
        return None
    names = settings.kafka_topic_prefix, settings.kafka_topic_suffixes, settings.kafka_activity_topic
    topics = Topics(*names, host=socket.gethostname())
    return Service.of(settings.kafka_servers, topics, hub.repos, readonly=settings.readonly)


def _add_routes(app: FastAPI, hub: Hub) -> None:
    app.mount("/zarr", zarr.routes(hub))
    app.mount("/n5", n5.routes(hub))
    app.mount("/precomputed", precomputed.routes(hub))
    app.mount("/api/node", NodeDispatcher(hub))
    app.mount("/api/repo", RepoDispatcher(hub))
    for module in (repos, server, transfer, mirror, job_routes, interface):
        app.include_router(module.router)
    interface.mount_client(app)


def _describe(app: FastAPI) -> None:
    """Let the documentation show the routes of datatypes too; made when first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
