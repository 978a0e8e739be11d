"""Metadata of foreign formats as JSON objects: what is none is damage, and is named."""

from __future__ import annotations

from typing import Any

import orjson

from vzarr.errors import FormatError


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object from bytes.

    Raises
    ------
    FormatError
        If they are none; the message names `where`.
    """
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise FormatError(f"{where} is no JSON: {e}") from e
    if not isinstance(found, dict):
        raise FormatError(f"{where} is {type(found).__name__}, not a JSON object")
    return found
