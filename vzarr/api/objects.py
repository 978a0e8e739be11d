"""Objects of versions over GET, ``/{format}/{ref}/{key}``, with ranges and ETags: what the formats' routes share.

Raw ASGI, without the web framework: a viewer asks for thousands of chunks.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vzarr.api import wire
from vzarr.api.errors import NOT_FOUND, error_response, error_text, options_response
from vzarr.api.hub import Hub
from vzarr.api.ranges import parse_range
from vzarr.errors import NotFoundError, VzarrError
from vzarr.overlay.mountedstore import MountedStore
from vzarr.overlay.namedstore import naming_of
from vzarr.overlay.version import Version
from vzarr.overlay.views.base import SealedView

METADATA = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata", "attributes.json", "info"})
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


class Served(ABC):
    """One object; nothing is read before it is needed, and the whole at most once.

    Every method raises `NotFoundError` when there is no such object.
    """

    @abstractmethod
    def whole(self) -> bytes:
        """All bytes."""

    def size(self) -> int:
        """Number of bytes."""
        return len(self.whole())

    def part(self, first: int, end: int) -> bytes:
        """Bytes from `first` up to `end`."""
        return self.whole()[first:end]


class Made(Served):
    """An object that is made for the occasion.

    Parameters
    ----------
    key
        Its key.
    make
        Makes it; None when there is none.
    """

    def __init__(self, key: str, make: Callable[[str], bytes | None]) -> None:
        self._key, self._make = key, make
        self._whole: bytes | None = None

    def whole(self) -> bytes:
        """All bytes."""
        if self._whole is None:
            self._whole = self._make(self._key)
        if self._whole is None:
            raise NotFoundError(f"no object {self._key}")
        return self._whole


@dataclass(frozen=True)
class Asked:
    """What one request wants: an object, whole or in part, unless the client has it already."""

    ref: str
    key: str
    head: bool
    byte_range: str | None
    if_none_match: str
    if_range: str | None

    @classmethod
    def of(cls, scope: Scope) -> Asked:
        """What an ASGI scope asks for."""
        mounted_at = scope["root_path"].count("/") + 1
        raw = scope.get("raw_path") or scope["path"].encode()
        ref, *rest = raw.decode("latin-1").split("/")[mounted_at:]
        headers = Headers(scope=scope)
        return cls(
            ref=unquote(ref),
            key=unquote("/".join(rest)),
            head=scope["method"] == "HEAD",
            byte_range=headers.get("range"),
            if_none_match=headers.get("if-none-match", ""),
            if_range=headers.get("if-range"),
        )

    def has(self, etag: str) -> bool:
        """Whether the client says that it has what `etag` names."""
        return etag in {part.strip() for part in self.if_none_match.split(",")}


class ObjectRoutes:
    """ASGI application for ``/{format}/{ref}/{key}``.

    Parameters
    ----------
    hub
        Where versions are looked up.
    find
        Gives the object of a version that a key names.
    stamp
        What the bytes of a sealed version's objects depend on besides their names.
    """

    def __init__(self, hub: Hub, find: Callable[[Version, str], Served], stamp: str = "") -> None:
        self.hub, self._find, self._stamp = hub, find, stamp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] in {"GET", "HEAD"}:
            response = await run_in_threadpool(self._answer, Asked.of(scope), scope["path"])
        else:
            response = options_response(["GET", "HEAD"])
            response.status_code = 200 if scope["method"] == "OPTIONS" else 405
        await response(scope, receive, send)

    def _answer(self, asked: Asked, path: str) -> Response:
        try:
            return self.answer(asked)
        except NotFoundError as error:
            return wire.text(error_text(str(error), path), 404)
        except VzarrError as error:
            return error_response(error, path)

    def answer(self, asked: Asked) -> Response:
        """Answer one request; errors are the caller's to translate."""
        if not _is_key(asked.key):
            return wire.text(NOT_FOUND, 404)
        version = self.hub.find(asked.ref)[1]
        return self.serve(version, self._find(version, asked.key), asked)

    def serve(self, version: Version, wanted: Served, asked: Asked) -> Response:
        """Answer with an object of a version."""
        return _answer(version, wanted, asked, self._stamp)


def _answer(version: Version, wanted: Served, asked: Asked, stamp: str) -> Response:
    """Answer from one version: 200, 206, 304; the caller turns errors into the rest."""
    # Bytes of a sealed version's chunk never change: its name is as good as their hash.  Metadata show what
    # belongs to all versions (resolution, names), and open versions and sources that are not pinned change: there
    # the bytes decide.
    frozen = asked.key.rpartition("/")[2] not in METADATA and _lasts(version, asked.key)
    etag = _etag(f"{stamp}{version.uuid}/{asked.key}".encode() if frozen else wanted.whole())
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": _FOREVER if frozen and asked.ref == version.uuid else _ASK_AGAIN,
    }
    if asked.has(etag):
        return Response(status_code=304, headers=headers)
    part = asked.byte_range if asked.if_range in {None, etag} else None
    if part is None and not asked.head:
        wanted.whole()
    size = wanted.size()
    found = parse_range(part, size)
    first, end = found or (0, size)
    if found:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - first)
    body = b"" if asked.head else wanted.part(first, end)
    media_type = wire.JSON if asked.key.rpartition("/")[2] in METADATA else wire.OCTETS
    return Response(body, 206 if found else 200, headers, media_type)


def _lasts(version: Version, key: str) -> bool:
    """Whether a version's object will always be what it is now."""
    view = version.view
    if _is_shared(version, key):
        return False  # unversioned instances change whatever is sealed
    if not isinstance(view, SealedView) or naming_of(version, version.repo.known).stored(key) != key:
        return False  # an instance may get another name
    return not any(key.startswith(f"{p}/" if p else "") for p in view.unpinned)


def _is_shared(version: Version, key: str) -> bool:
    info = version.repo.known.instances.get(key.partition("/")[0])
    if info is None or info.versioned:
        return False
    store = version.store
    return isinstance(store, MountedStore) and store.is_shared(key)


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _is_key(key: str) -> bool:
    """Whether a path can name an object: no empty, ``.`` or ``..`` segment."""
    return not any(part in {"", ".", ".."} for part in key.split("/"))
