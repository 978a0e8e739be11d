"""One end of a mirror, for ``vzarr clone --mirror`` on the other: ``/api/transfer/{ref}/mirror/...``.

Administrators alone read here what a mirror is made of, or write it into a repo that is one.  What may be read and
written says `vzarr.overlay.transfer.mirrored`; all requests may be repeated.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from vzarr.api import deps, wire
from vzarr.api.hub import Hub
from vzarr.api.routes.transfer import checked_object, lacking, rows_in, ways_to_write, whole_body
from vzarr.api.routing import read
from vzarr.errors import FormatError, InvalidInputError, NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.transfer import mirrored, moment, pickup

ADMIN = [Depends(deps.admin)]
router = APIRouter(prefix="/api/transfer/{ref}/mirror", tags=["transfer"], dependencies=ADMIN)

Repos = Annotated[Hub, Depends(deps.hub)]
Sum = Annotated[str, Query(pattern="^[0-9a-f]{64}$")]
Number = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@read(router, "/objects/{key:path}")
def get_object(hub: Repos, ref: str, key: str, request: Request) -> Response:
    """Any object that a mirror is made of, whole, with its checksum; administrators only."""
    mirrored.check_read(key)
    place = hub.place(ref)
    if request.method != "HEAD":
        return checked_object(place, key)
    size = place.objects.size(key)
    if size is None:
        raise NotFoundError(f"there is no object {key}")
    return Response(None, 200, {"Cache-Control": "no-store", "Content-Length": str(size)}, wire.OCTETS)


@read(router, "/objects")
def get_objects(hub: Repos, ref: str, under: str) -> Response:
    """Objects below a folder: ``{"objects": [[KEY, SIZE, STAMP], ...]}``; administrators only."""
    mirrored.check_folder(under)
    return wire.json({"objects": list(hub.place(ref).objects.stamped(under))})


@read(router, "/folder")
def get_folder(hub: Repos, ref: str, under: str) -> Response:
    """Names in a folder: ``{"folders": [...], "objects": [...]}``; administrators only."""
    mirrored.check_folder(under)
    folders, objects = hub.place(ref).objects.list_dir(under)
    return wire.json({"folders": folders, "objects": objects})


@router.put("/objects/{key:path}")
async def put_object(hub: Repos, ref: str, key: str, request: Request, sha256: Sum, new: bool = False) -> Response:
    """Write an object into a mirror, or with ``new`` only if there is none: ``{"new": BOOL}``; administrators only.

    A new ``vzarr.json`` makes a mirror.
    """
    data = await whole_body(request)
    return wire.json({"new": await run_in_threadpool(_put, hub, ref, key, data, sha256, new=new)})


@router.delete("/objects/{key:path}")
def delete_object(hub: Repos, ref: str, key: str) -> Response:
    """Remove what a mirror needs no longer: of an earlier moment, or of an older snapshot; administrators only."""
    mirrored.delete(hub.place(ref), key)
    return wire.empty()


@router.post("/lacking")
async def post_lacking(hub: Repos, ref: str, request: Request) -> Response:
    """Which objects of versions are not there, as ``/lacking`` of transfers; administrators only."""
    body = deps.parse_json(await request.body())
    return await run_in_threadpool(lambda: lacking(hub.place(ref), rows_in(body, snapshots=True)))


@router.post("/urls")
async def post_urls(hub: Repos, ref: str, request: Request) -> Response:
    """Signed URLs for writing objects of versions, as ``/urls`` of transfers; administrators only."""
    body = deps.parse_json(await request.body())
    return await run_in_threadpool(_ways_to_write, hub, ref, body)


@read(router, "/open")
def get_open(hub: Repos, ref: str) -> Response:
    """Versions that can be written into: ``{"nodes": [ID, ..., "unversioned"]}``; administrators only."""
    return wire.json({"nodes": pickup.opened(hub.place(ref))})


@router.post("/moments/{number}")
async def post_moment(hub: Repos, ref: str, number: Number, request: Request) -> Response:
    """Let writers pause and take what open versions are then (docs/transfer.md); administrators only.

    Body ``{"nodes": [ID, ...], "held": LIST}``: what was copied beforehand, and what the mirror holds.  The answer is
    ``{"moment": ...}``, or null where there is another open version meanwhile; what is not held waits at
    ``moments/{number}/{hash}``.
    """
    body = deps.parse_json(await whole_body(request))
    return await run_in_threadpool(_take, hub, ref, number, body)


@read(router, "/moments/{number}/{digest}")
def get_waiting(hub: Repos, ref: str, number: Number, digest: Digest) -> Response:
    """An object that waits for who took a moment; administrators only."""
    data = pickup.get(hub.place(ref), number, digest)
    if data is None:
        raise NotFoundError(f"no object {digest} waits there")
    return Response(data, 200, {"Cache-Control": "no-store"}, wire.OCTETS)


@router.delete("/moments/{number}")
def delete_moment(hub: Repos, ref: str, number: Number) -> Response:
    """Remove what waits; administrators only."""
    pickup.forget(hub.place(ref), number)
    return wire.empty()


def _put(hub: Hub, ref: str, key: str, data: bytes, digest: str, *, new: bool) -> bool:
    if new and key == layout.REPO:
        mirrored.check_sent(key, data, digest)
        return hub.begin_mirror(ref, data)
    made = mirrored.put(hub.place(ref), key, data, digest, new=new)
    if key == layout.log_entry(0):
        hub.look_again()  # from now on it is a repo
    return made


def _ways_to_write(hub: Hub, ref: str, body: Any) -> Response:
    place = hub.place(ref)
    mirrored.check_is_mirror(place)
    return ways_to_write(place, [row for row in rows_in(body, snapshots=True) if mirrored.may_put(place, row.key)])


def _take(hub: Hub, ref: str, number: str, body: Any) -> Response:
    try:
        nodes, known = [str(node) for node in body["nodes"]], moment.listed_in(str(body["held"]).encode())
    except (FormatError, LookupError, TypeError) as e:
        raise InvalidInputError(f"a moment is asked for with 'nodes' and the list 'held': {e}") from e
    taken = pickup.take(hub.place(ref), number, nodes, known)
    return wire.json({"moment": None if taken is None else taken.to_json()})
