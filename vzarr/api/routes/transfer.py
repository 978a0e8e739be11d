"""One end of a transfer, for `vzarr clone`, `push`, `pull` and `fetch` on the other: ``/api/transfer/{ref}/...``.

Who reads gets history and the objects of sealed versions.  Who writes needs the admin token, and may add objects of
versions that the log does not know yet, then publish those versions: nothing that is there already can change.  A
partial repo takes what it left out, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from vzarr.api import deps, wire
from vzarr.api.hub import Hub
from vzarr.api.ranges import parse_range
from vzarr.api.routing import read
from vzarr.errors import FormatError, InvalidInputError, NotFoundError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.sealing import leftout
from vzarr.overlay.sealing.seal import sha256 as hash_of
from vzarr.overlay.transfer import admitting, exchange, mirrored, outside
from vzarr.overlay.transfer.client import SHA256
from vzarr.overlay.transfer.copying import Row
from vzarr.overlay.transfer.places import StoredPlace
from vzarr.overlay.transfer.stripes import Stripes

router = APIRouter(prefix="/api/transfer", tags=["transfer"])

Repos = Annotated[Hub, Depends(deps.hub)]
ADMIN = [Depends(deps.admin)]
T = TypeVar("T")
PIECE = 8 << 20
"""Bytes that are read at a time."""
LARGEST = 5 << 30
"""Bytes of an object at most; object stores take no larger ones at once either."""
MOST = 1000
"""Objects that may be looked for at a time."""
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "Accept-Ranges": "bytes"}


@read(router, "")
def get_repos(hub: Repos) -> Response:
    """Roots of all repos: ``{"repos": [ID, ...]}``."""
    return wire.json({"repos": [repo.uuid for repo in hub.repos()]})


@read(router, "/{ref}")
def get_history(hub: Repos, ref: str) -> Response:
    """Versions, branches and instances of a repo, as the operations that make it (docs/transfer.md)."""
    place = hub.place(ref)
    state = place.state()
    if not state.nodes:
        raise NotFoundError(f"repo {ref} is still on its way")
    return wire.json({**exchange.state_to_json(state), "mirror": place.is_mirror})


@read(router, "/{ref}/partial")
def get_partial(hub: Repos, ref: str) -> Response:
    """What a partial repo has of the chunks of arrays: ``{"partial": null | {...}}``, as its ``vzarr.json`` says."""
    return wire.json(exchange.limits_to_json(hub.place(ref).limits()))


@read(router, "/{ref}/unversioned")
def get_unversioned(hub: Repos, ref: str) -> Response:
    """What belongs to no version: snapshots of keys, taken now, and objects of arrays (docs/transfer.md)."""
    return wire.json(exchange.shared_to_json(hub.place(ref).shared()))


@read(router, "/{ref}/objects/{key:path}")
def get_object(hub: Repos, ref: str, key: str, request: Request) -> Response:
    """An object that a sealed version stored; ranges are answered."""
    place = hub.place(ref)
    if exchange.is_shared(key):
        return checked_object(place, key)
    given = exchange.is_of_snapshot(key) or (exchange.is_object(key) and place.is_sealed(key.split("/")[1]))
    size = place.size(key) if given else None
    if size is None:
        none = f"no sealed version, and no snapshot of what belongs to none, stored an object {key}"
        raise NotFoundError(str(leftout.gone(place.objects, key, none)) if given else none)
    found = parse_range(request.headers.get("range"), size)
    first, end = found or (0, size)
    headers = {**_FOREVER, "Content-Length": str(end - first)}
    if found:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    status = 206 if found else 200
    if request.method == "HEAD":
        return Response(None, status, headers, wire.OCTETS)
    return StreamingResponse(_pieces(place, key, first, end), status, headers, wire.OCTETS)


@router.put("/{ref}/objects/{key:path}", dependencies=ADMIN)
async def put_object(
    hub: Repos, ref: str, key: str, request: Request, sha256: Annotated[str, Query(pattern="^[0-9a-f]{64}$")]
) -> Response:
    """Store an object of a version that the log does not know yet, or left out; administrators only."""
    if not (exchange.is_object(key) or key == layout.arrived(sha256)):
        raise InvalidInputError(f"{key!r} is no object of a version")
    data = await whole_body(request)
    await run_in_threadpool(_put, hub, ref, key, data, sha256)
    return wire.empty()


@router.post("/{ref}/lacking", dependencies=ADMIN)
async def post_lacking(hub: Repos, ref: str, request: Request) -> Response:
    """Which of the objects ``[[KEY, SIZE, SHA-256], ...]`` are not there: ``{"keys": [...]}``; administrators only."""
    body = deps.parse_json(await request.body())
    return await run_in_threadpool(_lacking, hub, ref, body)


@read(router, "/{ref}/urls")
async def get_urls(hub: Repos, ref: str, request: Request) -> Response:
    """Signed URLs by which the objects ``[KEY, ...]`` can be read: ``{"urls": {KEY: [URL, HEADERS]} | null}``."""
    body = deps.parse_json(await request.body())
    return await run_in_threadpool(_ways_to_read, hub, ref, body)


@router.post("/{ref}/urls", dependencies=ADMIN)
async def post_urls(hub: Repos, ref: str, request: Request) -> Response:
    """Signed URLs for writing the objects ``[[KEY, SIZE, SHA-256], ...]``, and no other bytes; administrators only."""
    body = deps.parse_json(await request.body())
    return await run_in_threadpool(_ways_to_write, hub, ref, body)


@read(router, "/{ref}/stripes")
def get_stripes(hub: Repos, ref: str) -> Response:
    """Which clones the repo knows, and which one it is: ``{"own": N, "clone": ID, "known": {N: ID}}``."""
    return wire.json(hub.place(ref).stripes().to_json())


@router.post("/{ref}/stripes", dependencies=ADMIN)
async def post_stripes(hub: Repos, ref: str, request: Request) -> Response:
    """Tell the repo which clones another one knows, as `get_stripes` gives and gets them; administrators only."""
    body = deps.parse_json(await request.body())
    theirs = _checked(Stripes.from_json, body)
    return wire.json((await run_in_threadpool(lambda: hub.place(ref).learn(theirs))).to_json())


@router.post("/{root}", dependencies=ADMIN)
def post_begin(hub: Repos, root: str) -> Response:
    """Make the place for a clone of the repo with that root; may be done again; administrators only."""
    hub.begin(root)
    return wire.empty()


@router.post("/{root}/partial", dependencies=ADMIN)
async def post_partial(hub: Repos, root: str, request: Request) -> Response:
    """As `post_begin`, for a partial clone: ``{"partial": {...}}``; administrators only."""
    limits = _checked(exchange.limits_from_json, deps.parse_json(await request.body()))
    if not limits:
        raise InvalidInputError("a partial clone is limited by 'depth', 'instances' or 'roi'")
    await run_in_threadpool(hub.begin, root, limits)
    return wire.empty()


@router.post("/{ref}/wanted", dependencies=ADMIN)
async def post_wanted(hub: Repos, ref: str, request: Request) -> Response:
    """Which chunks a partial repo wants of versions to come, and lacks: ``{"keys": [...]}``; administrators only."""
    body = deps.parse_json(await request.body())
    return await run_in_threadpool(_wanted, hub, ref, body)


@router.post("/{ref}/publish", dependencies=ADMIN)
async def post_publish(hub: Repos, ref: str, request: Request) -> Response:
    """Add versions whose objects are all there, by the sender's history (docs/transfer.md); administrators only."""
    body = deps.parse_json(await request.body())
    return wire.json({"kept": await run_in_threadpool(_publish, hub, ref, body)})


def _checked(read_body: Callable[[Any], T], body: Any) -> T:
    """What a body says; what is wrong with it is the sender's fault, not that of anything stored."""
    try:
        return read_body(body)
    except FormatError as e:
        raise InvalidInputError(str(e)) from e


def _pieces(place: StoredPlace, key: str, first: int, end: int) -> Iterator[bytes]:
    for at in range(first, end, PIECE):
        data = place.objects.get(key, at, min(PIECE, end - at))
        if not data:
            raise NotFoundError(f"{key} vanished while it was read")
        yield data


async def whole_body(request: Request) -> bytes:
    """The body, of which no more is read than an object may have.

    Raises
    ------
    InvalidInputError
        If it is larger.
    """
    parts, size = [], 0
    if int(request.headers.get("content-length", 0)) > LARGEST:
        raise InvalidInputError(f"an object has at most {LARGEST} bytes")
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise InvalidInputError(f"an object has at most {LARGEST} bytes")
    return b"".join(parts)


def _put(hub: Hub, ref: str, key: str, data: bytes, digest: str) -> None:
    place, node = hub.place(ref), key.split("/")[1]
    mirrored.check_sent(key, data, digest)
    row = Row(key, len(data), digest)
    if not admitting.may_put(place, [row]):
        raise SealedError(f"version {node} is there already, and can only be changed through its own endpoints")
    place.put(key, data)
    place.vouch(row)


def checked_object(place: StoredPlace, key: str) -> Response:
    """An object that may change: its checksum comes with it."""
    data = place.objects.get(key)
    if data is None:
        raise NotFoundError(f"there is no object {key}")
    headers = {"Cache-Control": "no-store", SHA256: hash_of(data)}
    return Response(data, 200, headers, wire.OCTETS)


def _few(found: list[T]) -> list[T]:
    """What a body lists, if it is not too much at a time."""
    if len(found) > MOST:
        raise InvalidInputError(f"ask for at most {MOST} objects at a time")
    return found


def _lacking(hub: Hub, ref: str, body: Any) -> Response:
    place = hub.place(ref)
    place.check_takes()
    return lacking(place, rows_in(body))


def rows_in(body: Any, *, snapshots: bool = False) -> list[Row]:
    """The objects that a body lists (see `exchange.rows_from_json`).

    Raises
    ------
    InvalidInputError
        If it is no list of them, or a long one.
    """
    return _few(_checked(lambda data: exchange.rows_from_json(data, snapshots=snapshots), body))


def lacking(place: StoredPlace, rows: list[Row]) -> Response:
    """Which of some objects are not there."""
    return wire.json({"keys": [row.key for row in place.look_for(rows)]})


def _ways_to_read(hub: Hub, ref: str, body: Any) -> Response:
    place, keys = hub.place(ref), _few(_checked(exchange.keys_from_json, body))
    given = [key for key in keys if exchange.is_of_snapshot(key) or place.is_sealed(key.split("/")[1])]
    return wire.json(exchange.ways_to_json(place.ways_to_read(given)))


def _ways_to_write(hub: Hub, ref: str, body: Any) -> Response:
    place = hub.place(ref)
    place.check_takes()
    return ways_to_write(place, admitting.may_put(place, rows_in(body)))


def ways_to_write(place: StoredPlace, rows: list[Row]) -> Response:
    """Signed URLs for writing some objects, but for any that are too large."""
    return wire.json(exchange.ways_to_json(place.ways_to_write([row for row in rows if row.size <= LARGEST])))


def _wanted(hub: Hub, ref: str, body: Any) -> Response:
    place, arrival = hub.place(ref), _checked(exchange.arrival_from_json, body)
    return wire.json({"keys": sorted(place.wanted(arrival))})


def _publish(hub: Hub, ref: str, body: Any) -> list[str]:
    place = hub.place(ref)
    place.check_takes()
    arrival = _checked(exchange.arrival_from_json, body)
    brought = _checked(exchange.brought_from_json, body.get("unversioned"))
    admitting.settle(place, arrival)
    outside.check_waiting(place, brought, [*arrival.source.every_instance(), *place.state().every_instance()])
    kept = place.publish(arrival, brought)
    place.forget()
    hub.look_again()
    return list(kept)
