"""Routes of ``keyvalue``: single keys and parts of values, ranges of keys, batches, the mutation log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated

from anyio import CancelScope
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from vzarr.api import batches, deps, wire
from vzarr.api.batches import Form
from vzarr.api.params import parse_bool, parse_int
from vzarr.api.ranges import parse_range
from vzarr.api.routes import mutations
from vzarr.api.routing import read
from vzarr.errors import InvalidInputError
from vzarr.types import keyvalue, largevalues, pairstreams
from vzarr.types.keyvalue import KeyValue
from vzarr.types.largevalues import Stored
from vzarr.types.pairstreams import Pair

router = APIRouter()
router.include_router(mutations.router)


async def _lenient(handle: Annotated[KeyValue, Depends(deps.instance)]) -> KeyValue:
    """The instance, in which keys in conflict are absent, as the recorded answers have it."""
    return replace(handle, lenient=True)


Handle = Annotated[KeyValue, Depends(_lenient)]
Body = Annotated[bytes, Depends(deps.body)]
User = Annotated[str, Depends(deps.user)]
App = Annotated[str, Depends(deps.app_name)]
Key = Annotated[str, Depends(deps.key)]
FirstAndLast = Annotated[tuple[str, str], Depends(deps.first_and_last)]
Check = Annotated[str | None, Query(description="true refuses values that are no JSON")]
ByteRange = Annotated[str | None, Header(alias="Range")]


@read(router, "/key/{key:path}")
def get_key(
    handle: Handle,
    key: Key,
    request: Request,
    byte_start: str | None = None,
    byte_end: str | None = None,
    byte_range: ByteRange = None,
) -> Response:
    """Value of a key (DVID: ``GET D/key/{key}``).

    ``?byte_start=&byte_end=`` (both included) or a header ``Range`` ask for a part.
    """
    return largevalues.again(lambda: _found(handle.find(key), request.method, byte_start, byte_end, byte_range))


def _found(
    value: Stored, method: str, byte_start: str | None, byte_end: str | None, byte_range: str | None
) -> Response:
    if byte_start is not None or byte_end is not None:
        if byte_range is not None:
            raise InvalidInputError("use either a Range header or byte_start and byte_end")
        first, last = parse_int(byte_start or "", "byte_start"), parse_int(byte_end or "", "byte_end")
        keyvalue.check_range(value, first, last)
        return _sent(value, first, last + 1, method)
    found = parse_range(byte_range, value.size)
    return _sent(value, *(found or (0, value.size)), method, partial=found is not None)


def _sent(value: Stored, first: int, end: int, method: str, *, partial: bool = False) -> Response:
    """Bytes of a value; those of a large one are read as they are sent, and not at all for HEAD."""
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(end - first)}
    if partial:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{value.size}"
    status = 206 if partial else 200
    if method == "HEAD":
        return Response(None, status, headers, wire.OCTETS)
    answer = wire.Stream(value.read(first, end), wire.OCTETS, headers, status)
    answer.begin()
    return answer


@router.post("/key/{key:path}")
async def post_key(handle: Handle, key: Key, request: Request, user: User, app: App) -> Response:
    """Set the value of a key (DVID: ``POST D/key/{key}``); it is seen once it is complete."""
    writer = handle.writer(key, user=user, app=app)
    try:
        async for piece in request.stream():
            if writer.holds(len(piece)):
                writer.write(piece)
            else:
                await run_in_threadpool(writer.write, piece)
        await run_in_threadpool(writer.close)
    except BaseException as error:
        with CancelScope(shield=True):
            await run_in_threadpool(writer.abort)
        if isinstance(error, ClientDisconnect):
            raise InvalidInputError(f'the value of "{key}" did not arrive as a whole') from error
        raise
    return wire.empty()


@router.delete("/key/{key:path}")
def delete_key(handle: Handle, key: Key, user: User, app: App) -> Response:
    """Remove a key (DVID: ``DELETE D/key/{key}``); an absent one is no error."""
    handle.delete(key, user=user, app=app)
    return wire.empty()


@router.post("/info")
def post_info(handle: Handle) -> Response:
    """The same as ``GET D/info``: there are no settings to change (DVID: ``POST D/info``)."""
    return wire.json(handle.info_json())


@read(router, "/keys")
def get_keys(handle: Handle) -> Response:
    """All keys as a JSON list, in byte order (DVID: ``GET D/keys``)."""
    return wire.json(handle.list_keys())


@read(router, "/keyrange/{span:path}")
def get_keyrange(handle: Handle, span: FirstAndLast) -> Response:
    """Keys of a range, both ends included (DVID: ``GET D/keyrange/{first}/{last}``)."""
    return wire.json(handle.list_keys(*span))


@read(router, "/keyrangevalues/{span:path}")
def get_keyrangevalues(handle: Handle, span: FirstAndLast, form: Form, check: Check = None) -> Response:
    """Keys and values of a range (DVID: ``GET D/keyrangevalues/{first}/{last}``).

    Protobuf ``KeyValues``, or JSON or tar by ``?json=true`` or ``?tar=true``.
    """
    return _batch(lambda: handle.find_range(*span), form, check)


@read(router, "/keyvalues")
def get_keyvalues(handle: Handle, body: Body, form: Form, check: Check = None) -> Response:
    """Values of the keys that the body lists, in its order (DVID: ``GET D/keyvalues``).

    The body is protobuf ``Keys``; with ``?json=true`` or ``?tar=true`` a JSON list of keys, or of objects
    ``{"key", "byte_start", "byte_end"}``.
    """
    if form == "protobuf":
        wanted = keyvalue.wanted_from_protobuf(body)
    else:
        wanted = keyvalue.wanted_from_json(deps.parse_json(body))
    return _batch(lambda: handle.find_many(wanted), form, check)


def _batch(find: Callable[[], Iterable[Pair]], form: str, check: str | None) -> Response:
    if form == "json" and parse_bool(check):
        pairstreams.check_json(find())
    return batches.answer(find(), form)


@router.post("/keyvalues")
def post_keyvalues(handle: Handle, body: Body, user: User, app: App) -> Response:
    """Set many values at once (DVID: ``POST D/keyvalues``); the body is protobuf ``KeyValues``."""
    handle.put_many(keyvalue.pairs_from_protobuf(body), user=user, app=app)
    return wire.empty()
