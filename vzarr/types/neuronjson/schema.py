"""Documents that are stored beside records, and the one of them that records are checked by: a JSON Schema."""

from __future__ import annotations

import copy
import re
from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs
import orjson

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types.neuronjson.records import Record

JSON_SCHEMA = "json_schema"
NAMES = (JSON_SCHEMA, "schema", "schema_batch")

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}|18446744073709551615")
_MOST_TOLD, _LONGEST_TOLD = 3, 200
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1 << 22, dfa_size_limit=1 << 22)


def check_name(name: str) -> str:
    """A name that a document may have.

    Raises
    ------
    NotFoundError
        If it is none of `NAMES`.
    """
    if name not in NAMES:
        raise NotFoundError(f'no document "{name}"; there are {", ".join(NAMES)}')
    return name


def check(name: str, content: bytes) -> None:
    """Refuse a document that is no JSON, or a schema that is none.

    Raises
    ------
    InvalidInputError
        If it is one of these.
    """
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"{name} should be JSON: {error}") from error
    if name == JSON_SCHEMA:
        _validator(content)


@lru_cache(16)
def _validator(content: bytes) -> Any:
    """What checks records by a schema.

    Regular expressions of schemas are matched in linear time, and references lead nowhere but into the schema itself.
    """
    schema = orjson.loads(content)
    if not isinstance(schema, dict | bool):
        raise InvalidInputError("json_schema should be a JSON object")
    try:
        return jsonschema_rs.validator_for(schema, pattern_options=_PATTERNS, retriever=_nothing_elsewhere)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise InvalidInputError(f"json_schema is no JSON Schema: {_first_line(error)}") from error


def _nothing_elsewhere(uri: str) -> NoReturn:
    raise ValueError(f"{uri} lies outside of the schema")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def conform(content: bytes, posted: Record) -> Record:
    """A record that a schema accepts: as it was posted, or with integers where it wants them and got their texts.

    Fields of null are left out of the check, for they say what is to go.

    Parameters
    ----------
    content
        The schema.
    posted
        The record.

    Raises
    ------
    InvalidInputError
        If the schema refuses it.
    """
    validator = _validator(content)
    said = {field: value for field, value in posted.items() if value is not None}
    errors = list(validator.iter_errors(said))
    if not errors:
        return posted
    mended = copy.deepcopy(said)
    if all(_mend(mended, error) for error in errors):
        errors = list(validator.iter_errors(mended))
    if errors:
        told = "; ".join(_told(error) for error in errors[:_MOST_TOLD])
        raise InvalidInputError(f"the record of body {posted.get('bodyid')} does not conform to json_schema: {told}")
    return {field: mended.get(field) for field in posted}


def _mend(record: Record, error: Any) -> bool:
    """Make the text an integer that an error is about, if it is about that."""
    path = list(error.instance_path)
    wanted = getattr(error.kind, "types", [])
    if not path or "integer" not in wanted:
        return False
    *above, last = path
    place: Any = record
    for step in above:
        place = place[step]
    if isinstance(place[last], str) and _INTEGER.fullmatch(place[last]):
        place[last] = int(place[last])
    return type(place[last]) is int


def _told(error: Any) -> str:
    place = "/".join(map(str, error.instance_path))
    said = f"{_first_line(error.message):.{_LONGEST_TOLD}}"
    return f"{place:.{_LONGEST_TOLD}}: {said}" if place else said
