"""Keys and values of a batch as an answer, in the form that ``?json=``, ``?tar=`` or ``?jsontar=`` asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends, Response

from vzarr.api import wire
from vzarr.api.params import parse_bool
from vzarr.errors import InvalidInputError
from vzarr.types import pairstreams
from vzarr.types.pairstreams import Pair


async def _form(json: str | None = None, tar: str | None = None, jsontar: str | None = None) -> str:
    """``json``, ``tar`` or, by default, ``protobuf``."""
    as_json, as_tar = parse_bool(json), parse_bool(tar) or parse_bool(jsontar)
    if as_json and as_tar:
        raise InvalidInputError("can only specify one of json=true and tar=true")
    return "json" if as_json else "tar" if as_tar else "protobuf"


Form = Annotated[str, Depends(_form)]


def answer(pairs: Iterable[Pair], form: str) -> Response:
    """Pairs in a form, sent as they are found."""
    if form == "tar":
        return wire.stream(pairstreams.tar_stream(pairs), "application/tar")
    if form == "json":
        return wire.stream(pairstreams.json_stream(pairs), wire.JSON)
    return wire.stream(pairstreams.protobuf_stream(pairs), wire.OCTETS)
