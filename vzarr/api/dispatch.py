"""From a URL to the routes that answer it: version and instance are looked up once.

DVID's URLs name an instance, not its datatype: ``/api/node/{uuid}/{name}/raw`` belongs to other routes when
``name`` is a segmentation than when it is an image.  Nothing below ``/api/node/{uuid}`` is routed by path
alone: `NodeDispatcher` finds the instance, checks that it may be written, and hands over to the plain router
of its datatype, found by entry point; `RepoDispatcher` does the same for ``/api/repo/{uuid}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vzarr.api import wire
from vzarr.api.datatypes import datatype_router
from vzarr.api.errors import NOT_FOUND, UnknownReferenceError, options_response
from vzarr.api.hub import Hub
from vzarr.api.routes import instance, node, repo
from vzarr.api.routing import MUTATING, allowed_methods, exempt_keywords, keywords
from vzarr.api.target import TARGET, Target
from vzarr.errors import InvalidInputError, NotFoundError, SealedError
from vzarr.types.atonce import will_wait

_NODE_KEYWORDS, _REPO_KEYWORDS = keywords(node.router), keywords(repo.router)
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ON_SEALED = frozenset({"branch", "newversion", "tag"})
_ALWAYS_OPEN = frozenset({"blobstore"})  # content-addressed: DVID looks at it before the lock


@dataclass(frozen=True)
class TypeRoutes:
    """All routes of a datatype: its own first, then those that every instance has."""

    router: APIRouter
    exempt: frozenset[str]


@cache
def routes_of(typename: str) -> TypeRoutes:
    """Routes that answer for instances of a datatype."""
    own = datatype_router(typename)
    both = APIRouter(routes=[*own.routes, *instance.router.routes], redirect_slashes=False)
    return TypeRoutes(both, exempt_keywords(own) | _ALWAYS_OPEN)


@dataclass(frozen=True)
class Path:
    """Segments behind the mount point, split before they were decoded; one trailing slash is left out."""

    parts: tuple[str, ...]

    @classmethod
    def of(cls, scope: Scope, mount: str | None = None) -> Path:
        """Segments of a request's path.

        Parameters
        ----------
        mount
            Where they begin; by default where the application is mounted that is asked.

        Raises
        ------
        InvalidInputError
            If they are no UTF-8, or badly encoded: two such keys must never be taken for one.
        """
        mounted_at = (scope["root_path"] if mount is None else mount).count("/") + 1
        raw = scope.get("raw_path") or scope["path"].encode()
        if b"%" in raw and _NO_ESCAPE.search(raw):
            raise InvalidInputError(
                "in the path of a URL, % should be followed by two hexadecimal digits (% itself: %25)"
            )
        try:
            if b"%" in raw:
                parts = [unquote_to_bytes(part).decode() for part in raw.split(b"/")[mounted_at:]]
            else:
                parts = raw.decode().split("/")[mounted_at:]
        except UnicodeDecodeError as error:
            raise InvalidInputError("the path of a URL should be UTF-8, percent-encoded") from error
        return cls(tuple(parts[:-1] if len(parts) > 1 and not parts[-1] else parts))


class RepoDispatcher:
    """ASGI application for ``/api/repo/{uuid}/...``.

    Parameters
    ----------
    hub
        Where versions are looked up.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ref, *rest = Path.of(scope).parts
        if not ref or "".join(rest[:1]) not in _REPO_KEYWORDS:
            await _not_found()(scope, receive, send)
            return
        target = Target(*await run_in_threadpool(self.hub.find, ref))
        await _hand_over(repo.router, entered(scope, [ref], rest, target), scope, receive, send)


class NodeDispatcher:
    """ASGI application for ``/api/node/{uuid}/...``: fixed endpoints of nodes, else those of an instance.

    Parameters
    ----------
    hub
        Where versions are looked up.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ref, *rest = Path.of(scope).parts
        if ref and len(rest) > 1:
            target = await run_in_threadpool(self.find_instance, ref, rest, scope["method"])
            router = routes_of(target.handle.info.typename).router
            await _hand_over(router, entered(scope, [ref, rest[0]], rest[1:], target), scope, receive, send)
        elif ref and rest and rest[0] in _NODE_KEYWORDS:
            target = await run_in_threadpool(self._node, ref, rest[0], scope["method"])
            await _hand_over(node.router, entered(scope, [ref], rest, target), scope, receive, send)
        else:
            await _not_found()(scope, receive, send)

    def _node(self, ref: str, keyword: str, method: str) -> Target:
        found, version = self.hub.find(ref)
        if method in MUTATING and keyword not in _ON_SEALED and version.sealed:
            raise SealedError(f"Cannot do {method.lower()} on locked node {version.uuid}")
        return Target(found, version)

    def find_instance(self, ref: str, rest: Sequence[str], method: str) -> Target:
        """Look up version and instance; refuse a change of what is sealed."""
        if self.hub.behind.is_busy:
            will_wait("what a commit left to do")
        found = self.hub.look_up(ref)
        if not found.is_near:
            will_wait("asking over a network")
        name, keyword = rest[0], rest[1]
        try:
            handle = found.instance(name)
        except NotFoundError as error:
            raise UnknownReferenceError(str(error)) from error
        sealed = method in MUTATING and handle.info.versioned and found.sealed
        if sealed and keyword not in routes_of(handle.info.typename).exempt:
            raise SealedError(f'Cannot do {method} on endpoint "{keyword}" of locked node {found.version.uuid}')
        return Target(found.repo, found.version, handle, tuple(rest[1:]))


def entered(scope: Scope, consumed: Sequence[str], rest: Sequence[str], target: Target | None) -> dict[str, Any]:
    """Changes to `scope` that make `rest` the path that a router sees."""
    root = "/".join([scope["root_path"], *consumed])
    return {
        **scope,
        "root_path": root,
        "path": routed("/".join([root, *rest]) if rest else f"{root}/"),
        TARGET: target,
    }


def routed(path: str) -> str:
    """A path as routes are matched with it, for their patterns end at a line break; `Path` takes it as it was sent."""
    return path.replace("\n", "%0A")


def _not_found() -> Response:
    return wire.text(NOT_FOUND, 404)


async def _hand_over(router: APIRouter, changes: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
    """Let `router` answer; the scope is changed in place, so that error handlers see the target too."""
    if scope["method"] == "OPTIONS":
        await options_response(allowed_methods(router.routes, changes))(scope, receive, send)
        return
    scope.update(changes)
    await router(scope, receive, send)
