"""Routes of ``neuronjson``: records of bodies, questions to them, ranges and batches, stored documents."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Header, Query, Response

from vzarr.api import batches, deps, wire
from vzarr.api.batches import Form
from vzarr.api.params import parse_bool, parse_int
from vzarr.api.routes import mutations as log
from vzarr.api.routing import allowed_when_sealed, read
from vzarr.errors import InvalidInputError
from vzarr.types import keyvalue, mutations
from vzarr.types.neuronjson import records, schema
from vzarr.types.neuronjson.handle import LAST_BODY, NeuronJson
from vzarr.types.neuronjson.queries import Query as Wanted
from vzarr.types.neuronjson.records import Shown
from vzarr.types.neuronjson.search import Found

router = APIRouter()
router.include_router(log.router)


# ---------------------------------------------------------------- what requests say


async def _lenient(handle: Annotated[NeuronJson, Depends(deps.instance)]) -> NeuronJson:
    """The instance, in which records in conflict are absent, as the recorded answers have it."""
    return replace(handle, lenient=True)


async def _bounds(ends: Annotated[tuple[str, str], Depends(deps.first_and_last)]) -> tuple[int, int]:
    return _bound(ends[0]), _bound(ends[1])


def _bound(text: str) -> int:
    """End of a range: a text that sorts behind all digits is the last body, one before them is 0."""
    if text >= ":":
        return LAST_BODY
    return 0 if text < "0" else min(parse_int(text, "a body id"), LAST_BODY)


async def _shown(fields: str | None = None, show: str | None = None) -> Shown:
    """Which fields are shown, by ``?fields=a,b`` and ``?show=user``, ``time`` or ``all``."""
    return Shown(_names(fields), show or "")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (text or "").split(",")))


@dataclass(frozen=True)
class Change:
    """Who changes records, and how: ``?u=``, ``?app=``, ``?conditional=f1,f2``, ``?replace=true``."""

    user: str
    app: str
    conditional: tuple[str, ...]
    replace: bool


async def _change(
    user: Annotated[str, Depends(deps.user)],
    app: Annotated[str, Depends(deps.app_name)],
    conditional: str | None = None,
    conditionals: str | None = None,
    replace: str | None = None,
) -> Change:
    return Change(user, app, (*_names(conditional), *_names(conditionals)), parse_bool(replace))


Handle = Annotated[NeuronJson, Depends(_lenient)]
Body = Annotated[bytes, Depends(deps.body)]
User = Annotated[str, Depends(deps.user)]
App = Annotated[str, Depends(deps.app_name)]
Key = Annotated[str, Depends(deps.key)]
Bounds = Annotated[tuple[int, int], Depends(_bounds)]
Fields = Annotated[Shown, Depends(_shown)]
How = Annotated[Change, Depends(_change)]
AcceptEncoding = Annotated[str, Header(alias="Accept-Encoding")]
Switch = Annotated[str | None, Query(description="true turns it on")]


def _body_id(text: str) -> int:
    return records.check_body(parse_int(text, "a key of neuronjson data"))


# ---------------------------------------------------------------- single records


@read(router, "/key/{key:path}")
def get_key(handle: Handle, key: Key, shown: Fields) -> Response:
    """Record of a body (DVID: ``GET D/key/{id}``), or a document by its name."""
    if key in schema.NAMES:
        return _document(handle, key)
    return _json_text(shown.encoded(handle.content(_body_id(key))))


@router.post("/key/{key:path}")
def post_key(handle: Handle, key: Key, body: Body, how: How) -> Response:
    """Set fields of a body's record (DVID: ``POST D/key/{id}``), or a document by its name."""
    if key in schema.NAMES:
        handle.put_document(key, body, user=how.user, app=how.app)
    else:
        number = _body_id(key)
        handle.put(number, records.decode(body, number), **vars(how))
    return wire.empty()


@router.delete("/key/{key:path}")
def delete_key(handle: Handle, key: Key, user: User, app: App) -> Response:
    """Remove a body's record (DVID: ``DELETE D/key/{id}``), or a document; an absent one is no error."""
    if key in schema.NAMES:
        handle.delete_document(key, user=user, app=app)
    else:
        handle.delete(_body_id(key), user=user, app=app)
    return wire.empty()


def _json_text(content: bytes) -> Response:
    """JSON under the content type that the reference gives it, for it does not look what it sends."""
    return wire.octets(content, wire.TEXT)


# ---------------------------------------------------------------- many records


@router.post("/info")
def post_info(handle: Handle) -> Response:
    """The same as ``GET D/info``: there are no settings to change (DVID: ``POST D/info``)."""
    return wire.json(handle.info_json())


@read(router, "/keys")
def get_keys(handle: Handle) -> Response:
    """Bodies that have records, as a JSON list of strings, ascending (DVID: ``GET D/keys``)."""
    return wire.json([str(body) for body in handle.bodies()])


@read(router, "/keyrange/{span:path}")
def get_keyrange(handle: Handle, span: Bounds) -> Response:
    """Bodies of a range, both ends included (DVID: ``GET D/keyrange/{first}/{last}``)."""
    return wire.json([str(body) for body in handle.bodies(*span)])


@read(router, "/keyrangevalues/{span:path}")
def get_keyrangevalues(handle: Handle, span: Bounds, form: Form, shown: Fields) -> Response:
    """Records of a range of bodies (DVID: ``GET D/keyrangevalues/{first}/{last}``).

    Protobuf ``KeyValues``, or JSON or tar by ``?json=true`` or ``?tar=true``.
    """
    return batches.answer(((str(body), shown.encoded(content)) for body, content in handle.items(*span)), form)


@read(router, "/keyvalues")
def get_keyvalues(handle: Handle, body: Body, form: Form, shown: Fields) -> Response:
    """Records of the bodies that the request lists, in its order (DVID: ``GET D/keyvalues``).

    The request is protobuf ``Keys``, or with ``?json=true`` or ``?tar=true`` a JSON list of strings or integers.
    Bodies without a record are left out; in protobuf they come without a value.
    """
    if form != "protobuf":
        found = handle.select(_listed(deps.parse_json(body)))
        return batches.answer(((str(b), shown.encoded(content)) for b, content in found), form)
    wanted = [_body_id(want.key) for want in keyvalue.wanted_from_protobuf(body)]
    return batches.answer(_each(wanted, handle.select(wanted), shown), form)


def _each(wanted: Iterable[int], found: Iterator[Found], shown: Shown) -> Iterator[tuple[str, bytes | None]]:
    """Every body that is asked for, with its record if it is the next one that was found."""
    record = next(found, None)
    for body in wanted:
        if record is not None and record[0] == body:
            yield str(body), shown.encoded(record[1])
            record = next(found, None)
        else:
            yield str(body), None


def _listed(value: object) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(v, str) or type(v) is int for v in value):
        raise InvalidInputError("expected a JSON list of body ids, as strings or integers")
    return [_body_id(str(v)) for v in value]


@router.post("/keyvalues")
def post_keyvalues(handle: Handle, body: Body, how: How) -> Response:
    """Set fields of many bodies' records at once (DVID: ``POST D/keyvalues``); the body is protobuf ``KeyValues``."""
    bodies = [(_body_id(key), content) for key, content in keyvalue.pairs_from_protobuf(body)]
    handle.put_many([(number, records.decode(content, number)) for number, content in bodies], **vars(how))
    return wire.empty()


@read(router, "/all")
def get_all(handle: Handle, shown: Fields, accept_encoding: AcceptEncoding = "") -> Response:
    """All records, as a JSON list (DVID: ``GET D/all``); compressed for who accepts gzip.

    A record of which nothing but ``bodyid`` is left is left out, unless ``?fields=`` asks for that.
    """
    found = (shown.of(orjson.loads(content)) for _, content in handle.items())
    said = (orjson.dumps(record) for record in found if len(record) > 1 or "bodyid" in shown.fields)
    if not _accepts_gzip(accept_encoding):
        return wire.stream(mutations.json_list(said), wire.JSON)
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return wire.stream(_gzipped(mutations.json_list(said)), wire.JSON, headers)


def _accepts_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";")
        if coding == "gzip":
            return weight not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _gzipped(parts: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, wbits=31)  # 31: with the header of gzip
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


@read(router, "/query")
def get_query(handle: Handle, body: Body, shown: Fields, onlyid: Switch = None) -> Response:
    """Records that the query in the body asks for, as a JSON list (DVID: ``GET D/query``).

    ``{"field": value, ...}`` or a list of such; a value may be a list, ``"re/..."``, ``"exists/0"`` or ``"exists/1"``.
    ``?onlyid=true`` gives their bodies alone.
    """
    found = handle.query(Wanted.parse(deps.parse_json(body)))
    if parse_bool(onlyid):
        return wire.stream(mutations.json_list(orjson.dumps(record["bodyid"]) for record in found), wire.JSON)
    return wire.stream(mutations.json_list(orjson.dumps(shown.of(record)) for record in found), wire.JSON)


@router.post("/query")
@allowed_when_sealed
def post_query(handle: Handle, body: Body, shown: Fields, onlyid: Switch = None) -> Response:
    """The same, for who cannot send a body with GET (DVID: ``POST D/query``)."""
    return get_query(handle, body, shown, onlyid)


@read(router, "/fields")
def get_fields(handle: Handle, counts: Switch = None) -> Response:
    """Fields that records have, sorted; with ``?counts=true`` in how many (DVID: ``GET D/fields``)."""
    found = handle.field_counts()
    return wire.json(found if parse_bool(counts) else list(found))


@read(router, "/fieldtimes")
def get_fieldtimes(handle: Handle) -> Response:
    """When each field was last changed in some record (DVID: ``GET D/fieldtimes``)."""
    return wire.json(handle.field_times())


# ---------------------------------------------------------------- documents and changes


def _document(handle: NeuronJson, name: str) -> Response:
    return _json_text(handle.document(name))


def _document_routes(name: str) -> None:
    """Routes of one document; its name is the whole path."""

    def get(handle: Handle) -> Response:
        return _document(handle, name)

    def post(handle: Handle, body: Body, user: User, app: App) -> Response:
        handle.put_document(name, body, user=user, app=app)
        return wire.empty()

    def delete(handle: Handle, user: User, app: App) -> Response:
        handle.delete_document(name, user=user, app=app)
        return wire.empty()

    get.__doc__ = f"Stored document ``{name}`` (DVID: ``GET D/{name}``)."
    post.__doc__ = f"Store ``{name}``, which is JSON (DVID: ``POST D/{name}``)."
    delete.__doc__ = f"Remove ``{name}`` (DVID: ``DELETE D/{name}``)."
    read(router, f"/{name}", name=f"get_{name}")(get)
    router.add_api_route(f"/{name}", post, methods=["POST"], name=f"post_{name}")
    router.add_api_route(f"/{name}", delete, methods=["DELETE"], name=f"delete_{name}")


for _document_name in schema.NAMES:
    _document_routes(_document_name)
