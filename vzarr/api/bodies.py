"""What JSON bodies of requests hold, checked."""

from __future__ import annotations

from typing import Any

from vzarr.errors import InvalidInputError


def log_lines(body: dict[str, Any]) -> list[str]:
    """Lines under ``log`` in a body.

    Raises
    ------
    InvalidInputError
        If they are missing or not strings.
    """
    lines = body.get("log")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise InvalidInputError('the body should hold a list of strings under "log"')
    return lines


def string(body: dict[str, Any], key: str, default: str | None = None) -> str:
    """String under `key` in a body, `default` when there is none.

    Raises
    ------
    InvalidInputError
        If it is missing and has no default, or is no string.
    """
    value = body.get(key, default)
    if not isinstance(value, str):
        raise InvalidInputError(f'the body should hold a string under "{key}"')
    return value
