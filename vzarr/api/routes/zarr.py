"""Every version as a plain Zarr over GET, ``/zarr/{ref}/{key}``: any key of its store, with ranges and ETags.

Raw ASGI, without the web framework: a viewer asks for thousands of chunks.
"""

from __future__ import annotations

import hashlib
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
from vzarr.overlay.version import Version

METADATA = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata", "attributes.json"})
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@dataclass(frozen=True)
class _Asked:
    """What one request wants: an object, whole or in part, unless the client has it already."""

    ref: str
    key: str
    head: bool
    byte_range: str | None
    if_none_match: str
    if_range: str | None

    @classmethod
    def of(cls, scope: Scope) -> _Asked:
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


class ZarrRoutes:
    """ASGI application for ``/zarr/{ref}/{key}``.

    Parameters
    ----------
    hub
        Where versions are looked up.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] in {"GET", "HEAD"}:
            response = await run_in_threadpool(self._answer, _Asked.of(scope), scope["path"])
        else:
            response = options_response(["GET", "HEAD"])
            response.status_code = 200 if scope["method"] == "OPTIONS" else 405
        await response(scope, receive, send)

    def _answer(self, asked: _Asked, path: str) -> Response:
        try:
            if not _is_key(asked.key):
                return wire.text(NOT_FOUND, 404)
            return _answer(self.hub.find(asked.ref)[1], asked)
        except NotFoundError as error:
            return wire.text(error_text(str(error), path), 404)
        except VzarrError as error:
            return error_response(error, path)


class _Object:
    """One object of a version's store; nothing is read before it is needed, and the whole at most once."""

    def __init__(self, version: Version, key: str) -> None:
        self._store = version.store
        self._key = key
        self._whole: bytes | None = None

    def whole(self) -> bytes:
        """All bytes."""
        if self._whole is None:
            self._whole = self._fetch()[0]
        return self._whole

    def size(self) -> int:
        """Number of bytes, without reading them if nothing was read yet."""
        return self._fetch(0, 0)[1] if self._whole is None else len(self._whole)

    def part(self, first: int, end: int) -> bytes:
        """Bytes from `first` up to `end`."""
        return self._fetch(first, end - first)[0] if self._whole is None else self._whole[first:end]

    def _fetch(self, offset: int = 0, length: int | None = None) -> tuple[bytes, int]:
        found: tuple[bytes, int] | None = self._store.read(self._key, offset, length)
        if found is None:
            raise NotFoundError(f"no object {self._key}")
        return found


def _answer(version: Version, asked: _Asked) -> Response:
    """Answer from one version: 200, 206, 304; the caller turns errors into the rest."""
    wanted = _Object(version, asked.key)
    # Bytes of a sealed version's chunk never change: its name is as good as their hash.  Metadata show what
    # belongs to all versions (resolution, names), and open versions change: there the bytes decide.
    frozen = version.sealed and asked.key.rpartition("/")[2] not in METADATA
    etag = _etag(f"{version.uuid}/{asked.key}".encode() if frozen else wanted.whole())
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


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _is_key(key: str) -> bool:
    """Whether a path can name an object: no empty, ``.`` or ``..`` segment."""
    return not any(part in {"", ".", ".."} for part in key.split("/"))
